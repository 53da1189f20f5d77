//! `register` and `deregister`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::node::{BOUND, Node, Route, backend, finish, refusal, succeed};

const PUT: &str = "PUT /v1/services/my-port/backends/10.0.0.5-4100";
const DELETE: &str = "DELETE /v1/services/my-port/backends/10.0.0.5-4100";

fn registered(ttl: Option<&str>) -> Value {
    let mut view = backend("10.0.0.5-4100", "10.0.0.5:4100", json!([]));
    match ttl {
        Some(ttl) => view["ttl"] = ttl.into(),
        None => view.as_object_mut().unwrap().retain(|key, _| key != "ttl" && key != "expires_in"),
    }
    view
}

#[test]
fn a_registration_lasts_unless_told_otherwise() {
    for (args, body, ttl, lasts) in [
        (&[][..], r#""permanent":true"#, None, "until it is deregistered"),
        (&["--permanent"], r#""permanent":true"#, None, "until it is deregistered"),
        (&["--ttl", "30s"], r#""ttl":"30s","permanent":false"#, Some("30s"), "for 30s at a time"),
    ] {
        let node = Node::start(vec![Route(PUT, body, 201, registered(ttl))]);
        let args = [&["register", "my-port", "10.0.0.5:4100"], args].concat();
        let want = format!("registered 10.0.0.5-4100 at 10.0.0.5:4100 for my-port, {lasts}\n");
        assert_eq!(succeed(node.harbor(&args)), want);
        assert_eq!(node.requests(), [format!("{PUT} {{\"addr\":\"10.0.0.5:4100\",{body}}}")]);
    }
}

#[test]
fn an_instance_can_be_named() {
    let node = Node::start(vec![Route("PUT /v1/services/my-port/backends/web.0", "", 200, registered(None))]);
    let args = ["register", "my-port", "10.0.0.5:4100", "--instance", "web.0", "-o", "json"];
    assert_eq!(succeed(node.harbor(&args)), format!("{}\n", registered(None)));
}

#[test]
fn backends_are_deregistered_by_instance_or_address() {
    let list = json!({"backends": [
        backend("a", "10.0.0.5:4100", json!([])), backend("b", "10.0.0.6:4100", json!([])),
        backend("c", "10.0.0.5:4100", json!([])),
    ]});
    let node = Node::start(vec![
        Route("GET /v1/services/my-port/backends", "", 200, list),
        Route("DELETE /v1/services/my-port/backends/a", "", 204, Value::Null),
        Route("DELETE /v1/services/my-port/backends/c", "", 204, Value::Null),
    ]);
    assert_eq!(succeed(node.harbor(&["deregister", "my-port", "a"])), "deregistered a from my-port\n");
    assert_eq!(succeed(node.harbor(&["deregister", "my-port", "a", "-o", "json"])), "");
    let by_address = succeed(node.harbor(&["deregister", "my-port", "10.0.0.5:4100"]));
    assert_eq!(by_address, "deregistered a from my-port\nderegistered c from my-port\n");
    let (code, out, err) = finish(node.harbor(&["deregister", "my-port", "10.0.0.7:4100"]));
    assert_eq!((code, out.as_str()), (1, ""));
    let want = "error: no backend of my-port has the address 10.0.0.7:4100\n\
                try: see which there are: harbor service my-port\n";
    assert_eq!(err, want);
}

/// Killed when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kept_registration_beats_until_a_signal_and_is_then_taken_back() {
    for signal in ["-INT", "-TERM"] {
        let node = Node::start(vec![
            Route(PUT, r#""ttl":"90ms","permanent":false"#, 201, registered(Some("90ms"))),
            Route("POST /v1/services/my-port/backends/10.0.0.5-4100/heartbeat", "", 200, json!({"ttl": "90ms"})),
            Route(DELETE, "", 204, Value::Null),
        ]);
        let mut command = node.harbor(&["register", "my-port", "10.0.0.5:4100", "--keep", "--ttl", "90ms"]);
        let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut out = BufReader::new(child.0.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let want =
            "registered 10.0.0.5-4100 at 10.0.0.5:4100 for my-port, for 90ms at a time, kept alive until Ctrl-C\n";
        assert_eq!(line, want);
        let next = || node.seen.recv_timeout(BOUND).unwrap();
        assert!(next().starts_with(PUT));
        for _ in 0..3 {
            assert!(next().ends_with("/heartbeat"));
        }
        Command::new("kill").args([signal, &child.0.id().to_string()]).status().unwrap();
        while next() != DELETE {}
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "deregistered 10.0.0.5-4100 from my-port\n");
        assert_eq!(child.0.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_kept_registration_ends_when_its_service_does() {
    let gone = refusal("service_not_found", "there is no service my-port", "list services with GET /v1/services");
    let node = Node::start(vec![Route(PUT, "", 404, gone)]);
    let (code, out, err) = finish(node.harbor(&["register", "my-port", "10.0.0.5:4100", "--keep"]));
    let want = "error: there is no service my-port\n\
                try: list the services there are: harbor services; one outside the space `default` is meant by its id\n";
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", want));
}
