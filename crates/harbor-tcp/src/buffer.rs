//! Where bytes are between a read and a write: in a buffer of the thread, and only what a full socket would not take
//! in one of the connection, given back as soon as it is written.
//!
//! Used by `relay` alone; an idle connection holds nothing here.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Size of a thread's buffer, in bytes: a read takes at most this much.
const READ: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` on this thread's buffer. Its content is of the past and means nothing.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out while in use: a nested call, or one while the thread ends, gets a buffer of its own.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.resize(READ, 0);
    let done = work(&mut buffer);
    // At the end of the thread there is nobody to give it back to.
    let _ = BUFFER.try_with(|home| home.set(buffer));
    done
}

/// Bytes that were read and not yet written; what it holds counts in a gauge.
#[derive(Debug)]
pub(crate) struct Kept<'g> {
    bytes: Vec<u8>,
    written: usize,
    gauge: &'g AtomicU64,
}

impl<'g> Kept<'g> {
    pub(crate) const fn new(gauge: &'g AtomicU64) -> Self {
        Self { bytes: Vec::new(), written: 0, gauge }
    }

    /// What is left to write.
    pub(crate) fn unwritten(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Keeps `bytes`; only when nothing is left to write.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        debug_assert!(self.unwritten().is_empty(), "what is kept is written before more is read");
        self.bytes = bytes.to_vec();
        self.written = 0;
        self.gauge.fetch_add(size_of_kept(&self.bytes), Ordering::Relaxed);
    }

    /// `count` more bytes are written; the memory is given back with the last.
    pub(crate) fn on_written(&mut self, count: usize) {
        self.written = self.written.saturating_add(count);
        if self.written >= self.bytes.len() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        self.gauge.fetch_sub(size_of_kept(&self.bytes), Ordering::Relaxed);
        self.bytes = Vec::new();
        self.written = 0;
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn size_of_kept(bytes: &Vec<u8>) -> u64 {
    u64::try_from(bytes.capacity()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_until_it_is_written_or_dropped() {
        let gauge = AtomicU64::new(0);
        let mut kept = Kept::new(&gauge);
        kept.keep(&[1, 2, 3, 4]);
        assert_eq!(gauge.load(Ordering::Relaxed), 4);
        kept.on_written(3);
        assert_eq!((kept.unwritten(), gauge.load(Ordering::Relaxed)), (&[4_u8][..], 4));
        kept.on_written(1);
        assert_eq!((kept.unwritten(), gauge.load(Ordering::Relaxed)), (&[][..], 0));
        kept.keep(&[5]);
        drop(kept);
        assert_eq!(gauge.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_nested_use_gets_a_buffer_of_its_own() {
        with_buffer(|outer| {
            outer[0] = 1;
            with_buffer(|inner| inner[0] = 2);
            assert_eq!(outer[0], 1);
        });
    }
}
