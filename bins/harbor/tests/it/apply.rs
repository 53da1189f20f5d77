//! `apply` with the user's manifests.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::node::{Node, Route, binding, finish, harbor, refusal, service, succeed, with};

const MY_PORT: &str = "\
name: port-test
mem: 256
services:
  my-port: harbor
";
const TWO_PORTS: &str = "\
name: port-test
services:
  udp-${name}: harbor
  tcp-${name}: harbor
  db: mysql
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn apply(node: &Node, folder: &TempDir, args: &[&str]) -> Command {
    let mut command = harbor(folder.path(), &[&["apply"], args].concat());
    command.env("HARBOR_URL", &node.url).env("HARBOR_TOKEN", crate::node::TOKEN);
    command
}

fn changes(node: &Node) -> Vec<String> {
    node.requests().into_iter().filter(|request| !request.starts_with("GET ")).collect()
}

/// A node without services that creates and binds.
fn empty_node() -> Node {
    Node::start(vec![
        Route("POST /v1/services", r#"{"name":"my-port"}"#, 201, service("my-port", "tcp", 30134, 4100)),
        Route("POST /v1/services", r#"{"name":"udp-port-test"}"#, 201, service("udp-port-test", "udp", 30135, 4101)),
        Route("POST /v1/services", r#"{"name":"tcp-port-test"}"#, 201, service("tcp-port-test", "tcp", 30136, 4102)),
        Route("POST /v1/services/my-port/bindings", "port-test", 201, binding("my-port", "port-test")),
        Route("POST /v1/services/udp-port-test/bindings", "port-test", 201, binding("udp-port-test", "port-test")),
        Route("POST /v1/services/tcp-port-test/bindings", "port-test", 201, binding("tcp-port-test", "port-test")),
    ])
}

#[test]
fn the_documents_manifest_makes_its_port() {
    let (node, folder) = (empty_node(), folder(&[("stackato.yml", MY_PORT), ("manifest.yml", TWO_PORTS)]));
    let out = succeed(apply(&node, &folder, &[]));
    assert_eq!(out, "created my-port: tcp port 30134, int_port 4100\nbound my-port to port-test\n");
    let want = [r#"POST /v1/services {"name":"my-port"}"#, r#"POST /v1/services/my-port/bindings {"app":"port-test"}"#];
    assert_eq!(changes(&node), want);
}

#[test]
fn names_take_the_apps_name_and_other_types_are_skipped() {
    let (node, folder) = (empty_node(), folder(&[("manifest.yml", TWO_PORTS)]));
    let (code, out, err) = finish(apply(&node, &folder, &[]));
    assert_eq!(code, 0);
    let want = "\
created udp-port-test: udp port 30135, int_port 4101
created tcp-port-test: tcp port 30136, int_port 4102
bound udp-port-test to port-test
bound tcp-port-test to port-test
";
    assert_eq!(out, want);
    assert_eq!(err, "note: manifest.yml:5:3: service \"db\" is skipped: its type is \"mysql\", not harbor\n");
}

#[test]
fn what_is_there_stays_as_it_is() {
    let bound = json!({"bindings": [binding("my-port", "port-test")]});
    let node = Node::start(vec![Route(
        "GET /v1/services/my-port",
        "",
        200,
        with(service("my-port", "tcp", 30134, 4100), bound),
    )]);
    let folder = folder(&[("app.yml", MY_PORT)]);
    let out = succeed(apply(&node, &folder, &["-f", "app.yml"]));
    assert_eq!(out, "my-port is there already: tcp port 30134, int_port 4100\nmy-port is bound to port-test already\n");
    assert!(changes(&node).is_empty());
    let report: Value =
        serde_json::from_str(&succeed(apply(&node, &folder, &["-f", "app.yml", "-o", "json"]))).unwrap();
    assert_eq!(report["services"][0]["action"], "unchanged");
    assert_eq!(report["services"][0]["service"]["port"], 30134);
    assert_eq!(report["bindings"][0], json!({"action": "unchanged", "service": "my-port", "app": "port-test"}));
    assert_eq!(report["notes"], json!([]));
}

#[test]
fn a_difference_is_an_error_and_nothing_is_changed() {
    let manifest = "\
name: web
services:
  new-port: harbor
  my-port:
    type: harbor
    parameters: {protocol: udp, port: 30200, int_port: 4100, public: false}
";
    let node = Node::start(vec![Route("GET /v1/services/my-port", "", 200, service("my-port", "tcp", 30134, 4100))]);
    let (code, out, err) = finish(apply(&node, &folder(&[("stackato.yml", manifest)]), &[]));
    assert_eq!((code, out.as_str()), (1, ""));
    let want = "\
error: stackato.yml:4:3: my-port exists with kind tcp, but the manifest asks for udp
error: stackato.yml:4:3: my-port exists with port 30134, but the manifest asks for 30200
error: stackato.yml:4:3: my-port exists with public true, but the manifest asks for false
try: change the manifest, or delete the service and apply again, which gives it another port; nothing was changed
";
    assert_eq!(err, want);
    assert!(changes(&node).is_empty());
}

#[test]
fn lists_bind_what_exists() {
    let manifest = "name: web\nservices: [my-port, old-db]\n";
    let node = Node::start(vec![
        Route("GET /v1/services/my-port", "", 200, service("my-port", "tcp", 30134, 4100)),
        Route("POST /v1/services/my-port/bindings", "", 201, binding("my-port", "web")),
    ]);
    let (code, out, err) = finish(apply(&node, &folder(&[("stackato.yml", manifest)]), &[]));
    assert_eq!((code, out.as_str()), (0, "bound my-port to web\n"), "{err}");
    assert_eq!(err, "note: stackato.yml:2:21: old-db is skipped: the node has no such service\n");
}

#[test]
fn without_a_name_there_is_nothing_to_bind_to() {
    let (node, folder) = (empty_node(), folder(&[("stackato.yml", "services:\n  my-port: harbor\n")]));
    let (code, out, err) = finish(apply(&node, &folder, &[]));
    assert_eq!((code, out.as_str()), (0, "created my-port: tcp port 30134, int_port 4100\n"));
    assert_eq!(err, "note: stackato.yml has no name: for the app, so no service is bound to it\n");
}

#[test]
fn what_was_done_before_a_refusal_is_reported() {
    let full = refusal("range_exhausted", "all 3 ports are leased", "widen port_range");
    let node = Node::start(vec![
        Route("POST /v1/services", "udp-port-test", 201, service("udp-port-test", "udp", 30135, 4101)),
        Route("POST /v1/services", "tcp-port-test", 503, full),
    ]);
    let (code, out, err) = finish(apply(&node, &folder(&[("manifest.yml", TWO_PORTS)]), &[]));
    assert_eq!((code, out.as_str()), (1, "created udp-port-test: udp port 30135, int_port 4101\n"));
    assert!(err.ends_with("error: all 3 ports are leased\ntry: widen port_range\n"), "{err}");
}

#[test]
fn manifests_that_cannot_be_used_are_named() {
    let node = Node::start(Vec::new());
    let long = format!("# {}\n{MY_PORT}", "x".repeat(300 * 1024));
    let folder = folder(&[
        ("shape.yml", "services: 7\n"),
        ("broken.yml", "a: [\n"),
        ("long.yml", &long),
        ("none.yml", "name: web\n"),
    ]);
    for (args, want) in [
        (&[][..], "error: there is no stackato.yml or manifest.yml here ("),
        (&["-f", "absent.yml"], "error: absent.yml cannot be read: No such file"),
        (&["-f", "shape.yml"], "error: shape.yml:1:11: services: must be a map"),
        (&["-f", "broken.yml"], "error: broken.yml:"),
        (&["-f", "long.yml"], "error: long.yml: the manifest has "),
    ] {
        let (code, out, err) = finish(apply(&node, &folder, args));
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}");
        assert!(err.starts_with(want) && err.contains("\ntry: "), "{args:?}: want {want:?} in {err}");
    }
    let (code, out, err) = finish(apply(&node, &folder, &["-f", "none.yml"]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "note: none.yml asks for no Harbor services\n"));
    assert!(node.requests().is_empty());
}
