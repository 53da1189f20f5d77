//! Where the bytes of a [`RedbStore`](crate::RedbStore) lie: the fault-injection seam, the file behind it in real life,
//! and how a state file comes to be. Knows nothing of what the bytes mean.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::store::StoreError;

/// A place that holds one store's bytes. Tests put disks behind it that fail and crash.
pub trait Disk: Send {
    /// A fresh handle on the bytes as they are now, not locked yet. Called when the store is opened, and again after it
    /// failed; the earlier handle is closed by then.
    ///
    /// # Errors
    /// What the system says; `NotFound` when there is nothing.
    fn storage(&mut self) -> io::Result<Box<dyn StorageBackend>>;

    /// What to call it in messages.
    fn path(&self) -> &Path;
}

/// A file.
#[derive(Clone, Debug)]
pub struct FileDisk {
    path: PathBuf,
}

impl FileDisk {
    /// The file at `path`, which exists whenever [`Disk::storage`] is called.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Disk for FileDisk {
    fn storage(&mut self) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the file at `path` if there is none: `initialise` fills a file beside it, which gets its name when it is whole
/// and on the disk. So a file of that name is never half made, and an empty one is a damaged one.
pub(crate) fn create_if_missing(
    path: &Path,
    initialise: impl FnOnce(FileDisk) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { doing: "create", path: path.to_path_buf(), source };
    if path.try_exists().map_err(io)? {
        return Ok(());
    }
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    create_folder(folder).map_err(io)?;
    // Two nodes that start at once must not both make the file: the later name would hide the earlier one, in use.
    let lock_path = beside(path, ".creating");
    let lock = private_file(&lock_path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.to_path_buf() }),
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    if !path.try_exists().map_err(io)? {
        let fresh = beside(path, ".new");
        // A leftover of a start that was cut short holds nothing that anybody was promised.
        private_file(&fresh).and_then(|file| file.set_len(0)).map_err(io)?;
        initialise(FileDisk::new(&fresh))?;
        File::open(&fresh).and_then(|file| file.sync_all()).map_err(io)?;
        std::fs::rename(&fresh, path).map_err(io)?;
        sync_folder(folder).map_err(io)?;
    }
    // Only once the file exists: whoever still waits for this lock, or makes a new one, finds the file.
    std::fs::remove_file(&lock_path).or_else(ignore_missing).map_err(io)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens a file that only this user can read, and makes it if necessary.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.try_exists()? {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The folder's own name must outlive a crash as well; who made several levels at once gets the lowest synced.
    folder.parent().filter(|parent| *parent != Path::new("")).map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Counts the syncs that succeeded on the handles of one store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Syncs(Arc<AtomicU64>);

impl Syncs {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Passes a boxed backend to redb, which takes them by type; counts its syncs.
pub(crate) struct Handle(pub(crate) Box<dyn StorageBackend>, pub(crate) Syncs);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()?;
        self.1.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
