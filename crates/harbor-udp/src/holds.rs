//! The latest unanswered datagrams, kept for a moment so that a refused one can be resent. Used by
//! [`SessionTable`](crate::SessionTable); bounded in bytes, number and age, and never grows while nothing flows.

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits::{HELD_BYTES, HELD_DATAGRAMS, RESEND_WITHIN};

/// Buffers up to this size are used again for the next datagram.
const REUSED_BYTES: usize = 2_048;

/// Which hold; never used twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HoldId(u64);

#[derive(Debug)]
struct Hold {
    at: Instant,
    payload: Option<Vec<u8>>,
}

/// Held datagrams, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    ring: VecDeque<Hold>,
    /// Number of the front of `ring`.
    first: u64,
    /// Capacities of the payloads in `ring`.
    bytes: usize,
    spare: Vec<u8>,
}

impl Holds {
    /// Holds a copy of `payload`, at the cost of the oldest ones. `None`: it is larger than all the room there is.
    pub(crate) fn put(&mut self, now: Instant, payload: &[u8]) -> Option<HoldId> {
        if payload.len() > HELD_BYTES {
            return None;
        }
        let mut copy = std::mem::take(&mut self.spare);
        copy.clear();
        copy.extend_from_slice(payload);
        self.bytes = self.bytes.saturating_add(copy.capacity());
        self.ring.push_back(Hold { at: now, payload: Some(copy) });
        let id = self.first.saturating_add(u64::try_from(self.ring.len()).unwrap_or(u64::MAX)).saturating_sub(1);
        self.trim(now);
        Some(HoldId(id))
    }

    /// The datagram, unless it was released, crowded out or is too old to be resent.
    pub(crate) fn payload(&self, now: Instant, id: HoldId) -> Option<&[u8]> {
        let hold = self.ring.get(usize::try_from(id.0.checked_sub(self.first)?).ok()?)?;
        hold.payload.as_deref().filter(|_| fresh(hold, now))
    }

    /// Forgets a datagram.
    pub(crate) fn release(&mut self, now: Instant, id: HoldId) {
        let place = id.0.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(hold) = place.and_then(|place| self.ring.get_mut(place)) {
            let payload = hold.payload.take();
            self.recycle(payload);
        }
        self.trim(now);
    }

    /// Bytes allocated for held datagrams.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops from the front what is released, too old, or too much; the newest always stays.
    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.ring.front() {
            let crowded = self.ring.len() > 1 && (self.bytes > HELD_BYTES || self.ring.len() > HELD_DATAGRAMS);
            if oldest.payload.is_some() && fresh(oldest, now) && !crowded {
                return;
            }
            let payload = self.ring.pop_front().and_then(|hold| hold.payload);
            self.first = self.first.saturating_add(1);
            self.recycle(payload);
        }
    }

    fn recycle(&mut self, payload: Option<Vec<u8>>) {
        let Some(payload) = payload else { return };
        self.bytes = self.bytes.saturating_sub(payload.capacity());
        if payload.capacity() <= REUSED_BYTES && self.spare.capacity() < payload.capacity() {
            self.spare = payload;
        }
    }
}

fn fresh(hold: &Hold, now: Instant) -> bool {
    now.saturating_duration_since(hold.at) <= RESEND_WITHIN
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_held_datagram_is_there_until_it_is_released_or_old() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let (empty, full) = (holds.put(now, b"").unwrap(), holds.put(now, b"abc").unwrap());
        assert_eq!(holds.payload(now, empty), Some(&b""[..]));
        assert_eq!(holds.payload(now + RESEND_WITHIN, full), Some(&b"abc"[..]));
        assert_eq!(holds.payload(now + RESEND_WITHIN + Duration::from_millis(1), full), None);
        holds.release(now, full);
        assert_eq!(holds.payload(now, full), None);
        assert_eq!(holds.payload(now, empty), Some(&b""[..]));
        holds.release(now, empty);
        assert_eq!((holds.ring.len(), holds.bytes()), (0, 0));
    }

    #[test]
    fn room_is_bounded_and_the_newest_wins() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let ids: Vec<_> = (0..10).map(|_| holds.put(now, &[7; 65_507]).unwrap()).collect();
        assert!(holds.bytes() <= HELD_BYTES, "{}", holds.bytes());
        assert_eq!(holds.payload(now, ids[0]), None);
        assert_eq!(holds.payload(now, ids[9]).map(<[u8]>::len), Some(65_507));
        for _ in 0..3 * HELD_DATAGRAMS {
            holds.put(now, b"x").unwrap();
        }
        assert!(holds.ring.len() <= HELD_DATAGRAMS);
    }

    #[test]
    fn a_stream_from_one_client_keeps_one_datagram() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let mut last: Option<HoldId> = None;
        for n in 0..10_000_u32 {
            if let Some(last) = last.take() {
                holds.release(now, last);
            }
            last = holds.put(now, &n.to_be_bytes());
        }
        assert_eq!(holds.ring.len(), 1);
        assert_eq!(holds.payload(now, last.unwrap()), Some(&9_999_u32.to_be_bytes()[..]));
    }
}
