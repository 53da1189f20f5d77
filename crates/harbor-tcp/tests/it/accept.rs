//! Accepting: nobody in the backlog is left behind, and the socket is closed on return.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use harbor_tcp::accept;
use harbor_testkit::wait::{bounded, until};
use harbor_types::Claim;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::listener;

#[tokio::test]
async fn what_waits_in_the_backlog_at_shutdown_is_handed_on() {
    let listener = listener();
    let addr = listener.local_addr();
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(TcpStream::connect(addr).await.unwrap());
    }
    let (send, receive) = mpsc::channel();
    // Resolved before the first accept: everything comes out of the backlog.
    let report = accept(listener, move |stream, peer| send.send((stream, peer)).unwrap(), async {}).await.unwrap();
    assert_eq!((report.accepted, report.drained, report.skipped, report.pauses), (100, 100, 0, 0));
    assert!(TcpStream::connect(addr).await.is_err(), "the listener is closed");
    let handed: Vec<_> = receive.iter().collect();
    assert_eq!(handed.len(), 100);
    for ((stream, peer), client) in handed.into_iter().zip(&mut clients) {
        assert_eq!(peer, client.local_addr().unwrap());
        let mut stream = TcpStream::from_std(stream).unwrap();
        stream.write_all(b"here").await.unwrap();
        let mut word = [0; 4];
        bounded("the greeting", client.read_exact(&mut word)).await.unwrap();
        assert_eq!(&word, b"here");
    }
    harbor_tcp::Listener::bind(addr, Claim::Restore).unwrap();
}

#[tokio::test]
async fn connections_can_be_run_on_another_runtime() {
    let listener = listener();
    let addr = listener.local_addr();
    let (send, receive) = mpsc::channel::<std::net::TcpStream>();
    let relay_thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for stream in receive {
                TcpStream::from_std(stream).unwrap().write_all(b"there").await.unwrap();
            }
        });
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let accepting = tokio::spawn(accept(listener, move |stream, _| send.send(stream).unwrap(), async {
        let _ = stopped.await;
    }));
    let mut word = String::new();
    let mut client = TcpStream::connect(addr).await.unwrap();
    bounded("the greeting", client.read_to_string(&mut word)).await.unwrap();
    assert_eq!(word, "there");
    stop.send(()).unwrap();
    let report = bounded("the end", accepting).await.unwrap().unwrap();
    assert_eq!((report.accepted, report.drained), (1, 0));
    relay_thread.join().unwrap();
}

#[tokio::test]
async fn a_flood_of_connections_lets_other_tasks_run() {
    let listener = listener();
    let addr = listener.local_addr();
    let taken = std::sync::Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let accepting = tokio::spawn(accept(
        listener,
        move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        },
        std::future::pending(),
    ));
    let clients: Vec<_> = (0..500).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
    // 500 wait in the backlog; the loop must come back here before it has taken them all.
    until("the first ones", || taken.load(Ordering::SeqCst) > 0).await;
    let seen = taken.load(Ordering::SeqCst);
    assert!(seen < 500, "all were accepted in one go");
    until("all to be accepted", || taken.load(Ordering::SeqCst) == 500).await;
    accepting.abort();
    drop(clients);
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test]
async fn futures_are_send() {
    let pool = std::sync::Arc::new(harbor_tcp::Pool::new(
        crate::rig::SERVICE,
        harbor_tcp::Limits::default(),
        std::sync::Arc::new(()),
    ));
    drop(is_send(accept(listener(), |_, _| {}, std::future::pending())));
    drop(is_send(harbor_tcp::serve(listener(), pool.clone(), harbor_types::Span::ZERO, std::future::pending())));
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = front.accept().await.unwrap();
    drop(is_send(harbor_tcp::forward(stream, peer, &pool, std::future::pending())));
}
