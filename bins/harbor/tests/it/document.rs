//! docs/cli.md stays true: its commands are run, their output compared, and every command has its place there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use harbor_cli::cli::Cli;
use serde_json::{Value, json};

use crate::node::{Node, Route, TOKEN, backend, binding, program, refusal, service, with};

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md")).unwrap()
}

/// The node that the document talks to.
fn documented_node() -> Node {
    let tcp = |place: u64| json!([{"protocol": "tcp", "health": "eligible", "place": place}]);
    let pool = json!({
        "bindings": [binding("my-port", "port-test")],
        "backends": [backend("web-0", "10.0.0.5:4100", tcp(0)), backend("web-1", "10.0.0.6:4100", tcp(1))],
    });
    let my_port = service("my-port", "tcp", 30134, 4100);
    let hint = "the name contains 'https' but does not end in it, so TLS is not terminated for the app; \
                give https: true if it should be";
    let hinted = with(service("harbor-https-custom-1", "tcp", 24310, 4102), json!({"hints": [hint]}));
    let udp = service("udp-port", "udp", 27102, 4101);
    let permanent = json!({"instance": "10.0.0.5-4100", "addr": "10.0.0.5:4100", "protocols": tcp(0)});
    let ports = json!({
        "range": "20000-30999", "free": 10996, "leased": 2, "quarantined": 1, "held_by_others": 1,
        "ports": [
            {"port": 21840, "state": "held_by_others", "free_in": "4m"},
            {"port": 22017, "state": "quarantined", "free_in": "551s"},
            {"port": 27102, "state": "leased", "service": "udp-port"},
            {"port": 30134, "state": "leased", "service": "my-port"},
        ],
    });
    let event = |sequence: u64, at: &str, kind: &str, detail: &str| json!({"sequence": sequence, "at": at, "kind": kind, "service_name": "my-port", "detail": detail});
    let events = json!({"latest": 42, "missed": false, "events": [
        event(41, "2026-01-31T12:00:04.120Z", "backend_joined", "web-1 at 10.0.0.6:4100"),
        event(42, "2026-01-31T12:03:10.007Z", "backend_ejected", "web-1 for 10s: refused"),
    ]});
    let variables = json!({"app": "port-test", "variables": {
        "STACKATO_APP_NAME_UPCASE": "PORT_TEST", "STACKATO_HARBOR": "4100", "STACKATO_HARBOR_MY_PORT": "4100",
        "STACKATO_SERVICES": json!({"my-port": {"port": 30134, "int_port": 4100}}).to_string(),
    }});
    let still_bound = refusal(
        "still_bound",
        "service my-port is bound to port-test",
        "unbind it first, or force the deletion (force=true, --force), which ends its bindings too",
    );
    Node::start(vec![
        Route("POST /v1/services", r#"{"name":"my-port"}"#, 201, my_port.clone()),
        Route("POST /v1/services", r#"{"name":"harbor-https-custom-1"}"#, 201, hinted),
        Route("POST /v1/services", r#"{"name":"udp-port"}"#, 201, udp.clone()),
        Route("GET /v1/services", "", 200, json!({"services": [with(my_port.clone(), pool.clone()), udp]})),
        Route("GET /v1/services/my-port", "", 200, with(my_port, pool)),
        Route("DELETE /v1/services/my-port", "", 409, still_bound),
        Route("DELETE /v1/services/my-port?force=true", "", 204, Value::Null),
        Route("POST /v1/services/my-port/bindings", "", 201, binding("my-port", "port-test")),
        Route("POST /v1/services/udp-port/bindings", "", 201, binding("udp-port", "port-test")),
        Route("DELETE /v1/services/my-port/bindings/port-test", "", 204, Value::Null),
        Route("GET /v1/apps/port-test/env", "", 200, variables),
        Route("PUT /v1/services/my-port/backends/10.0.0.5-4100", "", 201, permanent),
        Route("PUT /v1/services/my-port/backends/web-0", "", 201, backend("web-0", "10.0.0.5:4100", tcp(0))),
        Route("DELETE /v1/services/my-port/backends/10.0.0.5-4100", "", 204, Value::Null),
        Route("GET /v1/ports", "", 200, ports),
        Route("GET /v1/events?since=40", "", 200, events),
    ])
}

/// Commands and their output in the document's `console` blocks.
fn examples(document: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => examples.push((command.into(), String::new())),
                None => {
                    let output = &mut examples.last_mut().expect("a console block starts with a command").1;
                    output.push_str(line);
                    output.push('\n');
                }
            },
            (false, _) => {}
        }
    }
    examples
}

/// What a terminal shows: both streams as they come.
fn run(node: &Node, folder: &Path, command: &str) -> String {
    let path = program().parent().map(Path::to_path_buf).unwrap();
    let mut shell = Command::new("sh");
    shell.env_clear().env("PATH", format!("{}:/usr/bin:/bin", path.display())).current_dir(folder);
    shell.env("HARBOR_URL", &node.url).env("HARBOR_TOKEN", TOKEN).args(["-c", &format!("exec 2>&1; {command}")]);
    String::from_utf8(shell.output().unwrap().stdout).unwrap()
}

#[test]
fn examples_are_what_the_program_prints() {
    let (document, node, folder) = (document(), documented_node(), tempfile::tempdir().unwrap());
    let manifest = "name: port-test\nservices:\n  my-port: harbor\n  udp-port: harbor\n  db: mysql\n";
    assert!(document.contains(&format!("```yaml\n{manifest}```")), "the manifest of the document is not this one");
    fs::write(folder.path().join("stackato.yml"), manifest).unwrap();
    let examples = examples(&document);
    let mut actual = String::new();
    let mut wrong = 0;
    for (command, want) in &examples {
        let got = run(&node, folder.path(), command);
        wrong += usize::from(got != *want);
        actual.push_str(&format!("$ {command}\n{got}"));
    }
    assert!(examples.len() >= 12, "only {} examples", examples.len());
    assert_eq!(wrong, 0, "docs/cli.md shows something else than this:\n{actual}");
}

#[test]
fn every_command_and_option_is_described() {
    let document = document();
    let examples = examples(&document);
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let heading = format!("\n## {name}\n");
        let Some((_, section)) = document.split_once(&heading) else { panic!("docs/cli.md has no section {name}") };
        let section = section.split("\n## ").next().unwrap();
        for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(section.contains(&format!("--{option}")), "section {name} does not mention --{option}");
        }
        let starts = [format!("harbor {name}"), format!("eval \"$(harbor {name}")];
        assert!(
            examples.iter().any(|(line, _)| starts.iter().any(|start| line.starts_with(start))),
            "no example of {name}"
        );
    }
    // And none that does not exist.
    let known: Vec<_> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let general = ["The node and the token", "Output", "Exit codes"];
    for heading in document.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(known.iter().any(|name| name == heading) || general.contains(&heading), "{heading} is no command");
    }
}

#[test]
fn sources_of_node_and_token_are_described_as_in_the_help() {
    let (document, folder) = (document(), PathBuf::from("/"));
    let help = run(&documented_node(), &folder, "harbor --help");
    let end = help.split_once("The node: ").map(|(_, end)| format!("The node: {end}")).unwrap();
    for line in end.lines() {
        assert!(document.contains(line.trim()), "docs/cli.md does not have: {line}");
    }
}
