//! Backends as the relays see them, and what the relays report back.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{InstanceId, Protocol, Revision, ServiceId};

/// Number of a service's snapshot; grows by at least one with each that is published, starts anew with the process.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One application instance that may receive traffic. `(instance, joined)` identifies it: an instance that leaves and
/// returns is another backend.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Backend {
    /// Which instance.
    pub instance: InstanceId,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Revision of its latest join.
    pub joined: Revision,
    /// Its last attempts failed: the relay reports the next success, which clears it.
    pub on_trial: bool,
}

impl Backend {
    /// Whether both are the same registration of the same instance (health aside).
    #[must_use]
    pub fn same_registration(&self, other: &Self) -> bool {
        self.joined == other.joined && self.instance == other.instance && self.addr == other.addr
    }
}

/// The backends of one service that may receive traffic now: numbered, immutable, published whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackendSnapshot {
    /// Number of this snapshot; a higher one replaces it.
    pub generation: Generation,
    /// Eligible for TCP, in arrival order; picked round robin.
    pub tcp: Arc<[Backend]>,
    /// Eligible for UDP, in arrival order; index 0 is the primary.
    pub udp: Arc<[Backend]>,
}

impl BackendSnapshot {
    /// A snapshot without backends.
    #[must_use]
    pub fn empty(generation: Generation) -> Self {
        Self { generation, tcp: Arc::new([]), udp: Arc::new([]) }
    }

    /// The list for `protocol`.
    #[must_use]
    pub fn backends(&self, protocol: Protocol) -> &Arc<[Backend]> {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        }
    }
}

/// How an attempt to reach a backend failed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub enum Failure {
    /// RST or ICMP port unreachable: nobody listens there.
    Refused,
    /// No route, host down, network down.
    Unreachable,
    /// No answer within the deadline.
    TimedOut,
    /// Any other socket error.
    Other,
}

/// What one attempt showed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It worked; reported only for a backend that is [on trial](Backend::on_trial).
    Succeeded,
    /// It failed.
    Failed(Failure),
}

/// A relay's report about one backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observed {
    /// The service.
    pub service: ServiceId,
    /// The instance.
    pub instance: InstanceId,
    /// Which registration of it.
    pub joined: Revision,
    /// Protocol of the attempt.
    pub protocol: Protocol,
    /// Snapshot that the attempt was made under.
    pub generation: Generation,
    /// What came of it.
    pub verdict: Verdict,
}
