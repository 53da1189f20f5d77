//! The course of a relayed connection: which directions still run, and when it has been quiet for too long.
//!
//! Driven by [`relay`](crate::relay); moves no byte, reads no clock.

use std::time::Instant;

use crate::{CloseReason, Ending, Limits, Side};

/// A direction of a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Way {
    /// From the client to the backend.
    Up,
    /// From the backend to the client.
    Down,
}

impl Way {
    /// Who sends in this direction.
    #[must_use]
    pub const fn source(self) -> Side {
        match self {
            Self::Up => Side::Downstream,
            Self::Down => Side::Upstream,
        }
    }

    /// Who receives in this direction.
    #[must_use]
    pub const fn sink(self) -> Side {
        match self {
            Self::Up => Side::Upstream,
            Self::Down => Side::Downstream,
        }
    }
}

/// State of a connection between its connect and its end.
///
/// Order of calls: after any `on_*`, ask [`ending`](Self::ending); while there is none, wait for
/// [`deadline`](Self::deadline) at the latest, then ask again. A deadline only ever moves earlier by
/// [`on_finished`](Self::on_finished), so a timer armed for an older one may fire early but never late.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    up: bool,
    down: bool,
    progress: Instant,
}

impl Lifecycle {
    /// A connection whose both directions run since `now`.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { up: true, down: true, progress: now }
    }

    /// Bytes moved, either way.
    pub fn on_progress(&mut self, now: Instant) {
        self.progress = self.progress.max(now);
    }

    /// One direction ended: its source's end of stream was passed on to its sink. Counts as progress.
    pub fn on_finished(&mut self, way: Way, now: Instant) {
        match way {
            Way::Up => self.up = false,
            Way::Down => self.down = false,
        }
        self.on_progress(now);
    }

    /// When the connection ends unless something moves before; `None`: never.
    #[must_use]
    pub fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let quiet = if self.up && self.down { limits.idle } else { Some(limits.half_closed) };
        // A limit beyond the clock's range is no limit.
        quiet.and_then(|quiet| self.progress.checked_add(quiet.as_duration()))
    }

    /// The end, once there is one.
    #[must_use]
    pub fn ending(&self, now: Instant, limits: &Limits) -> Option<Ending> {
        let running = match (self.up, self.down) {
            (false, false) => return Some(Ending::of(CloseReason::Finished)),
            (true, true) => None,
            (true, false) => Some(Way::Up),
            (false, true) => Some(Way::Down),
        };
        if self.deadline(limits).is_none_or(|deadline| now < deadline) {
            return None;
        }
        Some(match running {
            None => Ending::of(CloseReason::Idle),
            Some(way) => Ending::by(way.source(), CloseReason::HalfClosedIdle),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use harbor_types::Span;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits { idle: Some(Span::secs(10)), half_closed: Span::secs(3), ..Limits::default() }
    }

    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn quiet_for_the_idle_limit_is_the_end() {
        let (start, limits) = (start(), limits());
        let mut life = Lifecycle::new(start);
        assert_eq!(life.ending(start + 9 * SECOND, &limits), None);
        life.on_progress(start + 9 * SECOND);
        assert_eq!(life.deadline(&limits), Some(start + 19 * SECOND));
        assert_eq!(life.ending(start + 18 * SECOND, &limits), None);
        assert_eq!(life.ending(start + 19 * SECOND, &limits), Some(Ending::of(CloseReason::Idle)));
    }

    #[test]
    fn the_half_closed_limit_counts_from_the_half_close_and_blames_who_still_could_send() {
        let (start, limits) = (start(), limits());
        let mut life = Lifecycle::new(start);
        life.on_finished(Way::Up, start + 8 * SECOND);
        assert_eq!(life.deadline(&limits), Some(start + 11 * SECOND));
        life.on_progress(start + 10 * SECOND);
        assert_eq!(life.ending(start + 12 * SECOND, &limits), None);
        let blamed = Ending::by(Side::Upstream, CloseReason::HalfClosedIdle);
        assert_eq!(life.ending(start + 13 * SECOND, &limits), Some(blamed));
        life.on_finished(Way::Down, start + 12 * SECOND);
        assert_eq!(life.ending(start + 12 * SECOND, &limits), Some(Ending::of(CloseReason::Finished)));
    }

    #[test]
    fn without_an_idle_limit_only_a_half_close_sets_a_deadline() {
        let (start, limits) = (start(), Limits { idle: None, ..limits() });
        let mut life = Lifecycle::new(start);
        assert_eq!(life.deadline(&limits), None);
        assert_eq!(life.ending(start + 1_000_000 * SECOND, &limits), None);
        life.on_finished(Way::Down, start);
        assert_eq!(life.deadline(&limits), Some(start + 3 * SECOND));
    }

    #[test]
    fn a_clock_read_out_of_order_takes_no_progress_back() {
        let (start, limits) = (start(), limits());
        let mut life = Lifecycle::new(start);
        life.on_progress(start + 5 * SECOND);
        life.on_progress(start + 2 * SECOND);
        assert_eq!(life.deadline(&limits), Some(start + 15 * SECOND));
    }
}
