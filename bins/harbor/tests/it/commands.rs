//! What each command sends, and how answers look that the document does not show.

use serde_json::{Value, json};

use crate::node::{ID, Node, Route, backend, binding, finish, service, succeed, with};

#[test]
fn programs_get_the_nodes_own_words() {
    let view = with(service("my-port", "tcp", 30134, 4100), json!({"a_field_of_a_later_version": [1, null]}));
    let ports =
        json!({"range": "20000-20009", "free": 10, "leased": 0, "quarantined": 0, "held_by_others": 0, "ports": []});
    let events = json!({"events": [], "latest": 7, "missed": true});
    let node = Node::start(vec![
        Route("GET /v1/services", "", 200, json!({"services": [view]})),
        Route("GET /v1/services/my-port", "", 200, view.clone()),
        Route("POST /v1/services", "", 201, view.clone()),
        Route("POST /v1/services/my-port/bindings", "", 201, binding("my-port", "web")),
        Route("DELETE /v1/services/my-port/bindings/web", "", 204, Value::Null),
        Route("DELETE /v1/services/my-port", "", 200, json!({"drained": true})),
        Route("GET /v1/ports", "", 200, ports.clone()),
        Route("GET /v1/events?since=7", "", 200, events.clone()),
    ]);
    for (args, want) in [
        (&["services"][..], json!({"services": [view]}).to_string()),
        (&["service", "my-port"], view.to_string()),
        (&["create-service", "harbor", "my-port"], view.to_string()),
        (&["bind-service", "my-port", "web"], binding("my-port", "web").to_string()),
        (&["unbind-service", "my-port", "web"], String::new()),
        (&["delete-service", "my-port"], json!({"drained": true}).to_string()),
        (&["ports"], ports.to_string()),
        (&["events", "--since", "7"], events.to_string()),
    ] {
        let (code, out, _) = finish(node.harbor(&[args, &["-o", "json"]].concat()));
        assert_eq!((code, out.trim_end()), (0, want.as_str()), "{args:?}");
    }
}

#[test]
fn orders_carry_what_was_asked_for() {
    let view = service("x", "both", 30200, 4200);
    let body = r#"{"name":"x","protocol":"both","https":true,"port":30200,"int_port":4200,"public":false}"#;
    let node = Node::start(vec![
        Route("POST /v1/services", "", 201, view.clone()),
        Route("PUT /v1/services/cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09", "", 200, view),
    ]);
    let options = "--protocol both --https true --port 30200 --int-port 4200 --public false";
    let args: Vec<_> = ["create-service", "harbor", "x"].into_iter().chain(options.split(' ')).collect();
    assert!(succeed(node.harbor(&args)).starts_with("created x\n"));
    assert_eq!(node.requests(), [format!("POST /v1/services {body}")]);
    // The same order under the same id finds its service.
    assert!(succeed(node.harbor(&[&args[..], &["--id", ID]].concat())).starts_with("found x\n"));
    assert_eq!(node.requests(), [format!("PUT /v1/services/{ID} {body}")]);
    succeed(node.harbor(&["create-service", "harbor", "x"]));
    assert_eq!(node.requests(), [r#"POST /v1/services {"name":"x"}"#]);
}

#[test]
fn services_are_meant_by_name_or_id() {
    let by_id = "DELETE /v1/services/cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09";
    let node = Node::start(vec![
        Route(by_id, "", 204, Value::Null),
        Route("DELETE /v1/services/my-port?force=true", "", 204, Value::Null),
    ]);
    assert_eq!(succeed(node.harbor(&["delete-service", ID])), format!("deleted {ID}\n"));
    assert_eq!(succeed(node.harbor(&["delete-service", "my-port", "--force"])), "deleted my-port\n");
}

#[test]
fn spaces_are_shown_when_there_is_more_than_the_default() {
    let elsewhere =
        with(service("b", "udp", 30135, 4100), json!({"org": "acme", "space": "prod", "access": "internal"}));
    let node = Node::start(vec![Route(
        "GET /v1/services",
        "",
        200,
        json!({"services": [service("a", "tcp", 30134, 4100), elsewhere]}),
    )]);
    let want = "\
SPACE            NAME  KIND  PORT   INT_PORT  ACCESS    STATE  BACKENDS  BOUND TO
default/default  a     tcp   30134  4100      public    bound  0/0       -
acme/prod        b     udp   30135  4100      internal  bound  0/0       -
";
    assert_eq!(succeed(node.harbor(&["services"])), want);
}

#[test]
fn the_health_of_backends_is_shown_per_protocol() {
    let state = |protocol: &str, health: &str, place: Value, failure: Value| {
        let mut state = json!({"protocol": protocol, "health": health});
        for (key, value) in [("place", place), ("last_failure", failure)] {
            if !value.is_null() {
                state[key] = value;
            }
        }
        state
    };
    let none = || Value::Null;
    let permanent = json!({"instance": "c", "addr": "[fd12::1]:4100", "protocols": [
        state("tcp", "ejected", none(), json!("refused")), state("udp", "ejected", none(), none()),
    ]});
    let backends = json!([
        backend(
            "a",
            "10.0.0.5:4100",
            json!([state("tcp", "eligible", json!(0), none()), state("udp", "eligible", json!(0), none()),])
        ),
        backend(
            "b",
            "10.0.0.6:4100",
            json!(
                [state("tcp", "eligible", json!(1), json!("timed_out")), state("udp", "eligible", json!(1), none()),]
            )
        ),
        permanent,
    ]);
    let view = with(service("both-x", "both", 30134, 4100), json!({"backends": backends, "https": true}));
    let node = Node::start(vec![
        Route("GET /v1/services/both-x", "", 200, view.clone()),
        Route("GET /v1/services", "", 200, json!({"services": [view]})),
    ]);
    let shown = succeed(node.harbor(&["service", "both-x"]));
    let want = "\
backends
  INSTANCE  ADDRESS         TCP               UDP       EXPIRES IN
  a         10.0.0.5:4100   eligible          primary   21s
  b         10.0.0.6:4100   eligible          queued 1  21s
  c         [fd12::1]:4100  ejected: refused  ejected   never
";
    assert!(shown.contains(want), "{shown}");
    assert!(shown.contains("  kind        tcp+udp+https\n"), "{shown}");
    assert!(succeed(node.harbor(&["services"])).contains("  2/3  "));
}

#[test]
fn nothing_to_list_is_said_beside_the_results() {
    let ports = json!({"range": "1-2", "free": 2, "leased": 0, "quarantined": 0, "held_by_others": 0, "ports": []});
    let node = Node::start(vec![
        Route("GET /v1/services", "", 200, json!({"services": []})),
        Route("GET /v1/events", "", 200, json!({"events": [], "latest": 7, "missed": false})),
        Route("GET /v1/ports", "", 200, ports),
    ]);
    let note = "note: there are no services; order one: harbor create-service harbor NAME\n";
    assert_eq!(finish(node.harbor(&["services"])), (0, String::new(), note.into()));
    assert_eq!(finish(node.harbor(&["events"])), (0, String::new(), "note: nothing happened since event 7\n".into()));
    assert_eq!(succeed(node.harbor(&["ports"])), "1-2: 2 free, 0 leased, 0 quarantined, 0 held by others\n");
}
