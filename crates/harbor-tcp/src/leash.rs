//! Which connections run to which backend, so that those to one that has left can be cut.
//!
//! Kept by a [`Pool`](crate::Pool): `forward` takes a [`Leash`] once it is connected, [`Pool::cut`](crate::Pool::cut)
//! pulls those of a backend. Decides neither when nor whom.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use harbor_types::{Backend, InstanceId, Revision};
use tokio::sync::oneshot;

/// A backend by instance and join: one that left and came back is another.
type Key = (InstanceId, Revision);

/// Backends remembered after they were cut, for connects that were on their way then. A connect takes seconds at most.
const REMEMBERED: usize = 256;

#[derive(Debug, Default)]
struct Running {
    leashes: HashMap<Key, HashMap<u64, oneshot::Sender<()>>>,
    latest: u64,
    cut: VecDeque<Key>,
}

/// The connections of one pool, by backend.
#[derive(Debug, Default)]
pub(crate) struct Leashes(Mutex<Running>);

impl Leashes {
    /// For a connection that now runs to `backend`.
    pub(crate) fn hold(&self, backend: &Backend) -> Leash<'_> {
        let key = (backend.instance.clone(), backend.joined);
        let (pull, pulled) = oneshot::channel();
        let mut running = self.lock();
        running.latest += 1;
        let number = running.latest;
        // Cut already: the dropped sender is a pull, too.
        if !running.cut.contains(&key) {
            running.leashes.entry(key.clone()).or_default().insert(number, pull);
        }
        drop(running);
        Leash { all: self, key, number, pulled }
    }

    /// Pulls the leashes of a backend; how many there were.
    pub(crate) fn pull(&self, instance: &InstanceId, joined: Revision) -> usize {
        let key = (instance.clone(), joined);
        let mut running = self.lock();
        let pulled = running.leashes.remove(&key).unwrap_or_default();
        if running.cut.len() == REMEMBERED {
            running.cut.pop_front();
        }
        running.cut.push_back(key);
        drop(running);
        pulled.len()
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's end of it; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Leash<'p> {
    all: &'p Leashes,
    key: Key,
    number: u64,
    pulled: oneshot::Receiver<()>,
}

impl Leash<'_> {
    /// Resolves once it is pulled. Takes no lock while it waits.
    pub(crate) async fn pulled(&mut self) {
        let _ = (&mut self.pulled).await;
    }
}

impl Drop for Leash<'_> {
    fn drop(&mut self) {
        let mut running = self.all.lock();
        if let Some(of_backend) = running.leashes.get_mut(&self.key) {
            of_backend.remove(&self.number);
            if of_backend.is_empty() {
                running.leashes.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(joined: u64) -> Backend {
        let instance = InstanceId::parse("i0").unwrap();
        Backend { instance, addr: ([127, 0, 0, 1], 4100).into(), joined: Revision(joined), on_trial: false }
    }

    #[tokio::test]
    async fn only_the_leashes_of_that_registration_are_pulled_and_none_is_kept() {
        let leashes = Leashes::default();
        let (old, new) = (backend(1), backend(2));
        let (mut one, mut other) = (leashes.hold(&old), leashes.hold(&new));
        drop(leashes.hold(&old));
        assert_eq!(leashes.pull(&old.instance, old.joined), 1);
        one.pulled().await;
        leashes.hold(&old).pulled().await;
        assert!(other.pulled.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        drop((one, other));
        assert!(leashes.lock().leashes.is_empty());
    }
}
