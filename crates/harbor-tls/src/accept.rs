//! TLS handshakes with a deadline and caps; every connection that gets no session has a reason that is counted.
//!
//! Called by an accept loop with each connection. Accepts no connection itself and decides nothing about certificates.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::gate::{Gate, HandshakeLimits};
use crate::refusal::Refusal;

/// Why a connection got no TLS session.
#[derive(Debug, thiserror::Error)]
#[error("TLS handshake: {reason}")]
pub struct HandshakeError {
    /// The reason it was counted under.
    pub reason: Refusal,
    /// What the connection or the TLS library said; nothing for [`Refusal::TotalFull`], [`Refusal::SourceFull`] and
    /// [`Refusal::TimedOut`].
    #[source]
    pub source: Option<io::Error>,
}

/// What an [`Acceptor`] and its clones have done. Completed and refused together are all that came, less those under way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HandshakeCounts {
    /// Handshakes under way.
    pub live: usize,
    /// Sessions begun, resumed ones included.
    pub completed: u64,
    /// Sessions that took up an earlier one by ticket.
    pub resumed: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl HandshakeCounts {
    /// Connections that got no session for this reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get(reason.index()).copied().unwrap_or_default()
    }

    /// Connections that got no session.
    #[must_use]
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().sum()
    }
}

/// Performs handshakes. Clones share their limits and counts.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    limits: HandshakeLimits,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    gate: Mutex<Gate>,
    completed: AtomicU64,
    resumed: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Acceptor {
    /// Serves `config` (see [`server_config`](crate::server_config)) within `limits`.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>, limits: HandshakeLimits) -> Self {
        let shared = Shared {
            gate: Mutex::new(Gate::new(limits)),
            completed: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            refused: Default::default(),
        };
        Self { tls: config.into(), limits, shared: Arc::new(shared) }
    }

    /// Performs the server's part of a handshake on `stream`, whose client is at `source`: its address, or the one that a
    /// trusted proxy gave for it. A connection beyond a cap is closed at once, before a byte of it is read.
    ///
    /// # Errors
    /// [`HandshakeError`] with the reason. The connection is closed then; where the protocol allows, the client is told
    /// why by an alert.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection, gives its place to the next and counts as [`Refusal::Cancelled`].
    pub async fn accept<S>(&self, stream: S, source: IpAddr) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let entered = self.shared.gate().enter(source);
        if let Err(reason) = entered {
            self.shared.refuse(reason);
            return Err(HandshakeError { reason, source: None });
        }
        let mut place = Place { shared: &self.shared, source, end: End::Refused(Refusal::Cancelled) };
        match timeout(self.limits.deadline.as_duration(), self.tls.accept(stream)).await {
            Ok(Ok(session)) => {
                place.end = End::Completed(session.get_ref().1.handshake_kind());
                Ok(session)
            }
            Ok(Err(source)) => Err(place.refuse(Refusal::of(&source), Some(source))),
            Err(_) => Err(place.refuse(Refusal::TimedOut, None)),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> HandshakeCounts {
        let shared = &*self.shared;
        let gate = shared.gate(); // ends are counted under this lock, so that the numbers fit together
        HandshakeCounts {
            live: gate.live(),
            completed: shared.completed.load(Ordering::Relaxed),
            resumed: shared.resumed.load(Ordering::Relaxed),
            refused: std::array::from_fn(|index| {
                shared.refused.get(index).map_or(0, |count| count.load(Ordering::Relaxed))
            }),
        }
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("limits", &self.limits).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing that can panic runs under the lock; counts stay usable if something did.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, reason: Refusal) {
        if let Some(count) = self.refused.get(reason.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How a handshake that was let in ended.
#[derive(Clone, Copy)]
enum End {
    Completed(Option<HandshakeKind>),
    Refused(Refusal),
}

/// A place among the handshakes that run; dropped, it is free and its end is counted.
struct Place<'a> {
    shared: &'a Shared,
    source: IpAddr,
    end: End,
}

impl Place<'_> {
    fn refuse(&mut self, reason: Refusal, source: Option<io::Error>) -> HandshakeError {
        self.end = End::Refused(reason);
        HandshakeError { reason, source }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut gate = self.shared.gate();
        gate.leave(self.source);
        match self.end {
            End::Refused(reason) => self.shared.refuse(reason),
            End::Completed(kind) => {
                self.shared.completed.fetch_add(1, Ordering::Relaxed);
                if kind == Some(HandshakeKind::Resumed) {
                    self.shared.resumed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}
