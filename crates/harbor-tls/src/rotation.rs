//! When a change on disk counts: once it has been the same for a while, and only once.
//!
//! Driven by [`Reloader`](crate::Reloader) with a fingerprint of what each look found; reads no file and no clock.

use std::time::Instant;

use harbor_types::Span;

use crate::pair::Fingerprint;

/// How long a change may wait for the next look. With [`SETTLE`] and two reads that is well under the promised 2 s.
const LOOK: Span = Span::millis(500);
/// How long what was found must stay the same. Tools write both files within milliseconds; a chain that is written
/// certificate by certificate is a valid shorter one in between.
const SETTLE: Span = Span::millis(300);

/// How often to look, and how long a change must last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// Between two looks. Default 500 ms.
    pub look: Span,
    /// How long what was found must stay the same before it is used or reported. Default 300 ms.
    pub settle: Span,
}

impl Default for Timing {
    fn default() -> Self {
        Self { look: LOOK, settle: SETTLE }
    }
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing new: look again after this time.
    Wait(Span),
    /// What was found is new and has settled: use it if it is a valid pair, report it if not, then look again after
    /// [`Timing::look`]. Said once for each change.
    Decide,
}

/// Watches what looks find. After each look: [`on_look`](Self::on_look).
#[derive(Clone, Debug)]
pub struct Rotation {
    timing: Timing,
    decided: Fingerprint,
    pending: Option<(Fingerprint, Instant)>,
}

impl Rotation {
    /// Begins with what is served: finding that is no change.
    #[must_use]
    pub const fn new(timing: Timing, served: Fingerprint) -> Self {
        Self { timing, decided: served, pending: None }
    }

    /// A look that ended at `now` found this.
    pub fn on_look(&mut self, now: Instant, found: Fingerprint) -> Step {
        if found == self.decided {
            self.pending = None;
            return Step::Wait(self.timing.look);
        }
        let since = match self.pending {
            Some((pending, since)) if pending == found => since,
            _ => now,
        };
        self.pending = Some((found, since));
        let lasted = Span::from(now.saturating_duration_since(since));
        if lasted < self.timing.settle || since == now {
            let rest = self.timing.settle.as_duration().saturating_sub(lasted.as_duration());
            return Step::Wait(rest.into());
        }
        (self.decided, self.pending) = (found, None);
        Step::Decide
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_counts_once_it_has_lasted_and_only_once() {
        #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
        let start = Instant::now();
        let [a, b, c] = [b"a", b"b", b"c"].map(|text| Fingerprint::of(&[text]));
        let mut rotation = Rotation::new(Timing::default(), a);
        for (at, found, want) in [
            (0, a, Step::Wait(LOOK)),
            (500, b, Step::Wait(SETTLE)),
            (600, b, Step::Wait(Span::millis(200))),
            (700, c, Step::Wait(SETTLE)), // torn: not what it was
            (1_000, c, Step::Decide),
            (1_500, c, Step::Wait(LOOK)), // said once
            (2_000, b, Step::Wait(SETTLE)),
            (2_300, c, Step::Wait(LOOK)),   // back to what was decided
            (2_800, b, Step::Wait(SETTLE)), // counts from anew
            (3_100, b, Step::Decide),
            (3_600, c, Step::Wait(SETTLE)),
            (3_900, c, Step::Decide),
        ] {
            assert_eq!(rotation.on_look(start + Duration::from_millis(at), found), want, "at {at} ms");
        }
    }

    #[test]
    fn one_look_is_never_enough() {
        #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
        let start = Instant::now();
        let [a, b] = [b"a", b"b"].map(|text| Fingerprint::of(&[text]));
        let mut rotation = Rotation::new(Timing { settle: Span::ZERO, ..Timing::default() }, a);
        assert_eq!(rotation.on_look(start, b), Step::Wait(Span::ZERO));
        assert_eq!(rotation.on_look(start + Duration::from_millis(1), b), Step::Decide);
    }
}
