//! One session: a client's association with a backend. Plain data kept by [`SessionTable`](crate::SessionTable).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use harbor_types::{Backend, ServiceId, Span};

use crate::holds::HoldId;
use crate::{CloseReason, SessionRecord, Slot, Tally};

/// A client as a listener sees it: two clients differ in this.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientAddr {
    /// Where it sends from.
    pub addr: SocketAddr,
    /// The address of ours it sent to, from which the answers must leave; `None` when the listener has just one.
    pub local: Option<IpAddr>,
}

impl ClientAddr {
    /// Whether an answer can leave from the address that the client used.
    pub(crate) fn is_answerable(&self) -> bool {
        match self.local {
            Some(IpAddr::V4(local)) => !local.is_multicast() && local != Ipv4Addr::BROADCAST,
            Some(IpAddr::V6(local)) => !local.is_multicast(),
            None => true,
        }
    }
}

/// Which session of a table. Orders by age; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId {
    /// Counts all sessions of the table.
    pub(crate) serial: u64,
    /// Its place in the table; used again after it.
    pub(crate) index: u32,
}

impl SessionId {
    /// A small number of its own while the session lives; used again afterwards.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }
}

/// The state of one session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) client: ClientAddr,
    /// The backend it belongs to or, while it is not connected, the one it left.
    pub(crate) backend: Backend,
    /// Whether it has a socket connected to `backend`.
    pub(crate) connected: bool,
    /// Whether a datagram of it waits to be taken as an output.
    pub(crate) queued: bool,
    /// Whether a backend ever answered it: such a session is never evicted.
    pub(crate) answered: bool,
    pub(crate) opened: Instant,
    /// Latest datagram either way.
    pub(crate) active: Instant,
    /// When the table looks at it next: never later than `active` plus the idle limit.
    pub(crate) deadline: Instant,
    /// The client's latest datagram, while nothing came back since.
    pub(crate) hold: Option<HoldId>,
    pub(crate) moves: u32,
    pub(crate) up: Tally,
    pub(crate) down: Tally,
    /// Its place in the budgets, given back when the session is dropped.
    pub(crate) _slot: Slot,
}

impl Session {
    pub(crate) fn record(&self, now: Instant, service: ServiceId, reason: CloseReason) -> SessionRecord {
        SessionRecord {
            service,
            client: self.client.addr,
            local: self.client.local,
            backend: self.backend.clone(),
            moves: self.moves,
            up: self.up,
            down: self.down,
            lasted: Span::from(now.saturating_duration_since(self.opened)),
            reason,
        }
    }
}
