//! A registration that is kept alive.

use harbor_client::{ClientError, Kept, ServiceRef, keep_registered};
use harbor_types::wire::RegisterBackend;
use harbor_types::{ServiceName, Span};
use tokio::sync::{mpsc, oneshot};

use crate::peer::{Peer, Script, bounded, http, peer};

const VIEW: &str = r#"{"instance":"a","addr":"10.0.0.5:4100","ttl":"90ms","expires_in":"90ms","protocols":[]}"#;
const PERMANENT: &str = r#"{"instance":"a","addr":"10.0.0.5:4100","protocols":[]}"#;
const GONE: &str = r#"{"error":"backend_not_found","message":"no backend a","remedy":"register it"}"#;
const NO_SERVICE: &str = r#"{"error":"service_not_found","message":"no service","remedy":"create it"}"#;

/// Runs `keep_registered` against `peer` until `seen` has got `count` requests, then shuts down; the lines seen in all.
async fn kept(mut peer: Peer, count: usize) -> (Vec<String>, Vec<String>, Result<(), ClientError>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (reports, mut reported) = mpsc::unbounded_channel();
    let client = peer.client.clone();
    let running = tokio::spawn(async move {
        let service = ServiceRef::from(ServiceName::parse("my-port").unwrap());
        let order =
            RegisterBackend { addr: "10.0.0.5:4100".parse().unwrap(), ttl: Some(Span::millis(90)), permanent: false };
        let report = |kept: Kept<'_>| {
            let _ = reports.send(match kept {
                Kept::Registered(view) => format!("registered {}", view.instance),
                Kept::Late(error) => format!("late: {}", error.what()),
            });
        };
        let shutdown = async { drop(stopped.await) };
        keep_registered(&client, &service, &"a".parse().unwrap(), &order, report, shutdown).await
    });
    let mut lines = Vec::new();
    while lines.len() < count {
        lines.push(bounded(peer.seen.recv()).await.unwrap().line);
    }
    let _ = stop.send(());
    let end = bounded(running).await.unwrap();
    while let Ok(seen) = peer.seen.try_recv() {
        lines.push(seen.line);
    }
    let mut words = Vec::new();
    while let Ok(word) = reported.try_recv() {
        words.push(word);
    }
    (lines, words, end)
}

const PUT: &str = "PUT /v1/services/my-port/backends/a HTTP/1.1";
const BEAT: &str = "POST /v1/services/my-port/backends/a/heartbeat HTTP/1.1";
const DELETE: &str = "DELETE /v1/services/my-port/backends/a HTTP/1.1";

#[tokio::test]
async fn it_registers_beats_and_deregisters() {
    let node = peer(|_, seen| {
        Script::Reply(match seen.line.split(' ').next() {
            Some("PUT") => http("201 Created", VIEW),
            Some("POST") => http("200 OK", r#"{"ttl":"90ms"}"#),
            _ => http("204 No Content", ""),
        })
    })
    .await;
    let (lines, words, end) = kept(node, 4).await;
    end.unwrap();
    assert_eq!(lines[..4], [PUT, BEAT, BEAT, BEAT]);
    assert_eq!(lines.last().unwrap(), DELETE);
    assert_eq!(words, ["registered a"]);
}

#[tokio::test]
async fn a_lost_registration_is_made_anew_and_a_busy_node_waited_for() {
    let node = peer(|number, seen| {
        Script::Reply(match (number, seen.line.split(' ').next()) {
            (1, _) => http("404 Not Found", GONE),
            (3, _) => http("503 Service Unavailable", GONE),
            (4, _) => Vec::new(),
            (_, Some("PUT")) => http("201 Created", VIEW),
            (_, Some("POST")) => http("200 OK", r#"{"ttl":"90ms"}"#),
            _ => http("404 Not Found", GONE),
        })
    })
    .await;
    let (lines, words, end) = kept(node, 6).await;
    end.unwrap();
    assert_eq!(lines[..6], [PUT, BEAT, PUT, BEAT, BEAT, BEAT]);
    assert_eq!(words[..3], ["registered a", "registered a", "late: no backend a"]);
    assert!(words[3].starts_with("late: the connection to"), "{words:?}");
}

#[tokio::test]
async fn a_deleted_service_or_a_refused_first_registration_ends_it() {
    for first in [1, 0] {
        let node = peer(move |number, seen| {
            Script::Reply(match seen.line.split(' ').next() {
                Some("PUT") if number < first => http("201 Created", VIEW),
                _ => http("404 Not Found", NO_SERVICE),
            })
        })
        .await;
        let service = ServiceRef::from(ServiceName::parse("my-port").unwrap());
        let order = RegisterBackend { addr: "10.0.0.5:4100".parse().unwrap(), ttl: None, permanent: false };
        let (instance, never) = ("a".parse().unwrap(), std::future::pending());
        let end = bounded(keep_registered(&node.client, &service, &instance, &order, |_| {}, never)).await;
        assert_eq!(end.unwrap_err().refusal(), Some("service_not_found"), "{first}");
    }
}

#[tokio::test]
async fn a_permanent_registration_needs_no_heartbeat() {
    let node = peer(|_, seen| {
        Script::Reply(if seen.line.starts_with("PUT") { http("200 OK", PERMANENT) } else { http("204 No Content", "") })
    })
    .await;
    let (stop, stopped) = oneshot::channel::<()>();
    let (registered, is_registered) = oneshot::channel::<()>();
    let (client, mut seen) = (node.client.clone(), node);
    let running = tokio::spawn(async move {
        let service = ServiceRef::from(ServiceName::parse("my-port").unwrap());
        let order = RegisterBackend { addr: "10.0.0.5:4100".parse().unwrap(), ttl: None, permanent: true };
        let mut registered = Some(registered);
        let report = |_: Kept<'_>| {
            let _ = registered.take().map(|registered| registered.send(()));
        };
        let shutdown = async { drop(stopped.await) };
        keep_registered(&client, &service, &"a".parse().unwrap(), &order, report, shutdown).await
    });
    bounded(is_registered).await.unwrap();
    assert_eq!(bounded(seen.seen.recv()).await.unwrap().line, PUT);
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(200), seen.seen.recv()).await;
    assert!(quiet.is_err(), "a permanent registration beat: {quiet:?}");
    stop.send(()).unwrap();
    bounded(running).await.unwrap().unwrap();
    assert_eq!(bounded(seen.seen.recv()).await.unwrap().line, DELETE);
}
