//! Loopback TCP peers: servers that echo or greet, and addresses that refuse or swallow connections.

#![expect(clippy::expect_used, reason = "a rig that cannot be set up fails the test")]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// A server on a loopback port of its own; ends, with its connections' tasks left to finish, when dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves each connection with `session`, in a task of its own.
    ///
    /// # Panics
    /// When no loopback port can be bound.
    pub async fn spawn<F, S>(session: F) -> Self
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind a loopback port");
        let addr = listener.local_addr().expect("address of a bound listener");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(session(stream));
            }
        });
        Self { addr, accepted, task }
    }

    /// Sends back every byte, then its end of stream.
    ///
    /// # Panics
    /// As [`Server::spawn`].
    pub async fn echo() -> Self {
        Self::spawn(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                let _ = write.shutdown().await;
            }
        })
        .await
    }

    /// Says `name` and a line feed, then waits for the peer's end of stream and closes.
    ///
    /// # Panics
    /// As [`Server::spawn`].
    pub async fn greeter(name: &str) -> Self {
        let line = format!("{name}\n");
        Self::spawn(move |mut stream| {
            let line = line.clone();
            async move {
                let _ = stream.write_all(line.as_bytes()).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address that refuses every connection for as long as this lives: bound, never listening, so nobody else gets it.
#[derive(Debug)]
pub struct Refuser {
    addr: SocketAddr,
    _socket: TcpSocket,
}

impl Refuser {
    /// Takes a loopback port.
    ///
    /// # Panics
    /// When none can be bound.
    #[must_use]
    pub fn bind() -> Self {
        let socket = TcpSocket::new_v4().expect("socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bind a loopback port");
        Self { addr: socket.local_addr().expect("address of a bound socket"), _socket: socket }
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// An address where connects get no answer for as long as this lives: its accept queue is full and never emptied.
#[derive(Debug)]
pub struct BlackHole {
    addr: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    /// A connect that takes this long on loopback is not going to be answered.
    const UNANSWERED: Duration = Duration::from_millis(300);

    /// Takes a loopback port and fills its queue.
    ///
    /// # Panics
    /// When no port can be bound or the queue takes more than a few connections.
    pub async fn open() -> Self {
        let socket = TcpSocket::new_v4().expect("socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bind a loopback port");
        let listener = socket.listen(0).expect("listen");
        let addr = listener.local_addr().expect("address of a bound listener");
        let mut queued = Vec::new();
        while let Ok(stream) = tokio::time::timeout(Self::UNANSWERED, TcpStream::connect(addr)).await {
            queued.push(stream.expect("connect to a listener whose queue has room"));
            assert!(queued.len() < 16, "a queue of length 0 keeps taking connections");
        }
        Self { addr, _listener: listener, _queued: queued }
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Closes `stream` with a reset instead of an end of stream.
///
/// # Panics
/// When the socket option cannot be set.
pub fn reset(stream: TcpStream) {
    stream.set_zero_linger().expect("set SO_LINGER");
    drop(stream);
}

/// `length` bytes that differ along the way, so that a lost, doubled or swapped piece shows; another `seed`, other bytes.
#[must_use]
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length.saturating_add(8));
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
