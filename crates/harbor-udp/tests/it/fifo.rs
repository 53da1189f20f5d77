//! The first backend is primary; when it goes, the next in arrival order takes over.

use std::net::SocketAddr;
use std::time::Duration;

use harbor_testkit::udp::{Manners, UdpBackend, UdpClient};
use harbor_testkit::wait::{bounded, until};
use harbor_types::{Failure, Generation, Revision, Verdict};
use harbor_udp::{Limits, Refusal};

use crate::rig::{ANY, Relay};

/// A backend that will die. Its address is one on which no other test binds, so that nobody else gets its port.
async fn mortal(last: u8, name: &str) -> UdpBackend {
    UdpBackend::at(SocketAddr::from(([127, 44, 0, last], 0)), name, Manners::Answers).await
}

#[tokio::test]
async fn the_first_backend_gets_all_until_it_leaves_and_queues_last_when_it_returns() {
    let (one, two) = (UdpBackend::start("one ").await, UdpBackend::start("two ").await);
    let mut relay = Relay::start(ANY, Limits::default(), &[(1, one.addr), (2, two.addr)]).await;
    let clients = [UdpClient::connect(relay.addr).await, UdpClient::connect(relay.addr).await];
    for client in &clients {
        assert_eq!(client.ask(b"hello").await, b"one hello");
    }
    assert!(two.seen().sizes.is_empty(), "the second only waits");
    relay.publish(2, &[(2, two.addr)]).await;
    for client in &clients {
        assert_eq!(client.ask(b"hello").await, b"two hello");
    }
    relay.publish(3, &[(2, two.addr), (3, one.addr)]).await;
    assert_eq!(clients[0].ask(b"hello").await, b"two hello");
    assert_eq!(UdpClient::connect(relay.addr).await.ask(b"hello").await, b"two hello");
    relay.publish(4, &[(3, one.addr)]).await;
    assert_eq!(clients[0].ask(b"hello").await, b"one hello");
}

#[tokio::test]
async fn a_session_stays_where_it_is_while_its_backend_lives() {
    let (one, two) = (UdpBackend::start("one ").await, UdpBackend::start("two ").await);
    let mut relay = Relay::start(ANY, Limits::default(), &[(1, one.addr)]).await;
    let client = UdpClient::connect(relay.addr).await;
    assert_eq!(client.ask(b"hello").await, b"one hello");
    relay.publish(2, &[(2, two.addr), (1, one.addr)]).await;
    assert_eq!(client.ask(b"hello").await, b"one hello");
    assert_eq!(UdpClient::connect(relay.addr).await.ask(b"hello").await, b"two hello");
}

#[tokio::test]
async fn a_refused_datagram_is_resent_so_that_no_client_has_to_ask_twice() {
    let (one, two) = (mortal(1, "one ").await, UdpBackend::start("two ").await);
    let dead = one.addr;
    one.stop().await;
    let relay = Relay::start(ANY, Limits::default(), &[(1, dead), (2, two.addr)]).await;
    let clients = [UdpClient::connect(relay.addr).await, UdpClient::connect(relay.addr).await];
    // Both are in flight when the first refusal is noticed.
    clients[0].send(b"first").await;
    clients[1].send(b"second").await;
    assert_eq!(clients[0].receive("the first's only question answered").await, b"two first");
    assert_eq!(clients[1].receive("the second's only question answered").await, b"two second");
    let observed = relay.notes.observed.lock().unwrap().clone();
    assert_eq!(observed.len(), 1, "{observed:?}");
    assert_eq!(observed[0].verdict, Verdict::Failed(Failure::Refused));
    assert_eq!((observed[0].joined, observed[0].generation), (Revision(1), Generation(1)));
    assert_eq!(relay.service.traffic().dropped(Refusal::BackendRefused), 0);
}

#[tokio::test]
async fn a_client_that_never_pauses_moves_on_when_the_primary_dies() {
    let (one, two) = (mortal(2, "one ").await, UdpBackend::start("two ").await);
    let first = one.addr;
    let mut relay = Relay::start(ANY, Limits::default(), &[(1, first), (2, two.addr)]).await;
    let client = UdpClient::connect(relay.addr).await;
    // A window of questions in flight, never waiting for any of them in particular.
    let mut tick = tokio::time::interval(Duration::from_micros(500));
    let (mut one, mut asked, mut answers, mut in_flight) = (Some(one), 0_u64, Vec::new(), 0);
    let converse = async {
        while answers.iter().filter(|from| **from == "two").count() < 200 {
            tick.tick().await;
            client.send(b"?").await;
            asked += 1;
            while let Some(answer) = client.try_receive() {
                answers.push(if answer == b"one ?" { "one" } else { "two" });
            }
            if answers.len() > 200
                && let Some(one) = one.take()
            {
                in_flight = asked - answers.len() as u64;
                one.stop().await;
            }
        }
    };
    bounded("the second backend to take over", converse).await;
    let switch = answers.iter().position(|from| *from == "two").unwrap();
    assert!(answers[switch..].iter().all(|from| *from == "two"), "it went back and forth");
    while let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), client.receive("the rest")).await {
        assert_eq!(answer, b"two ?");
        answers.push("two");
        if answers.len() as u64 == asked {
            break;
        }
    }
    let lost = asked - answers.len() as u64;
    // What the dead one had not read yet, and one whose refusal the next one's send was told of.
    assert!(lost <= in_flight + 1, "{lost} of {asked} lost, {in_flight} were in flight");

    // The node answers the observation: the dead one leaves; when it returns, it queues last.
    assert_eq!(relay.notes.observed.lock().unwrap().len(), 1);
    let back = UdpBackend::at(first, "back ", Manners::Answers).await;
    relay.publish(2, &[(2, two.addr), (3, back.addr)]).await;
    assert_eq!(client.ask(b"?").await, b"two ?");
    assert_eq!(UdpClient::connect(relay.addr).await.ask(b"?").await, b"two ?");
    assert!(back.seen().sizes.is_empty(), "it queues last");
}

#[tokio::test]
async fn the_only_backend_is_used_again_as_soon_as_it_is_back() {
    let one = mortal(3, "").await;
    let addr = one.addr;
    let relay = Relay::start(ANY, Limits::default(), &[(1, addr)]).await;
    let client = UdpClient::connect(relay.addr).await;
    client.ask(b"hello").await;
    one.stop().await;
    client.send(b"lost").await;
    until("the refusal to be counted", || relay.service.traffic().dropped(Refusal::BackendRefused) == 1).await;
    client.send(b"lost").await;
    until("the second one too", || relay.service.traffic().dropped(Refusal::BackendRefused) == 2).await;
    assert_eq!(relay.notes.observed.lock().unwrap().len(), 1, "reported once a generation");
    let _back = UdpBackend::at(addr, "", Manners::Answers).await;
    assert_eq!(client.ask(b"again").await, b"again");
}

#[tokio::test]
async fn without_a_backend_datagrams_are_dropped_and_counted() {
    let mut relay = Relay::start(ANY, Limits::default(), &[]).await;
    let client = UdpClient::connect(relay.addr).await;
    for n in 1..=3 {
        client.send(b"anybody?").await;
        until("the drop to be counted", || relay.service.traffic().dropped(Refusal::NoBackend) == n).await;
    }
    assert_eq!(relay.service.budget().live(), 0, "nothing was allocated");
    let one = UdpBackend::start("").await;
    relay.publish(2, &[(1, one.addr)]).await;
    assert_eq!(client.ask(b"anybody?").await, b"anybody?");
}
