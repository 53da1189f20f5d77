//! What a session leaves behind, and who is told. Written by [`SessionTable`](crate::SessionTable); decides nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use harbor_types::{Backend, Observed, ServiceId, Span};

/// Why a session ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CloseReason {
    /// No datagram either way for the idle limit.
    Idle,
    /// It was unanswered and gave way to a new client.
    Evicted,
    /// No socket could be had for it.
    NoSocket,
    /// The listener closed.
    Drained,
}

impl CloseReason {
    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::NoSocket => "no_socket",
            Self::Drained => "drained",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Datagrams and their payload bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// How many.
    pub datagrams: u64,
    /// Payload bytes in them.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, payload: usize) {
        self.datagrams += 1;
        self.bytes = self.bytes.saturating_add(u64::try_from(payload).unwrap_or(u64::MAX));
    }
}

/// The one record of a closed session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionRecord {
    /// The service.
    pub service: ServiceId,
    /// The client.
    pub client: SocketAddr,
    /// The address the client sent to; known on wildcard listeners only.
    pub local: Option<IpAddr>,
    /// Its backend, or its last one.
    pub backend: Backend,
    /// How often it moved to another backend.
    pub moves: u32,
    /// Taken from the client while the session had a backend; the kernel may still have dropped some on the way.
    pub up: Tally,
    /// Taken from the backend.
    pub down: Tally,
    /// From the first datagram to the end.
    pub lasted: Span,
    /// Why it ended.
    pub reason: CloseReason,
}

impl fmt::Display for SessionRecord {
    /// `service client backend bytes_up bytes_down lasted reason`, as on one log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} {}",
            self.service, self.client, self.backend.addr, self.up.bytes, self.down.bytes, self.lasted, self.reason
        )
    }
}

/// Who is told what the relay sees. Called on the relay's task: must return at once.
pub trait Observer: Send + Sync {
    /// A backend refused, or one on trial answered; at most once per backend, verdict and generation.
    fn observed(&self, observed: Observed);

    /// A session began.
    fn opened(&self, service: ServiceId, client: SocketAddr) {
        let _ = (service, client);
    }

    /// A session ended; exactly once for each that began.
    fn closed(&self, record: &SessionRecord) {
        let _ = record;
    }
}
