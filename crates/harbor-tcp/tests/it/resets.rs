//! A connection that was cut short never ends cleanly.

use harbor_tcp::{CloseReason, Side};
use harbor_testkit::tcp::{Server, pattern, reset};
use harbor_testkit::wait::{bounded, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::rig::{Log, Rig, SERVICE, assert_reset, snapshot};

/// A backend whose connections are handed to the test.
async fn handed() -> (Server, mpsc::UnboundedReceiver<TcpStream>) {
    let (send, receive) = mpsc::unbounded_channel();
    let server = Server::spawn(move |stream| {
        let send = send.clone();
        async move {
            let _ = send.send(stream);
        }
    })
    .await;
    (server, receive)
}

/// A client and its backend, with the relay between them.
async fn pair() -> (Rig, Server, TcpStream, TcpStream) {
    let (server, mut streams) = handed().await;
    let rig = Rig::new([server.addr()]);
    let client = rig.connect().await;
    let backend = bounded("the backend's side", streams.recv()).await.unwrap();
    (rig, server, client, backend)
}

async fn assert_reset_by(rig: &Rig, side: Side) {
    let record = rig.log.only_record().await;
    assert_eq!((record.reason, record.side), (CloseReason::Reset, Some(side)));
}

#[tokio::test]
async fn a_reset_by_the_backend_reaches_the_client() {
    let (rig, _server, mut client, backend) = pair().await;
    reset(backend);
    assert_reset(&mut client).await;
    assert_reset_by(&rig, Side::Upstream).await;
}

#[tokio::test]
async fn a_reset_by_the_client_reaches_the_backend() {
    let (rig, _server, client, mut backend) = pair().await;
    reset(client);
    assert_reset(&mut backend).await;
    assert_reset_by(&rig, Side::Downstream).await;
}

#[tokio::test]
async fn what_came_before_a_reset_is_passed_on_first() {
    let (_rig, _server, mut client, mut backend) = pair().await;
    backend.write_all(b"too large\n").await.unwrap();
    let mut answer = [0; 10];
    bounded("the answer", client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"too large\n");
    reset(backend);
    assert_reset(&mut client).await;
}

/// A close with unread input is how most truncated answers come about.
#[tokio::test]
async fn a_backend_that_closes_with_unread_input_resets_the_client() {
    let (rig, _server, mut client, backend) = pair().await;
    client.write_all(b"never read").await.unwrap();
    assert_ne!(bounded("the input at the backend", backend.peek(&mut [0; 4])).await.unwrap(), 0);
    drop(backend);
    assert_reset(&mut client).await;
    assert_reset_by(&rig, Side::Upstream).await;
}

#[tokio::test]
async fn a_reset_by_a_client_that_half_closed_shows_while_nothing_flows() {
    let (rig, _server, mut client, mut backend) = pair().await;
    client.shutdown().await.unwrap();
    assert_eq!(bounded("the half-close", backend.read(&mut [0; 8])).await.unwrap(), 0);
    // Nothing flows from here on: only the broken socket itself can tell.
    reset(client);
    assert_reset_by(&rig, Side::Downstream).await;
    bounded("the reset at the backend", backend.ready(tokio::io::Interest::ERROR)).await.unwrap();
    assert!(backend.take_error().unwrap().is_some());
}

#[tokio::test]
async fn a_reset_by_a_backend_that_half_closed_shows_while_nothing_flows() {
    let (rig, _server, mut client, mut backend) = pair().await;
    backend.shutdown().await.unwrap();
    assert_eq!(bounded("the half-close", client.read(&mut [0; 8])).await.unwrap(), 0);
    reset(backend);
    assert_reset_by(&rig, Side::Upstream).await;
    bounded("the reset at the client", client.ready(tokio::io::Interest::ERROR)).await.unwrap();
    assert!(client.take_error().unwrap().is_some());
}

#[tokio::test]
async fn a_reset_shows_while_the_other_side_takes_nothing() {
    let (rig, _server, mut client, mut backend) = pair().await;
    let block = pattern(64 * 1024, 1);
    while rig.pool.held_bytes() == 0 {
        tokio::select! {
            biased;
            sent = client.write(&block) => assert!(sent.unwrap() > 0),
            () = until("the relay to be stuck", || rig.pool.held_bytes() > 0) => {}
        }
    }
    reset(client);
    assert_reset_by(&rig, Side::Downstream).await;
    until("the buffer given back", || rig.pool.held_bytes() == 0).await;
    assert_reset(&mut backend).await;
}

#[tokio::test]
async fn a_client_that_resets_before_a_backend_answers_ends_the_try() {
    let hole = harbor_testkit::tcp::BlackHole::open().await;
    let rig = Rig::new([hole.addr()]);
    let client = rig.connect().await;
    until("the connection to be taken", || rig.pool.live() == 1).await;
    reset(client);
    assert_reset_by(&rig, Side::Downstream).await;
}

#[tokio::test]
async fn dropping_the_future_resets_both_sides_and_leaves_a_record() {
    let (server, mut streams) = handed().await;
    let log = std::sync::Arc::new(Log::default());
    let pool = std::sync::Arc::new(harbor_tcp::Pool::new(SERVICE, harbor_tcp::Limits::default(), log.clone()));
    pool.publish(snapshot(1, [server.addr()]));
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = front.accept().await.unwrap();
    let task = {
        let pool = std::sync::Arc::clone(&pool);
        tokio::spawn(async move { harbor_tcp::forward(stream, peer, &pool, std::future::pending()).await })
    };
    let mut backend = bounded("the backend's side", streams.recv()).await.unwrap();
    client.write_all(b"half a ").await.unwrap();
    bounded("the bytes", backend.read_exact(&mut [0; 7])).await.unwrap();
    task.abort();
    assert_reset(&mut client).await;
    assert_reset(&mut backend).await;
    let record = log.only_record().await;
    assert_eq!((record.reason, record.bytes_up, record.tries), (CloseReason::Cancelled, 7, 1));
    assert_eq!(pool.live(), 0);
}
