//! The data directory: one process holds it, by a lock that the system drops with the process.
//!
//! A directory that is made here, and every file in it, are their owner's alone, whatever the umask:
//! usage says much about whoever it is of. One that was there keeps its mode.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{error::OpenError, private};

/// The log's file in a data directory.
pub const LOG_FILE: &str = "log.db";
/// The store's file in a data directory.
pub const STORE_FILE: &str = "store.db";
const LOCK_FILE: &str = "pulso.lock";

/// A data directory that this process holds. Clones share the lock; it is let go with the last one.
/// The log and the store keep a clone each, so it cannot be let go under them.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    options: OpenOptions,
    /// Locked while it is open.
    _lock: File,
}

/// How a data directory is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Most bytes that each of the two files may take, rounded down to whole pages; past it the
    /// file is as on a full disk. Default none: the disk is the bound. Too small a bound stops
    /// ingest early; it does not lose anything.
    pub file_bytes_max: Option<u64>,
}

impl DataDirectory {
    /// Makes the directory where there is none, with mode 0700, and takes its lock. Files of ours that
    /// are there and that others may read or write become their owner's alone.
    ///
    /// # Errors
    /// `Held` when another process has it, `ReadOnly`, `NotADirectory`, `DiskFull`, `Io`.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self, OpenError> {
        private::make_directory(path).map_err(|error| OpenError::io(path, &error))?;
        let path = fs::canonicalize(path).map_err(|error| OpenError::io(path, &error))?;
        let lock = take_lock(&path)?;
        private::tighten(&path, [LOCK_FILE, LOG_FILE, STORE_FILE]);
        Ok(Self { inner: Arc::new(Inner { path, options, _lock: lock }) })
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(super) fn options(&self) -> &OpenOptions {
        &self.inner.options
    }
}

fn take_lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK_FILE);
    let mut file =
        private::open_or_create(&path).map_err(|error| OpenError::io(directory, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::Held { path: directory.to_owned(), pid: read_pid(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(OpenError::io(&path, &error)),
    }
    write_pid(&mut file).map_err(|error| OpenError::io(&path, &error))?;
    Ok(file)
}

/// The pid is for people: the lock is what counts, so a pid that cannot be read is no error.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
