//! A backend that has left gets no connection once the relay's thread has confirmed it.

use std::net::SocketAddr;
use std::sync::Arc;

use harbor_tcp::{Limits, Pool, forward};
use harbor_testkit::tcp::Server;
use harbor_testkit::wait::{bounded, until};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Log, SERVICE, line, snapshot};

/// Clients keep coming while backends leave one by one; a barrier is a task spawned after the publish on the same
/// current-thread runtime.
#[tokio::test]
async fn no_connect_uses_an_older_snapshot_once_the_barrier_has_run() {
    let pool = Arc::new(Pool::new(SERVICE, Limits::default(), Arc::new(Log::default())));
    let mut servers = Vec::new();
    for number in 0..4 {
        servers.push(Server::greeter(&format!("i{number}")).await);
    }
    let mut addrs: Vec<SocketAddr> = servers.iter().map(Server::addr).collect();
    pool.publish(snapshot(1, addrs.iter().copied()));
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    let relaying = Arc::clone(&pool);
    let accepting = tokio::spawn(async move {
        while let Ok((stream, peer)) = front.accept().await {
            let pool = Arc::clone(&relaying);
            tokio::spawn(async move { forward(stream, peer, &pool, std::future::pending()).await });
        }
    });
    let load = tokio::spawn(async move {
        loop {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.read_exact(&mut [0; 3]).await.unwrap();
        }
    });
    for generation in 2..=4 {
        let gone = servers.remove(0);
        addrs.remove(0);
        until("connections to it", || gone.accepted() >= 5).await;
        pool.publish(snapshot(generation, addrs.iter().copied()));
        bounded("the barrier", tokio::spawn(async {})).await.unwrap();
        // Connects on loopback are synchronous and an accept queue is first in, first out: when this one is greeted,
        // whatever was begun before the barrier has been accepted, and the number must stand still from here on.
        line(&mut TcpStream::connect(gone.addr()).await.unwrap()).await;
        let accepted = |servers: &[Server]| servers.iter().map(Server::accepted).sum::<usize>();
        let (before, others) = (gone.accepted(), accepted(&servers));
        until("the load to go on", || accepted(&servers) >= others + 30).await;
        assert_eq!(gone.accepted(), before, "generation {generation}");
    }
    assert!(!load.is_finished(), "no client saw a failure");
    load.abort();
    accepting.abort();
}
