//! Relay threads: one current-thread runtime each. A connection or session lives on one of them from accept to close.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads. Work is spread round robin.
pub(super) struct RelayThreads {
    runtimes: Vec<Handle>,
    /// The first of them again: there is always one.
    first: Handle,
    next: AtomicUsize,
    stop: CancellationToken,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl RelayThreads {
    /// Starts `count` threads, named `harbor-relay-0` and so on.
    pub(super) fn start(count: NonZeroUsize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (first, thread) = start_one(0, &stop)?;
        let (mut runtimes, mut threads) = (vec![first.clone()], vec![thread]);
        for number in 1..count.get() {
            let (runtime, thread) = start_one(number, &stop)?;
            runtimes.push(runtime);
            threads.push(thread);
        }
        Ok(Self { runtimes, first, next: AtomicUsize::new(0), stop, threads: Mutex::new(threads) })
    }

    /// The runtime whose turn it is.
    pub(super) fn next(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.runtimes.len().max(1);
        self.runtimes.get(turn).unwrap_or(&self.first)
    }

    /// Every runtime.
    pub(super) fn all(&self) -> &[Handle] {
        &self.runtimes
    }

    /// Ends the threads; what still runs on them is dropped. Blocks.
    pub(super) fn finish(&self) {
        self.stop.cancel();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a relay thread panicked");
            }
        }
    }
}

impl Drop for RelayThreads {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start_one(number: usize, stop: &CancellationToken) -> io::Result<(Handle, JoinHandle<()>)> {
    let (send, receive) = sync_channel(1);
    let stop = stop.clone();
    let thread = std::thread::Builder::new().name(format!("harbor-relay-{number}")).spawn(move || {
        match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let _ = send.send(Ok(runtime.handle().clone()));
                runtime.block_on(stop.cancelled());
            }
            Err(error) => {
                let _ = send.send(Err(error));
            }
        }
    })?;
    let runtime = receive.recv().map_err(|_| io::Error::other("a relay thread ended at its start"))??;
    Ok((runtime, thread))
}
