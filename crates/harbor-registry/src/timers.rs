//! What is due when. Entries are hints: whoever is woken looks whether its time has really come, and sets the next one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harbor_types::{InstanceId, ServiceId};

/// First wait between attempts.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// Longest wait between attempts.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// Longest wait between attempts to read the changes.
const LONGEST_READ_BACK_OFF: Duration = Duration::from_secs(5);

/// Wait after the attempt with this number, counted from 0: 1 s, 2 s, 4 s … 30 s.
pub(crate) fn back_off(attempt: u32) -> Duration {
    doubled(FIRST_BACK_OFF, attempt, LONGEST_BACK_OFF)
}

/// The same between attempts to read the changes, which every caller waits for: at most 5 s.
pub(crate) fn read_back_off(attempt: u32) -> Duration {
    doubled(FIRST_BACK_OFF, attempt, LONGEST_READ_BACK_OFF)
}

/// `first` doubled `times` times, at most `longest`.
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    2u32.checked_pow(times).and_then(|factor| first.checked_mul(factor)).map_or(longest, |wait| wait.min(longest))
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Timer {
    /// A registration may have run out.
    Expiry(ServiceId, InstanceId),
    /// An ejection may be over.
    Return(ServiceId, InstanceId),
    /// A conflicted service's port is tried again.
    Rebind(ServiceId),
    /// The leave of expired instances is tried again.
    Leave(ServiceId),
    /// The changes are read again.
    Read,
    /// The end of rests is tried again.
    Rests,
}

#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(crate) fn arm(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(crate) fn due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
