//! The sessions' sockets: one each, connected to its backend, all watched through one descriptor. Used by the shell in
//! `serve`; decides nothing.
//!
//! An epoll instance of its own, itself watched by the runtime, instead of one registration with the runtime per
//! session: a socket costs nothing but its descriptor, an ICMP error wakes us like a datagram does, and a full batch of
//! sessions costs one call.

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::SessionId;
use crate::listener::{UdpListener, allow_fragments};

/// Most sockets found ready by one look.
const READY: usize = 64;

/// Stands for the listener where a session's index stands otherwise.
const LISTENER: u64 = u64::MAX;

/// A socket that has something to read, or an error to report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ready {
    /// The listener.
    Listener,
    /// A session's.
    Session(SessionId),
}

#[derive(Debug)]
struct Upstream {
    session: SessionId,
    socket: UdpSocket,
    backend: SocketAddr,
}

/// The sockets of one listener's sessions.
#[derive(Debug)]
pub(crate) struct Upstreams {
    epoll: AsyncFd<OwnedFd>,
    /// By session index.
    sockets: Vec<Option<Upstream>>,
}

impl Upstreams {
    /// No sockets yet; watches `listener`. Call it on the runtime that drives it.
    pub(crate) fn new(listener: &UdpListener) -> io::Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&fd, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Self { epoll: watched(fd)?, sockets: Vec::new() })
    }

    /// Waits until something is ready and says what, in `ready`.
    ///
    /// # Cancel safety
    /// Safe: what is ready stays ready until it is read.
    pub(crate) async fn wait(&self, ready: &mut Vec<Ready>) -> io::Result<()> {
        loop {
            let mut guard = self.epoll.readable().await?;
            if let Ok(found) = guard.try_io(|epoll| self.look(epoll.get_ref(), ready)) {
                return found;
            }
        }
    }

    /// Opens the session's socket.
    pub(crate) fn open(&mut self, session: SessionId, backend: SocketAddr) -> io::Result<()> {
        let socket =
            Socket::new(Domain::for_address(backend), Type::DGRAM.nonblocking(), Some(socket2::Protocol::UDP))?;
        allow_fragments(&socket, backend)?;
        socket.connect(&backend.into())?;
        let data = epoll::EventData::new_u64(u64::from(session.index()));
        epoll::add(self.epoll.get_ref(), &socket, data, epoll::EventFlags::IN)?;
        let upstream = Upstream { session, socket: socket.into(), backend };
        let index = index(session);
        if self.sockets.len() <= index {
            self.sockets.resize_with(index.saturating_add(1), || None);
        }
        if let Some(place) = self.sockets.get_mut(index) {
            *place = Some(upstream);
        }
        Ok(())
    }

    /// Sends on the session's socket; an error of an earlier datagram may be reported instead.
    pub(crate) fn send(&self, session: SessionId, payload: &[u8]) -> io::Result<()> {
        let upstream = self.upstream(session).ok_or(io::ErrorKind::NotConnected)?;
        retry(|| upstream.socket.send(payload)).map(drop)
    }

    /// Receives on the session's socket: the datagram's length, `None` when it is not from the backend.
    pub(crate) fn receive(&self, session: SessionId, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let upstream = self.upstream(session).ok_or(io::ErrorKind::WouldBlock)?;
        let (len, from) = retry(|| upstream.socket.recv_from(buffer))?;
        // Between taking a port and being connected, a socket hears anybody.
        let known = from.ip() == upstream.backend.ip() && from.port() == upstream.backend.port();
        Ok(known.then_some(len))
    }

    /// Closes the session's socket if it has one; gives the error that was pending on it.
    pub(crate) fn close(&mut self, session: SessionId) -> Option<io::Error> {
        let place = self.sockets.get_mut(index(session))?;
        let upstream = place.take_if(|upstream| upstream.session == session)?;
        upstream.socket.take_error().ok().flatten()
    }

    fn look(&self, epoll: &OwnedFd, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); READY];
        let (found, _) = epoll::wait(epoll.as_fd(), &mut events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if found.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for event in found {
            match event.data.u64() {
                LISTENER => ready.push(Ready::Listener),
                index => {
                    let place = usize::try_from(index).ok().and_then(|index| self.sockets.get(index));
                    ready.extend(place.and_then(Option::as_ref).map(|upstream| Ready::Session(upstream.session)));
                }
            }
        }
        Ok(())
    }

    fn upstream(&self, session: SessionId) -> Option<&Upstream> {
        let place = self.sockets.get(index(session))?;
        place.as_ref().filter(|upstream| upstream.session == session)
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe: it asks that the descriptor stays open and the same, which OwnedFd does"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

fn index(session: SessionId) -> usize {
    usize::try_from(session.index()).unwrap_or(usize::MAX)
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
