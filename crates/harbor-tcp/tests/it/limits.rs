//! Connections that have been quiet for too long. In-memory streams and a paused clock: nothing here waits.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use harbor_tcp::{CloseReason, Ending, Limits, Meter, Side, relay};
use harbor_testkit::tcp::Server;
use harbor_types::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, advance};

use crate::rig::{Rig, assert_reset};

fn limits() -> Limits {
    Limits { idle: Some(Span::secs(100)), half_closed: Span::secs(10), ..Limits::default() }
}

/// Relays while `peers` runs, then until the end; says why it ended and after how long since `peers` was done.
async fn after<F>(peers: impl FnOnce(DuplexStream, DuplexStream) -> F) -> (Ending, Duration)
where
    F: Future<Output = (DuplexStream, DuplexStream)>,
{
    let held = AtomicU64::new(0);
    let meter = Meter::new(&held);
    let (client, client_far) = tokio::io::duplex(64);
    let (backend_far, backend) = tokio::io::duplex(64);
    let mut never = std::pin::pin!(std::future::pending());
    let limits = limits();
    let relaying = relay(client_far, backend_far, never.as_mut(), &limits, &meter);
    let peers = async {
        let peers = peers(client, backend).await;
        (peers, Instant::now())
    };
    let ((ending, end), (_peers, done)) = tokio::join!(async { (relaying.await, Instant::now()) }, peers);
    (ending, end.saturating_duration_since(done))
}

fn about(lasted: Duration, seconds: u64) -> bool {
    lasted >= Duration::from_secs(seconds) && lasted < Duration::from_millis(seconds * 1000 + 50)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_moves_nothing_ends_at_the_idle_limit() {
    let (ending, lasted) = after(|client, backend| async { (client, backend) }).await;
    assert_eq!(ending, Ending::of(CloseReason::Idle));
    assert!(about(lasted, 100), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn progress_in_either_direction_puts_the_idle_limit_off() {
    let (ending, lasted) = after(|mut client, mut backend| async {
        for _ in 0..5 {
            advance(Duration::from_secs(90)).await;
            client.write_u8(1).await.unwrap();
            backend.read_u8().await.unwrap();
            advance(Duration::from_secs(90)).await;
            backend.write_u8(2).await.unwrap();
            client.read_u8().await.unwrap();
        }
        (client, backend)
    })
    .await;
    assert_eq!(ending, Ending::of(CloseReason::Idle));
    assert!(about(lasted, 100), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn readiness_without_progress_does_not_count() {
    let (ending, lasted) = after(|mut client, backend| async {
        // More than the way to the backend holds; nobody reads there.
        let full = tokio::time::timeout(Duration::from_secs(1), client.write_all(&[0; 1000])).await;
        assert!(full.is_err(), "the backend takes nothing");
        (client, backend)
    })
    .await;
    assert_eq!(ending, Ending::of(CloseReason::Idle));
    assert!(about(lasted, 99), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_connection_has_a_limit_of_its_own() {
    let (ending, lasted) = after(|mut client, mut backend| async {
        client.shutdown().await.unwrap();
        assert_eq!(backend.read(&mut [0; 8]).await.unwrap(), 0);
        for _ in 0..5 {
            advance(Duration::from_secs(9)).await;
            backend.write_u8(1).await.unwrap();
            client.read_u8().await.unwrap();
        }
        (client, backend)
    })
    .await;
    assert_eq!(ending, Ending::by(Side::Upstream, CloseReason::HalfClosedIdle));
    assert!(about(lasted, 10), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn the_half_closed_limit_blames_the_client_when_the_backend_has_ended() {
    let (ending, lasted) = after(|mut client, mut backend| async {
        backend.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        (client, backend)
    })
    .await;
    assert_eq!(ending, Ending::by(Side::Downstream, CloseReason::HalfClosedIdle));
    assert!(about(lasted, 10), "{lasted:?}");
}

#[tokio::test]
async fn both_sides_of_an_idle_connection_are_reset() {
    let server = Server::spawn(|mut stream| async move { assert_reset(&mut stream).await }).await;
    let limits = Limits { idle: Some(Span::millis(50)), ..Limits::default() };
    let rig = Rig::with([server.addr()], limits, Span::secs(20));
    assert_reset(&mut rig.connect().await).await;
    assert_eq!(rig.log.only_record().await.reason, CloseReason::Idle);
}

/// What the kernel was told about both sockets of a connection.
#[tokio::test]
async fn sockets_of_both_sides_send_without_delay_and_watch_for_dead_peers() {
    let server = Server::echo().await;
    let front = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut client = tokio::net::TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = front.accept().await.unwrap();
    let near = socket2::Socket::from(std::os::fd::AsFd::as_fd(&stream).try_clone_to_owned().unwrap());
    let pool = harbor_tcp::Pool::new(
        crate::rig::SERVICE,
        Limits { keepalive: Some(Span::secs(30)), ..Limits::default() },
        std::sync::Arc::new(()),
    );
    pool.publish(crate::rig::snapshot(1, [server.addr()]));
    let ask = async {
        client.write_u8(1).await.unwrap();
        client.read_u8().await.unwrap();
    };
    tokio::select! {
        _ = harbor_tcp::forward(stream, peer, &pool, std::future::pending()) => unreachable!("the client is still there"),
        () = ask => {}
    }
    assert!(near.tcp_nodelay().unwrap() && near.keepalive().unwrap());
    assert_eq!(near.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
    assert_eq!(near.linger().unwrap(), Some(Duration::ZERO));
}
