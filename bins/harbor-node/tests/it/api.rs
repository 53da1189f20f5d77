//! The API and those who get it wrong: the right status, a problem that says what to do, and nothing changed.

use harbor_client::ServiceFilter;
use harbor_testkit::wait::bounded;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{TOKEN, TestNode, client, raw};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn bearer() -> (&'static str, &'static str) {
    ("Authorization", "Bearer the-token-of-the-tests")
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_problem_and_change_nothing() {
    let node = TestNode::start(8).await;
    let service = node.order("tcp-port").await;
    node.register(&service, "i0", "127.0.0.1:9".parse().unwrap()).await;
    let before = node.client.services(&ServiceFilter::default()).await.unwrap().value;
    let ports = node.client.ports().await.unwrap().value;

    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
    let unknown = "/v1/services/00000000-0000-4000-8000-000000000000";
    let backend = "/v1/services/tcp-port/backends/i1";
    #[rustfmt::skip]
    let rows: &[(&str, &str, &str, u16, &str, &str)] = &[
        ("POST", "/v1/services", "{\"name\": \"a\"", 400, "bad_json", "line 1 column 12"),
        ("POST", "/v1/services", "", 400, "bad_json", "EOF"),
        ("POST", "/v1/services", "[1]", 400, "bad_value", "line 1 column"),
        ("POST", "/v1/services", "[\"a\"]", 400, "bad_value", "sequence, expected an object at line 1 column"),
        ("POST", "/v1/services", "{\"name\": \"a\", \"name\": \"b\"}", 400, "bad_value", "duplicate field `name`"),
        ("PUT", backend, "[\"127.0.0.1:80\"]", 400, "bad_value", "sequence, expected an object"),
        ("POST", "/v1/services", "{\"name\": \"a\"} x", 400, "bad_json", "trailing"),
        ("POST", "/v1/services", "{\"name\": \"a\", \"protocl\": \"udp\"}", 400, "bad_value", "unknown field `protocl`"),
        ("POST", "/v1/services", "{\"name\": \"a b\"}", 400, "bad_value", "service name \"a b\" is not valid"),
        ("POST", "/v1/services", "{\"name\": \"a\", \"port\": 0}", 400, "bad_value", "0 is not a port"),
        ("POST", "/v1/services", "{\"name\": \"a\", \"port\": 70000}", 400, "bad_value", "u16"),
        ("POST", "/v1/services", "{\"name\": \"a\", \"protocol\": \"sctp\"}", 400, "bad_value", "sctp"),
        ("POST", "/v1/services", "{\"port\": 61000}", 400, "bad_value", "missing field `name`"),
        ("POST", "/v1/services", &huge, 413, "body_too_large", "65536 bytes"),
        ("PUT", "/v1/services/not-a-uuid", "{\"name\": \"a\"}", 400, "bad_path", "\"not-a-uuid\" is not a UUID"),
        ("GET", "/v1/services/nobody", "", 404, "service_not_found", "no service nobody in default/default"),
        ("GET", "/v1/services/tcp-port?space=other", "", 404, "service_not_found", "default/other"),
        ("GET", unknown, "", 404, "service_not_found", "00000000-0000-4000-8000-000000000000"),
        ("DELETE", unknown, "", 404, "service_not_found", "00000000"),
        ("GET", "/v1/services/a%20b", "", 400, "bad_path", "a b"),
        ("GET", "/v1/services?nme=a", "", 400, "bad_query", "nme"),
        ("DELETE", "/v1/services/tcp-port?force=maybe", "", 400, "bad_query", "force: provided string was not `true` or `false`"),
        ("GET", "/v1/events?since=-1", "", 400, "bad_query", "since"),
        ("GET", "/v1/apps/web/env?prefix=helion", "", 400, "bad_query", "helion"),
        ("GET", "/v1/apps/web/env?prfix=HELION", "", 400, "bad_query", "prfix"),
        ("POST", "/v1/services/tcp-port/bindings", "{\"app\": \"\"}", 400, "bad_value", "app name"),
        ("POST", "/v1/services/nobody/bindings", "{\"app\": \"web\"}", 404, "service_not_found", "nobody"),
        ("DELETE", "/v1/services/tcp-port/bindings/web", "", 404, "binding_not_found", "web"),
        ("DELETE", "/v1/services/tcp-port/backends/i9", "", 404, "instance_not_found", "i9"),
        ("POST", "/v1/services/tcp-port/backends/i9/heartbeat", "", 404, "instance_not_found", "i9"),
        ("PUT", "/v1/services/tcp-port/backends/..", "{\"addr\": \"127.0.0.1:80\"}", 400, "bad_path", "instance id"),
        ("PUT", backend, "{\"addr\": \"example.com:80\"}", 400, "bad_value", "socket address"),
        ("PUT", backend, "{\"addr\": \"127.0.0.1\"}", 400, "bad_value", "socket address"),
        ("PUT", backend, "{\"addr\": \"8.8.8.8:53\"}", 422, "address_outside", "backend_networks"),
        ("PUT", backend, "{\"addr\": \"169.254.169.254:80\"}", 422, "address_forbidden", "link-local"),
        ("PUT", backend, "{\"addr\": \"127.0.0.1:80\", \"ttl\": \"30\"}", 400, "bad_value", "length of time"),
        ("PUT", backend, "{\"addr\": \"127.0.0.1:80\", \"ttl\": \"0s\"}", 422, "bad_ttl", "1s to 24h"),
        ("PUT", backend, "{\"addr\": \"127.0.0.1:80\", \"ttl\": \"3s\", \"permanent\": true}", 422, "ttl_and_permanent", "ttl"),
        ("PATCH", "/v1/services", "", 405, "method_not_allowed", "/v1/services does not take PATCH"),
        ("DELETE", "/livez", "", 405, "method_not_allowed", "/livez"),
        ("GET", "/v2/services", "", 404, "no_such_route", "/v2/services"),
        ("GET", "/", "", 404, "no_such_route", "nothing at /"),
    ];
    for (method, path, body, status, error, message) in rows {
        let answer = raw(node.api, method, path, &[bearer(), JSON], body.as_bytes()).await;
        let problem = answer.problem();
        let row = format!("{method} {path} {}: {} {problem:?}", &body[..body.len().min(60)], answer.status);
        assert_eq!((answer.status, problem.error.as_str()), (*status, *error), "{row}");
        assert!(problem.message.contains(message) || problem.remedy.contains(message), "want {message:?} in {row}");
        assert!(!problem.remedy.is_empty(), "{row}");
        if *status == 405 {
            assert!(answer.head.contains("\r\nallow: "), "{}", answer.head);
        }
    }
    for own in [node.api, node.addr(&service)] {
        let body = format!("{{\"addr\": \"{own}\"}}");
        let answer = raw(node.api, "PUT", backend, &[bearer(), JSON], body.as_bytes()).await;
        assert_eq!((answer.status, answer.problem().error.as_str()), (422, "own_listener"), "{own}");
    }
    for kind in
        [None, Some(("Content-Type", "text/plain")), Some(("Content-Type", "application/x-www-form-urlencoded"))]
    {
        let headers: Vec<_> = [Some(bearer()), kind].into_iter().flatten().collect();
        let answer = raw(node.api, "POST", "/v1/services", &headers, b"{\"name\": \"a\"}").await;
        assert_eq!((answer.status, answer.problem().error.as_str()), (415, "not_json"), "{kind:?}");
    }

    let after = node.client.services(&ServiceFilter::default()).await.unwrap().value;
    assert_eq!(after, before);
    assert_eq!(node.client.ports().await.unwrap().value, ports);
    assert_eq!(node.client.all_bindings(None).await.unwrap().value.bindings.len(), 0);
    node.stop().await;
}

#[tokio::test]
async fn without_the_token_only_health_is_open() {
    let node = TestNode::start(8).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(raw(node.api, "GET", path, &[], b"").await.status, 200, "{path}");
    }
    let with = |value: &'static str| Some(("Authorization", value));
    for header in [
        None,
        with("Bearer"),
        with("Bearer "),
        with("Bearer wrong-token-of-the-tests"),
        with("Bearer the-token-of-the-test"),
        with("Bearer the-token-of-the-tests2"),
        with("Basic the-token-of-the-tests"),
        with("the-token-of-the-tests"),
        with("Bearer \u{e4}"),
    ] {
        let headers: Vec<_> = [header, Some(JSON)].into_iter().flatten().collect();
        for (method, path) in [
            ("GET", "/v1/services"),
            ("POST", "/v1/services"),
            ("DELETE", "/v1/services/a"),
            ("GET", "/metrics"),
            ("GET", "/openapi.json"),
            ("GET", "/nothing"),
        ] {
            let answer = raw(node.api, method, path, &headers, b"{\"name\": \"a\"}").await;
            assert_eq!(answer.status, 401, "{method} {path} {header:?}");
            assert!(answer.head.contains("\r\nwww-authenticate: bearer"), "{}", answer.head);
            let problem = answer.problem();
            assert!(
                problem.remedy.contains("Authorization: Bearer") && !problem.message.contains(TOKEN),
                "{problem:?}"
            );
        }
    }
    let other = ("Authorization", "Bearer wrong-token-of-the-tests");
    for twice in [[bearer(), other], [other, bearer()]] {
        let answer = raw(node.api, "GET", "/v1/services", &twice, b"").await;
        assert_eq!((answer.status, answer.problem().error.as_str()), (401, "token_twice"), "{twice:?}");
    }
    let answer = raw(node.api, "GET", "/v1/services", &[("authorization", "bearer the-token-of-the-tests")], b"").await;
    assert_eq!(answer.status, 200, "the scheme is case-insensitive");
    assert!(node.client.services(&ServiceFilter::default()).await.unwrap().value.services.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn the_token_can_be_replaced_while_the_node_runs() {
    let folder = tempfile::tempdir().unwrap();
    let config = harbor_node::NodeConfig {
        host: harbor_testkit::ports::own_loopback(),
        drain: harbor_node::Drain { grace: harbor_types::Span::ZERO, limit: harbor_types::Span::secs(1) },
        ..harbor_node::NodeConfig::loopback(
            folder.path().join("made/if/missing"),
            crate::rig::range(4).parse().unwrap(),
            harbor_node::Token::parse("another-token-before").unwrap(),
        )
    };
    let node = harbor_node::Node::bind(config).await.unwrap();
    let (token, api) = (node.token(), node.api_addr());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(node.serve(async { drop(stopped.await) }));
    let client = client(api);
    assert!(matches!(client.ports().await, Err(harbor_client::ClientError::Unauthorized { .. })));
    token.replace(harbor_node::Token::parse(TOKEN).unwrap());
    client.ports().await.unwrap();
    stop.send(()).unwrap();
    bounded("the end", serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn every_documented_operation_is_answered_by_its_handler() {
    let node = TestNode::start(8).await;
    let document = raw(node.api, "GET", "/openapi.json", &[bearer()], b"").await;
    let document: serde_json::Value = serde_json::from_str(&document.body).unwrap();
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{service}", "nobody").replace("{app}", "web").replace("{instance}", "i0");
        for method in item.as_object().unwrap().keys() {
            let answer = raw(node.api, &method.to_ascii_uppercase(), &path, &[bearer(), JSON], b"{}").await;
            assert_ne!(answer.status, 405, "{method} {path}");
            assert!(answer.status < 300 || answer.problem().error != "no_such_route", "{method} {path}");
            operations += 1;
        }
    }
    assert_eq!(operations, 20);
    node.stop().await;
}

#[tokio::test]
async fn metrics_are_openmetrics_and_count_what_is_there() {
    let node = TestNode::start(8).await;
    let service = node.order("both-port").await;
    node.register(&service, "i0", "127.0.0.1:9".parse().unwrap()).await;
    let answer = raw(node.api, "GET", "/metrics", &[bearer()], b"").await;
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", answer.head);
    assert!(answer.body.ends_with("# EOF\n"));
    let mut samples = std::collections::BTreeMap::new();
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(name.starts_with("harbor_"), "{line}");
        samples.insert(name.to_owned(), value.parse::<f64>().unwrap_or_else(|_| panic!("{line}")));
    }
    for (name, want) in [
        ("harbor_services", 1.0),
        ("harbor_services_conflicted", 0.0),
        ("harbor_bindings", 0.0),
        ("harbor_backends", 1.0),
        ("harbor_backends_eligible", 1.0),
        ("harbor_ports{state=\"leased\"}", 1.0),
        ("harbor_ports{state=\"free\"}", 7.0),
        ("harbor_ready", 1.0),
        ("harbor_calls", 0.0),
        ("harbor_store_commits_total{result=\"committed\"}", 2.0),
        ("harbor_store_commit_seconds_count", 2.0),
        ("harbor_tcp_connections_total", 0.0),
        ("harbor_tcp_connections_open", 0.0),
        ("harbor_udp_sessions_open", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&want), "{name}\n{}", answer.body);
    }
    node.stop().await;
}

#[tokio::test]
async fn events_tell_what_happened() {
    let node = TestNode::start(8).await;
    let service = node.order("tcp-port").await;
    node.register(&service, "i0", "127.0.0.1:9".parse().unwrap()).await;
    let events = node.client.events(None, None).await.unwrap().value;
    let kinds: Vec<_> = events.events.iter().map(|event| serde_json::to_value(event.kind).unwrap()).collect();
    assert_eq!(kinds, ["service_created", "backend_joined"]);
    let rest = node.client.events(Some(events.events[0].sequence), Some(1)).await.unwrap().value;
    assert_eq!((rest.events.len(), rest.latest, rest.missed), (1, events.latest, false));
    node.stop().await;
}

#[tokio::test]
async fn a_connection_serves_several_requests_and_survives_a_refused_one() {
    let node = TestNode::start(8).await;
    let mut stream = TcpStream::connect(node.api).await.unwrap();
    for (request, want) in [
        ("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200"),
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 401"),
        ("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200"),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut start = vec![0; 4096];
        let read = bounded("an answer", stream.read(&mut start)).await.unwrap();
        assert!(start[..read].starts_with(want.as_bytes()), "{request}: {}", String::from_utf8_lossy(&start[..read]));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_body_declared_too_large_is_refused_before_it_is_sent() {
    let node = TestNode::start(8).await;
    let (name, value) = bearer();
    for asks in ["", "Expect: 100-continue\r\n"] {
        let mut stream = TcpStream::connect(node.api).await.unwrap();
        let head = format!(
            "POST /v1/services HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\nContent-Type: application/json\r\n\
             {asks}Content-Length: 99999999999\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        bounded("an answer without a body sent", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413", "{asks}");
    }
    node.stop().await;
}
