//! What is promised about a port and told to an app, from the order to the socket: exclusively held, rested, to the letter.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use harbor_client::ServiceFilter;
use harbor_node::{Drain, Node, NodeConfig, Public, Token};
use harbor_store::{MemoryStore, Store};
use harbor_testkit::ports::{PortBlock, own_loopback};
use harbor_testkit::tcp::Server;
use harbor_testkit::udp::{UdpBackend, UdpClient};
use harbor_testkit::wait::bounded;
use harbor_types::{Commit, CommitOutcome, CommitToken, Port, QuarantineRecord, Record, Span, WallTime, Write};
use socket2::{Domain, Socket, Type};

use crate::rig::{FIRST, TOKEN, TestNode, client, greeting, named, on_port, range, refused};

/// The user's example, with what differs from node to node left open.
const MY_PORT: &str = r#"{"my-port":{"hostname":"HOSTNAME","host":"HOST","port":PORT,"name":"ID","node_id":"harbor_node_1","int_port":4100EXT}}"#;

#[tokio::test]
async fn my_port_comes_out_to_the_letter() {
    let ext_host: IpAddr = "15.185.104.122".parse().unwrap();
    for (hostname, public, ext) in [
        (None, None, ""),
        (Some("node7.internal"), None, ""),
        (None, Some(None), r#","ext_hostname":"15.185.104.122","ext_host":"15.185.104.122""#),
        (
            Some("node7.internal"),
            Some(Some("ports.example.com")),
            r#","ext_hostname":"ports.example.com","ext_host":"15.185.104.122""#,
        ),
    ] {
        let node = TestNode::start_with(8, |config| {
            config.hostname = hostname.map(|name| name.parse().unwrap());
            config.public = public.map(|name| Public {
                ext_host,
                ext_hostname: name.map(|name| name.parse().unwrap()),
                listen: vec![own_loopback()],
            });
        })
        .await;
        let service = node.order("my-port").await;
        let app = "port-test".parse().unwrap();
        node.client.bind_service(&service.id.into(), &app).await.unwrap();
        let env = node.client.app_env(&app, &[]).await.unwrap().value.variables;
        let host = node.host.to_string();
        let want = MY_PORT
            .replace("HOSTNAME", hostname.unwrap_or(&host))
            .replace("HOST", &host)
            .replace("PORT", &service.port.to_string())
            .replace("ID", &service.id.to_string())
            .replace("EXT", ext);
        assert_eq!(env.get("STACKATO_SERVICES"), Some(&want));
        assert_eq!(env.get("STACKATO_HARBOR").map(String::as_str), Some("4100"));
        assert_eq!(env.get("STACKATO_HARBOR_MY_PORT").map(String::as_str), Some("4100"));
        node.stop().await;
    }
}

/// Tries to have `addr` with every option that lets sockets share; listens where that is possible.
fn join(addr: SocketAddr, kind: Type, dual: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    socket.bind(&addr.into())?;
    if kind == Type::STREAM {
        socket.listen(1)?;
    }
    Ok(socket)
}

#[tokio::test]
async fn a_public_port_is_held_on_both_families_alone_or_not_at_all() {
    let block = PortBlock::reserve();
    let first = block.first();
    // One number is taken on IPv6 only, another on a single address and for UDP only.
    let tcp = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    tcp.set_only_v6(true).unwrap();
    tcp.bind(&SocketAddr::new("::".parse().unwrap(), first).into()).unwrap();
    let udp = UdpSocket::bind((own_loopback(), first + 1)).unwrap();
    let node = TestNode::start_with(1, |config| {
        config.port_range = block.range(0, 4).parse().unwrap();
        let listen = vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
        config.public = Some(Public { ext_host: "192.0.2.1".parse().unwrap(), ext_hostname: None, listen });
    })
    .await;
    let services = [node.order("both-a").await, node.order("both-b").await];
    let mut ports: Vec<_> = services.iter().map(|service| service.port.get()).collect();
    ports.sort_unstable();
    assert_eq!(ports, [first + 2, first + 3]);
    let (status, problem) = refused(node.client.create_service(&named("both-c")).await);
    assert_eq!(status, 503);
    assert!(problem.message.contains("2 leased, 0 resting after release, 2 held by other"), "{}", problem.message);
    for port in [first, first + 1] {
        assert!(TcpListener::bind(("0.0.0.0", port)).is_ok(), "nothing of a number is kept that is not had in whole");
    }

    for port in ports {
        for (ip, dual) in [("0.0.0.0", false), ("127.0.0.1", false), ("::", false), ("::", true), ("::1", false)] {
            for kind in [Type::STREAM, Type::DGRAM] {
                let joined = join(SocketAddr::new(ip.parse().unwrap(), port), kind, dual);
                let kept_out = joined.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
                assert!(kept_out, "somebody joined {ip}:{port} {kind:?} dual={dual}");
            }
        }
    }
    let backend = Server::greeter("i0").await;
    node.register(&services[0], "i0", backend.addr()).await;
    for ip in ["127.0.0.1", "::1"] {
        assert_eq!(greeting(SocketAddr::new(ip.parse().unwrap(), services[0].port.get())).await.unwrap(), "i0");
    }
    drop((tcp, udp));
    node.stop().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_fails_the_order_and_blames_no_port() {
    let node = TestNode::start_with(4, |config| config.host = "192.0.2.77".parse().unwrap()).await;
    for _ in 0..2 {
        let (status, problem) = refused(node.client.create_service(&named("tcp-port")).await);
        assert_eq!((status, problem.error.as_str()), (503, "bind_failed"));
        assert!(problem.message.contains("192.0.2.77"), "{}", problem.message);
    }
    let view = node.client.ports().await.unwrap().value;
    assert_eq!((view.free, view.held_by_others, view.leased), (4, 0, 0));
    assert!(node.client.services(&ServiceFilter::default()).await.unwrap().value.services.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_port_released_in_what_is_the_future_now_rests_in_full_and_no_longer() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = u64::try_from(now).unwrap();
    let hour = 3_600_000;
    let rest = |port: u16, released: u64, full: u64| {
        let (released, until) = (WallTime::from_millis(released), WallTime::from_millis(released + full));
        Write::Put(Record::Quarantine(QuarantineRecord { port: Port::new(port).unwrap(), released, until }))
    };
    // The clock was set back by an hour; and two releases as they usually are: over, and not yet.
    let writes =
        vec![rest(FIRST, now + hour, 1_000), rest(FIRST + 1, now - hour, 600_000), rest(FIRST + 2, now - 1, hour)];
    let mut store = MemoryStore::new();
    let commit = Commit { token: CommitToken(1), expectations: Vec::new(), writes };
    assert!(matches!(store.commit(&commit), CommitOutcome::Committed(_)));

    let mut config = NodeConfig::loopback("unused".into(), range(3).parse().unwrap(), Token::parse(TOKEN).unwrap());
    config.host = own_loopback();
    config.drain = Drain { grace: Span::ZERO, limit: Span::secs(1) };
    let node = Node::bind_with(config, Box::new(store)).await.unwrap();
    let client = client(node.api_addr());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(node.serve(async { drop(stopped.await) }));
    let (status, problem) = refused(client.create_service(&on_port("early", FIRST)).await);
    assert_eq!((status, problem.error.as_str()), (409, "port_resting"));
    bounded("the end of the rest", async { while client.create_service(&on_port("later", FIRST)).await.is_err() {} })
        .await;
    client.create_service(&on_port("over", FIRST + 1)).await.unwrap();
    let (status, problem) = refused(client.create_service(&named("third")).await);
    assert_eq!(status, 503);
    assert!(problem.message.contains("2 leased, 1 resting"), "{}", problem.message);
    stop.send(()).unwrap();
    bounded("the end", serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_nodes_session_cap_holds_over_all_services() {
    let node = TestNode::start_with(4, |config| config.udp_sessions = std::num::NonZeroUsize::new(2)).await;
    let backend = UdpBackend::start("").await;
    let mut clients = Vec::new();
    for name in ["udp-a", "udp-b", "udp-c"] {
        let service = node.order(name).await;
        node.register(&service, "i0", backend.addr).await;
        clients.push(UdpClient::connect(node.addr(&service)).await);
    }
    for client in &clients[..2] {
        assert_eq!(client.ask(b"one").await, b"one");
    }
    clients[2].send(b"refused").await;
    let dropped = "harbor_udp_datagrams_dropped_total{reason=\"node_full\"} 1";
    bounded("the drop to be counted", async { while !node.client.metrics().await.unwrap().contains(dropped) {} }).await;
    for client in &clients[..2] {
        assert_eq!(client.ask(b"two").await, b"two", "answered sessions stay");
    }
    node.stop().await;
}
