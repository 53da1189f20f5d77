//! The thread that waits for the disk: takes commits and reads from the driver in order, answers as outcomes.
//!
//! Commits that queue up while the disk is busy go down together, with one wait for it. Decides nothing.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use harbor_registry::Outcome;
use harbor_store::Store;
use harbor_types::{Commit, CommitOutcome, Revision};
use tokio::sync::mpsc::UnboundedSender;

use crate::clock;
use crate::metrics::Metrics;
use crate::program::chain;

/// Most commits that share one wait for the disk; keeps a transaction's memory bounded.
const MAX_GROUP: usize = 256;

enum Job {
    Commit(Commit),
    Read(Revision),
}

/// The driver's side of the thread. Dropping it ends the thread once its queue is empty.
pub(crate) struct StoreThread {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl StoreThread {
    /// Starts the thread. Each job is answered by one outcome; the queue is as long as the registry has effects in flight.
    pub(crate) fn start(
        store: Box<dyn Store>,
        outcomes: UnboundedSender<Outcome>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("harbor-store".into())
            .spawn(move || run(store, &queue, &outcomes, &metrics))?;
        Ok(Self { jobs, thread })
    }

    /// Queues a commit; `false` when the thread is gone.
    pub(crate) fn commit(&self, commit: Commit) -> bool {
        self.jobs.send(Job::Commit(commit)).is_ok()
    }

    /// Queues a read of what was committed after `since`; `false` when the thread is gone.
    pub(crate) fn read(&self, since: Revision) -> bool {
        self.jobs.send(Job::Read(since)).is_ok()
    }

    /// Ends the thread once its queue is empty. Blocks.
    pub(crate) fn finish(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!("the store thread panicked");
        }
    }
}

fn run(mut store: Box<dyn Store>, queue: &Receiver<Job>, outcomes: &UnboundedSender<Outcome>, metrics: &Metrics) {
    let mut group: Vec<Commit> = Vec::new();
    let mut next = queue.recv().ok();
    while let Some(job) = next.take() {
        match job {
            Job::Read(since) => {
                let result = store.changes_since(since).map_err(|error| chain(&error));
                if let Err(error) = &result {
                    tracing::error!(%error, "cannot read the state back; trying again");
                }
                // A driver that is gone needs no answer.
                let _ = outcomes.send(Outcome::Changes { result });
            }
            Job::Commit(commit) => {
                group.push(commit);
                while group.len() < MAX_GROUP && next.is_none() {
                    match queue.try_recv() {
                        Ok(Job::Commit(commit)) => group.push(commit),
                        Ok(read) => next = Some(read),
                        Err(_) => break,
                    }
                }
                commit_group(store.as_mut(), &mut group, outcomes, metrics);
            }
        }
        if next.is_none() {
            next = queue.recv().ok();
        }
    }
}

fn commit_group(
    store: &mut dyn Store,
    group: &mut Vec<Commit>,
    outcomes: &UnboundedSender<Outcome>,
    metrics: &Metrics,
) {
    let started = clock::now().mono;
    let results = store.commit_all(group);
    let lasted = clock::now().mono.duration_since(started);
    debug_assert_eq!(results.len(), group.len(), "one outcome for each commit");
    // Should a store ever answer with fewer, what it did with the others is unknown, and that is what the registry hears.
    let missing = std::iter::repeat_with(|| CommitOutcome::Unknown("the store gave no answer".into()));
    for (commit, outcome) in group.drain(..).zip(results.into_iter().chain(missing)) {
        if let CommitOutcome::NotCommitted(reason) | CommitOutcome::Unknown(reason) = &outcome {
            tracing::error!(reason, "a change could not be stored");
        }
        metrics.committed(&outcome, lasted);
        let _ = outcomes.send(Outcome::Committed { token: commit.token, outcome });
    }
}
