//! Bytes: all of them, in order, both ways, with half-close kept and nothing held while idle.

use std::sync::atomic::{AtomicU64, Ordering};

use harbor_tcp::{CloseReason, Limits, Meter, Way, relay};
use harbor_testkit::tcp::{Server, pattern};
use harbor_testkit::wait::{bounded, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::Rig;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_client_that_half_closes_still_receives_the_reply() {
    let server = Server::spawn(|mut stream| async move {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.unwrap();
        assert_eq!(request, pattern(3 * MIB, 1));
        stream.write_all(&pattern(2 * MIB, 2)).await.unwrap();
    })
    .await;
    let rig = Rig::new([server.addr()]);
    let mut client = rig.connect().await;
    client.write_all(&pattern(3 * MIB, 1)).await.unwrap();
    client.shutdown().await.unwrap();
    let mut reply = Vec::new();
    bounded("the reply", client.read_to_end(&mut reply)).await.unwrap();
    assert!(reply == pattern(2 * MIB, 2), "{} bytes came", reply.len());
    let record = rig.log.only_record().await;
    assert_eq!((record.reason, record.side), (CloseReason::Finished, None));
    assert_eq!((record.bytes_up, record.bytes_down), (3 << 20, 2 << 20));
    assert_eq!(record.backend.unwrap().addr, server.addr());
}

#[tokio::test]
async fn a_backend_that_half_closes_still_receives_the_request() {
    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let server = Server::spawn(move |mut stream| {
        let send = send.clone();
        async move {
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            send.send(rest).await.unwrap();
        }
    })
    .await;
    let rig = Rig::new([server.addr()]);
    let mut client = rig.connect().await;
    let mut greeting = Vec::new();
    bounded("the greeting", client.read_to_end(&mut greeting)).await.unwrap();
    assert_eq!(greeting, b"hello");
    client.write_all(&pattern(2 * MIB, 3)).await.unwrap();
    drop(client);
    assert!(bounded("the request", receive.recv()).await.unwrap() == pattern(2 * MIB, 3));
    assert_eq!(rig.log.only_record().await.reason, CloseReason::Finished);
}

#[tokio::test]
async fn bulk_both_ways_at_once_arrives_whole() {
    let server = Server::echo().await;
    let rig = Rig::new([server.addr()]);
    let (mut read, mut write) = rig.connect().await.into_split();
    let sender = tokio::spawn(async move {
        for seed in 0..32 {
            write.write_all(&pattern(MIB, seed)).await.unwrap();
        }
        write.shutdown().await.unwrap();
        write
    });
    let mut piece = vec![0; MIB];
    for seed in 0..32 {
        bounded("a piece", read.read_exact(&mut piece)).await.unwrap();
        assert!(piece == pattern(MIB, seed), "piece {seed} differs");
    }
    assert_eq!(bounded("the end", read.read(&mut piece)).await.unwrap(), 0);
    sender.await.unwrap();
    let record = rig.log.only_record().await;
    assert_eq!((record.reason, record.bytes_up, record.bytes_down), (CloseReason::Finished, 32 << 20, 32 << 20));
    assert_eq!((rig.pool.held_bytes(), rig.pool.live()), (0, 0));
}

#[tokio::test]
async fn a_reader_that_does_not_read_costs_at_most_one_buffer_which_is_given_back() {
    let server = Server::echo().await;
    let rig = Rig::new([server.addr()]);
    let (mut read, mut write) = rig.connect().await.into_split();
    let sender = tokio::spawn(async move {
        for seed in 0..24 {
            write.write_all(&pattern(MIB, seed)).await.unwrap();
        }
        write
    });
    until("the relay to be stuck", || rig.pool.held_bytes() > 0).await;
    let mut most = 0;
    let mut piece = vec![0; MIB];
    for seed in 0..24 {
        most = most.max(rig.pool.held_bytes());
        bounded("a piece", read.read_exact(&mut piece)).await.unwrap();
        assert!(piece == pattern(MIB, seed), "piece {seed} differs");
    }
    let _write = bounded("the sender", sender).await.unwrap();
    assert!(most <= 2 * 64 * 1024, "held {most} bytes for one connection");
    until("an idle connection to hold nothing", || rig.pool.held_bytes() == 0).await;
    assert_eq!(rig.pool.live(), 1);
}

#[tokio::test]
async fn idle_connections_hold_no_buffer() {
    let server = Server::echo().await;
    let rig = Rig::new([server.addr()]);
    let mut clients = Vec::new();
    for seed in 0..50 {
        let mut client = rig.connect().await;
        client.write_all(&pattern(1000, seed)).await.unwrap();
        let mut echo = [0; 1000];
        bounded("the echo", client.read_exact(&mut echo)).await.unwrap();
        clients.push(client);
    }
    assert_eq!((rig.pool.live(), rig.pool.held_bytes()), (50, 0));
}

#[tokio::test]
async fn a_busy_connection_does_not_keep_others_waiting() {
    let server = Server::echo().await;
    let rig = Rig::new([server.addr()]);
    let (mut read, mut write) = rig.connect().await.into_split();
    let flood = tokio::spawn(async move { while write.write_all(&[0; 256 * 1024]).await.is_ok() {} });
    let drain = tokio::spawn(async move {
        let mut sink = vec![0; 256 * 1024];
        while read.read(&mut sink).await.is_ok_and(|count| count > 0) {}
    });
    let mut client = rig.connect().await;
    for round in 0..200_u64 {
        client.write_u64(round).await.unwrap();
        assert_eq!(bounded("an echo beside a flood", client.read_u64()).await.unwrap(), round);
    }
    flood.abort();
    drain.abort();
}

/// Streams that are no sockets, with buffers so small that every write is partial.
#[tokio::test]
async fn any_stream_can_be_relayed() {
    let held = AtomicU64::new(0);
    let meter = Meter::new(&held);
    let (mut client, client_far) = tokio::io::duplex(7);
    let (backend_far, mut backend) = tokio::io::duplex(5);
    let limits = Limits::default();
    let mut never = std::pin::pin!(std::future::pending());
    let relaying = relay(client_far, backend_far, never.as_mut(), &limits, &meter);
    let (up, down) = (pattern(10_000, 1), pattern(9_000, 2));
    let peers = async {
        let (mut client_read, mut client_write) = tokio::io::split(&mut client);
        let (mut backend_read, mut backend_write) = tokio::io::split(&mut backend);
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let send_up = async {
            client_write.write_all(&up).await.unwrap();
            client_write.shutdown().await.unwrap();
        };
        let send_down = async {
            backend_write.write_all(&down).await.unwrap();
            backend_write.shutdown().await.unwrap();
        };
        let (_, _, read_up, read_down) = tokio::join!(
            send_up,
            send_down,
            backend_read.read_to_end(&mut got_up),
            client_read.read_to_end(&mut got_down)
        );
        read_up.unwrap();
        read_down.unwrap();
        (got_up, got_down)
    };
    let (ending, (got_up, got_down)) = bounded("the relay", async { tokio::join!(relaying, peers) }).await;
    assert_eq!(ending.reason, CloseReason::Finished);
    assert!(got_up == up && got_down == down);
    assert_eq!((meter.bytes(Way::Up), meter.bytes(Way::Down)), (10_000, 9_000));
    assert_eq!(held.load(Ordering::Relaxed), 0);
}

/// A source that never ends and a sink that takes everything: one wake moves a burst, then others get their turn.
#[tokio::test]
async fn one_wake_moves_no_more_than_a_burst() {
    let held = AtomicU64::new(0);
    let meter = Meter::new(&held);
    let endless = || tokio::io::join(tokio::io::repeat(7), tokio::io::sink());
    let limits = Limits::default();
    let mut never = std::pin::pin!(std::future::pending());
    let mut relaying = std::pin::pin!(relay(endless(), endless(), never.as_mut(), &limits, &meter));
    for wake in 1..=3 {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(relaying.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        for way in [Way::Up, Way::Down] {
            assert_eq!(meter.bytes(way), wake * 256 * 1024, "{way:?} after {wake} wakes");
        }
        tokio::task::yield_now().await;
    }
}
