//! What `harbor-node dev` prints. Results and the app's own lines go to stdout, one write a line, so that the lines of
//! several instances do not mix.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use harbor_types::{Protocol, Protocols, ServiceName};

/// Prints one line; a reader that went away is no reason to end.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{text}\n").as_bytes());
    let _ = out.flush();
}

/// A service as it is shown.
pub(super) struct Shown {
    pub(super) name: ServiceName,
    pub(super) protocols: Protocols,
    pub(super) https: bool,
    pub(super) external: SocketAddr,
    /// The number each instance listens on.
    pub(super) instances: Vec<u16>,
    pub(super) new: bool,
}

/// What the run offers, and what to try next.
pub(super) fn welcome(services: &[Shown], api: &str, folder: &str, greeter: bool) -> String {
    let mut text = String::new();
    let width = services.iter().map(|service| service.name.as_str().len()).max().unwrap_or(0).max("SERVICE".len());
    let _ =
        writeln!(text, "\n  {:width$}  {:8}  {:21}  INSTANCES LISTEN ON", "SERVICE", "PROTOCOL", "EXTERNAL ADDRESS");
    for service in services {
        let numbers = service.instances.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let kept = if service.new { "" } else { "   (kept from an earlier run)" };
        let _ = writeln!(
            text,
            "  {:width$}  {:8}  {:21}  {numbers}{kept}",
            service.name, service.protocols, service.external
        );
    }
    let _ = writeln!(text, "\nTry it from another terminal:");
    for service in services {
        let (ip, port) = (service.external.ip(), service.external.port());
        for protocol in service.protocols.iter() {
            let _ = match protocol {
                Protocol::Tcp if greeter => writeln!(text, "  curl http://{}/", service.external),
                Protocol::Tcp => writeln!(text, "  nc {ip} {port}"),
                Protocol::Udp => writeln!(text, "  echo hello | nc -u -w1 {ip} {port}"),
            };
        }
        if greeter && service.protocols.contains(Protocol::Tcp) && service.instances.len() > 1 {
            let _ = writeln!(text, "      … again and again: each new connection goes to the next instance");
        }
    }
    let here = if folder == ".harbor" {
        "in this folder".to_owned()
    } else {
        format!("with HARBOR_URL={api} HARBOR_TOKEN_FILE={folder}/token")
    };
    let _ = writeln!(text, "Ask the node, {here} (API {api}, state and token in {folder}):");
    let _ = writeln!(text, "  cargo run --release --bin harbor -- services");
    if let Some(first) = services.first() {
        let _ = writeln!(text, "  cargo run --release --bin harbor -- service {}", first.name);
    }
    for service in services.iter().filter(|service| service.https) {
        let _ = writeln!(
            text,
            "Note: {} ends in https, but nothing terminates TLS in a dev run yet: connections reach the app as they come.",
            service.name
        );
    }
    let _ = write!(text, "Ctrl-C stops everything; the services keep their ports for the next run.");
    text
}
