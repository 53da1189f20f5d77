//! One TCP connection seen from several places at once: read and written by the relay while somebody else waits for
//! it to break, and the socket options every relayed connection gets.
//!
//! Used by `connect` and `forward`, and by those who put TLS between the socket and the relay. Decides nothing.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::Limits;

/// A shared handle on a connection: reads and writes like the stream itself, and leaves the stream free to be watched
/// with [`reset_of`] meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct TcpHandle<'a>(pub &'a TcpStream);

impl AsyncRead for TcpHandle<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let space = buf.initialize_unfilled();
        let room = space.len();
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match once(self.0, Interest::READABLE, room, || recv(self.0, &mut *space, RecvFlags::empty())) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    buf.advance(count.min(room));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for TcpHandle<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let write = || send(self.0, bytes, SendFlags::NOSIGNAL).map(|count| ((), count));
            match once(self.0, Interest::WRITABLE, bytes.len(), write) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(self.0).shutdown(Shutdown::Write))
    }
}

/// One system call on a ready socket. One that moved less than it could have told us that the socket is exhausted:
/// its readiness is taken back with the same tick, which saves the call that would only say so, and never loses an
/// event that came in between.
fn once<T>(
    stream: &TcpStream,
    interest: Interest,
    room: usize,
    call: impl FnOnce() -> rustix::io::Result<(T, usize)>,
) -> io::Result<usize> {
    let mut moved = None;
    let outcome = stream.try_io(interest, || {
        let (_, count) = call()?;
        moved = Some(count);
        if 0 < count && count < room { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match (moved, outcome) {
        (Some(count), _) => Ok(count),
        (None, Err(error)) if error.kind() == ErrorKind::Interrupted => Err(ErrorKind::WouldBlock.into()),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(ErrorKind::WouldBlock.into()),
    }
}

/// Resolves once `stream` is broken (reset, or given up by the kernel), with the error, also while nobody reads or
/// writes it; an end of stream is no break.
///
/// # Cancel safety
/// Dropping it loses nothing.
pub async fn reset_of(stream: &TcpStream) -> io::Error {
    loop {
        match stream.ready(Interest::ERROR).await {
            Ok(ready) if ready.is_error() => break,
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => return error,
        }
    }
    // A read or write may have fetched the error already; that there was one is certain.
    stream.take_error().ok().flatten().unwrap_or_else(|| ErrorKind::ConnectionReset.into())
}

/// The options of a relayed connection: no delay, keepalive, and a close that resets. So whatever drops the socket
/// (an error, a cut, the end of the process) shows the peer a reset; only [`close_cleanly`] lets it see a clean end.
pub(crate) fn prepare(socket: SockRef<'_>, limits: &Limits) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(quiet) = limits.keepalive {
        let quiet = quiet.as_duration().max(Duration::from_secs(1));
        let between = (quiet / KEEPALIVE_PROBES).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(quiet).with_interval(between).with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// Unanswered questions after which a peer counts as gone; they take as long as the silence before the first.
const KEEPALIVE_PROBES: u32 = 4;

/// Lets the close of `stream` deliver what is still in its send buffer, and end cleanly.
pub(crate) fn close_cleanly(stream: &TcpStream) {
    // Refused only when the socket is gone, and then there is nothing to deliver.
    let _ = SockRef::from(stream).set_linger(None);
}
