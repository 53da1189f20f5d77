//! What always holds in a session table. Called after every public change in debug builds; changes nothing.

use std::collections::BTreeSet;

use super::{SessionTable, listed};

/// Up to this many sessions the debug sweep looks at each of them; beyond, only at the counts.
const SWEPT: usize = 64;

impl SessionTable {
    /// Looks for a contradiction: created − closed = live, caps kept, every index in step with the sessions, nobody on a
    /// backend that left or is masked. O(n).
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        self.check_counts()?;
        let sessions: Vec<_> = self.sessions.iter().flatten().collect();
        if sessions.len() != self.by_client.len() {
            return Err("sessions and clients differ in number");
        }
        for session in &sessions {
            if self.by_client.get(&session.client) != Some(&session.id) {
                return Err("a session is not found by its client");
            }
            if self.unanswered.contains(&session.id) == session.answered {
                return Err("unanswered sessions are out of step");
            }
            if !self.deadlines.contains(&(session.deadline, session.id)) {
                return Err("a session has no deadline");
            }
            if session.deadline > self.limits.idle_at(session.active) {
                return Err("a deadline is later than the idle limit");
            }
            if session.connected && !listed(&self.snapshot.udp, &session.backend) {
                return Err("a session is connected to a backend that left");
            }
            if session.connected && listed(&self.masked, &session.backend) {
                return Err("a session is connected to a masked backend");
            }
        }
        let unused: BTreeSet<_> = self.free.iter().copied().collect();
        if unused.len() != self.free.len() || sessions.iter().any(|session| unused.contains(&session.id.index)) {
            return Err("a free place is in use");
        }
        Ok(())
    }

    pub(super) fn sweep(&self) {
        debug_assert_eq!(if self.live() <= SWEPT { self.check_invariants() } else { self.check_counts() }, Ok(()));
    }

    fn check_counts(&self) -> Result<(), &'static str> {
        let live = self.live();
        if u64::try_from(live) != Ok(self.opened.saturating_sub(self.closed)) {
            return Err("created less closed is not live");
        }
        if self.deadlines.len() != live || self.sessions.len() != live + self.free.len() {
            return Err("an index differs in number from the sessions");
        }
        if self.unanswered.len() > live {
            return Err("more unanswered sessions than sessions");
        }
        // Other listeners of the service draw on the same budget, so it counts at least ours.
        if live > self.budget.live() || live > self.budget.max() {
            return Err("more sessions than the budget counts");
        }
        if !self.snapshot.udp.is_empty() && self.primary().is_none() {
            return Err("every backend is masked");
        }
        Ok(())
    }
}
