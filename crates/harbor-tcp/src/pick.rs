//! Which backend a connection goes to: exact round robin for the first choice, the ring from there for the next ones.
//!
//! Asked by `connect`; opens no socket, reads no clock. The cursor lives outside the snapshots, one a service.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harbor_types::{Backend, BackendSnapshot, Generation, Span};

use crate::Limits;

/// Round-robin position of a service, shared by all threads: with n stable backends and k·n connections, each backend
/// is the first choice of exactly k. Retries never move it.
#[derive(Debug, Default)]
pub struct Cursor(AtomicU64);

impl Cursor {
    /// A cursor whose first position is `position`.
    #[must_use]
    pub const fn starting_at(position: u64) -> Self {
        Self(AtomicU64::new(position))
    }

    /// Takes the next position; no two calls get the same one.
    pub fn next(&self) -> u64 {
        // Only the count matters: nothing else is published through it.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The order in which a connection at cursor position `first` tries `backends`: each once, around the ring.
///
/// ```
/// # use harbor_tcp::choices; use harbor_types::*;
/// # let backend = |name: &str| Backend { instance: InstanceId::parse(name).unwrap(),
/// #     addr: "10.0.0.1:4100".parse().unwrap(), joined: Revision(1), on_trial: false };
/// let backends = [backend("a"), backend("b"), backend("c")];
/// let order: Vec<_> = choices(&backends, 4).map(|backend| backend.instance.as_str()).collect();
/// assert_eq!(order, ["b", "c", "a"]);
/// ```
pub fn choices(backends: &[Backend], first: u64) -> impl Iterator<Item = &Backend> {
    let length = u64::try_from(backends.len()).unwrap_or(u64::MAX);
    let start = first.checked_rem(length).and_then(|start| usize::try_from(start).ok()).unwrap_or(0);
    backends.iter().cycle().skip(start).take(backends.len())
}

/// One connect to begin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// Where to.
    pub backend: Backend,
    /// Number of the snapshot it was picked from.
    pub generation: Generation,
    /// How long it may take.
    pub wait: Span,
}

/// The attempts of one connection to reach some backend.
///
/// Order of calls: [`pick`](Self::pick); connect; if that fails, [`on_failed`](Self::on_failed) and again.
#[derive(Debug)]
pub struct Attempts {
    first: Option<u64>,
    failed: Vec<Backend>,
    begun: u32,
    tries: u32,
    deadline: Option<Instant>,
}

impl Attempts {
    /// No attempt yet; all of them together may take `limits.connect` from `now` on.
    #[must_use]
    pub fn new(now: Instant, limits: &Limits) -> Self {
        let deadline = now.checked_add(limits.connect.as_duration());
        Self { first: None, failed: Vec::new(), begun: 0, tries: limits.tries.max(1), deadline }
    }

    /// Picks the next backend out of the newest `snapshot`: the cursor's choice at first, then the next in the ring
    /// that has not failed this connection; only such as are `allowed`. Its fair share of the time left is what
    /// divides evenly among the backends that could still be tried, so one black hole leaves time for the others.
    ///
    /// `None` when nothing is left to try: no backend, no try or no time.
    pub fn pick(
        &mut self,
        now: Instant,
        snapshot: &BackendSnapshot,
        cursor: &Cursor,
        allowed: impl Fn(&Backend) -> bool,
    ) -> Option<Attempt> {
        let tries_left = self.tries.checked_sub(self.begun).filter(|left| *left > 0)?;
        let left = match self.deadline {
            Some(deadline) => deadline.checked_duration_since(now).filter(|left| !left.is_zero())?,
            None => Duration::MAX,
        };
        if snapshot.tcp.is_empty() {
            return None;
        }
        let first = *self.first.get_or_insert_with(|| cursor.next());
        let untried = |backend: &&Backend| {
            allowed(backend) && !self.failed.iter().any(|failed| failed.same_registration(backend))
        };
        let backend = choices(&snapshot.tcp, first).find(untried)?.clone();
        // No more candidates than tries are worth counting.
        let candidates = choices(&snapshot.tcp, first).filter(untried).zip(0..tries_left).count();
        let shares = u32::try_from(candidates).unwrap_or(tries_left).max(1);
        self.begun += 1;
        Some(Attempt { backend, generation: snapshot.generation, wait: Span::from(left / shares) })
    }

    /// The attempt at `backend` failed: this connection does not go there again.
    pub fn on_failed(&mut self, backend: Backend) {
        self.failed.push(backend);
    }

    /// Attempts begun so far.
    #[must_use]
    pub const fn begun(&self) -> u32 {
        self.begun
    }
}

#[cfg(test)]
mod tests;
