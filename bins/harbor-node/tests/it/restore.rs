//! Ten thousand services come back.

use std::time::Instant;

use harbor_node::{Node, NodeConfig, Phase, Token};
use harbor_store::{RedbStore, Store as _};
use harbor_testkit::ports::own_loopback;
use harbor_types::{
    Access, Commit, CommitOutcome, CommitToken, OrgName, Port, Record, ServiceId, ServiceKind, ServiceName,
    ServiceRecord, SpaceName, WallTime, Write,
};

const SERVICES: u16 = 10_000;
/// Below the numbers that other tests and outgoing connections take.
const RANGE: std::ops::Range<u16> = 1_100..20_000;

fn service(index: u16, port: u16) -> Write {
    Write::Put(Record::Service(ServiceRecord {
        id: ServiceId::from_u128(u128::from(index) + 1),
        org: OrgName::fallback(),
        space: SpaceName::fallback(),
        name: ServiceName::parse(&format!("port-{index}")).unwrap(),
        kind: ServiceKind::TCP,
        port: Port::new(port).unwrap(),
        int_port: Port::new(4_100 + index).unwrap(),
        access: Access::Internal,
        home: "harbor_node_1".parse().unwrap(),
        created: WallTime::from_millis(1_700_000_000_000),
    }))
}

/// Prints how long it takes; asserts only that every port is held, as time depends on the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_services_are_restored() {
    let folder = tempfile::tempdir().unwrap();
    let host = own_loopback();
    // A server of this machine that listens on all addresses may have some of the numbers.
    let free = RANGE.filter(|port| std::net::TcpListener::bind((host, *port)).is_ok());
    let ports: Vec<u16> = free.take(SERVICES.into()).collect();
    let writes: Vec<_> = (0..SERVICES).zip(&ports).map(|(index, port)| service(index, *port)).collect();
    assert_eq!(writes.len(), usize::from(SERVICES));
    let mut store = RedbStore::open(folder.path().join("harbor.redb")).unwrap();
    let commit = Commit { token: CommitToken(1), expectations: Vec::new(), writes };
    assert!(matches!(store.commit(&commit), CommitOutcome::Committed(_)));
    drop(store);

    let mut config = NodeConfig::loopback(
        folder.path().into(),
        "1100-19999".parse().unwrap(),
        Token::parse("0123456789abcdef").unwrap(),
    );
    config.host = host;
    let started = Instant::now();
    let node = Node::bind(config).await.unwrap();
    let handle = node.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(node.serve(async move {
        let _ = stopped.await;
    }));
    handle.status().wait_for(|status| status.phase == Phase::Ready).await.unwrap();
    println!("{SERVICES} services restored in {:?}", started.elapsed());

    for port in ports {
        let bound = std::net::TcpListener::bind((host, port));
        assert_eq!(bound.unwrap_err().kind(), std::io::ErrorKind::AddrInUse, "port {port}");
    }
    let conflicted = handle.read(|registry, _| registry.counts().conflicted).await.unwrap();
    assert_eq!(conflicted, 0);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
