//! Why a data directory cannot be opened, and what ends the process later on.

use std::{fmt, io, path::Path, path::PathBuf, sync::Arc};

use domain::{WindowLength, generation::GenerationError};
use rusqlite::ErrorCode;
use thiserror::Error;

/// Why a data directory or one of its files was not opened. Nothing in it was changed, but that
/// missing files may have been created.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "data directory {path} is in use by {holder}: stop that process, or name another directory",
        path = path.display(),
        holder = Holder(*pid)
    )]
    Held {
        /// The data directory that is in use.
        path: PathBuf,
        /// The process, where it could be read.
        pid: Option<u32>,
    },
    /// Nothing can be written there.
    #[error(
        "{path} cannot be written ({message}): make it writable for this user, or name another data directory",
        path = path.display()
    )]
    ReadOnly {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// The path, or a part of it, is something else.
    #[error("{path} is not a directory: name a directory, or a path where one can be made", path = path.display())]
    NotADirectory {
        /// The path that was to be a directory.
        path: PathBuf,
    },
    /// A later version of this program wrote the file.
    #[error(
        "{path} has format version {found}, and this program reads version {supported}: use the version of the program that wrote it, or a later one",
        path = path.display()
    )]
    Newer {
        /// The file in the newer format.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that can be read.
        supported: u32,
    },
    /// An earlier version of this program wrote the file, in a format that is not read any more.
    #[error(
        "{path} has format version {found}, and this program reads version {supported}: {remedy}",
        path = path.display()
    )]
    Older {
        /// The file in the older format.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that can be read.
        supported: u32,
        /// What to do.
        remedy: &'static str,
    },
    /// An SQLite file of some other program.
    #[error(
        "{path} is an SQLite file of another program (application id {found:#x}): name another data directory",
        path = path.display()
    )]
    Foreign {
        /// The file of the other program.
        path: PathBuf,
        /// The application id in it.
        found: i32,
    },
    /// Truncated or overwritten.
    #[error(
        "{path} is damaged ({message}): restore the data directory from a backup; keep the damaged file, its intact records may still be read",
        path = path.display()
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// No room.
    #[error("no room for {path}: the disk is full; free some space, or name a data directory elsewhere", path = path.display())]
    DiskFull {
        /// The file that needs room.
        path: PathBuf,
    },
    /// The log has another number of partitions than was asked for.
    #[error(
        "{path} has {stored} partitions, but {wanted} are configured, and a log's number is fixed for its life: configure {stored}, or start on a fresh data directory",
        path = path.display()
    )]
    Partitions {
        /// The log's file.
        path: PathBuf,
        /// As configured.
        wanted: u16,
        /// As stored.
        stored: u16,
    },
    /// The log has windows of another length than was asked for.
    #[error(
        "{path} has windows of {stored}, but {wanted} are configured (log.window), and an embedded log's are fixed for its life: configure {stored}, or start on a fresh data directory and send the usage again",
        path = path.display()
    )]
    Windows {
        /// The log's file.
        path: PathBuf,
        /// As configured.
        wanted: WindowLength,
        /// As stored.
        stored: WindowLength,
    },
    /// The parameters given for a fresh log make no generation.
    #[error("the log's parameters do not fit together: {0}")]
    Generation(#[from] GenerationError),
    /// Anything else.
    #[error("{path} cannot be opened: {message}", path = path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

impl OpenError {
    /// Sorts an error of the file system.
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        let (path, message) = (path.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, message }
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                Self::NotADirectory { path }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { path, message },
        }
    }

    /// Sorts an error of SQLite.
    pub(super) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, message) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, message }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { path, message }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            _ => Self::Io { path, message },
        }
    }
}

/// What to do when a file cannot be relied on any more: end the process.
///
/// It is called at most once a file, from the file's writer thread, after every waiting caller was
/// given its answer (`Unknown` for appends). From then on the file takes nothing.
#[derive(Clone)]
pub struct FatalHook(Arc<dyn Fn(&str) + Send + Sync>);

impl FatalHook {
    /// Calls `end` with what happened.
    pub fn new(end: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(end))
    }

    pub(super) fn call(&self, what: &str) {
        (self.0)(what);
    }
}

impl fmt::Debug for FatalHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FatalHook")
    }
}
