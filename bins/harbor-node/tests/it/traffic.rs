//! Bytes and datagrams through real ports to several instances, while instances come, go and die.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harbor_client::DeleteMode;
use harbor_testkit::tcp::{Server, pattern};
use harbor_testkit::udp::{Manners, UdpBackend, UdpClient};
use harbor_testkit::wait::{bounded, until};
use harbor_types::wire::{BackendHealth, RegisterBackend};
use harbor_types::{Protocol, Span};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::rig::{TestNode, greeting};

#[tokio::test]
async fn bytes_pass_unchanged_both_ways_and_half_close_is_kept() {
    let node = TestNode::start(8).await;
    let service = node.order("tcp-port").await;
    let backend = Server::echo().await;
    node.register(&service, "i0", backend.addr()).await;
    let sent = pattern(3 << 20, 7);
    let (mut read, mut write) = TcpStream::connect(node.addr(&service)).await.unwrap().into_split();
    let expected = sent.clone();
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        assert!(got == expected, "{} bytes came back", got.len());
    });
    write.write_all(&sent).await.unwrap();
    write.shutdown().await.unwrap();
    bounded("the echo", reading).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn connections_are_spread_exactly_and_evenly() {
    let node = TestNode::start_with(8, |config| config.threads = 3.try_into().unwrap()).await;
    let service = node.order("tcp-port").await;
    let mut backends = Vec::new();
    for name in ["i0", "i1", "i2"] {
        let backend = Server::greeter(name).await;
        node.register(&service, name, backend.addr()).await;
        backends.push(backend);
    }
    let addr = node.addr(&service);
    let first: Vec<String> =
        [greeting(addr).await, greeting(addr).await, greeting(addr).await].into_iter().map(Result::unwrap).collect();
    assert_eq!(first, ["i0", "i1", "i2"], "in arrival order");
    let mut clients = JoinSet::new();
    for _ in 0..30 {
        clients.spawn(async move {
            let mut names = Vec::new();
            for _ in 0..10 {
                names.push(greeting(addr).await.unwrap());
            }
            names
        });
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in clients.join_all().await.into_iter().flatten() {
        *counts.entry(name).or_default() += 1;
    }
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [100, 100, 100], "{counts:?}");
    node.stop().await;
}

