//! Backends: the log and the stores that the configuration names.
//!
//! `file:` opens the embedded adapters in a directory of which this process becomes the only user;
//! log and store may share one or have their own. A disk that fails a commit ends the process: what
//! it holds then is known to nobody until the next start reads it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process,
    sync::Arc,
};

use domain::{LogId, PulseLog};
use service::clock;
use storage::{
    choice::{Billing, Log, Usage},
    embedded::{
        DataDirectory, EmbeddedLog, EmbeddedStore, FatalHook, LOG_FILE, LogOptions, OpenError,
        OpenOptions, STORE_FILE, StoreOptions,
    },
    memory::{MemoryBillingStore, MemoryLog, MemoryUsageStore},
};

use crate::{
    config::{Loaded, Origin, value::Place},
    exit::{Exit, Failure},
};

/// The three ports, open.
pub struct Backends {
    /// Where pulses are kept.
    pub log: Arc<Log>,
    /// Where totals are kept.
    pub usage: Arc<Usage>,
    /// Where catalogues are kept.
    pub billing: Arc<Billing>,
    /// What is kept, and where, for a person.
    pub kept: [(&'static str, String); 2],
    store: Option<EmbeddedStore>,
}

/// Opens what the configuration names. Blocking, at start only.
///
/// # Errors
/// With the code that scripts tell apart: held or damaged, not permitted, full, configuration.
pub fn open(loaded: &Loaded) -> Result<Backends, Failure> {
    let config = &loaded.config;
    let log_directory = directory(loaded, &config.log.url);
    let store_directory = directory(loaded, &config.store.url);
    let held_log = log_directory.as_deref().map(hold).transpose()?;
    let held_store = match (&held_log, &store_directory) {
        (Some(held), Some(path)) if same(held, path) => Some(held.clone()),
        (_, path) => path.as_deref().map(hold).transpose()?,
    };
    let log = match &held_log {
        Some(directory) => Log::Embedded(open_log(loaded, directory)?),
        None => {
            let (log_id, seed) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
            let generation = loaded.generation(LogId(log_id.into_bytes()), seed.as_u64_pair().0);
            Log::Memory(MemoryLog::new(generation, Arc::new(clock::system())))
        }
    };
    let store = held_store.as_ref().map(|held| open_store(loaded, held)).transpose()?;
    if let (Some(store), Some(held)) = (&store, &held_store) {
        check_same_log(store, held, log.generation().log_id)?;
    }
    let (usage, billing) = match &store {
        Some(store) => (Usage::Embedded(store.usage()), Billing::Embedded(store.billing())),
        None => {
            (Usage::Memory(MemoryUsageStore::new()), Billing::Memory(MemoryBillingStore::new()))
        }
    };
    let kept = [
        ("log", kept_at(held_log.as_ref(), LOG_FILE)),
        ("totals, catalogues", kept_at(held_store.as_ref(), STORE_FILE)),
    ];
    let (log, usage, billing) = (Arc::new(log), Arc::new(usage), Arc::new(billing));
    Ok(Backends { log, usage, billing, kept, store })
}

impl Backends {
    /// Ends the writers and tidies the files. What was acknowledged is durable without it.
    pub async fn close(self) {
        let closing = tokio::task::spawn_blocking(move || {
            if let Log::Embedded(log) = &*self.log {
                log.close();
            }
            if let Some(store) = &self.store {
                store.close();
            }
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing the data directory failed; what was acknowledged is in it");
        }
    }
}

/// Refuses a store whose totals came from another log: that log is gone, with whatever of it was
/// not in the store yet, and what is sent again would count again, because what was known of its
/// senders went with it.
fn check_same_log(
    store: &EmbeddedStore,
    held: &DataDirectory,
    log_id: LogId,
) -> Result<(), Failure> {
    let Some(known) = store.log_when_opened().filter(|known| *known != log_id) else {
        return Ok(());
    };
    let file = held.path().join(STORE_FILE);
    let message = format!(
        "{} holds the totals of log {known}, and the log here is another one ({log_id}): put the {LOG_FILE} back that belongs to it, from a backup if it was lost; or name another data directory for new totals. A log in memory needs a store in memory.",
        file.display()
    );
    Err(Failure::new(Exit::Data, message))
}

fn directory(loaded: &Loaded, place: &Place) -> Option<PathBuf> {
    match place {
        Place::DataDirectory => Some(loaded.config.data_dir.0.clone()),
        Place::Directory(path) => Some(path.clone()),
        Place::Memory => None,
    }
}

fn hold(path: &Path) -> Result<DataDirectory, Failure> {
    DataDirectory::open(path, OpenOptions::default()).map_err(|error| failure(&error))
}

fn same(held: &DataDirectory, path: &Path) -> bool {
    std::fs::canonicalize(path).is_ok_and(|path| path == held.path())
}

fn open_log(loaded: &Loaded, directory: &DataDirectory) -> Result<EmbeddedLog, Failure> {
    let config = &loaded.config.log;
    // A fresh log draws its own identity and seed.
    let defaults = loaded.generation(LogId([0; 16]), 0);
    let asked_for = loaded.origin("log.partitions") != Origin::Default;
    let options = LogOptions {
        partitions: asked_for.then_some(defaults.partitions),
        queue_requests_max: config.queue_requests_max.as_usize(),
        queue_bytes_max: config.queue_bytes_max.as_usize(),
        commit_bytes_max: config.commit_bytes_max.as_usize(),
        wal_bytes_target: config.wal_bytes_target.bytes(),
        ..LogOptions::new(defaults, Arc::new(clock::system()), fatal_hook())
    };
    EmbeddedLog::open(directory, options).map_err(|error| failure(&error))
}

fn open_store(loaded: &Loaded, directory: &DataDirectory) -> Result<EmbeddedStore, Failure> {
    let config = &loaded.config.store;
    let options = StoreOptions {
        readers: config.readers.as_usize(),
        reads_queued_max: config.reads_queued_max.as_usize(),
        writes_queued_max: config.writes_queued_max.as_usize(),
        wal_bytes_target: config.wal_bytes_target.bytes(),
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

fn kept_at(directory: Option<&DataDirectory>, file: &str) -> String {
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
        | OpenError::Foreign { .. }
        | OpenError::Partitions { .. }
        | OpenError::Generation(_) => Exit::Config,
        OpenError::Damaged { .. } => Exit::Data,
        OpenError::Io { .. } => Exit::Internal,
    };
    Failure::new(exit, error)
}
