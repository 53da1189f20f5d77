//! Services ordered through the API: which ports they get, and when they get none.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, UdpSocket};

use harbor_client::{DeleteMode, ServiceFilter};
use harbor_testkit::ports::own_loopback;
use harbor_types::wire::{CreateService, ServiceState};
use harbor_types::{Port, Protocols, ServiceId, Span};
use tokio::task::JoinSet;

use crate::rig::{FIRST, TestNode, named, on_port, refused};

fn held_tcp(host: IpAddr, port: Port) -> bool {
    TcpListener::bind((host, port.get())).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn held_udp(host: IpAddr, port: Port) -> bool {
    UdpSocket::bind((host, port.get())).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

#[tokio::test]
async fn a_hundred_concurrent_orders_get_a_hundred_ports_that_are_held_when_answered() {
    let node = TestNode::start(150).await;
    let mut orders = JoinSet::new();
    for n in 0..100 {
        let (client, host) = (node.client.clone(), node.host);
        orders.spawn(async move {
            let prefix = ["tcp", "udp", "both"][n % 3];
            let service = client.create_service(&named(&format!("{prefix}-{n}"))).await.unwrap().value;
            assert_eq!(service.state, ServiceState::Bound);
            for (protocol, held) in [("udp", held_udp(host, service.port)), ("tcp", held_tcp(host, service.port))] {
                assert_eq!(held, prefix == "both" || prefix == protocol, "{prefix}-{n} {protocol} {}", service.port);
            }
            (service.port, service.int_port)
        });
    }
    let answers = orders.join_all().await;
    assert_eq!(answers.iter().map(|(port, _)| *port).collect::<BTreeSet<_>>().len(), 100);
    let int_ports: BTreeSet<u16> = answers.iter().map(|(_, int_port)| int_port.get()).collect();
    assert_eq!(int_ports, (4100..4200).collect(), "container ports are the lowest free ones");
    node.stop().await;
}

#[tokio::test]
async fn ports_that_others_hold_are_skipped_until_the_range_is_full() {
    let host = own_loopback();
    // Every second port has a foreign socket: TCP listening, or UDP.
    let tcp: Vec<_> = (0..16).map(|n| TcpListener::bind((host, FIRST + 4 * n)).unwrap()).collect();
    let udp: Vec<_> = (0..16).map(|n| UdpSocket::bind((host, FIRST + 4 * n + 2)).unwrap()).collect();
    let node = TestNode::open(tempfile::tempdir().unwrap(), host, 64, |_| {}).await.unwrap();
    let mut ports = BTreeSet::new();
    for n in 0..32 {
        ports.insert(node.order(&format!("both-{n}")).await.port.get());
    }
    assert_eq!(ports, (0..32).map(|n| FIRST + 2 * n + 1).collect(), "the free half, all of it");

    let (status, problem) = refused(node.client.create_service(&named("both-more")).await);
    assert_eq!((status, problem.error.as_str()), (503, "ports_exhausted"));
    assert_eq!(
        problem.message,
        format!(
            "no free port in {FIRST}-{}: 32 leased, 0 resting after release, 32 held by other processes",
            FIRST + 63
        )
    );
    let services = node.client.services(&ServiceFilter::default()).await.unwrap().value.services;
    assert_eq!(services.len(), 32, "a refused order leaves nothing behind");

    // One of the others goes: asked for by number, its port is had at once.
    drop(tcp);
    let service = node.client.create_service(&on_port("tcp-exact", FIRST)).await.unwrap().value;
    assert_eq!(service.port.get(), FIRST);
    let (status, problem) = refused(node.client.create_service(&on_port("both-exact", FIRST + 2)).await);
    assert_eq!((status, problem.error.as_str()), (409, "port_held"));
    drop(udp);
    node.stop().await;
}

#[tokio::test]
async fn parallel_orders_of_one_id_get_one_port() {
    let node = TestNode::start(16).await;
    let id = ServiceId::from_u128(0x1234);
    let mut orders = JoinSet::new();
    for _ in 0..64 {
        let client = node.client.clone();
        orders.spawn(async move { client.put_service(id, &named("both-port")).await.unwrap() });
    }
    let answers = orders.join_all().await;
    let ports: BTreeSet<_> = answers.iter().map(|answer| answer.value.port).collect();
    assert_eq!(ports.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1, "one made it, the others found it");
    let view = node.client.ports().await.unwrap().value;
    assert_eq!((view.leased, view.free), (1, 15));

    let (status, problem) = refused(node.client.put_service(id, &named("another-name")).await);
    assert_eq!((status, problem.error.as_str()), (409, "id_taken"));
    node.stop().await;
}

#[tokio::test]
async fn a_deleted_services_port_is_closed_when_answered_and_rests() {
    let node = TestNode::start_with(2, |config| config.quarantine = Span::secs(3_600)).await;
    let service = node.order("both-port").await;
    node.client.delete_service(&service.id.into(), DeleteMode::OnlyUnbound).await.unwrap();
    assert!(!held_tcp(node.host, service.port) && !held_udp(node.host, service.port));
    let (status, problem) = refused(node.client.service(&service.id.into()).await);
    assert_eq!((status, problem.error.as_str()), (404, "service_not_found"));
    let (status, problem) = refused(node.client.create_service(&on_port("again", service.port.get())).await);
    assert_eq!((status, problem.error.as_str()), (409, "port_resting"));

    assert_ne!(node.order("one").await.port, service.port, "the name is free again, the port is not");
    let (status, problem) = refused(node.client.create_service(&named("two")).await);
    assert_eq!((status, problem.error.as_str()), (503, "ports_exhausted"));
    assert!(problem.message.contains("1 leased, 1 resting"), "{}", problem.message);

    // The rest outlives the node.
    let (host, folder) = (node.host, node.stop().await);
    let node = TestNode::open(folder, host, 2, |config| config.quarantine = Span::secs(3_600)).await.unwrap();
    let (_, problem) = refused(node.client.create_service(&named("two")).await);
    assert!(problem.message.contains("1 leased, 1 resting"), "{}", problem.message);
    node.stop().await;
}

#[tokio::test]
async fn orders_are_answered_with_what_the_app_will_see_and_with_hints() {
    let node = TestNode::start(16).await;
    let answer = node.client.create_service(&named("udpate-port")).await.unwrap();
    let service = answer.value;
    assert!(answer.created);
    assert_eq!((service.protocol, service.https), (Protocols::Udp, false));
    assert_eq!(service.hints.len(), 1, "{:?}", service.hints);
    let credentials = serde_json::to_value(&service.credentials).unwrap();
    let want = serde_json::json!({
        "hostname": node.host, "host": node.host, "port": service.port, "name": service.id, "node_id": "harbor_node_1",
        "int_port": 4100,
    });
    assert_eq!(credentials, want, "no public access, so no ext_ keys");
    assert_eq!(service.listen, [node.addr(&service)]);

    for (order, status, error) in [
        (named("udpate-port"), 409, "name_taken"),
        (named("udp-https"), 422, "kind_not_possible"),
        (on_port("far", 2_000), 422, "port_outside_range"),
        (on_port("same", service.port.get()), 409, "port_taken"),
        (CreateService { int_port: Port::new(4100).ok(), ..named("same-int") }, 409, "int_port_taken"),
        (CreateService { public: Some(true), ..named("open") }, 422, "public_not_allowed"),
    ] {
        let name = order.name.clone();
        let (got, problem) = refused(node.client.create_service(&order).await);
        assert_eq!((got, problem.error.as_str()), (status, error), "{name}: {problem:?}");
        assert!(!problem.remedy.is_empty());
    }
    assert_eq!(node.client.ports().await.unwrap().value.leased, 1, "refused orders take no port");
    node.stop().await;
}

#[tokio::test]
async fn bound_services_show_in_the_apps_environment_and_are_not_deleted_by_accident() {
    let node = TestNode::start(16).await;
    let (tcp, udp) = (node.order("tcp-port").await, node.order("udp-port").await);
    let app = "web".parse().unwrap();
    assert!(node.client.bind_service(&tcp.id.into(), &app).await.unwrap().created);
    assert!(!node.client.bind_service(&tcp.id.into(), &app).await.unwrap().created);
    let by_name = udp.name.clone().into();
    node.client.bind_service(&by_name, &app).await.unwrap();

    let env = node.client.app_env(&app, &["HELION".into()]).await.unwrap().value.variables;
    for (name, value) in
        [("STACKATO_HARBOR_TCP_PORT", "4100"), ("HELION_HARBOR_UDP_PORT", "4101"), ("STACKATO_APP_NAME_UPCASE", "WEB")]
    {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("STACKATO_HARBOR"), "there are two");
    let all = node.client.all_bindings(Some(&app)).await.unwrap().value.bindings;
    assert_eq!(all.len(), 2);

    let (status, problem) = refused(node.client.delete_service(&tcp.id.into(), DeleteMode::OnlyUnbound).await);
    assert_eq!((status, problem.error.as_str()), (409, "still_bound"));
    node.client.unbind_service(&by_name, &app).await.unwrap();
    let env = node.client.app_env(&app, &[]).await.unwrap().value.variables;
    assert_eq!(env.get("STACKATO_HARBOR").map(String::as_str), Some("4100"), "one is left");
    node.client.delete_service(&tcp.id.into(), DeleteMode::Forced).await.unwrap();
    assert!(node.client.all_bindings(None).await.unwrap().value.bindings.is_empty());

    node.order("udp.port").await;
    node.client.bind_service(&by_name, &app).await.unwrap();
    let dotted = "udp.port".parse::<harbor_types::ServiceName>().unwrap().into();
    let (status, problem) = refused(node.client.bind_service(&dotted, &app).await);
    assert_eq!((status, problem.error.as_str()), (409, "same_variable"));
    assert!(problem.message.contains("udp-port") && problem.message.contains("udp.port"), "{}", problem.message);
    node.stop().await;
}

#[tokio::test]
async fn public_services_listen_on_the_public_addresses_and_others_on_the_host() {
    let public = own_loopback();
    let node = TestNode::start_with(16, |config| {
        config.hostname = Some("node.internal".parse().unwrap());
        config.public = Some(harbor_node::Public {
            ext_host: "15.185.104.122".parse().unwrap(),
            ext_hostname: Some("ports.example.com".parse().unwrap()),
            listen: vec![public],
        });
    })
    .await;
    let open = node.order("both-open").await;
    assert!(held_tcp(public, open.port) && held_udp(public, open.port));
    assert!(!held_tcp(node.host, open.port) && !held_udp(node.host, open.port));
    let credentials = serde_json::to_value(&open.credentials).unwrap();
    assert_eq!(credentials["ext_hostname"], "ports.example.com");
    assert_eq!(credentials["ext_host"], "15.185.104.122");
    assert_eq!(credentials["hostname"], "node.internal");

    let order = CreateService { public: Some(false), ..named("closed") };
    let closed = node.client.create_service(&order).await.unwrap().value;
    assert!(held_tcp(node.host, closed.port) && !held_tcp(public, closed.port));
    assert!(closed.credentials.ext_host.is_none() && closed.credentials.ext_hostname.is_none());
    node.stop().await;
}
