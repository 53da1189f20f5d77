//! Loopback UDP peers: a backend that answers and remembers who asked, and a client that asks and waits.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use harbor_types::{Backend, BackendSnapshot, Generation, InstanceId, Revision};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::wait::bounded;

/// Room for the largest datagram.
const DATAGRAM: usize = 64 * 1024;

/// A backend on a loopback port that answers each datagram with its name and the datagram.
#[derive(Debug)]
pub struct UdpBackend {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What a backend saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Who sent to it.
    pub peers: BTreeSet<SocketAddr>,
    /// Sizes of the datagrams, in the order they came.
    pub sizes: Vec<usize>,
}

/// Whether a backend answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Manners {
    /// Every datagram gets an answer.
    Answers,
    /// It only listens.
    Silent,
}

impl UdpBackend {
    /// A backend on 127.0.0.1 that puts `name` before what it sends back; an empty name makes a plain echo.
    pub async fn start(name: &str) -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), name, Manners::Answers).await
    }

    /// A backend on 127.0.0.1 that never answers.
    pub async fn silent() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "", Manners::Silent).await
    }

    /// A backend at `addr`, such as one where another has stopped.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub async fn at(addr: SocketAddr, name: &str, manners: Manners) -> Self {
        let socket = socket(UdpSocket::bind(addr).await, "bind a backend");
        let addr = socket_addr(&socket);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(answer(socket, name.as_bytes().to_vec(), manners, Arc::clone(&seen)));
        Self { addr, seen, task }
    }

    /// What it saw so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes its socket; from now on the kernel refuses what is sent there.
    pub async fn stop(self) -> Seen {
        self.task.abort();
        // Its socket is closed once the task is gone, whichever way it ended.
        let _ = bounded("a backend to stop", self.task).await;
        Arc::try_unwrap(self.seen).map_or_else(
            |seen| seen.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            |seen| seen.into_inner().unwrap_or_else(PoisonError::into_inner),
        )
    }
}

async fn answer(socket: UdpSocket, name: Vec<u8>, manners: Manners, seen: Arc<Mutex<Seen>>) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // A peer that is gone is reported here on the next receive; it is none of a backend's business.
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.peers.insert(from);
            seen.sizes.push(len);
        }
        if manners == Manners::Answers {
            let mut reply = name.clone();
            reply.extend_from_slice(buffer.get(..len).unwrap_or_default());
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

/// A client connected to one address: it hears answers only if they come from the address it sent to.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
}

impl UdpClient {
    /// A client of `server`, on a port of its own.
    pub async fn connect(server: SocketAddr) -> Self {
        let any = match server.ip() {
            IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            IpAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0)),
        };
        Self::from(any, server).await
    }

    /// A client of `server` that sends from `own`.
    ///
    /// # Panics
    /// When the socket cannot be had.
    pub async fn from(own: SocketAddr, server: SocketAddr) -> Self {
        let socket = socket(UdpSocket::bind(own).await, "bind a client");
        self::socket(socket.connect(server).await, "connect a client");
        Self { socket }
    }

    /// Its own address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        socket_addr(&self.socket)
    }

    /// Sends one datagram.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub async fn send(&self, payload: &[u8]) {
        let sent = socket(self.socket.send(payload).await, "send from a client");
        assert_eq!(sent, payload.len());
    }

    /// Waits for a datagram.
    ///
    /// # Panics
    /// When none comes in time; the message names `what`.
    pub async fn receive(&self, what: &str) -> Vec<u8> {
        let mut buffer = vec![0; DATAGRAM];
        let len = socket(bounded(what, self.socket.recv(&mut buffer)).await, what);
        buffer.truncate(len);
        buffer
    }

    /// Takes a datagram that is there already.
    #[must_use]
    pub fn try_receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; DATAGRAM];
        let len = self.socket.try_recv(&mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }

    /// Sends one datagram and waits for one.
    pub async fn ask(&self, payload: &[u8]) -> Vec<u8> {
        self.send(payload).await;
        self.receive("an answer").await
    }
}

/// The snapshot of this generation with a UDP backend at each address, in this order; the `n`th joined at revision `n`.
///
/// # Panics
/// Never: the names are well-formed.
#[must_use]
pub fn udp_snapshot(generation: u64, backends: &[(u64, SocketAddr)]) -> BackendSnapshot {
    let backend = |(joined, addr): &(u64, SocketAddr)| Backend {
        instance: instance(*joined),
        addr: *addr,
        joined: Revision(*joined),
        on_trial: false,
    };
    let udp = backends.iter().map(backend).collect();
    BackendSnapshot { udp, ..BackendSnapshot::empty(Generation(generation)) }
}

#[expect(clippy::expect_used, reason = "the name is well-formed")]
fn instance(number: u64) -> InstanceId {
    InstanceId::parse(&format!("app-{number}")).expect("an instance name")
}

#[expect(clippy::panic, reason = "a rig that cannot be set up is the test's failure")]
fn socket<T>(outcome: io::Result<T>, what: &str) -> T {
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn socket_addr(of: &UdpSocket) -> SocketAddr {
    socket(of.local_addr(), "address of a socket")
}
