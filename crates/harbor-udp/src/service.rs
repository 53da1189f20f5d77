//! One service as its listeners see it: id, limits, shared budget, shared counters, and who is told. Made by whoever
//! embeds the relay, one for all of the service's listeners.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harbor_types::ServiceId;

use crate::{Budget, Limits, Observer, Refusal, ServiceBudget, Tally};

/// Counters that only grow, shared by the service's listeners.
#[derive(Debug, Default)]
pub struct Traffic {
    up: Count,
    down: Count,
    dropped: [AtomicU64; Refusal::ALL.len()],
}

#[derive(Debug, Default)]
struct Count {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, tally: Tally) {
        self.datagrams.fetch_add(tally.datagrams, Ordering::Relaxed);
        self.bytes.fetch_add(tally.bytes, Ordering::Relaxed);
    }

    fn read(&self) -> Tally {
        Tally { datagrams: self.datagrams.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

impl Traffic {
    /// Sent on to backends.
    #[must_use]
    pub fn up(&self) -> Tally {
        self.up.read()
    }

    /// Sent on to clients.
    #[must_use]
    pub fn down(&self) -> Tally {
        self.down.read()
    }

    /// Datagrams dropped for this reason.
    #[must_use]
    pub fn dropped(&self, refusal: Refusal) -> u64 {
        self.dropped.get(refusal.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn add_up(&self, tally: Tally) {
        self.up.add(tally);
    }

    pub(crate) fn add_down(&self, tally: Tally) {
        self.down.add(tally);
    }

    pub(crate) fn add_dropped(&self, refusal: Refusal) {
        if let Some(count) = self.dropped.get(refusal.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What all listeners of one service share.
pub struct UdpService {
    id: ServiceId,
    limits: Limits,
    budget: Arc<ServiceBudget>,
    observer: Arc<dyn Observer>,
    traffic: Traffic,
}

impl UdpService {
    /// The service `id` with its `limits`, within the `node`'s budget; `observer` is told.
    #[must_use]
    pub fn new(id: ServiceId, limits: Limits, node: Arc<Budget>, observer: Arc<dyn Observer>) -> Self {
        let budget = Arc::new(ServiceBudget::new(&limits, node));
        Self { id, limits, budget, observer, traffic: Traffic::default() }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> ServiceId {
        self.id
    }

    /// Its limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sessions now, and the caps.
    #[must_use]
    pub const fn budget(&self) -> &Arc<ServiceBudget> {
        &self.budget
    }

    /// Its counters.
    #[must_use]
    pub const fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }
}

impl fmt::Debug for UdpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpService").field("id", &self.id).field("limits", &self.limits).finish_non_exhaustive()
    }
}
