//! The store in a file: when it is opened, what is durable, and what happens after a failure.
//!
//! Called through [`Store`] by the node's store thread; opened by the node and by `harbor-node check`. What the tables
//! hold is `tables`'s business, where the bytes lie is [`Disk`]'s.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use harbor_types::{Changes, Commit, CommitOutcome, Loaded, Revision};
use redb::{Builder, Database, ReadableDatabase, WriteTransaction};

use crate::check::Census;
use crate::disk::{Disk, FileDisk, Handle, Syncs, create_if_missing};
use crate::plan::plan;
use crate::retention::{RETENTION, Retention};
use crate::store::{Store, StoreError, in_doubt};
use crate::tables::{FORMAT, Snapshot, TableFault, Tables, format_and_revision, initialise, mark_opened};

/// Most memory that redb uses for pages; it takes as much as it reads. 10,000 services fit several times.
const CACHE: usize = 64 * 1024 * 1024;

/// Keeps records in a redb file. One process has it open at a time.
///
/// Everything it reports as committed survives a crash of the process and of the machine. See the crate's documentation
/// for how, and for what happens after a failure.
pub struct RedbStore {
    disk: Box<dyn Disk>,
    retention: Retention,
    /// None after a failure, until the next call opens it again.
    database: Option<Database>,
    /// Why an attempt may or may not be in the file; only set without a database.
    in_doubt: Option<String>,
    syncs: Syncs,
    /// Revision that is known to be durable.
    latest: Revision,
}

impl RedbStore {
    /// Opens the file at `path`; makes it, for this user only, if there is none, and its folder if necessary. Reads the
    /// whole file to verify its checksums.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it, [`StoreError::Corrupt`] or [`StoreError::Newer`] when it is
    /// not what this program wrote (an empty file is not), [`StoreError::Io`] when the disk refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        create_if_missing(path.as_ref(), |fresh| Self::create_on(Box::new(fresh), RETENTION)?.close())?;
        Self::open_existing(path)
    }

    /// Opens the file at `path`, and makes none.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StoreError::Missing`] when there is none.
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_on(Box::new(FileDisk::new(path.as_ref())), RETENTION)
    }

    /// Opens what lies on `disk`.
    ///
    /// # Errors
    /// As [`open_existing`](Self::open_existing).
    pub fn open_on(mut disk: Box<dyn Disk>, retention: Retention) -> Result<Self, StoreError> {
        let syncs = Syncs::default();
        let (database, latest) = open_database(&mut *disk, &syncs)?;
        Ok(Self { disk, retention, database: Some(database), in_doubt: None, syncs, latest })
    }

    /// Makes an empty store on an empty `disk`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the disk is not empty, [`StoreError::Io`] when it refuses.
    pub fn create_on(mut disk: Box<dyn Disk>, retention: Retention) -> Result<Self, StoreError> {
        let syncs = Syncs::default();
        let database = create_database(&mut *disk, &syncs)?;
        Ok(Self { disk, retention, database: Some(database), in_doubt: None, syncs, latest: Revision(0) })
    }

    /// Closes the store in good order, which shrinks the file. Dropping does the same and keeps quiet about failures;
    /// either way nothing that was committed depends on it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk refuses.
    pub fn close(mut self) -> Result<(), StoreError> {
        let Some(database) = self.database.take() else { return Ok(()) };
        guarded(self.disk.path(), || Ok(database.close()?))
    }

    /// Reads and decodes everything and checks it: records, unique keys and the kept changes against each other. The
    /// checksums were verified when the file was opened.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the first thing that does not hold.
    pub fn verify(&mut self) -> Result<Census, StoreError> {
        self.read(|snapshot| {
            let state = snapshot.load()?;
            snapshot.check_changes(&state)?;
            Ok(Census::of(&state))
        })
    }

    /// The database, opened again if a failure closed it. This is the barrier after an unknown outcome, for the attempt
    /// is over, and opening ends with a commit of its own.
    fn ready(&mut self) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let (database, found) = open_database(&mut *self.disk, &self.syncs)?;
                if found < self.latest {
                    return Err(StoreError::Behind { known: self.latest, found });
                }
                self.latest = found;
                self.in_doubt = None;
                database
            }
        };
        Ok(self.database.insert(database))
    }

    fn read<T>(&mut self, act: impl FnOnce(&Snapshot) -> Result<T, TableFault>) -> Result<T, StoreError> {
        let path = self.disk.path().to_path_buf();
        let database = self.ready()?;
        let result = guarded(&path, || act(&Snapshot::open(&database.begin_read()?)?));
        if result.is_err() {
            self.discard();
        }
        result
    }

    /// Lets go of the database, whatever state a failure left it in.
    fn discard(&mut self) {
        let database = self.database.take();
        // A panic on the way out has nothing left to tell: the file is read anew before it is used again.
        drop(catch_unwind(AssertUnwindSafe(|| drop(database))));
    }
}

