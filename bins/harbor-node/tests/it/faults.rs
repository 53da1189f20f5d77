//! A store that fails: what was not stored is refused and leaves nothing, what may have been stored keeps its port.

use std::net::TcpListener;
use std::time::Instant;

use harbor_client::{DeleteMode, ServiceFilter};
use harbor_node::{Drain, Node, NodeConfig, Token};
use harbor_store::{Fault, Faults, FaultyStore, MemoryStore};
use harbor_testkit::ports::own_loopback;
use harbor_testkit::wait::bounded;
use harbor_types::Span;

use crate::rig::{FIRST, TOKEN, client, named, on_port, range, refused};

#[tokio::test]
async fn failing_and_doubtful_commits_are_answered_truthfully() {
    let (faults, host) = (Faults::default(), own_loopback());
    let mut config = NodeConfig::loopback("unused".into(), range(4).parse().unwrap(), Token::parse(TOKEN).unwrap());
    config.host = host;
    config.drain = Drain { grace: Span::ZERO, limit: Span::secs(1) };
    let store = FaultyStore::new(MemoryStore::new(), &faults);
    let node = Node::bind_with(config, Box::new(store)).await.unwrap();
    let client = client(node.api_addr());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(node.serve(async { drop(stopped.await) }));
    let free = || TcpListener::bind((host, FIRST)).is_ok();

    faults.push(Fault::NotCommitted);
    let (status, problem) = refused(client.create_service(&on_port("one", FIRST)).await);
    assert_eq!((status, problem.error.as_str()), (503, "store_failed"));
    assert!(free(), "a port that was never promised is let go");

    faults.push(Fault::UnknownLost);
    let (status, problem) = refused(client.create_service(&on_port("one", FIRST)).await);
    assert_eq!((status, problem.error.as_str()), (503, "store_failed"));
    assert!(free());
    assert_eq!(client.ports().await.unwrap().value.free, 4, "neither took a port");

    // In doubt, and it cannot be read back at first: the port is kept until the truth is known, and the caller waits.
    faults.push(Fault::UnknownCommitted);
    faults.fail_reads(1);
    let begun = Instant::now();
    let service = client.create_service(&on_port("one", FIRST)).await.unwrap().value;
    assert!(begun.elapsed().as_millis() >= 900, "the second look comes after a pause");
    assert!(!free());
    assert_eq!(client.services(&ServiceFilter::default()).await.unwrap().value.services.len(), 1);

    faults.push(Fault::NotCommitted);
    let (status, _) = refused(client.delete_service(&service.id.into(), DeleteMode::OnlyUnbound).await);
    assert_eq!(status, 503);
    assert!(!free(), "a service whose end was not stored goes on");
    client.delete_service(&service.id.into(), DeleteMode::OnlyUnbound).await.unwrap();
    assert!(free());
    client.create_service(&named("two")).await.unwrap();
    assert_eq!(faults.pending(), 0);
    stop.send(()).unwrap();
    bounded("the end", serving).await.unwrap().unwrap();
}
