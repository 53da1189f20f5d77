//! Embeds the TCP relay in a program of one's own: three backends behind one port, clients shared out exactly, and a
//! backend that leaves gets no more of them. Binds free loopback ports, checks what it claims, exits 0.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use harbor_tcp::{ConnectionRecord, Limits, Listener, Observer, Pool, serve};
use harbor_types::{Backend, BackendSnapshot, Claim, Generation, InstanceId, Revision, ServiceId, Span};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Prints the one record that every connection leaves.
struct Print;

impl Observer for Print {
    fn closed(&self, record: &ConnectionRecord) {
        println!("{record}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), run()).await.context("took too long")?
}

async fn run() -> anyhow::Result<()> {
    let mut backends = Vec::new();
    for (name, revision) in [("web-0", 1), ("web-1", 2), ("web-2", 3)] {
        let addr = greeter(name).await?;
        let instance = InstanceId::parse(name)?;
        backends.push(Backend { instance, addr, joined: Revision(revision), on_trial: false });
    }

    // The pool is what the connections of a service share; backends come and go by publishing numbered snapshots.
    let pool = Arc::new(Pool::new(ServiceId::from_u128(1), Limits::default(), Arc::new(Print)));
    pool.publish(snapshot(1, &backends));

    // The caller binds; `serve` takes the bound listener and runs until it is told to stop.
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), Claim::Fresh)?;
    let addr = listener.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, Arc::clone(&pool), Span::secs(5), async {
        let _ = stopped.await;
    }));

    println!("three backends behind {addr}:");
    ensure!(greetings(addr, 9).await? == shares([("web-0", 3), ("web-1", 3), ("web-2", 3)]), "not shared out exactly");

    println!("web-1 leaves:");
    backends.retain(|backend| backend.instance.as_str() != "web-1");
    pool.publish(snapshot(2, &backends));
    ensure!(greetings(addr, 4).await? == shares([("web-0", 2), ("web-2", 2)]), "not shared out exactly");

    ensure!(stop.send(()).is_ok(), "serve ended by itself");
    let report = serving.await??;
    ensure!((report.accept.accepted, report.ended, report.cut) == (13, 13, 0), "unexpected: {report:?}");
    Ok(())
}

fn snapshot(generation: u64, backends: &[Backend]) -> BackendSnapshot {
    BackendSnapshot { tcp: backends.into(), ..BackendSnapshot::empty(Generation(generation)) }
}

fn shares<const N: usize>(shares: [(&str, usize); N]) -> BTreeMap<String, usize> {
    shares.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Connects `clients` times, one after the other, and counts who answered.
async fn greetings(addr: SocketAddr, clients: usize) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for _ in 0..clients {
        let mut name = String::new();
        TcpStream::connect(addr).await?.read_to_string(&mut name).await?;
        *counts.entry(name).or_default() += 1;
    }
    Ok(counts)
}

/// An application instance: says its name to whoever connects.
async fn greeter(name: &'static str) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // A client that went away is no concern of the next.
            let _ = stream.write_all(name.as_bytes()).await;
        }
    });
    Ok(addr)
}
