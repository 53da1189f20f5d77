//! Caps hold, refusals are counted, and a flood harms nobody who is being answered.

use std::net::SocketAddr;

use harbor_testkit::udp::{UdpBackend, UdpClient};
use harbor_testkit::wait::until;
use harbor_types::Span;
use harbor_udp::{CloseReason, Limits, Refusal};

use crate::rig::{ANY, Relay};

fn local(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 0))
}

#[tokio::test]
async fn a_source_beyond_its_cap_is_refused_and_others_are_not() {
    let backend = UdpBackend::start("").await;
    let relay = Relay::start(ANY, Limits { per_source: 3, ..Limits::default() }, &[(1, backend.addr)]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = UdpClient::from(local(2), relay.addr).await;
        client.ask(b"hello").await;
        clients.push(client);
    }
    UdpClient::from(local(2), relay.addr).await.send(b"one too many").await;
    until("the refusal", || relay.service.traffic().dropped(Refusal::SourceFull) == 1).await;
    UdpClient::from(local(3), relay.addr).await.ask(b"hello").await;
    clients[0].ask(b"hello").await;
}

#[tokio::test]
async fn a_service_beyond_its_cap_refuses_new_clients_and_keeps_the_answered_ones() {
    let backend = UdpBackend::start("").await;
    let limits = Limits { sessions: 2, unanswered_grace: Span::ZERO, ..Limits::default() };
    let relay = Relay::start(ANY, limits, &[(1, backend.addr)]).await;
    let clients = [UdpClient::connect(relay.addr).await, UdpClient::connect(relay.addr).await];
    for client in &clients {
        client.ask(b"hello").await;
    }
    UdpClient::connect(relay.addr).await.send(b"one too many").await;
    until("the refusal", || relay.service.traffic().dropped(Refusal::ServiceFull) == 1).await;
    for client in &clients {
        client.ask(b"still there?").await;
    }
    assert!(relay.notes.closed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_flood_of_unanswered_sessions_never_ends_an_answered_one() {
    let (answering, silent) = (UdpBackend::start("").await, UdpBackend::silent().await);
    let limits = Limits { sessions: 50, unanswered_grace: Span::ZERO, ..Limits::default() };
    let mut relay = Relay::start(ANY, limits, &[(1, answering.addr), (2, silent.addr)]).await;
    let mut answered = Vec::new();
    for _ in 0..10 {
        let client = UdpClient::connect(relay.addr).await;
        client.ask(b"hello").await;
        answered.push(client);
    }
    // The answered sessions stay with their backend; new ones go to the silent one.
    relay.publish(2, &[(2, silent.addr), (1, answering.addr)]).await;
    let mut flood = Vec::new();
    for n in 1..=300 {
        let stranger = UdpClient::from(local(4), relay.addr).await;
        stranger.send(b"flood").await;
        until("the flood to arrive", || silent.seen().sizes.len() == n).await;
        // Kept, so that no stranger gets the port of one before.
        flood.push(stranger);
    }
    assert_eq!(relay.service.budget().live(), 50, "full, and not over");
    for client in &answered {
        assert_eq!(client.ask(b"still there?").await, b"still there?");
    }
    let closed = relay.notes.closed.lock().unwrap().clone();
    assert_eq!(closed.len(), 10 + 300 - 50);
    assert!(closed.iter().all(|record| record.reason == CloseReason::Evicted && record.down.datagrams == 0));
}

#[tokio::test]
async fn a_thousand_sessions_are_served_at_once() {
    let backend = UdpBackend::start("").await;
    let relay = Relay::start(ANY, Limits::default(), &[(1, backend.addr)]).await;
    let mut clients = Vec::new();
    for n in 0..1_000_u32 {
        let client = UdpClient::connect(relay.addr).await;
        assert_eq!(client.ask(&n.to_be_bytes()).await, n.to_be_bytes());
        clients.push(client);
    }
    // As many at once as the peers' receive buffers surely hold.
    for some in clients.chunks(100) {
        for client in some {
            client.send(&client.addr().port().to_be_bytes()).await;
        }
        for client in some {
            assert_eq!(client.receive("everybody's answer").await, client.addr().port().to_be_bytes());
        }
    }
    assert_eq!((relay.node.live(), backend.seen().peers.len()), (1_000, 1_000));
    let (report, notes) = relay.stop().await;
    assert_eq!((report.sessions, report.up.datagrams, report.down.datagrams), (1_000, 2_000, 2_000));
    assert_eq!(notes.closed.lock().unwrap().len(), 1_000);
}
