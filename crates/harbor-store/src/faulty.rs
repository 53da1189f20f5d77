//! For tests: a store that fails on purpose, in the ways a real one can. Never part of a running node.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use harbor_types::{Changes, Commit, CommitOutcome, Loaded, Revision};

use crate::store::{Store, StoreError, in_doubt};

/// How a call goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// As if nothing were wrong; to reach a later call.
    None,
    /// The commit fails and leaves nothing behind.
    NotCommitted,
    /// The commit's outcome is unknown; it was committed, unless it conflicted.
    UnknownCommitted,
    /// The commit's outcome is unknown; it was not committed.
    UnknownLost,
}

/// Scripts a [`FaultyStore`] that is already in somebody else's hands. Clones share one script.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    commits: VecDeque<Fault>,
    failing_reads: u32,
}

/// Wraps a store; commits and reads go as [`Faults`] says, by default well. After an unknown outcome it refuses commits
/// until [`Store::changes_since`] or [`Store::load`] has answered, as the real one does. A group takes one fault, for all of it.
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    faults: Faults,
    in_doubt: bool,
}

impl Faults {
    /// The next commit or group without a fault of its own goes like this.
    pub fn push(&self, fault: Fault) {
        self.with(|script| script.commits.push_back(fault));
    }

    /// The next so many loads and reads of changes fail.
    pub fn fail_reads(&self, count: u32) {
        self.with(|script| script.failing_reads = count);
    }

    /// Faults that have not happened yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.with(|script| script.commits.len())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn next_commit(&self) -> Fault {
        self.with(|script| script.commits.pop_front().unwrap_or(Fault::None))
    }

    fn read(&self) -> Result<(), StoreError> {
        self.with(|script| {
            let Some(left) = script.failing_reads.checked_sub(1) else { return Ok(()) };
            script.failing_reads = left;
            Err(StoreError::Io {
                doing: "read",
                path: PathBuf::from("scripted"),
                source: io::Error::other("scripted read error"),
            })
        })
    }
}

impl<S: Store> FaultyStore<S> {
    /// Wraps `inner`; `faults` stays with the test.
    pub fn new(inner: S, faults: &Faults) -> Self {
        Self { inner, faults: faults.clone(), in_doubt: false }
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.faults.read()?;
        self.in_doubt = false;
        self.inner.load()
    }

    fn commit(&mut self, commit: &Commit) -> CommitOutcome {
        let not_committed = || CommitOutcome::NotCommitted("scripted: not committed".into());
        self.commit_all(std::slice::from_ref(commit)).pop().unwrap_or_else(not_committed)
    }

    fn commit_all(&mut self, commits: &[Commit]) -> Vec<CommitOutcome> {
        let all = |outcome: CommitOutcome| vec![outcome; commits.len()];
        if self.in_doubt {
            return all(CommitOutcome::NotCommitted(in_doubt("scripted: unknown")));
        }
        let unknown = || CommitOutcome::Unknown("scripted: unknown".into());
        match self.faults.next_commit() {
            Fault::None => self.inner.commit_all(commits),
            Fault::NotCommitted => all(CommitOutcome::NotCommitted("scripted: not committed".into())),
            Fault::UnknownCommitted => {
                self.inner.commit_all(commits);
                self.in_doubt = true;
                all(unknown())
            }
            Fault::UnknownLost => {
                self.in_doubt = true;
                all(unknown())
            }
        }
    }

    fn changes_since(&mut self, revision: Revision) -> Result<Changes, StoreError> {
        self.faults.read()?;
        self.in_doubt = false;
        self.inner.changes_since(revision)
    }
}
