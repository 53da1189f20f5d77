//! Credentials to render, and real shells to read them.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use harbor_types::{Credentials, Host, ServiceId, ServiceName};

/// The credentials of the user's example, as a node without host names and public access gives them.
pub(crate) fn internal() -> Credentials {
    let host = "192.168.68.111".parse().unwrap();
    Credentials {
        hostname: Host::Ip(host),
        host,
        port: "30134".parse().unwrap(),
        name: "cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09".parse().unwrap(),
        node_id: "harbor_node_1".parse().unwrap(),
        int_port: "4100".parse().unwrap(),
        ext_hostname: None,
        ext_host: None,
        protocol: None,
        https: None,
    }
}

/// The same with public access under a name: the user's example to the letter.
pub(crate) fn public() -> Credentials {
    Credentials {
        ext_hostname: Some(Host::Name("ports.example.com".parse().unwrap())),
        ext_host: Some("15.185.104.122".parse().unwrap()),
        ..internal()
    }
}

/// A service with this container port.
pub(crate) fn service(name: &str, int_port: u16) -> (ServiceName, Credentials) {
    let id = ServiceId::from_u128(int_port.into());
    (name.parse().unwrap(), Credentials { name: id, int_port: int_port.try_into().unwrap(), ..internal() })
}

/// The variables of `app` with these services and no prefix but `STACKATO`.
pub(crate) fn env(app: &str, services: &[(ServiceName, Credentials)]) -> BTreeMap<String, String> {
    harbor_env::render(&app.parse().unwrap(), services, &[]).unwrap()
}

/// Runs `script` in a real shell with `vars` as its whole environment (and a PATH) and `input` on its stdin; its output.
/// `None`, with a word on stderr, where the shell is not installed.
pub(crate) fn run(shell: &str, script: &str, vars: &BTreeMap<String, String>, input: &str) -> Option<Vec<u8>> {
    let child = Command::new(shell)
        .args(["-c", script])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .envs(vars)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {shell} not found");
            return None;
        }
        child => child.unwrap(),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{shell} -c {script:?}: {}", output.status);
    Some(output.stdout)
}
