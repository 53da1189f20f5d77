//! Rests after release: when they are over, and how their records go. A port is free only once its record is gone.
//!
//! Woken by the allocator's deadlines; the records come and go with folded changes.

use std::collections::BTreeSet;
use std::time::Instant;

use harbor_types::{Expectation, Now, Port, QuarantineRecord, RecordKey, Span, Write};

use crate::Registry;
use crate::commits::{Owner, Resolution};
use crate::timers::{Timer, back_off};

/// Rests ended by one commit: a bound on the size of a change.
const ENDED_AT_ONCE: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Rests {
    /// Ports whose time is over and whose record is still there.
    pub(crate) due: BTreeSet<Port>,
    /// A commit, or the wait for the next attempt, is on its way.
    busy: bool,
    attempts: u32,
}

/// When a rest is over on the monotonic clock. A wall clock before the release went backwards: a full rest then.
pub(crate) fn rest_ends(now: Now, rest: &QuarantineRecord) -> Instant {
    let full = rest.until.since(rest.released).unwrap_or_default();
    let left = if now.wall < rest.released { full } else { rest.until.since(now.wall).unwrap_or(Span::ZERO) };
    now.mono + left.as_duration()
}

impl Registry {
    /// Asks for the end of the rests that are due.
    pub(crate) fn end_rests(&mut self) {
        self.rests.due.retain(|port| self.state.rests.contains_key(port));
        if self.rests.busy || self.rests.due.is_empty() {
            return;
        }
        let (mut expectations, mut writes) = (Vec::new(), Vec::new());
        for port in self.rests.due.iter().take(ENDED_AT_ONCE) {
            let key = RecordKey::Quarantine(*port);
            expectations.extend(self.state.revision_of(&key).map(|revision| Expectation::At(key.clone(), revision)));
            writes.push(Write::Delete(key));
        }
        self.rests.busy = true;
        self.commit(Owner::Rests, expectations, writes);
    }

    pub(crate) fn on_rests_resolved(&mut self, now: Now, resolution: &Resolution) {
        match resolution {
            Resolution::Committed => {
                self.rests.busy = false;
                self.rests.attempts = 0;
                self.end_rests();
            }
            Resolution::Conflict(_) | Resolution::Failed(_) => {
                self.timers.arm(now.mono + back_off(self.rests.attempts), Timer::Rests);
                self.rests.attempts = self.rests.attempts.saturating_add(1);
            }
        }
    }

    pub(crate) fn on_rests_retry(&mut self) {
        self.rests.busy = false;
        self.end_rests();
    }
}
