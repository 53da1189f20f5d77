//! Every call: the request line and body it sends, and that it reads the answer.

use harbor_client::{DeleteMode, Readiness, ServiceFilter, ServiceRef};
use harbor_types::wire::{CreateService, RegisterBackend};
use harbor_types::{ServiceId, Span};

use crate::peer::{Peer, Script, bounded, http, peer};

const SERVICE: &str = include_str!("service.json");
const BACKEND: &str = r#"{"instance":"a","addr":"10.0.0.5:4100","ttl":"30s","expires_in":"29s","protocols":[{"protocol":"tcp","health":"eligible","place":0}]}"#;
const BINDING: &str = r#"{"id":"00000000-0000-0000-0000-000000000002","service":"cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09","service_name":"my-port","app":"web","created":"2026-01-31T12:00:00.000Z"}"#;

async fn answering(status: &'static str, body: String) -> Peer {
    peer(move |_, _| Script::Reply(http(status, &body))).await
}

/// Line and body of the one request that was seen.
async fn sent(peer: &mut Peer) -> (String, String) {
    let seen = bounded(peer.seen.recv()).await.unwrap();
    assert_eq!(seen.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(seen.header("host").unwrap(), peer.client.url().to_string().trim_start_matches("http://"));
    assert_eq!(seen.header("content-type"), if seen.body.is_empty() { None } else { Some("application/json") });
    (seen.line.trim_end_matches(" HTTP/1.1").to_owned(), seen.body)
}

fn my_port() -> ServiceRef {
    ServiceRef::Name { name: "my-port".parse().unwrap(), org: None, space: None }
}

#[tokio::test]
async fn services_are_listed_and_shown() {
    let mut peer = answering("200 OK", format!("{{\"services\":[{SERVICE}]}}")).await;
    let filter = ServiceFilter { org: Some("acme".parse().unwrap()), ..ServiceFilter::default() };
    let list = peer.client.services(&filter).await.unwrap();
    assert_eq!(list.value.services[0].port.get(), 30134);
    assert_eq!(sent(&mut peer).await, ("GET /v1/services?org=acme".into(), String::new()));

    let mut peer = answering("200 OK", SERVICE.into()).await;
    let shown = peer.client.service(&my_port()).await.unwrap();
    assert_eq!(shown.value.name.as_str(), "my-port");
    assert_eq!(shown.json, SERVICE, "programs get the node's own words");
    assert!(!shown.created);
    assert_eq!(sent(&mut peer).await.0, "GET /v1/services/my-port");
}

#[tokio::test]
async fn services_are_ordered_and_deleted() {
    let order = CreateService::named("my-port".parse().unwrap());
    let mut peer = answering("201 Created", SERVICE.into()).await;
    assert!(peer.client.create_service(&order).await.unwrap().created);
    assert_eq!(sent(&mut peer).await, ("POST /v1/services".into(), r#"{"name":"my-port"}"#.into()));

    let mut peer = answering("200 OK", SERVICE.into()).await;
    assert!(!peer.client.put_service(ServiceId::from_u128(7), &order).await.unwrap().created);
    assert_eq!(sent(&mut peer).await.0, "PUT /v1/services/00000000-0000-0000-0000-000000000007");

    let mut peer = answering("204 No Content", String::new()).await;
    peer.client.delete_service(&my_port(), DeleteMode::OnlyUnbound).await.unwrap();
    assert_eq!(sent(&mut peer).await.0, "DELETE /v1/services/my-port");
    peer.client.delete_service(&my_port(), DeleteMode::Forced).await.unwrap();
    assert_eq!(sent(&mut peer).await.0, "DELETE /v1/services/my-port?force=true");
}

#[tokio::test]
async fn bindings_are_made_listed_and_ended() {
    let web = "web".parse().unwrap();
    let mut peer = answering("201 Created", BINDING.into()).await;
    assert_eq!(peer.client.bind_service(&my_port(), &web).await.unwrap().value.app, web);
    assert_eq!(sent(&mut peer).await, ("POST /v1/services/my-port/bindings".into(), r#"{"app":"web"}"#.into()));

    let mut peer = answering("200 OK", format!("{{\"bindings\":[{BINDING}]}}")).await;
    assert_eq!(peer.client.bindings(&my_port()).await.unwrap().value.bindings.len(), 1);
    assert_eq!(sent(&mut peer).await.0, "GET /v1/services/my-port/bindings");
    assert_eq!(peer.client.all_bindings(Some(&web)).await.unwrap().value.bindings.len(), 1);
    assert_eq!(sent(&mut peer).await.0, "GET /v1/bindings?app=web");

    let mut peer = answering("204 No Content", String::new()).await;
    peer.client.unbind_service(&my_port(), &web).await.unwrap();
    assert_eq!(sent(&mut peer).await.0, "DELETE /v1/services/my-port/bindings/web");
}

#[tokio::test]
async fn backends_are_registered_listed_and_deregistered() {
    let instance = "a".parse().unwrap();
    let order = RegisterBackend { addr: "10.0.0.5:4100".parse().unwrap(), ttl: Some(Span::secs(30)), permanent: false };
    let mut peer = answering("201 Created", BACKEND.into()).await;
    peer.client.register(&my_port(), &instance, &order).await.unwrap();
    let body = r#"{"addr":"10.0.0.5:4100","ttl":"30s","permanent":false}"#;
    assert_eq!(sent(&mut peer).await, ("PUT /v1/services/my-port/backends/a".into(), body.into()));

    let mut peer = answering("200 OK", format!("{{\"backends\":[{BACKEND}]}}")).await;
    assert_eq!(peer.client.backends(&my_port()).await.unwrap().value.backends[0].instance, instance);
    assert_eq!(sent(&mut peer).await.0, "GET /v1/services/my-port/backends");

    let mut peer = answering("200 OK", r#"{"ttl":"30s"}"#.into()).await;
    assert_eq!(peer.client.heartbeat(&my_port(), &instance).await.unwrap().value.ttl, Some(Span::secs(30)));
    assert_eq!(sent(&mut peer).await, ("POST /v1/services/my-port/backends/a/heartbeat".into(), String::new()));

    let mut peer = answering("204 No Content", String::new()).await;
    peer.client.deregister(&my_port(), &instance).await.unwrap();
    assert_eq!(sent(&mut peer).await.0, "DELETE /v1/services/my-port/backends/a");
}

#[tokio::test]
async fn environment_ports_and_events_are_read() {
    let mut peer = answering("200 OK", r#"{"app":"web","variables":{"STACKATO_HARBOR":"4100"}}"#.into()).await;
    let env = peer.client.app_env(&"web".parse().unwrap(), &["HELION".into(), "A&B".into()]).await.unwrap();
    assert_eq!(env.value.variables["STACKATO_HARBOR"], "4100");
    assert_eq!(sent(&mut peer).await.0, "GET /v1/apps/web/env?prefix=HELION&prefix=A%26B");

    let ports = r#"{"range":"20000-29999","free":9999,"leased":1,"quarantined":0,"held_by_others":0,"ports":[{"port":20001,"state":"leased","service":"my-port"}]}"#;
    let mut peer = answering("200 OK", ports.into()).await;
    assert_eq!(peer.client.ports().await.unwrap().value.free, 9999);
    assert_eq!(sent(&mut peer).await.0, "GET /v1/ports");

    let mut peer = answering("200 OK", r#"{"events":[],"latest":9,"missed":false}"#.into()).await;
    assert_eq!(peer.client.events(Some(4), Some(10)).await.unwrap().value.latest, 9);
    assert_eq!(sent(&mut peer).await.0, "GET /v1/events?since=4&limit=10");
}

#[tokio::test]
async fn health_metrics_and_description_are_read() {
    let mut peer = answering("200 OK", "ok".into()).await;
    peer.client.live().await.unwrap();
    assert_eq!(sent(&mut peer).await.0, "GET /livez");
    assert_eq!(peer.client.ready().await.unwrap(), Readiness::Ready);
    assert_eq!(sent(&mut peer).await.0, "GET /readyz");
    assert_eq!(peer.client.metrics().await.unwrap(), "ok");
    assert_eq!(sent(&mut peer).await.0, "GET /metrics");
    assert_eq!(peer.client.openapi().await.unwrap(), "ok");
    assert_eq!(sent(&mut peer).await.0, "GET /openapi.json");

    let busy = r#"{"error":"not_ready","message":"restoring","remedy":"wait"}"#;
    let peer = answering("503 Service Unavailable", busy.into()).await;
    assert_eq!(peer.client.ready().await.unwrap(), Readiness::NotReady);
}
