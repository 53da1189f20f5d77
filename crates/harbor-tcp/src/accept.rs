//! The accept loop: hands every connection on, outlives passing errors, and leaves nobody in the backlog behind.
//!
//! Run by a node that relays on other threads, and by `serve`. Never looks at a connection or refuses one.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};

use crate::{AcceptPolicy, BACKLOG, Listener, accept_policy};

/// What an accept loop did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct AcceptReport {
    /// Connections handed on, those of `drained` included.
    pub accepted: u64,
    /// Connections that were waiting in the backlog when the loop was told to stop, and were handed on then.
    pub drained: u64,
    /// Connections that were lost before they could be accepted.
    pub skipped: u64,
    /// Times the machine was out of descriptors or memory, and the loop waited.
    pub pauses: u64,
}

/// An accept loop that could not go on; the socket is closed.
#[derive(Debug, thiserror::Error)]
#[error("accept on {addr}")]
pub struct AcceptError {
    /// The listener's address.
    pub addr: SocketAddr,
    /// What was done until then.
    pub report: AcceptReport,
    /// The operating system's answer.
    #[source]
    pub source: io::Error,
}

/// Pauses allowed to a loop that was told to stop, before it gives up on what may be left in the backlog.
const LAST_PAUSES: u64 = 20;

/// Accepts until `shutdown` resolves and gives each connection, non-blocking and bound to no runtime, to `hand`.
///
/// Then the connections that had completed their handshake by then (at most [`BACKLOG`]) are accepted and handed on
/// too, so that a clean stop resets nobody who was already let in. The listening socket is closed on return; one whose
/// handshake completes within the last instant before that sees a reset.
///
/// # Errors
/// [`AcceptError`] when the socket turns out to be no listener; passing errors are skipped or waited out.
///
/// # Cancel safety
/// Dropping it closes the listening socket, and the kernel resets what waits in its backlog.
pub async fn accept(
    listener: Listener,
    mut hand: impl FnMut(TcpStream, SocketAddr) + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<AcceptReport, AcceptError> {
    let mut shutdown = pin!(shutdown);
    let mut acceptor = Acceptor::new(listener)?;
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = acceptor.next() => {
                let (stream, peer) = accepted?;
                hand(stream, peer);
            }
        }
    }
    acceptor.finish(hand).await
}

/// A listener registered with a runtime.
pub(crate) struct Acceptor {
    socket: AsyncFd<TcpListener>,
    addr: SocketAddr,
    paused: Option<Instant>,
    report: AcceptReport,
}

impl Acceptor {
    pub(crate) fn new(listener: Listener) -> Result<Self, AcceptError> {
        let (addr, report) = (listener.local_addr(), AcceptReport::default());
        // Not tokio's own listener: that registers each accepted connection with the runtime which accepts, and it may
        // belong to another.
        #[expect(deprecated, reason = "a TcpListener meets the contract of the unsafe constructor that replaces it")]
        let socket = AsyncFd::with_interest(listener.into_socket(), Interest::READABLE)
            .map_err(|source| AcceptError { addr, report, source })?;
        Ok(Self { socket, addr, paused: None, report })
    }

    /// The next connection.
    ///
    /// # Cancel safety
    /// Dropping it loses no connection.
    pub(crate) async fn next(&mut self) -> Result<(TcpStream, SocketAddr), AcceptError> {
        loop {
            // A flood of connections must let the thread's other tasks run.
            consume_budget().await;
            if let Some(until) = self.paused {
                sleep_until(until).await;
                self.paused = None;
            }
            let mut ready = match self.socket.readable().await {
                Ok(ready) => ready,
                Err(source) => return Err(self.failed(source)),
            };
            let Ok(accepted) = ready.try_io(|socket| accept_one(socket.get_ref())) else { continue };
            if let Some(connection) = self.settle(accepted)? {
                return Ok(connection);
            }
        }
    }

    /// Hands on what waits in the backlog, and closes the socket.
    pub(crate) async fn finish(
        mut self,
        mut hand: impl FnMut(TcpStream, SocketAddr),
    ) -> Result<AcceptReport, AcceptError> {
        let pauses = self.report.pauses;
        for _ in 0..=BACKLOG {
            if let Some(until) = self.paused.take() {
                if self.report.pauses - pauses > LAST_PAUSES {
                    break;
                }
                sleep_until(until).await;
            }
            let accepted = accept_one(self.socket.get_ref());
            if accepted.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
            if let Some((stream, peer)) = self.settle(accepted)? {
                self.report.drained += 1;
                hand(stream, peer);
            }
        }
        Ok(self.report)
    }

    fn settle(
        &mut self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) -> Result<Option<(TcpStream, SocketAddr)>, AcceptError> {
        let error = match accepted {
            Ok(connection) => {
                self.report.accepted += 1;
                return Ok(Some(connection));
            }
            Err(error) => error,
        };
        match accept_policy(&error) {
            AcceptPolicy::Skip => self.report.skipped += 1,
            AcceptPolicy::Pause(pause) => {
                self.report.pauses += 1;
                self.paused = Some(Instant::now() + pause.as_duration());
            }
            AcceptPolicy::Fatal => return Err(self.failed(error)),
        }
        Ok(None)
    }

    fn failed(&self, source: io::Error) -> AcceptError {
        AcceptError { addr: self.addr, report: self.report, source }
    }
}

fn accept_one(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((stream, peer))
}
