//! Embeds the UDP relay in a program of one's own: two backends behind one port, the first answers everybody; when it
//! dies, the next one takes over without a client asking twice. Binds free loopback ports, checks what it claims, exits 0.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use harbor_types::{Backend, BackendSnapshot, Claim, Generation, InstanceId, Observed, Revision, ServiceId};
use harbor_udp::{Budget, Limits, Observer, SessionRecord, UdpListener, UdpService, serve};
use tokio::net::UdpSocket;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Prints what the relay sees. A node would take a failed backend out of the next snapshot.
struct Print;

impl Observer for Print {
    fn observed(&self, observed: Observed) {
        println!("{} {:?}", observed.instance, observed.verdict);
    }
    fn closed(&self, record: &SessionRecord) {
        println!("{record}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), run()).await.context("took too long")?
}

async fn run() -> anyhow::Result<()> {
    let (first, first_task) = greeter("dns-0", 1).await?;
    let (second, _second_task) = greeter("dns-1", 2).await?;

    // Backends come and go by publishing numbered snapshots; index 0 of `udp` is the primary.
    let (publish, snapshots) = watch::channel(snapshot(1, &[first, second.clone()]));
    let (apply, mut applied) = watch::channel(Generation(0));

    // One budget for the whole node, one `UdpService` for all listeners of a service.
    let node = Arc::new(Budget::new(1_000));
    let service = Arc::new(UdpService::new(ServiceId::from_u128(1), Limits::default(), node, Arc::new(Print)));

    // The caller binds; `serve` takes the bound listener and runs until it is told to stop.
    let listener = UdpListener::bind((Ipv4Addr::LOCALHOST, 0).into(), Claim::Fresh)?;
    let addr = listener.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, Arc::clone(&service), snapshots, apply, async {
        let _ = stopped.await;
    }));

    let clients = [client(addr).await?, client(addr).await?];
    println!("two backends behind {addr}:");
    for client in &clients {
        ensure!(ask(client).await? == "dns-0", "the primary answers everybody");
    }

    println!("dns-0 dies:");
    first_task.abort();
    let _ = first_task.await;
    for client in &clients {
        ensure!(ask(client).await? == "dns-1", "the next one takes over");
    }

    println!("dns-0 is out of the snapshot:");
    publish.send_replace(snapshot(2, &[second]));
    applied.wait_for(|generation| *generation == Generation(2)).await?;
    ensure!(ask(&clients[0]).await? == "dns-1", "sessions stay with their backend");

    ensure!(stop.send(()).is_ok(), "serve ended by itself");
    let report = serving.await??;
    ensure!((report.sessions, report.down.datagrams, report.dropped) == (2, 5, 0), "unexpected: {report:?}");
    Ok(())
}

/// Answers every datagram with its name.
async fn greeter(name: &'static str, revision: u64) -> anyhow::Result<(Backend, JoinHandle<()>)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = socket.local_addr()?;
    let task = tokio::spawn(async move {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]).await {
            let _ = socket.send_to(name.as_bytes(), from).await;
        }
    });
    let backend = Backend { instance: InstanceId::parse(name)?, addr, joined: Revision(revision), on_trial: false };
    Ok((backend, task))
}

fn snapshot(generation: u64, udp: &[Backend]) -> BackendSnapshot {
    BackendSnapshot { udp: udp.into(), ..BackendSnapshot::empty(Generation(generation)) }
}

async fn client(addr: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(addr).await?;
    Ok(socket)
}

async fn ask(client: &UdpSocket) -> anyhow::Result<String> {
    client.send(b"who is there?").await?;
    let mut buffer = [0; 64];
    let len = client.recv(&mut buffer).await?;
    Ok(String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).into_owned())
}
