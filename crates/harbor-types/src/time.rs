//! Spans of time, wall-clock moments, and the pair of clock readings that pure code is handed.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A length of time, written `90s`, `500ms`, `10m`, `2h` or `1d`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// Why a text is no [`Span`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a length of time; write it like 500ms, 90s, 10m, 2h or 1d")]
pub struct SpanError {
    text: String,
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// `n` milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// `n` seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// Whole milliseconds, saturating.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// Unit suffixes and their milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.as_millis();
        if millis == 0 {
            return f.pad("0s");
        }
        let (suffix, unit) = UNITS.into_iter().find(|(_, unit)| millis.is_multiple_of(*unit)).unwrap_or(("ms", 1));
        f.pad(&format!("{}{suffix}", millis / unit))
    }
}

impl FromStr for Span {
    type Err = SpanError;
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError { text: text.chars().take(40).collect() };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = UNITS.iter().find(|(name, _)| *name == suffix).map(|(_, unit)| *unit).ok_or_else(wrong)?;
        number.checked_mul(unit).map(Self::millis).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;
    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

/// A wall-clock moment: milliseconds since 1970-01-01 00:00 UTC. May jump when an operator sets the clock.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct WallTime(u64);

impl WallTime {
    /// The moment this many milliseconds after 1970 began (UTC).
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 began (UTC).
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// As RFC 3339 in UTC with milliseconds: `2026-01-31T12:00:00.000Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let (days, rest) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute, second, millis) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }

    /// This moment plus `span`, saturating.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.as_millis()))
    }

    /// Time from `earlier` to this moment; `None` when the clock went backwards between them.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Span> {
        self.0.checked_sub(earlier.0).map(Span::millis)
    }
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, leap days end a year, so that months have a closed formula; 400 years are 146,097 days.
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

impl From<SystemTime> for WallTime {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// One reading of both clocks, taken by the shell and handed to pure code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// Monotonic clock: deadlines while the process runs.
    pub mono: Instant,
    /// Wall clock: what is written into records.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_printed_as_rfc_3339() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(WallTime::from_millis(seconds * 1_000).to_rfc3339(), want);
        }
    }

    #[test]
    fn spans_are_read_and_printed() {
        for (text, want) in
            [("90s", "90s"), ("60s", "1m"), ("1500ms", "1500ms"), ("2h", "2h"), ("0s", "0s"), ("48h", "2d")]
        {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), want, "{text}");
        }
        for text in ["", "s", "10", "1.5s", "-1s", "1 s", "1w", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
