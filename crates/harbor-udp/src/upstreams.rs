//! The sessions' sockets: one each, connected to its backend, all watched through one descriptor. Used by the shell in
//! `serve`; decides nothing.
//!
//! An epoll instance of its own, itself watched by the runtime, instead of one registration with the runtime per
//! session: a socket costs nothing but its descriptor, an ICMP error wakes us like a datagram does, and a full batch of
//! sessions costs one call. It exists only while there are sockets, so a listener without clients has one descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::SessionId;
use crate::listener::allow_fragments;

/// Most sockets found ready by one look.
const READY: usize = 64;

#[derive(Debug)]
struct Upstream {
    session: SessionId,
    socket: UdpSocket,
    backend: SocketAddr,
}

/// The sockets of one listener's sessions.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    epoll: Option<AsyncFd<OwnedFd>>,
    /// By session index.
    sockets: Vec<Option<Upstream>>,
    open: usize,
}

impl Upstreams {
    /// Waits until sessions' sockets have something to read or an error to report, and says which, in `ready`. Without
    /// sockets it waits forever.
    ///
    /// # Cancel safety
    /// Safe: what is ready stays ready until it is read.
    pub(crate) async fn wait(&self, ready: &mut Vec<SessionId>) -> io::Result<()> {
        let Some(epoll) = &self.epoll else { return std::future::pending().await };
        loop {
            let mut guard = epoll.readable().await?;
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
        let epoll = match self.epoll.take() {
            Some(epoll) => epoll,
            None => watched(epoll::create(epoll::CreateFlags::CLOEXEC)?)?,
        };
        let data = epoll::EventData::new_u64(u64::from(session.index()));
        let added = epoll::add(epoll.get_ref(), &socket, data, epoll::EventFlags::IN);
        self.epoll = Some(epoll);
        added?;
        let index = index(session);
        if self.sockets.len() <= index {
            self.sockets.resize_with(index.saturating_add(1), || None);
        }
        if let Some(place) = self.sockets.get_mut(index) {
            let before = place.replace(Upstream { session, socket: socket.into(), backend });
            debug_assert!(before.is_none(), "a session has one socket");
            self.open += 1;
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
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.epoll = None;
        }
        upstream.socket.take_error().ok().flatten()
    }

    fn look(&self, epoll: &OwnedFd, ready: &mut Vec<SessionId>) -> io::Result<()> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); READY];
        let (found, _) = epoll::wait(epoll.as_fd(), &mut events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if found.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for event in found {
            let place = usize::try_from(event.data.u64()).ok().and_then(|index| self.sockets.get(index));
            ready.extend(place.and_then(Option::as_ref).map(|upstream| upstream.session));
        }
        Ok(())
    }

    fn upstream(&self, session: SessionId) -> Option<&Upstream> {
        let place = self.sockets.get(index(session))?;
        place.as_ref().filter(|upstream| upstream.session == session)
    }
}

/// Has the current runtime tell when `fd` is readable.
#[expect(
    deprecated,
    reason = "its replacement is unsafe: it asks that the descriptor stays open and the same, as it does in our types"
)]
pub(crate) fn watched<T: AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_shared_descriptor_exists_only_while_there_are_sockets() {
        let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = backend.local_addr().unwrap();
        let (one, two) = (SessionId { serial: 0, index: 0 }, SessionId { serial: 1, index: 7 });
        let mut upstreams = Upstreams::default();
        for session in [one, two] {
            upstreams.open(session, to).unwrap();
            upstreams.send(session, b"hello").unwrap();
        }
        let (_, from) = backend.recv_from(&mut [0; 8]).unwrap();
        backend.send_to(b"hi", from).unwrap();
        let mut ready = Vec::new();
        upstreams.wait(&mut ready).await.unwrap();
        assert_eq!(ready, [one]);
        assert_eq!(upstreams.receive(one, &mut [0; 8]).unwrap(), Some(2));
        assert_eq!(upstreams.receive(two, &mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(upstreams.close(one).is_none());
        assert!(upstreams.close(one).is_none() && upstreams.epoll.is_some(), "closed once");
        // The other one's datagram is refused, and that is told when its socket closes.
        backend.recv_from(&mut [0; 8]).unwrap();
        drop(backend);
        upstreams.send(two, b"anybody?").unwrap();
        assert_eq!(upstreams.close(two).map(|error| error.kind()), Some(io::ErrorKind::ConnectionRefused));
        assert!(upstreams.epoll.is_none());
    }
}
