//! Everything that can go wrong, with its exit code and what it says.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::node::{Node, Route, TOKEN, finish, harbor, program, refusal, service};

#[test]
fn usage_errors_exit_2_and_send_nothing() {
    let node = Node::start(Vec::new());
    for (args, want) in [
        (&["create-service", "mysql", "db"][..], "only services of type harbor can be ordered here"),
        (&["create-service", "harbor"], "required arguments were not provided"),
        (&["create-service", "harbor", "a..b"], "'..' is not allowed"),
        (&["create-service", "harbor", "x", "--protocol", "sctp"], "give tcp, udp or both"),
        (&["create-service", "harbor", "x", "--port", "0"], "invalid value '0'"),
        (&["create-service", "harbor", "x", "--id", "7"], "invalid value '7'"),
        (&["service", "a/b"], "only letters"),
        (&["bind-service", "my-port"], "<APP>"),
        (&["env", "web", "--format", "xml"], "give shell, json or dotenv"),
        (&["env", "web", "--env-prefix", "helion"], "is not a prefix"),
        (&["env", "web", "--format", "json", "-o", "json"], "--format and -o json do not go together"),
        (&["register", "my-port", "localhost:80"], "invalid value 'localhost:80'"),
        (&["register", "my-port", "10.0.0.5:80", "--ttl", "30"], "write it like 500ms"),
        (&["register", "my-port", "10.0.0.5:80", "--ttl", "30s", "--permanent"], "cannot be used with"),
        (&["register", "my-port", "10.0.0.5:80", "--keep", "--permanent"], "cannot be used with"),
        (&["events", "--since", "yesterday"], "invalid value"),
        (&["services", "-o", "yaml"], "give table or json"),
        (&["services", "--url", "node"], "write it like http://127.0.0.1:8700"),
        (&["services", "--token", "x"], "unexpected argument '--token'"),
        (&["deploy"], "unrecognized subcommand 'deploy'"),
        (&[], "Usage: harbor"),
    ] {
        let (code, out, err) = finish(node.harbor(args));
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(want), "{args:?}: want {want:?} in {err}");
    }
    assert!(node.requests().is_empty());
}

#[test]
fn a_refusal_is_passed_on_word_for_word() {
    let taken = refusal("name_taken", "the name my-port is taken in default/default", "take another name");
    let node = Node::start(vec![Route("POST /v1/services", "", 409, taken)]);
    for form in ["table", "json"] {
        let (code, out, err) = finish(node.harbor(&["create-service", "harbor", "my-port", "-o", form]));
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(err, "error: the name my-port is taken in default/default\ntry: take another name\n");
    }
}

#[test]
fn what_the_node_says_reaches_the_terminal_as_text_only() {
    let nasty = refusal("x", "red \u{1b}[31m and\nanother line", "a\u{7}b");
    let conflicted = json!({"state": "conflicted", "conflict": "held by \u{1b}]0;pwned\u{7}"});
    let service = crate::node::with(service("my-port", "tcp", 30134, 4100), conflicted);
    let node =
        Node::start(vec![Route("GET /v1/ports", "", 500, nasty), Route("GET /v1/services/my-port", "", 200, service)]);
    let (_, _, err) = finish(node.harbor(&["ports"]));
    assert_eq!(err, "error: red  [31m and another line\ntry: a b\n");
    let (_, out, _) = finish(node.harbor(&["service", "my-port"]));
    assert!(
        out.contains("conflict    held by  ]0;pwned \n") || out.contains("conflict    held by  ]0;pwned\n"),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'));
}

#[test]
fn an_unreachable_node_exits_69() {
    // Bound, and never listened on: the port is ours and refuses.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", held.local_addr().unwrap());
    let mut command = harbor("/".as_ref(), &["services"]);
    command.env("HARBOR_URL", &url).env("HARBOR_TOKEN", TOKEN);
    let (code, out, err) = finish(command);
    assert_eq!((code, out.as_str()), (69, ""));
    assert!(err.starts_with(&format!("error: the node at {url} cannot be reached: ")), "{err}");
    assert!(err.contains("\ntry: start it") && err.ends_with("(this address comes from HARBOR_URL)\n"), "{err}");
}

#[test]
fn another_server_is_not_taken_for_a_node() {
    let node = Node::start(vec![Route("GET /v1/ports", "", 200, json!({"hello": "world"}))]);
    let (code, out, err) = finish(node.harbor(&["ports", "-o", "json"]));
    assert_eq!((code, out.as_str()), (1, ""), "programs get JSON of the right shape or none");
    assert!(err.contains("the body '{\"hello\":\"world\"}' does not have the expected shape"), "{err}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let many: Vec<Value> = (0..2000).map(|_| service("my-port", "tcp", 30134, 4100)).collect();
    let node = Node::start(vec![Route("GET /v1/services", "", 200, json!({"services": many}))]);
    for form in ["table", "json"] {
        let mut command = node.harbor(&["services", "-o", form]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
    }
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("skipped: /dev/full not found");
        return;
    };
    let node = Node::start(vec![Route("GET /v1/services", "", 200, json!({"services": []}))]);
    let mut command = node.harbor(&["services", "-o", "json"]);
    let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr).unwrap().starts_with("error: the results cannot be written: No space left")
    );
}

#[test]
fn help_and_version_need_no_node() {
    for args in [&["--help"][..], &["-h"], &["env", "--help"], &["--version"]] {
        let (code, out, err) = finish(harbor("/".as_ref(), args));
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains("harbor"), "{out}");
    }
    assert!(program().exists());
}
