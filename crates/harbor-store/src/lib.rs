//! Harbor's committed records: a [`Store`] takes [`Commit`](harbor_types::Commit)s with expectations, numbers those that
//! happen, and gives back the state and the changes. [`MemoryStore`] keeps them in memory, [`RedbStore`] in a file.
//! The node's driver calls it through a thread of its own: every call may block, and nothing here knows tokio. What a
//! record means is decided in harbor-registry; here they only have keys.
//!
//! ```
//! use harbor_store::{MemoryStore, Store};
//! use harbor_types::{Changes, Commit, CommitOutcome, CommitToken, Expectation, Port, QuarantineRecord, Record, Revision,
//!     UniqueKey, WallTime, Write};
//!
//! let port = Port::new(30134)?;
//! let rest = QuarantineRecord { port, released: WallTime::from_millis(0), until: WallTime::from_millis(600_000) };
//! let commit = Commit {
//!     token: CommitToken(1),
//!     expectations: vec![Expectation::Free(UniqueKey::Port(port))],
//!     writes: vec![Write::Put(Record::Quarantine(rest))],
//! };
//! let mut store = MemoryStore::new();
//! assert_eq!(store.commit(&commit), CommitOutcome::Committed(Revision(1)));
//! assert!(matches!(store.commit(&commit), CommitOutcome::Conflict(_)));
//! assert!(matches!(store.changes_since(Revision(0))?, Changes::Since(changes) if changes.len() == 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The file
//! A redb 4 database (file format 3) with four tables:
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `format` (1), `revision`, `opened` |
//! | `records` | record key, JSON | revision and index of its latest put, record as JSON |
//! | `unique` | unique key, JSON | key of the record that owns it |
//! | `changes` | revision | token, writes as JSON; the latest 4,096 |
//!
//! `meta` keeps its shape in every format, so each can tell another one from a damaged file. A new kind of record or a
//! new field is a new format: an older program has to refuse it rather than drop what it does not know.
//!
//! # What is durable
//! A commit is one transaction in two phases. Its pages are written beside those in use and synced; only then the header
//! is pointed at them, and synced again. It is `Committed` after the second sync. So a header, on the disk or in a cache,
//! never names pages that were not synced *successfully* before, and that is what the recovery rules below stand on. (The
//! one-phase alternative saves a sync, but takes a damaged page of the latest commit for a commit that never happened.)
//! [`Store::commit_all`] pays the two syncs once for a whole group.
//!
//! A new file is made under another name, synced and renamed, so a file that is empty or half made is damaged, never new.
//!
//! # Opening
//! Takes the lock, verifies every checksum in the file, refuses another format, and ends with a commit of its own, of
//! one counter. After a crash, what is read may be in the kernel's cache only: that commit writes the header anew and
//! syncs it, and the pages it names are on the disk already. Until it succeeds nothing that was read is told to anybody.
//! Loading then decodes every record and checks the tables against each other. Panics of redb over a damaged file are
//! caught and reported as damage.
//!
//! # After a failure
//! * Before the first sync of the transaction's commit has succeeded (a full disk mostly fails there): nothing was written
//!   that a header names. `NotCommitted`; the next call opens the file again, for redb does not go on after an I/O error.
//! * After it: the new header may or may not be on the disk. `Unknown`, and commits are refused.
//! * [`Store::changes_since`] (or [`Store::load`]) then drops the database, with which no write of the attempt is left to
//!   come, and opens the file again as above. A failed sync on Linux may leave pages in the cache that are marked clean
//!   and will never be written, so a second sync proves nothing about them. It does not have to: data pages of the failed
//!   attempt are either synced (first phase) or named by no header, and are written anew when they are used again; the
//!   header page is written anew by the opening's commit. If that fails as well, the outcome stays unknown.
//! * What comes back with a lower revision than was committed before is another file: [`StoreError::Behind`].
//!
//! # What is not detected
//! A single flipped bit, the one in the header that names the current commit slot, in a file that was not closed: it
//! looks like a power cut just before the latest commit, which is lost then. Changes to the file by somebody who ignores
//! the lock, while it is open. And a disk that acknowledges syncs without doing them.

mod check;
#[cfg(feature = "redb")]
mod disk;
#[cfg(feature = "redb")]
mod durable;
mod faulty;
mod memory;
mod plan;
mod retention;
mod store;
#[cfg(feature = "redb")]
mod tables;

pub use check::{Census, Inconsistency, check_invariants};
#[cfg(feature = "redb")]
pub use disk::{Disk, FileDisk};
#[cfg(feature = "redb")]
pub use durable::RedbStore;
pub use faulty::{Fault, Faults, FaultyStore};
pub use memory::MemoryStore;
/// The engine, for those who put a [`Disk`] of their own behind a [`RedbStore`].
#[cfg(feature = "redb")]
pub use redb;
pub use retention::{RETENTION, Retention};
pub use store::{Store, StoreError};
