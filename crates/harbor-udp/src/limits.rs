//! What one service may use, and the defaults. Read by [`SessionTable`](crate::SessionTable) and
//! [`ServiceBudget`](crate::ServiceBudget); decides nothing.

use std::time::{Duration, Instant};

use harbor_types::Span;

/// Idle UDP session. One minute outlives common client keep-alives.
pub const IDLE: Span = Span::secs(60);

/// Sessions of one service, over all its listeners.
pub const SESSIONS: usize = 10_000;

/// Sessions of one service that one source address may have, over all its listeners.
pub const SESSIONS_PER_SOURCE: usize = 1_024;

/// How long an unanswered session is safe from eviction. Longer than a backend nearby takes to answer, so that a new
/// client gets its answer even while a flood fills the table.
pub const UNANSWERED_GRACE: Span = Span::millis(200);

/// Bytes of the latest unanswered datagrams that one listener keeps for resending. Room for four of the largest.
pub(crate) const HELD_BYTES: usize = 256 * 1024;

/// Number of datagrams that one listener keeps for resending.
pub(crate) const HELD_DATAGRAMS: usize = 1_024;

/// A held datagram older than this is not resent: its client has given up or tried again, and a late copy would only
/// confuse. An ICMP refusal takes one round trip.
pub(crate) const RESEND_WITHIN: Duration = Duration::from_secs(1);

/// Stands for an idle limit that the clock cannot express.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Limits of one service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// A session without a datagram either way for this long ends.
    pub idle: Span,
    /// Most sessions at once, over all the service's listeners.
    pub sessions: usize,
    /// Most sessions at once from one source IP address, over all the service's listeners.
    pub per_source: usize,
    /// An unanswered session older than this gives way to a new client when the service or the node is full.
    pub unanswered_grace: Span,
}

impl Limits {
    /// When a session that was last active at `active` becomes idle.
    pub(crate) fn idle_at(&self, active: Instant) -> Instant {
        active.checked_add(self.idle.as_duration()).unwrap_or_else(|| active + NEVER)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: IDLE, sessions: SESSIONS, per_source: SESSIONS_PER_SOURCE, unanswered_grace: UNANSWERED_GRACE }
    }
}
