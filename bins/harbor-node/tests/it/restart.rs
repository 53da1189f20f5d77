//! What survives a stop: services, ports, bindings, instances; and what happens when a port was stolen meanwhile.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use harbor_testkit::ports::own_loopback;
use harbor_testkit::tcp::Server;
use harbor_testkit::wait::bounded;
use harbor_types::Span;
use harbor_types::wire::{RegisterBackend, ServiceState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{TestNode, greeting, raw};

#[tokio::test]
async fn services_come_back_on_their_ports_with_bindings_and_instances() {
    let node = TestNode::start(32).await;
    let backend = Server::greeter("i0").await;
    let mut before = Vec::new();
    for n in 0..10 {
        let service = node.order(&format!("both-{n}")).await;
        node.register(&service, "i0", backend.addr()).await;
        node.client.bind_service(&service.id.into(), &"web".parse().unwrap()).await.unwrap();
        // A connection that we close first leaves TIME_WAIT on the port, as after any busy day.
        assert_eq!(greeting(node.addr(&service)).await.unwrap(), "i0");
        before.push(node.show(&service).await);
    }
    let (host, folder) = (node.host, node.stop().await);
    let node = TestNode::open(folder, host, 32, |_| {}).await.unwrap();
    assert!(node.handle.is_ready(), "every port was tried before the node says anything");
    for old in before {
        let new = node.show(&old).await;
        assert_eq!((new.port, new.int_port, new.state), (old.port, old.int_port, ServiceState::Bound));
        assert_eq!((&new.credentials, &new.bindings), (&old.credentials, &old.bindings));
        assert_eq!(new.backends.len(), 1);
        assert_eq!(greeting(node.addr(&new)).await.unwrap(), "i0");
    }
    node.stop().await;
}

#[tokio::test]
async fn known_instances_stay_for_one_full_time_to_live_after_a_restart_and_no_longer() {
    let node = TestNode::start(4).await;
    let backend = Server::greeter("i0").await;
    let service = node.order("tcp-port").await;
    let order = RegisterBackend { addr: backend.addr(), ttl: Some(Span::secs(2)), permanent: false };
    node.client.register(&service.id.into(), &"i0".parse().unwrap(), &order).await.unwrap();
    let (host, folder) = (node.host, node.stop().await);
    let before = Instant::now();
    let node = TestNode::open(folder, host, 4, |_| {}).await.unwrap();
    assert_eq!(greeting(node.addr(&service)).await.unwrap(), "i0");
    node.wait("the silent instance to go", |status| status.counts.backends == 0).await;
    assert!(before.elapsed() >= Duration::from_secs(2), "{:?}", before.elapsed());
    assert!(greeting(node.addr(&service)).await.is_err());
    // What ran out stays out.
    let (host, folder) = (node.host, node.stop().await);
    let node = TestNode::open(folder, host, 4, |_| {}).await.unwrap();
    assert!(node.show(&service).await.backends.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_stolen_port_makes_its_service_conflicted_until_the_thief_leaves() {
    let node = TestNode::start(32).await;
    let backend = Server::greeter("i0").await;
    let (stolen, other) = (node.order("both-stolen").await, node.order("both-other").await);
    for service in [&stolen, &other] {
        node.register(service, "i0", backend.addr()).await;
    }
    let (host, addr, folder) = (node.host, node.addr(&stolen), node.stop().await);
    // Only its UDP side is stolen; a service has all of its port or nothing.
    let thief = UdpSocket::bind(addr).unwrap();

    let node = TestNode::open(folder, host, 32, |_| {}).await.unwrap();
    assert!(node.handle.is_ready(), "a conflict does not keep the node from being ready");
    assert_eq!(raw(node.api, "GET", "/readyz", &[], b"").await.status, 200);
    let view = node.show(&stolen).await;
    assert_eq!((view.state, view.port), (ServiceState::Conflicted, stolen.port), "it never moves to another number");
    assert!(view.conflict.as_ref().is_some_and(|why| why.contains(&addr.to_string())), "{:?}", view.conflict);
    assert_eq!(node.handle.status().borrow().counts.conflicted, 1);
    assert!(TcpListener::bind(addr).is_ok(), "it holds nothing of a port that it has only in part");
    assert_eq!(greeting(node.addr(&other)).await.unwrap(), "i0", "nobody else is affected");

    // Instances may come meanwhile.
    let second = Server::greeter("i1").await;
    node.register(&stolen, "i1", second.addr()).await;
    drop(thief);
    node.wait("the port to be held again", |status| status.counts.conflicted == 0).await;
    assert_eq!(node.show(&stolen).await.state, ServiceState::Bound);
    let greetings = [greeting(addr).await.unwrap(), greeting(addr).await.unwrap()];
    assert_eq!(greetings, ["i0", "i1"]);
    node.stop().await;
}

#[tokio::test]
async fn a_stopping_node_is_not_ready_still_accepts_and_lets_connections_finish() {
    let node = TestNode::start_with(8, |config| config.drain.grace = Span::secs(600)).await;
    let service = node.order("tcp-port").await;
    let backend = Server::echo().await;
    node.register(&service, "i0", backend.addr()).await;
    let (addr, api, client) = (node.addr(&service), node.api, node.client.clone());
    let (handle, serving, _folder) = node.stop_later();

    bounded("the node to say so", async { while raw(api, "GET", "/readyz", &[], b"").await.status != 503 {} }).await;
    let (status, problem) = crate::rig::refused(client.create_service(&crate::rig::named("late")).await);
    assert_eq!((status, problem.error.as_str()), (503, "draining"));
    let mut running = TcpStream::connect(addr).await.unwrap();
    running.write_all(b"still ").await.unwrap();
    running.read_exact(&mut [0; 6]).await.unwrap();
    assert_eq!(raw(api, "GET", "/livez", &[], b"").await.status, 200);

    // The second wish to stop ends the grace; what runs is cut.
    handle.hurry();
    let error = bounded("the cut", running.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    bounded("the end", serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err() && TcpStream::connect(api).await.is_err());
}

#[tokio::test]
async fn a_state_folder_is_used_by_one_node_only() {
    let node = TestNode::start(8).await;
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(node.folder().join("harbor.redb"), folder.path().join("harbor.redb")).unwrap();
    let Err(error) = TestNode::open(folder, own_loopback(), 8, |_| {}).await else { panic!("two nodes share a state") };
    assert_eq!(error.exit_code(), harbor_node::EXIT_UNAVAILABLE, "{error}");
    node.stop().await;
}
