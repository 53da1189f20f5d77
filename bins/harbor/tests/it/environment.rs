//! `harbor env`: what a real shell makes of it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::node::{Node, Route, finish, program, refusal, succeed};

fn node() -> Node {
    let variables = json!({"app": "web", "variables": {
        "STACKATO_APP_NAME_UPCASE": "WEB",
        "STACKATO_HARBOR_TCP_WEB": "4101",
        "STACKATO_HARBOR_UDP_WEB": "4100",
        "STACKATO_SERVICES": "{\"udp-web\":{\"port\":30134,\"note\":\"it's $HOME `x` \\\\\"}}",
    }});
    let twins = json!({"app": "web", "variables": {"HELION_HARBOR": "4100", "STACKATO_HARBOR": "4100"}});
    let plain = json!({"app": "plain", "variables": {"STACKATO_HARBOR": "4100"}});
    let unknown =
        refusal("app_not_found", "no service is bound to nobody", "bind one: harbor bind-service NAME nobody");
    Node::start(vec![
        Route("GET /v1/apps/web/env", "", 200, variables),
        Route("GET /v1/apps/web/env?prefix=HELION&prefix=X_1", "", 200, twins),
        Route("GET /v1/apps/plain/env", "", 200, plain),
        Route("GET /v1/apps/nobody/env", "", 404, unknown),
    ])
}

/// Runs `script` in a real shell that finds `harbor`; `None` when there is no such shell.
fn shell(shell: &str, node: &Node, script: &str) -> Option<String> {
    let folder = program().parent().map(Path::to_path_buf).unwrap();
    let mut command = Command::new(shell);
    command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    command.env("HARBOR_URL", &node.url).env("HARBOR_TOKEN", crate::node::TOKEN).args(["-c", script]);
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(_) => {
            println!("skipped: {shell} not found");
            None
        }
    }
}

#[test]
fn a_shell_takes_the_variables_as_they_are() {
    for name in ["bash", "sh"] {
        let node = node();
        if let Some(out) = shell(name, &node, r#"eval "$(harbor env web)" && printf %s "$STACKATO_SERVICES""#) {
            assert_eq!(out, r#"{"udp-web":{"port":30134,"note":"it's $HOME `x` \\"}}"#, "{name}");
        }
    }
}

#[test]
fn the_documents_indirection_works() {
    let script = r#"
        eval "$(harbor env web)"
        UDP_SERVICE_NAME=STACKATO_HARBOR_UDP_${STACKATO_APP_NAME_UPCASE}
        UDP_SERVICE_PORT=${!UDP_SERVICE_NAME}
        echo "$UDP_SERVICE_PORT"; env | grep -c ^STACKATO_HARBOR"#;
    if let Some(out) = shell("bash", &node(), script) {
        assert_eq!(out, "4100\n2\n");
    }
}

#[test]
fn every_form_is_written() {
    let node = node();
    assert_eq!(succeed(node.harbor(&["env", "plain"])), "export STACKATO_HARBOR='4100'\n");
    assert_eq!(succeed(node.harbor(&["env", "plain", "--format", "shell"])), "export STACKATO_HARBOR='4100'\n");
    assert_eq!(succeed(node.harbor(&["env", "plain", "--format", "dotenv"])), "STACKATO_HARBOR=4100\n");
    assert_eq!(succeed(node.harbor(&["env", "plain", "--format", "json"])), "{\n  \"STACKATO_HARBOR\": \"4100\"\n}\n");
    let answer = "{\"app\":\"plain\",\"variables\":{\"STACKATO_HARBOR\":\"4100\"}}\n";
    assert_eq!(succeed(node.harbor(&["env", "plain", "-o", "json"])), answer);
    let twins = succeed(node.harbor(&["env", "web", "--env-prefix", "HELION", "--env-prefix", "X_1"]));
    assert_eq!(twins, "export HELION_HARBOR='4100'\nexport STACKATO_HARBOR='4100'\n");
}

#[test]
fn what_cannot_be_written_is_refused_and_eval_gets_nothing() {
    let node = node();
    let (code, out, err) = finish(node.harbor(&["env", "web", "--format", "dotenv"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("cannot be written as dotenv: the value of STACKATO_SERVICES"), "{err}");
    let (code, out, err) = finish(node.harbor(&["env", "nobody"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "error: no service is bound to nobody\ntry: bind one: harbor bind-service NAME nobody\n");
}
