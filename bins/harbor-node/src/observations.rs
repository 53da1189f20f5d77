//! The relays' reports on their way to the driver: a bounded queue that forgets repetitions, never a backend.
//!
//! When the driver falls behind, reports beyond the queue are kept once for each backend and protocol, the latest of
//! each: what is lost then is how often something failed, not that it did. Called from every relay thread.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use harbor_types::{InstanceId, Observed, Protocol, Revision, ServiceId};
use tokio::sync::Notify;

/// Reports kept one by one.
const MAX_QUEUE: usize = 4_096;

type Key = (ServiceId, InstanceId, Revision, Protocol);

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Observed>,
    latest: HashMap<Key, Observed>,
    folded: u64,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Observations {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

impl Observations {
    /// Adds a report. Never blocks on the driver.
    pub(crate) fn push(&self, observed: Observed) {
        let mut waiting = self.lock();
        // Once something overflowed, later reports follow it, so that each backend's reports stay in order.
        if waiting.queue.len() < MAX_QUEUE && waiting.latest.is_empty() {
            waiting.queue.push_back(observed);
        } else {
            let key = (observed.service, observed.instance.clone(), observed.joined, observed.protocol);
            if waiting.latest.insert(key, observed).is_some() {
                waiting.folded += 1;
            }
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// The next report.
    ///
    /// # Cancel safety
    /// A report is taken only when it is returned.
    pub(crate) async fn next(&self) -> Observed {
        loop {
            if let Some(observed) = self.take() {
                return observed;
            }
            self.filled.notified().await;
        }
    }

    /// Reports that were folded into a later one.
    pub(crate) fn folded(&self) -> u64 {
        self.lock().folded
    }

    fn take(&self) -> Option<Observed> {
        let mut waiting = self.lock();
        if let Some(observed) = waiting.queue.pop_front() {
            return Some(observed);
        }
        let key = waiting.latest.keys().next()?.clone();
        waiting.latest.remove(&key)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use harbor_types::{Failure, Generation, Verdict};

    use super::*;

    fn report(instance: usize, generation: u64) -> Observed {
        Observed {
            service: ServiceId::from_u128(1),
            instance: format!("i{instance}").parse().unwrap(),
            joined: Revision(1),
            protocol: Protocol::Tcp,
            generation: Generation(generation),
            verdict: Verdict::Failed(Failure::Refused),
        }
    }

    #[tokio::test]
    async fn a_full_queue_forgets_repetitions_but_no_backend() {
        let observations = Observations::default();
        for n in 0..MAX_QUEUE {
            observations.push(report(0, n as u64));
        }
        for generation in 0..10 {
            observations.push(report(1, generation));
            observations.push(report(2, generation));
        }
        assert_eq!(observations.folded(), 18);
        for n in 0..MAX_QUEUE {
            assert_eq!(observations.next().await.generation, Generation(n as u64));
        }
        let mut rest = [observations.next().await, observations.next().await];
        rest.sort_by(|a, b| a.instance.cmp(&b.instance));
        assert_eq!(rest, [report(1, 9), report(2, 9)]);
        observations.push(report(3, 0));
        assert_eq!(observations.next().await, report(3, 0), "an emptied queue takes reports again");
    }
}
