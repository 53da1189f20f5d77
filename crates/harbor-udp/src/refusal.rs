//! Why a datagram was not relayed: every reason has a name that is counted. Decides nothing.

use std::fmt;

/// Why one datagram was dropped.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// The service has no eligible backend.
    NoBackend,
    /// The service has all the sessions it may have, and none of them may be evicted.
    ServiceFull,
    /// The node has all the sessions it may have, and none of this listener's may be evicted.
    NodeFull,
    /// The source address has all the sessions it may have.
    SourceFull,
    /// The datagram did not fit the receive buffer.
    Truncated,
    /// It was sent to a broadcast or multicast address, from which no answer can be given.
    NotUnicast,
    /// The listener is closing.
    Draining,
    /// The backend refused it and no other could take it.
    BackendRefused,
    /// The kernel's send queue is full.
    QueueFull,
    /// It is larger than the other side's address family can carry.
    TooBig,
    /// No socket for the session: out of descriptors, ports or memory.
    NoSocket,
    /// The kernel would not send it for another reason, such as a firewall rule.
    SendFailed,
    /// It reached a session's socket from an address other than its backend's.
    Stray,
}

impl Refusal {
    /// Every reason, in the order of [`index`](Self::index).
    pub const ALL: [Self; 13] = [
        Self::NoBackend,
        Self::ServiceFull,
        Self::NodeFull,
        Self::SourceFull,
        Self::Truncated,
        Self::NotUnicast,
        Self::Draining,
        Self::BackendRefused,
        Self::QueueFull,
        Self::TooBig,
        Self::NoSocket,
        Self::SendFailed,
        Self::Stray,
    ];

    /// Its place in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics and logs: lower case, words joined by `_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBackend => "no_backend",
            Self::ServiceFull => "service_full",
            Self::NodeFull => "node_full",
            Self::SourceFull => "source_full",
            Self::Truncated => "truncated",
            Self::NotUnicast => "not_unicast",
            Self::Draining => "draining",
            Self::BackendRefused => "backend_refused",
            Self::QueueFull => "queue_full",
            Self::TooBig => "too_big",
            Self::NoSocket => "no_socket",
            Self::SendFailed => "send_failed",
            Self::Stray => "stray",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_at_its_index_with_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), index, "{refusal}");
        }
    }
}
