//! How many sessions there may be: on the node, in a service, from one source. Asked by every
//! [`SessionTable`](crate::SessionTable) before it allocates anything; shared by listeners and threads.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Limits, Refusal};

/// A count that never exceeds its maximum; shared by all services of a node.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    live: AtomicUsize,
}

impl Budget {
    /// Room for `max` sessions.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, live: AtomicUsize::new(0) }
    }

    /// Sessions now.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// Most sessions at once.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    fn take(&self) -> bool {
        let more = |live: usize| (live < self.max).then(|| live + 1);
        self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn give_back(&self) {
        let before = self.live.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a budget got back more than it gave");
    }
}

/// What the listeners of one service share: its own cap, the cap per source address, and the node's budget.
#[derive(Debug)]
pub struct ServiceBudget {
    node: Arc<Budget>,
    own: Budget,
    per_source: usize,
    sources: Mutex<HashMap<IpAddr, usize>>,
}

impl ServiceBudget {
    /// The caps of `limits` within the `node`'s budget.
    #[must_use]
    pub fn new(limits: &Limits, node: Arc<Budget>) -> Self {
        Self { node, own: Budget::new(limits.sessions), per_source: limits.per_source, sources: Mutex::default() }
    }

    /// Room for one session from `source`, until the slot is dropped.
    ///
    /// # Errors
    /// [`Refusal::SourceFull`], [`Refusal::ServiceFull`] or [`Refusal::NodeFull`], asked for in this order.
    pub fn admit(self: &Arc<Self>, source: IpAddr) -> Result<Slot, Refusal> {
        let source = source.to_canonical();
        let mut sources = self.sources();
        let taken = sources.get(&source).copied().unwrap_or_default();
        if taken >= self.per_source {
            return Err(Refusal::SourceFull);
        }
        if !self.own.take() {
            return Err(Refusal::ServiceFull);
        }
        if !self.node.take() {
            self.own.give_back();
            return Err(Refusal::NodeFull);
        }
        sources.insert(source, taken + 1);
        drop(sources);
        Ok(Slot { budget: Arc::clone(self), source })
    }

    /// Sessions of this service now.
    #[must_use]
    pub fn live(&self) -> usize {
        self.own.live()
    }

    /// Most sessions of this service at once.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.own.max()
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one session; dropping it gives the room back.
#[derive(Debug)]
pub struct Slot {
    budget: Arc<ServiceBudget>,
    source: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut sources = self.budget.sources();
        if let Some(taken) = sources.get_mut(&self.source) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                sources.remove(&self.source);
            }
        }
        drop(sources);
        self.budget.node.give_back();
        self.budget.own.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_narrowest_cap_refuses_and_a_dropped_slot_makes_room() {
        let node = Arc::new(Budget::new(3));
        let limits = Limits { sessions: 4, per_source: 2, ..Limits::default() };
        let budget = Arc::new(ServiceBudget::new(&limits, Arc::clone(&node)));
        let first = budget.admit(ip(1)).unwrap();
        let second = budget.admit(ip(1)).unwrap();
        assert_eq!(budget.admit(ip(1)).unwrap_err(), Refusal::SourceFull);
        let third = budget.admit(ip(2)).unwrap();
        assert_eq!(budget.admit(ip(3)).unwrap_err(), Refusal::NodeFull);
        drop(first);
        assert!(budget.admit(ip(1)).is_ok());
        drop((second, third));
        assert_eq!((budget.live(), node.live(), budget.sources().len()), (0, 0, 0));
    }

    #[test]
    fn one_services_cap_leaves_room_to_another() {
        let node = Arc::new(Budget::new(10));
        let limits = Limits { sessions: 1, ..Limits::default() };
        let (one, other) =
            (Arc::new(ServiceBudget::new(&limits, Arc::clone(&node))), Arc::new(ServiceBudget::new(&limits, node)));
        let _slot = one.admit(ip(1)).unwrap();
        assert_eq!(one.admit(ip(2)).unwrap_err(), Refusal::ServiceFull);
        assert!(other.admit(ip(1)).is_ok());
    }
}
