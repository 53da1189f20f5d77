//! How sessions and listeners end.

use std::future::Future;
use std::sync::Arc;

use harbor_testkit::udp::{UdpBackend, UdpClient, udp_snapshot};
use harbor_testkit::wait::until;
use harbor_types::{Claim, Generation, ServiceId, Span};
use harbor_udp::{Budget, CloseReason, Limits, Tally, UdpListener, UdpService, serve};
use tokio::sync::watch;

use crate::rig::{ANY, Notes, Relay};

#[tokio::test]
async fn an_idle_session_ends_with_one_record_and_gives_its_place_back() {
    let backend = UdpBackend::start("re: ").await;
    let limits = Limits { idle: Span::millis(50), ..Limits::default() };
    let relay = Relay::start(ANY, limits, &[(1, backend.addr)]).await;
    let client = UdpClient::connect(relay.addr).await;
    client.ask(b"hello").await;
    until("the session to end", || !relay.notes.closed.lock().unwrap().is_empty()).await;
    assert_eq!(relay.node.live(), 0);
    let records = relay.notes.closed.lock().unwrap().clone();
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.client, record.backend.addr), (client.addr(), backend.addr));
    assert_eq!(record.up, Tally { datagrams: 1, bytes: 5 });
    assert_eq!(record.down, Tally { datagrams: 1, bytes: 9 });
    assert_eq!((record.reason, record.moves), (CloseReason::Idle, 0));
    assert!(record.lasted >= Span::millis(50), "{}", record.lasted);
    assert_eq!(client.ask(b"again").await, b"re: again", "a new session");
    until("the second to end", || relay.notes.closed.lock().unwrap().len() == 2).await;
}

#[tokio::test]
async fn a_stopped_listener_has_closed_its_socket_and_ended_its_sessions() {
    let backend = UdpBackend::start("").await;
    let relay = Relay::start(ANY, Limits::default(), &[(1, backend.addr)]).await;
    let (addr, node) = (relay.addr, Arc::clone(&relay.node));
    UdpClient::connect(relay.addr).await.ask(b"hello").await;
    let (report, notes) = relay.stop().await;
    assert!(UdpListener::bind(addr, Claim::Restore).is_ok(), "the port is free as soon as serve returned");
    assert_eq!((report.sessions, report.dropped, node.live()), (1, 0, 0));
    assert_eq!(notes.closed.lock().unwrap()[0].reason, CloseReason::Drained);
}

#[tokio::test]
async fn the_last_snapshot_stays_in_force_when_nobody_publishes_any_more() {
    let backend = UdpBackend::start("").await;
    let mut relay = Relay::start(ANY, Limits::default(), &[(1, backend.addr)]).await;
    relay.snapshots = watch::channel(udp_snapshot(9, &[])).0;
    assert_eq!(UdpClient::connect(relay.addr).await.ask(b"hello").await, b"hello");
    relay.stop().await;
}

#[tokio::test]
async fn a_dropped_relay_gives_everything_back() {
    let backend = UdpBackend::start("").await;
    let listener = UdpListener::bind(ANY, Claim::Fresh).unwrap();
    let (addr, node) = (listener.local_addr(), Arc::new(Budget::new(10)));
    let notes = Arc::new(Notes::default());
    let service = UdpService::new(ServiceId::from_u128(1), Limits::default(), Arc::clone(&node), notes);
    let (_snapshots, updates) = watch::channel(udp_snapshot(1, &[(1, backend.addr)]));
    let relay = serve(listener, Arc::new(service), updates, watch::channel(Generation(0)).0, std::future::pending());
    let client = UdpClient::connect(addr).await;
    tokio::select! {
        _ = is_send(relay) => panic!("it ended by itself"),
        answer = client.ask(b"hello") => assert_eq!(answer, b"hello"),
    }
    assert_eq!(node.live(), 0);
    assert!(UdpListener::bind(addr, Claim::Restore).is_ok());
}

fn is_send<F: Future + Send>(future: F) -> F {
    future
}

#[tokio::test]
async fn the_listeners_of_one_service_share_its_cap() {
    let backend = UdpBackend::start("").await;
    let notes = Arc::new(Notes::default());
    let limits = Limits { sessions: 1, ..Limits::default() };
    let service = Arc::new(UdpService::new(ServiceId::from_u128(1), limits, Arc::new(Budget::new(10)), notes));
    let (_snapshots, updates) = watch::channel(udp_snapshot(1, &[(1, backend.addr)]));
    let mut addrs = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let listener = UdpListener::bind(ANY, Claim::Fresh).unwrap();
        addrs.push(listener.local_addr());
        let (service, applied) = (Arc::clone(&service), watch::channel(Generation(0)).0);
        tasks.spawn(serve(listener, service, updates.clone(), applied, std::future::pending()));
    }
    UdpClient::connect(addrs[0]).await.ask(b"hello").await;
    UdpClient::connect(addrs[1]).await.send(b"hello").await;
    until("the refusal", || service.traffic().dropped(harbor_udp::Refusal::ServiceFull) == 1).await;
}
