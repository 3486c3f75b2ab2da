//! Embedded backends: files of a directory of which this process becomes the only user, or memory.
//!
//! A disk that fails a commit ends the process: what it holds then is known to nobody until the next
//! start reads it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process,
    sync::Arc,
};

use runtime::clock;
use storage::embedded::{
    DataDirectory, EmbeddedLog, EmbeddedStore, FatalHook, LogOptions, OpenError, OpenOptions,
    StoreOptions,
};

use crate::{
    config::{Loaded, Origin, urls::Place},
    exit::{Exit, Failure},
};

/// Takes the directory of a place; `None` for memory.
pub(super) fn hold(loaded: &Loaded, place: &Place) -> Result<Option<DataDirectory>, Failure> {
    directory(loaded, place).as_deref().map(hold_directory).transpose()
}

/// The same for a store beside a log, which may share the log's directory.
pub(super) fn hold_beside(
    loaded: &Loaded,
    place: &Place,
    log: Option<&DataDirectory>,
) -> Result<Option<DataDirectory>, Failure> {
    let path = directory(loaded, place);
    match (log, &path) {
        (Some(held), Some(path)) if same(held, path) => Ok(Some(held.clone())),
        _ => path.as_deref().map(hold_directory).transpose(),
    }
}

/// The directory that a place is in; `None` for memory.
pub(crate) fn directory(loaded: &Loaded, place: &Place) -> Option<PathBuf> {
    match place {
        Place::DataDirectory => Some(loaded.config.data_dir.0.clone()),
        Place::Directory(path) => Some(path.clone()),
        Place::Memory => None,
    }
}

fn hold_directory(path: &Path) -> Result<DataDirectory, Failure> {
    DataDirectory::open(path, OpenOptions::default()).map_err(|error| failure(&error))
}

fn same(held: &DataDirectory, path: &Path) -> bool {
    std::fs::canonicalize(path).is_ok_and(|path| path == held.path())
}

pub(super) fn open_log(loaded: &Loaded, directory: &DataDirectory) -> Result<EmbeddedLog, Failure> {
    let config = &loaded.config.log;
    // A fresh log draws its own identity and seed.
    let defaults = loaded.generation();
    let asked_for = |key| loaded.origin(key) != Origin::Default;
    let options = LogOptions {
        partitions: asked_for("log.partitions").then_some(defaults.partitions),
        window: asked_for("log.window").then_some(defaults.window),
        queue_requests_max: config.queue_requests_max.as_usize(),
        queue_bytes_max: config.queue_bytes_max.as_usize(),
        commit_bytes_max: config.commit_bytes_max.as_usize(),
        wal_bytes_target: config.wal_bytes_target.bytes(),
        clock_jump_max: config.clock_jump_max.duration(),
        ..LogOptions::new(defaults, Arc::new(clock::system()), fatal_hook())
    };
    EmbeddedLog::open(directory, options).map_err(|error| failure(&error))
}

pub(super) fn open_store(
    loaded: &Loaded,
    directory: &DataDirectory,
) -> Result<EmbeddedStore, Failure> {
    let config = &loaded.config.store;
    let options = StoreOptions {
        readers: config.readers.as_usize(),
        reads_queued_max: config.reads_queued_max.as_usize(),
        writes_queued_max: config.writes_queued_max.as_usize(),
        wal_bytes_target: config.wal_bytes_target.bytes(),
        read_timeout: config.read_timeout.duration(),
        ..StoreOptions::new(fatal_hook())
    };
    EmbeddedStore::open(directory, &options).map_err(|error| failure(&error))
}

/// Ends the process at once: nothing that this process still believes about the file can be relied
/// on. Every waiting caller has its answer by then.
fn fatal_hook() -> FatalHook {
    FatalHook::new(|what| {
        tracing::error!(
            what,
            "the disk failed a commit; ending so that the next start reads what it holds"
        );
        // Nothing is left to do when stderr itself is gone.
        let _ = writeln!(std::io::stderr(), "error: {what}");
        process::exit(Exit::Internal as i32);
    })
}

pub(super) fn kept_at(directory: Option<&DataDirectory>, file: &str) -> String {
    directory.map_or_else(
        || "in memory: gone when this process ends".to_owned(),
        |directory| directory.path().join(file).display().to_string(),
    )
}

fn failure(error: &OpenError) -> Failure {
    let exit = match error {
        OpenError::Held { .. } | OpenError::DiskFull { .. } => Exit::Retry,
        OpenError::ReadOnly { .. } => Exit::Permission,
        OpenError::NotADirectory { .. }
        | OpenError::Newer { .. }
        | OpenError::Older { .. }
        | OpenError::Foreign { .. }
        | OpenError::Partitions { .. }
        | OpenError::Windows { .. }
        | OpenError::Generation(_) => Exit::Config,
        OpenError::Damaged { .. } => Exit::Data,
        OpenError::Io { .. } => Exit::Internal,
    };
    Failure::new(exit, error)
}
