//! A scripted node, and the program run against it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Bound of every wait in these tests.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
/// The token that scripted nodes accept.
pub(crate) const TOKEN: &str = "s3cret";
pub(crate) const ID: &str = "cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09";

/// One answer: `METHOD target` of the request and a text its body contains, then status and body.
pub(crate) struct Route(pub(crate) &'static str, pub(crate) &'static str, pub(crate) u16, pub(crate) Value);

/// A node that gives scripted answers, 404 to all other requests and 401 to other tokens. It ends with the test process.
pub(crate) struct Node {
    pub(crate) url: String,
    /// `METHOD target body` of each request that was answered.
    pub(crate) seen: Receiver<String>,
}

impl Node {
    pub(crate) fn start(routes: Vec<Route>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, seen) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &routes, &sender);
            }
        });
        Self { url, seen }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.try_iter().collect()
    }

    /// The program with this node's address and token, in a folder without anything.
    pub(crate) fn harbor(&self, args: &[&str]) -> Command {
        let mut command = harbor(Path::new("/"), args);
        command.env("HARBOR_URL", &self.url).env("HARBOR_TOKEN", TOKEN);
        command
    }
}

/// The program with an empty environment.
pub(crate) fn harbor(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(args).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_harbor").into()
}

/// Exit code, stdout and stderr.
pub(crate) fn finish(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Stdout of a run that succeeds without a word on stderr.
pub(crate) fn succeed(command: Command) -> String {
    let (code, out, err) = finish(command);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    out
}

fn serve(mut stream: TcpStream, routes: &[Route], sender: &Sender<String>) {
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let Some((line, authorized, body)) = read_request(&mut stream) else { return };
    let problem = |error: &str, message: String| json!({"error": error, "message": message, "remedy": "look closer"});
    let (status, answer) = if !authorized {
        (401, problem("unauthorized", "the token is not the right one".into()))
    } else {
        let route = routes.iter().find(|Route(key, needle, ..)| *key == line && body.contains(needle));
        let _ = sender.send(format!("{line} {body}").trim_end().to_owned());
        match route {
            Some(Route(_, _, status, answer)) => (*status, answer.clone()),
            None => (404, problem("not_found", format!("there is no {line}"))),
        }
    };
    let answer = if answer.is_null() { String::new() } else { answer.to_string() };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", answer.len());
    let _ = stream.write_all(format!("{head}\r\n{answer}").as_bytes());
}

/// Method and target, whether the token is right, and the body.
fn read_request(stream: &mut TcpStream) -> Option<(String, bool, String)> {
    let mut bytes = Vec::new();
    let mut more = |bytes: &mut Vec<u8>| {
        let mut buf = [0; 4096];
        let n = stream.read(&mut buf).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buf[..n]);
        Some(())
    };
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        more(&mut bytes)?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + length {
        more(&mut bytes)?;
    }
    let authorized = header("authorization") == Some(format!("Bearer {TOKEN}"));
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some((line, authorized, String::from_utf8(bytes[end..].to_vec()).unwrap()))
}

/// The `credentials` of the user's document, for another name and port.
pub(crate) fn credentials(port: u16, int_port: u16) -> Value {
    json!({
        "hostname": "192.168.68.111", "host": "192.168.68.111", "port": port, "name": ID, "node_id": "harbor_node_1",
        "int_port": int_port, "ext_hostname": "ports.example.com", "ext_host": "15.185.104.122",
    })
}

/// A service as the node shows it: bound, public, with neither bindings nor backends.
pub(crate) fn service(name: &str, protocol: &str, port: u16, int_port: u16) -> Value {
    json!({
        "id": ID, "name": name, "org": "default", "space": "default", "protocol": protocol, "https": false,
        "port": port, "int_port": int_port, "access": "public", "state": "bound",
        "listen": [format!("0.0.0.0:{port}")], "generation": 1, "created": "2026-01-31T12:00:00.000Z",
        "credentials": credentials(port, int_port), "bindings": [], "backends": [],
    })
}

/// `value` with these fields set.
pub(crate) fn with(mut value: Value, fields: Value) -> Value {
    for (key, field) in fields.as_object().unwrap() {
        value[key] = field.clone();
    }
    value
}

pub(crate) fn binding(service: &str, app: &str) -> Value {
    json!({
        "id": "00000000-0000-4000-8000-000000000001", "service": ID, "service_name": service, "app": app,
        "created": "2026-01-31T12:00:00.000Z",
    })
}

pub(crate) fn backend(instance: &str, addr: &str, protocols: Value) -> Value {
    json!({"instance": instance, "addr": addr, "ttl": "30s", "expires_in": "21s", "protocols": protocols})
}

pub(crate) fn refusal(error: &str, message: &str, remedy: &str) -> Value {
    json!({"error": error, "message": message, "remedy": remedy})
}
