//! The seam between those who decide and what keeps: the [`Store`] trait and its errors.
//!
//! The node's driver calls it, on a thread of its own, for every call may block on a disk. Nothing here decides what a
//! record means.

use std::io;
use std::path::PathBuf;

use harbor_types::{Changes, Commit, CommitOutcome, Loaded, Revision};

/// What a store answers to commits while an earlier outcome is unknown; `why` it is.
pub(crate) fn in_doubt(why: &str) -> String {
    format!("whether an earlier change was stored is still to be found out, after: {why}")
}

/// Keeps records and numbers the changes to them.
///
/// Revisions run 1, 2, 3… without gaps, also across restarts; a conflicting or failed commit takes none. A put whose
/// record would take a [`UniqueKey`](harbor_types::UniqueKey) from another record conflicts, expectations or not.
///
/// Order of calls: [`load`](Self::load) once, then commits. After [`CommitOutcome::Unknown`] every commit is refused as
/// [`CommitOutcome::NotCommitted`] until [`changes_since`](Self::changes_since) or [`load`](Self::load) has answered.
pub trait Store: Send {
    /// The whole state, by revision, records of one change in the order of its writes. O(records); may block.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read, or is not what a store wrote. Never an empty state instead.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Commits one change, all of it or nothing. What is `Committed` is durable. Blocks on the disk; never panics.
    fn commit(&mut self, commit: &Commit) -> CommitOutcome;

    /// Commits several changes, in order, with one wait for the disk if the store can. Each has its own revision and its
    /// own outcome; a later one sees what the earlier ones did. When the shared transaction fails, none is `Committed`.
    ///
    /// The outcomes are as many as the commits, in their order.
    fn commit_all(&mut self, commits: &[Commit]) -> Vec<CommitOutcome> {
        commits.iter().map(|commit| self.commit(commit)).collect()
    }

    /// Every change after `revision`, or the whole state where the changes are no longer kept.
    ///
    /// After [`CommitOutcome::Unknown`] this is the barrier: once it answers, no earlier attempt can become durable any
    /// more, and everything it returns is durable. An attempt whose token is missing in the answer was lost.
    ///
    /// # Errors
    /// [`StoreError`] when that cannot be established; the outcome stays unknown then, and calling again is the remedy.
    /// [`StoreError::Behind`] when the store is older than `revision`.
    fn changes_since(&mut self, revision: Revision) -> Result<Changes, StoreError>;
}

/// Why a store could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error(
        "the state file {} is in use by another process; stop that one, or give this one a state folder of its own",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// There is no file, where one was required.
    #[error("there is no state file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what a store wrote: truncated, overwritten, inconsistent, empty.
    #[error(
        "the state file {} is damaged ({detail}); put a backup copy in its place, or move it away to start empty \
         on purpose",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer Harbor wrote the file.
    #[error(
        "the state file {} has format {found}, and this program knows formats up to {supported}; run the newer \
         harbor-node, or put a backup copy from before the upgrade in its place",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this program knows.
        supported: u64,
    },
    /// The store answers with less than it had committed before: somebody replaced it by an older one.
    #[error(
        "the store is at revision {found}, but {known} was committed to it before; it was replaced by an older copy: \
         put the newer one back, or restart to go on from the older one on purpose"
    )]
    Behind {
        /// Revision that was committed before.
        known: Revision,
        /// Revision it has now.
        found: Revision,
    },
    /// The disk or the file system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `read`, `write`.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Whether the state itself is bad or newer (exit code 65), rather than out of reach for now (69).
    #[must_use]
    pub const fn is_bad_state(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Newer { .. } | Self::Behind { .. })
    }
}
