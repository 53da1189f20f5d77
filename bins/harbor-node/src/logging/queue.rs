//! Log lines on their way out: a bounded queue, and the one thread that writes it. Whoever logs never waits for a reader.
//!
//! Fed by the formatter of `logging`, on every thread of the program. Decides nothing but which lines are lost: the
//! newest, while the reader of stderr stands still and the queue is full.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that wait; some 3,000 lines.
const MAX_WAITING: usize = 1024 * 1024;

#[derive(Debug)]
struct State {
    waiting: Vec<u8>,
    /// The thread has taken lines that are not written yet.
    writing: bool,
    /// Lines that found the queue full since the last time it was said.
    lost: u64,
}

/// The queue.
#[derive(Debug)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

impl LogQueue {
    pub(super) const fn new() -> Self {
        let state = State { waiting: Vec::new(), writing: false, lost: 0 };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }

    /// Adds a line, or counts it as lost.
    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len().saturating_add(line.len()) > MAX_WAITING {
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Writes what comes to `out`, forever. `lost` is told how many lines were lost, once those before them are written;
    /// it may log.
    pub(super) fn write_to(&self, out: &mut impl Write, lost: impl Fn(u64)) {
        let mut taken = Vec::new();
        loop {
            let count = self.take(&mut taken);
            // There is nobody left to tell that stderr is gone, and it may come back.
            let _ = out.write_all(&taken).and_then(|()| out.flush());
            taken.clear();
            if count > 0 {
                lost(count);
            }
        }
    }

    /// Takes all lines into `taken`, which is empty, and the number of those lost. Waits for one.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        state.writing = false;
        if state.waiting.is_empty() {
            self.emptied.notify_all();
        }
        let mut state =
            self.filled.wait_while(state, |state| state.waiting.is_empty()).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, taken);
        state.writing = true;
        std::mem::take(&mut state.lost)
    }

    /// Waits until everything is written, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        drop(self.emptied.wait_timeout_while(self.lock(), limit, busy));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the formatter writes a whole line to. Never fails: see [`LogQueue`].
pub(super) struct Line(pub(super) &'static LogQueue);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_the_newest_lines_and_counts_them() {
        let queue = LogQueue::new();
        let line = [b'x'; 1_000];
        for _ in 0..MAX_WAITING / line.len() + 3 {
            queue.push(&line);
        }
        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken), 3);
        assert_eq!(taken.len(), MAX_WAITING / line.len() * line.len());
        queue.push(b"again\n");
        taken.clear();
        assert_eq!((queue.take(&mut taken), &*taken), (0, &b"again\n"[..]), "an emptied queue takes lines again");
    }

    #[test]
    fn a_flush_waits_for_what_is_being_written_but_not_for_ever() {
        static QUEUE: LogQueue = LogQueue::new();
        QUEUE.push(b"taken\n");
        QUEUE.take(&mut Vec::new());
        QUEUE.flush(Duration::from_millis(1));
        QUEUE.push(b"one\n");
        let (send, written) = std::sync::mpsc::channel();
        std::thread::spawn(move || QUEUE.write_to(&mut Sender(send), |_| {}));
        QUEUE.flush(Duration::from_secs(60));
        assert_eq!(written.try_recv().unwrap(), b"one\n");
    }

    struct Sender(std::sync::mpsc::Sender<Vec<u8>>);

    impl Write for Sender {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
