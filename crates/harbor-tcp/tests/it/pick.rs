//! Which backend a connection reaches.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use harbor_tcp::{CloseReason, Limits, Side};
use harbor_testkit::tcp::{BlackHole, Refuser, Server};
use harbor_testkit::wait::{bounded, until};
use harbor_types::{BackendNetworks, BackendSnapshot, Failure, Generation, Span, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Log, Rig, SERVICE, assert_reset, line, snapshot};

async fn greeters(count: usize) -> (Vec<Server>, Vec<SocketAddr>) {
    let mut servers = Vec::new();
    for number in 0..count {
        servers.push(Server::greeter(&format!("i{number}")).await);
    }
    let addrs = servers.iter().map(Server::addr).collect();
    (servers, addrs)
}

#[tokio::test]
async fn connections_go_around_the_backends_in_order() {
    let (_servers, addrs) = greeters(3).await;
    let rig = Rig::new(addrs);
    for round in 0..4 {
        for want in ["i0", "i1", "i2"] {
            assert_eq!(line(&mut rig.connect().await).await, want, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_connections_are_shared_out_exactly() {
    let (servers, addrs) = greeters(3).await;
    let rig = Rig::new(addrs);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..90 {
        let addr = rig.addr;
        clients.spawn(async move { line(&mut tokio::net::TcpStream::connect(addr).await.unwrap()).await });
    }
    let mut counts = BTreeMap::new();
    while let Some(name) = bounded("a greeting", clients.join_next()).await {
        *counts.entry(name.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [30, 30, 30]);
    assert_eq!(servers.iter().map(Server::accepted).collect::<Vec<_>>(), [30, 30, 30]);
}

#[tokio::test]
async fn a_refused_connect_goes_to_the_next_backend_unseen_by_the_client() {
    let (servers, mut addrs) = greeters(2).await;
    let refuser = Refuser::bind();
    addrs.insert(0, refuser.addr());
    let rig = Rig::new(addrs);
    for want in ["i0", "i0", "i1"] {
        let mut client = rig.connect().await;
        assert_eq!(line(&mut client).await, want, "the retry does not move the cursor");
        client.shutdown().await.unwrap();
        assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
    until("three records", || rig.log.closed().len() == 3).await;
    let records = rig.log.closed();
    assert_eq!(records.iter().map(|record| record.tries).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(rig.log.observed(), [("i0".to_owned(), Verdict::Failed(Failure::Refused))]);
    assert_eq!(servers.iter().map(Server::accepted).sum::<usize>(), 3);
}

#[tokio::test]
async fn a_black_hole_leaves_time_for_the_next_backend() {
    let (_servers, mut addrs) = greeters(1).await;
    let hole = BlackHole::open().await;
    addrs.insert(0, hole.addr());
    let limits = Limits { connect: Span::secs(2), ..Limits::default() };
    let rig = Rig::with(addrs, limits, Span::secs(20));
    assert_eq!(line(&mut rig.connect().await).await, "i0");
    assert_eq!(rig.log.observed(), [("i0".to_owned(), Verdict::Failed(Failure::TimedOut))]);
}

#[tokio::test]
async fn when_no_backend_can_be_reached_the_client_is_reset() {
    let refusers = [Refuser::bind(), Refuser::bind(), Refuser::bind(), Refuser::bind()];
    let rig = Rig::new(refusers.iter().map(Refuser::addr));
    assert_reset(&mut rig.connect().await).await;
    let record = rig.log.only_record().await;
    assert_eq!((record.reason, record.side), (CloseReason::ConnectFailed, Some(Side::Upstream)));
    assert_eq!((record.tries, record.backend), (3, None));
    let refused = Verdict::Failed(Failure::Refused);
    assert_eq!(rig.log.observed(), ["i0", "i1", "i2"].map(|name| (name.to_owned(), refused)));
}

#[tokio::test]
async fn one_backend_is_tried_once_a_connection() {
    let refuser = Refuser::bind();
    let rig = Rig::new([refuser.addr()]);
    assert_reset(&mut rig.connect().await).await;
    assert_eq!(rig.log.only_record().await.tries, 1);
}

#[tokio::test]
async fn without_backends_the_connection_is_closed_at_once() {
    let rig = Rig::new([]);
    let mut client = rig.connect().await;
    assert_eq!(bounded("the end", client.read_to_end(&mut Vec::new())).await.unwrap(), 0);
    let record = rig.log.only_record().await;
    assert_eq!((record.reason, record.side, record.tries), (CloseReason::NoBackend, None, 0));
    assert_eq!((record.service, record.client), (SERVICE, client.local_addr().unwrap()));
    assert_eq!(record.local, Some(rig.addr));
}

#[tokio::test]
async fn only_a_backend_on_trial_is_reported_when_it_answers() {
    let (_servers, addrs) = greeters(1).await;
    let rig = Rig::new(addrs.clone());
    line(&mut rig.connect().await).await;
    assert_eq!(rig.log.observed(), []);
    let mut backends = snapshot(2, addrs).tcp.to_vec();
    backends[0].on_trial = true;
    rig.pool.publish(BackendSnapshot { tcp: backends.into(), ..BackendSnapshot::empty(Generation(2)) });
    line(&mut rig.connect().await).await;
    assert_eq!(rig.log.observed(), [("i0".to_owned(), Verdict::Succeeded)]);
}

#[tokio::test]
async fn an_older_snapshot_changes_nothing() {
    let pool = harbor_tcp::Pool::new(SERVICE, Limits::default(), std::sync::Arc::new(Log::default()));
    let addr = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
    assert_eq!(pool.publish(snapshot(5, [addr(5)])), Generation(5));
    assert_eq!(pool.publish(snapshot(4, [addr(4)])), Generation(5));
    assert_eq!(pool.snapshot().tcp[0].addr, addr(5));
    assert_eq!(pool.publish(snapshot(6, [addr(6)])), Generation(6));
    assert_eq!(pool.snapshot().tcp[0].addr, addr(6));
}

/// Publishes another snapshot as soon as the first try has failed.
struct Republish {
    pool: std::sync::OnceLock<std::sync::Weak<harbor_tcp::Pool>>,
    next: BackendSnapshot,
}

impl harbor_tcp::Observer for Republish {
    fn observed(&self, observed: harbor_types::Observed) {
        assert_eq!((observed.service, observed.generation), (SERVICE, Generation(1)));
        self.pool.get().unwrap().upgrade().unwrap().publish(self.next.clone());
    }
}

#[tokio::test]
async fn each_try_picks_from_the_newest_snapshot() {
    let (servers, addrs) = greeters(2).await;
    let refuser = Refuser::bind();
    let observer = std::sync::Arc::new(Republish { pool: std::sync::OnceLock::new(), next: snapshot(2, [addrs[1]]) });
    let pool = std::sync::Arc::new(harbor_tcp::Pool::new(SERVICE, Limits::default(), observer.clone()));
    observer.pool.set(std::sync::Arc::downgrade(&pool)).unwrap();
    pool.publish(snapshot(1, [refuser.addr(), addrs[0]]));
    let (mut client, stream, peer) = accepted().await;
    let task = tokio::spawn(async move { harbor_tcp::forward(stream, peer, &pool, std::future::pending()).await });
    assert_eq!(line(&mut client).await, "i1");
    assert_eq!(servers[0].accepted(), 0);
    drop(client);
    assert_eq!(bounded("the end", task).await.unwrap().tries, 2);
}

/// A client's side and ours of a new connection.
async fn accepted() -> (tokio::net::TcpStream, tokio::net::TcpStream, SocketAddr) {
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = front.accept().await.unwrap();
    (client, stream, peer)
}

#[tokio::test]
async fn an_address_outside_the_allowed_networks_is_never_dialled() {
    let (servers, addrs) = greeters(1).await;
    let log = std::sync::Arc::new(Log::default());
    let pool = harbor_tcp::Pool::new(SERVICE, Limits::default(), log).within(BackendNetworks::private());
    pool.publish(snapshot(1, addrs));
    let (_client, stream, peer) = accepted().await;
    let record = bounded("the end", harbor_tcp::forward(stream, peer, &pool, std::future::pending())).await;
    assert_eq!((record.reason, record.tries), (CloseReason::NoBackend, 0));
    assert_eq!(servers[0].accepted(), 0);
}