#[tokio::test]
async fn nobody_is_refused_while_one_instance_dies_and_another_lives() {
    let node = TestNode::start(8).await;
    let service = node.order("tcp-port").await;
    let mut backends = BTreeMap::new();
    for name in ["i0", "i1", "i2"] {
        let backend = Server::greeter(name).await;
        node.register(&service, name, backend.addr()).await;
        backends.insert(name, backend);
    }
    let addr = node.addr(&service);
    let (stop, dead, greeted) = <(Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (stop, dead, greeted) = (Arc::clone(&stop), Arc::clone(&dead), Arc::clone(&greeted));
        clients.spawn(async move {
            let mut names = BTreeMap::<String, usize>::new();
            while !stop.load(Ordering::SeqCst) {
                let begun_after = dead.load(Ordering::SeqCst);
                match bounded("a greeting", greeting(addr)).await {
                    Ok(name) => *names.entry(name).or_default() += 1,
                    // It was with the instance already when that died, and shares its fate: no relay can mend this.
                    Err(error) if !begun_after && error.kind() == ErrorKind::ConnectionReset => {}
                    Err(error) => panic!("begun after the death: {begun_after}: {error}"),
                }
                greeted.fetch_add(1, Ordering::SeqCst);
            }
            names
        });
    }
    until("some greetings", || greeted.load(Ordering::SeqCst) >= 60).await;
    let dying = backends.remove("i1").unwrap().addr();
    bounded("its listener to close", async { while TcpStream::connect(dying).await.is_ok() {} }).await;
    dead.store(true, Ordering::SeqCst);
    let after = greeted.load(Ordering::SeqCst);
    until("greetings after one died", || greeted.load(Ordering::SeqCst) >= after + 200).await;
    // The dead one is found out: it gets no more first choices.
    bounded("the dead instance to be ejected", async {
        loop {
            let backend =
                node.show(&service).await.backends.into_iter().find(|backend| backend.instance.as_str() == "i1");
            if backend.unwrap().protocols[0].health == BackendHealth::Ejected {
                return;
            }
        }
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    let names: Vec<_> = clients.join_all().await;
    let total = |name: &str| names.iter().filter_map(|counts| counts.get(name)).sum::<usize>();
    assert!(total("i0") > 50 && total("i2") > 50, "the others share the load");
    node.stop().await;
}

#[tokio::test]
async fn without_an_instance_a_connection_is_closed_at_once_and_counted() {
    let node = TestNode::start(8).await;
    let service = node.order("both-port").await;
    let mut client = TcpStream::connect(node.addr(&service)).await.unwrap();
    assert_eq!(bounded("the end", client.read(&mut [0; 8])).await.unwrap(), 0);
    UdpClient::connect(node.addr(&service)).await.send(b"lost").await;
    bounded("both to be counted", async {
        loop {
            let text = crate::rig::raw(
                node.api,
                "GET",
                "/metrics",
                &[("Authorization", &format!("Bearer {}", crate::rig::TOKEN))],
                b"",
            )
            .await
            .body;
            if text.contains("harbor_tcp_connections_closed_total{reason=\"no_backend\"} 1")
                && text.contains("harbor_udp_datagrams_dropped_total{reason=\"no_backend\"} 1")
            {
                return;
            }
        }
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn deregistering_takes_effect_before_it_is_answered() {
    let node = TestNode::start_with(8, |config| config.threads = 3.try_into().unwrap()).await;
    let service = node.order("tcp-port").await;
    let (stays, leaves) = (Server::greeter("stays").await, Server::greeter("leaves").await);
    node.register(&service, "stays", stays.addr()).await;
    let addr = node.addr(&service);
    for _ in 0..20 {
        node.register(&service, "leaves", leaves.addr()).await;
        let names = [greeting(addr).await.unwrap(), greeting(addr).await.unwrap()];
        assert!(names.contains(&"leaves".to_owned()), "registered means in use: {names:?}");
        node.client.deregister(&service.id.into(), &"leaves".parse().unwrap()).await.unwrap();
        let before = leaves.accepted();
        for _ in 0..4 {
            assert_eq!(greeting(addr).await.unwrap(), "stays");
        }
        assert_eq!(leaves.accepted(), before, "no new connection after the answer");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_connection_that_outlasts_its_instances_registration_is_reset_at_the_limit() {
    let node = TestNode::start_with(8, |config| config.drain.limit = Span::millis(100)).await;
    let service = node.order("tcp-port").await;
    let (leaves, stays) = (Server::echo().await, Server::echo().await);
    node.register(&service, "leaves", leaves.addr()).await;
    node.register(&service, "stays", stays.addr()).await;
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(node.addr(&service)).await.unwrap();
        client.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        connections.push(client);
    }
    node.client.deregister(&service.id.into(), &"leaves".parse().unwrap()).await.unwrap();
    let error = bounded("the cut", connections[0].read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    connections[1].write_all(b"y").await.unwrap();
    bounded("the other's echo", connections[1].read_exact(&mut [0])).await.unwrap();
    drop(connections);
    node.stop().await;
}

#[tokio::test]
async fn deleting_stops_accepting_and_lets_running_connections_finish() {
    let node = TestNode::start_with(8, |config| config.drain.limit = Span::secs(600)).await;
    let service = node.order("tcp-port").await;
    let backend = Server::echo().await;
    node.register(&service, "i0", backend.addr()).await;
    let (id, addr, client) = (service.id, node.addr(&service), node.client.clone());
    let mut running = TcpStream::connect(addr).await.unwrap();
    running.write_all(b"be").await.unwrap();
    running.read_exact(&mut [0; 2]).await.unwrap();

    let deleting = tokio::spawn(async move { client.delete_service(&id.into(), DeleteMode::OnlyUnbound).await });
    bounded("the port to close", async { while TcpStream::connect(addr).await.is_ok() {} }).await;
    running.write_all(b"fore").await.unwrap();
    running.shutdown().await.unwrap();
    let mut rest = Vec::new();
    running.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"fore", "it finished in peace");
    bounded("the answer", deleting).await.unwrap().unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_connection_that_outlasts_its_service_is_reset_at_the_limit() {
    let node = TestNode::start_with(8, |config| config.drain.limit = Span::millis(100)).await;
    let service = node.order("tcp-port").await;
    let backend = Server::echo().await;
    node.register(&service, "i0", backend.addr()).await;
    let mut stuck = TcpStream::connect(node.addr(&service)).await.unwrap();
    stuck.write_all(b"x").await.unwrap();
    stuck.read_exact(&mut [0]).await.unwrap();
    node.client.delete_service(&service.id.into(), DeleteMode::OnlyUnbound).await.unwrap();
    let error = bounded("the cut", stuck.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "a cut connection never ends like a finished one");
    node.stop().await;
}

#[tokio::test]
async fn both_protocols_share_a_number_and_full_datagrams_pass() {
    let node = TestNode::start(8).await;
    let service = node.order("both-dns").await;
    let own = std::net::SocketAddr::new(harbor_testkit::ports::own_loopback(), 0);
    let udp = UdpBackend::at(own, "", Manners::Answers).await;
    let tcp = {
        // One instance listens on one number for both protocols.
        let listener = tokio::net::TcpListener::bind(udp.addr).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"tcp\n").await;
            }
        })
    };
    node.register(&service, "i0", udp.addr).await;
    assert_eq!(greeting(node.addr(&service)).await.unwrap(), "tcp");
    let client = UdpClient::connect(node.addr(&service)).await;
    for size in [0, 1, 1_473, 65_507] {
        let payload = pattern(size, 3);
        assert!(client.ask(&payload).await == payload, "{size} bytes");
    }
    tcp.abort();
    node.stop().await;
}

#[tokio::test]
async fn udp_clients_that_never_pause_move_when_the_primary_dies_and_its_return_queues_last() {
    let node = TestNode::start(8).await;
    let service = node.order("udp-port").await;
    let (first, second) = (UdpBackend::start("first ").await, UdpBackend::start("second ").await);
    node.register(&service, "first", first.addr).await;
    node.register(&service, "second", second.addr).await;
    let client = UdpClient::connect(node.addr(&service)).await;
    for n in 0..20 {
        assert_eq!(
            client.ask(format!("{n}").as_bytes()).await,
            format!("first {n}").into_bytes(),
            "the first is primary"
        );
    }
    assert!(second.seen().sizes.is_empty(), "the queue gets nothing while the primary lives");

    let addr = first.addr;
    first.stop().await;
    // Never pausing: a datagram goes out whether or not one was answered. Those in flight at the death may be lost.
    let mut sent = 0;
    let answer = bounded("the move to the second", async {
        loop {
            client.send(format!("{sent}").as_bytes()).await;
            sent += 1;
            tokio::task::yield_now().await;
            if let Some(answer) = client.try_receive() {
                return String::from_utf8(answer).unwrap();
            }
        }
    })
    .await;
    assert!(answer.starts_with("second "), "{answer}");

    // It comes back on its old address, registers anew, and stands behind the other now.
    let first = UdpBackend::at(addr, "first ", Manners::Answers).await;
    node.client.deregister(&service.id.into(), &"first".parse().unwrap()).await.unwrap();
    node.register(&service, "first", first.addr).await;
    let places: Vec<_> = node
        .show(&service)
        .await
        .backends
        .iter()
        .map(|backend| (backend.instance.to_string(), backend.protocols[0].protocol, backend.protocols[0].place))
        .collect();
    assert_eq!(places, [("second".into(), Protocol::Udp, Some(0)), ("first".into(), Protocol::Udp, Some(1))]);
    let fresh = UdpClient::connect(node.addr(&service)).await;
    assert_eq!(fresh.ask(b"new").await, b"second new");
    assert!(first.seen().sizes.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn an_instance_without_heartbeats_expires_and_one_with_them_stays() {
    let node = TestNode::start(8).await;
    let service = node.order("tcp-port").await;
    let (kept, silent) = (Server::greeter("kept").await, Server::greeter("silent").await);
    for (name, backend) in [("kept", &kept), ("silent", &silent)] {
        let order = RegisterBackend { addr: backend.addr(), ttl: Some(Span::secs(1)), permanent: false };
        node.client.register(&service.id.into(), &name.parse().unwrap(), &order).await.unwrap();
    }
    let id = service.id.into();
    bounded("the silent one to expire", async {
        loop {
            let ttl = node.client.heartbeat(&id, &"kept".parse().unwrap()).await.unwrap().value.ttl;
            assert_eq!(ttl, Some(Span::secs(1)));
            if node.show(&service).await.backends.len() == 1 {
                return;
            }
        }
    })
    .await;
    for _ in 0..4 {
        assert_eq!(greeting(node.addr(&service)).await.unwrap(), "kept");
        node.client.heartbeat(&id, &"kept".parse().unwrap()).await.unwrap();
    }
    let (status, problem) = crate::rig::refused(node.client.heartbeat(&id, &"silent".parse().unwrap()).await);
    assert_eq!((status, problem.error.as_str()), (404, "instance_not_found"));
    node.stop().await;
}
