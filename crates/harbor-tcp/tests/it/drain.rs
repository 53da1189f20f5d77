//! Stopping: what runs may finish, what does not is cut, and each connection leaves one record.

use harbor_tcp::{CloseReason, Limits};
use harbor_testkit::tcp::Server;
use harbor_testkit::wait::{bounded, until};
use harbor_types::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, assert_reset, line};

#[tokio::test]
async fn connections_that_run_may_finish_while_no_new_one_is_let_in() {
    let server = Server::echo().await;
    let rig = Rig::new([server.addr()]);
    let addr = rig.addr;
    let mut client = rig.connect().await;
    client.write_all(b"before\n").await.unwrap();
    assert_eq!(line(&mut client).await, "before");
    let (log, task) = rig.begin_stop();
    let closed = async { while TcpStream::connect(addr).await.is_ok() {} };
    bounded("the listener to be closed", closed).await;
    client.write_all(b"after\n").await.unwrap();
    assert_eq!(line(&mut client).await, "after");
    assert!(!task.is_finished());
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    let report = bounded("the end of serve", task).await.unwrap().unwrap();
    assert_eq!((report.cut, report.lost), (0, 0));
    assert_eq!(report.accept.accepted, report.ended);
    assert_eq!(log.closed().iter().filter(|record| record.bytes_up == 13).count(), 1);
}

#[tokio::test]
async fn connections_that_do_not_finish_are_cut_at_the_drain_limit() {
    let server = Server::echo().await;
    let rig = Rig::with([server.addr()], Limits::default(), Span::millis(50));
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = rig.connect().await;
        client.write_all(b"x\n").await.unwrap();
        line(&mut client).await;
        clients.push(client);
    }
    let log = rig.log.clone();
    let report = rig.stop().await;
    assert_eq!((report.accept.accepted, report.ended, report.cut, report.lost), (5, 0, 5, 0));
    for client in &mut clients {
        assert_reset(client).await;
    }
    assert!(log.closed().iter().all(|record| record.reason == CloseReason::Drained));
}

#[tokio::test]
async fn only_connections_to_the_backend_that_left_are_cut() {
    let (stays, leaves) = (Server::echo().await, Server::echo().await);
    let rig = Rig::new([leaves.addr(), stays.addr()]);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = rig.connect().await;
        client.write_all(b"x\n").await.unwrap();
        line(&mut client).await;
        clients.push(client);
    }
    let backends = rig.pool.snapshot().tcp.to_vec();
    assert_eq!(rig.pool.cut(&backends[0].instance, backends[1].joined), 0, "another registration of it");
    assert_eq!(rig.pool.cut(&backends[0].instance, backends[0].joined), 1);
    assert_reset(&mut clients[0]).await;
    clients[1].write_all(b"y\n").await.unwrap();
    assert_eq!(line(&mut clients[1]).await, "y");
    let record = rig.log.only_record().await;
    assert_eq!((record.reason, record.side), (CloseReason::Drained, None));
    assert_eq!(record.backend.map(|backend| backend.addr), Some(leaves.addr()));
    rig.begin_stop();
}

#[tokio::test]
async fn every_connection_leaves_exactly_one_record() {
    let server = Server::echo().await;
    let rig = Rig::with([server.addr()], Limits::default(), Span::millis(50));
    for number in 0..60 {
        let mut client = rig.connect().await;
        client.write_all(b"x\n").await.unwrap();
        line(&mut client).await;
        match number % 3 {
            0 => drop(client),
            1 => harbor_testkit::tcp::reset(client),
            _ => {
                client.shutdown().await.unwrap();
                client.read_to_end(&mut Vec::new()).await.unwrap();
            }
        }
    }
    until("60 records", || rig.log.closed().len() >= 60).await;
    let (pool, log) = (rig.pool.clone(), rig.log.clone());
    rig.stop().await;
    let (mut opened, mut closed) = (log.opened(), log.closed());
    opened.sort();
    closed.sort_by_key(|record| record.client);
    assert_eq!(opened, closed.iter().map(|record| record.client).collect::<Vec<_>>());
    assert_eq!(pool.live(), 0);
}

#[tokio::test]
async fn dropping_serve_resets_every_connection_and_closes_the_listener() {
    let server = Server::echo().await;
    let listener = crate::rig::listener();
    let addr = listener.local_addr();
    let log = std::sync::Arc::new(crate::rig::Log::default());
    let pool = std::sync::Arc::new(harbor_tcp::Pool::new(crate::rig::SERVICE, Limits::default(), log.clone()));
    pool.publish(crate::rig::snapshot(1, [server.addr()]));
    let task = tokio::spawn(harbor_tcp::serve(listener, pool, Span::ZERO, std::future::pending()));
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(b"x\n").await.unwrap();
    line(&mut client).await;
    task.abort();
    assert_reset(&mut client).await;
    assert_eq!(log.only_record().await.reason, CloseReason::Cancelled);
    assert!(TcpStream::connect(addr).await.is_err());
}