impl Store for RedbStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.read(Snapshot::load)
    }

    fn commit(&mut self, commit: &Commit) -> CommitOutcome {
        let outcome = self.commit_all(std::slice::from_ref(commit)).pop();
        outcome.unwrap_or_else(|| CommitOutcome::Unknown("no outcome".into()))
    }

    fn commit_all(&mut self, commits: &[Commit]) -> Vec<CommitOutcome> {
        let none = |why: String| vec![CommitOutcome::NotCommitted(why); commits.len()];
        if let Some(why) = &self.in_doubt {
            return none(in_doubt(why));
        }
        let (retention, syncs) = (self.retention, self.syncs.clone());
        let database = match self.ready() {
            Ok(database) => database,
            Err(error) => return none(describe(&error)),
        };
        let committing = Committing { syncs: &syncs, before: Cell::new(None) };
        let attempt = catch_unwind(AssertUnwindSafe(|| attempt(database, commits, retention, &committing)));
        let failure = match attempt {
            Ok(Ok((outcomes, revision))) => {
                self.latest = revision;
                return outcomes;
            }
            Ok(Err(fault)) => describe(&fault.at(self.disk.path())),
            Err(panic) => panic_text(&*panic),
        };
        self.discard();
        if !committing.may_have_happened() {
            return none(failure);
        }
        self.in_doubt = Some(failure.clone());
        vec![CommitOutcome::Unknown(failure); commits.len()]
    }

    fn changes_since(&mut self, revision: Revision) -> Result<Changes, StoreError> {
        let (found, changes) = self.read(|snapshot| Ok((snapshot.revision(), snapshot.changes_since(revision)?)))?;
        if revision > found {
            return Err(StoreError::Behind { known: revision, found });
        }
        Ok(changes)
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.discard();
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("path", &self.disk.path())
            .field("latest", &self.latest)
            .field("in_doubt", &self.in_doubt.is_some())
            .finish_non_exhaustive()
    }
}

/// How far a transaction's commit came. Its header is pointed at the new pages only once these were synced: while no
/// sync of it has succeeded, it has not happened.
struct Committing<'s> {
    syncs: &'s Syncs,
    /// Syncs before the commit began.
    before: Cell<Option<u64>>,
}

impl Committing<'_> {
    fn begin(&self) {
        self.before.set(Some(self.syncs.count()));
    }

    fn may_have_happened(&self) -> bool {
        self.before.get().is_some_and(|before| self.syncs.count() > before)
    }
}

/// Runs the commits in one transaction; answers their outcomes and the latest revision.
fn attempt(
    database: &Database,
    commits: &[Commit],
    retention: Retention,
    committing: &Committing<'_>,
) -> Result<(Vec<CommitOutcome>, Revision), TableFault> {
    let txn = begin(database)?;
    let mut tables = Tables::open(&txn)?;
    let before = tables.revision()?;
    let mut latest = before;
    let mut outcomes = Vec::with_capacity(commits.len());
    for commit in commits {
        outcomes.push(match plan(&tables, commit)? {
            Ok(plan) => {
                latest = latest.next();
                tables.apply(latest, commit, plan, retention)?;
                CommitOutcome::Committed(latest)
            }
            Err(conflict) => CommitOutcome::Conflict(conflict),
        });
    }
    drop(tables);
    if latest == before {
        txn.abort()?;
    } else {
        committing.begin();
        txn.commit()?;
    }
    Ok((outcomes, latest))
}

