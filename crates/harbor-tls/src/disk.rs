//! Certificate files on a real disk: regular, bounded, unchanged while they are read, and inside their fence.
//!
//! Used by [`Pair::load`](crate::Pair::load) and the reloader. Parses nothing; blocks.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::lookup::{Fence, Files, MAX_FILE};
use crate::problem::Problem;

/// A file may be replaced while it is read; whoever replaces it is done long before this many attempts.
const ATTEMPTS: usize = 5;

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, fence: Option<&Fence>) -> Result<Vec<u8>, Problem> {
        let mut last = Problem::Changing;
        for _ in 0..ATTEMPTS {
            match attempt(path, fence) {
                Err(problem @ (Problem::Changing | Problem::Dangling)) => last = problem,
                other => return other,
            }
        }
        Err(last)
    }
}

fn attempt(path: &Path, fence: Option<&Fence>) -> Result<Vec<u8>, Problem> {
    let real = resolve(path)?;
    if let Some(fence) = fence {
        Fence::check(&resolve(&fence.root)?, &resolve(&fence.folder)?, &real)?;
    }
    // What is opened is the resolved path, whose last part may not have become a link; a pipe must not make us wait.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(&real) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Problem::Changing),
        Err(_) if is_link(&real) => return Err(Problem::Changing),
        Err(source) => return Err(Problem::NotReadable { source }),
    };
    let before = facts(&file)?;
    if !before.is_file() {
        return Err(Problem::NotAFile);
    }
    let bytes = read(&mut file, before.len())?;
    // Still the same file under that name, with the same bytes: neither it nor a folder above was exchanged meanwhile.
    let after = facts(&file)?;
    let named = fs::metadata(path).map_err(|_| Problem::Changing)?;
    let same = resolve(path)? == real && same_file(&before, &named) && same_content(&before, &after);
    if same { Ok(bytes) } else { Err(Problem::Changing) }
}

/// Where `path` really is.
fn resolve(path: &Path) -> Result<PathBuf, Problem> {
    fs::canonicalize(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if fs::symlink_metadata(path).is_ok() => Problem::Dangling,
        io::ErrorKind::NotFound => Problem::Missing,
        _ => Problem::NotReadable { source },
    })
}

fn read(file: &mut File, expected: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected.min(MAX_FILE)).unwrap_or(0));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|source| Problem::NotReadable { source })?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > MAX_FILE { Err(Problem::TooLarge { bytes: size.max(expected) }) } else { Ok(bytes) }
}

fn facts(file: &File) -> Result<Metadata, Problem> {
    file.metadata().map_err(|source| Problem::NotReadable { source })
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink())
}

fn same_file(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn same_content(a: &Metadata, b: &Metadata) -> bool {
    (a.len(), a.mtime(), a.mtime_nsec()) == (b.len(), b.mtime(), b.mtime_nsec())
}