/// A transaction of two phases: its pages are synced before the header names them, and the header is synced after.
fn begin(database: &Database) -> Result<WriteTransaction, TableFault> {
    let mut txn = database.begin_write()?;
    txn.set_two_phase_commit(true);
    Ok(txn)
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

fn storage(disk: &mut dyn Disk, syncs: &Syncs) -> Result<(Handle, u64), StoreError> {
    let opened = disk.storage().and_then(|storage| Ok((storage.len()?, Handle(storage, syncs.clone()))));
    match opened {
        Ok((len, storage)) => Ok((storage, len)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Missing { path: disk.path().to_path_buf() })
        }
        Err(source) => Err(StoreError::Io { doing: "open", path: disk.path().to_path_buf(), source }),
    }
}

fn open_database(disk: &mut dyn Disk, syncs: &Syncs) -> Result<(Database, Revision), StoreError> {
    let (storage, len) = storage(disk, syncs)?;
    let path = disk.path();
    if len == 0 {
        // redb would take it for a new file, and the records would be gone without a word.
        return Err(StoreError::Corrupt { path: path.to_path_buf(), detail: "it is empty".into() });
    }
    let mut format = FORMAT;
    let opened = guarded(path, || {
        let database = builder().create_with_backend(storage)?;
        let (found, revision) = format_and_revision(&database.begin_read()?)?;
        format = found;
        if found == FORMAT {
            // What was read may have been in the page cache only. A commit of ours makes it durable: see the crate.
            let txn = begin(&database)?;
            mark_opened(&txn)?;
            txn.commit()?;
        }
        Ok((database, revision))
    });
    match format {
        FORMAT => opened,
        0 => Err(StoreError::Corrupt { path: path.to_path_buf(), detail: "its format is 0".into() }),
        found => Err(StoreError::Newer { path: path.to_path_buf(), found, supported: FORMAT }),
    }
}

fn create_database(disk: &mut dyn Disk, syncs: &Syncs) -> Result<Database, StoreError> {
    let (storage, len) = storage(disk, syncs)?;
    let path = disk.path();
    if len != 0 {
        return Err(StoreError::Corrupt { path: path.to_path_buf(), detail: "it is not empty".into() });
    }
    guarded(path, || {
        let database = builder().create_with_backend(storage)?;
        let txn = begin(&database)?;
        initialise(&txn)?;
        txn.commit()?;
        Ok(database)
    })
}

/// Runs `act`; a panic in it, which redb does not exclude for damaged files, is a damaged file.
fn guarded<T>(path: &Path, act: impl FnOnce() -> Result<T, TableFault>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result.map_err(|fault| fault.at(path)),
        Err(panic) => Err(StoreError::Corrupt { path: path.to_path_buf(), detail: panic_text(&*panic) }),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("unexpected content: {}", text.unwrap_or("a panic without a message"))
}

/// An error with its causes, for outcomes, which are text.
fn describe(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl TableFault {
    /// Says it in the store's words.
    fn at(self, path: &Path) -> StoreError {
        let path = path.to_path_buf();
        let error = match self {
            Self::Damaged(detail) => return StoreError::Corrupt { path, detail },
            Self::Redb(error) => *error,
        };
        let detail = error.to_string();
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::Locked { path },
            // redb reports a file too short for its header, or with a wrong one, as one of these two.
            redb::Error::Io(source)
                if !matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                StoreError::Io { doing: "read or write", path, source }
            }
            redb::Error::Unsupported | redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                StoreError::Io { doing: "read or write", path, source: io::Error::other(detail) }
            }
            _ => StoreError::Corrupt { path, detail },
        }
    }
}
