//! The pulse log in `log.db`: one row a record, appended by one thread, drained by many.
//!
//! This append is the hot path. Measured on two shared cores with 16 million pulses of 68 bytes, 500
//! a record, 2 MB a commit, in CPU ns a pulse, medians of three (range): appended as it is 114
//! (107-201) and drained 10; with bodies in LZ4 blocks 176 (175-184) and drained 42, though the file is
//! then 0.29 of the size. So bodies are kept as they are. The whole adapter, 32 appends in flight:
//! 7.4 million pulses/s and 134 CPU ns appended, 100 million and 10 drained (`tests/cost.rs`).

mod drain;
mod guard;
mod writer;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    Clock, Offset, Partition, PulseLog, WindowLength,
    generation::Generation,
    log::{AppendError, LogBounds, LogError},
};
use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::info;

pub use drain::EmbeddedDrain;

use self::{
    guard::{ClockGuard, LastAppend},
    writer::{Bounds, Request, Trim, Work, Writer},
};
use super::{
    checkpoint::{Checkpointer, Gate, Wal},
    directory::{DataDirectory, LOG_FILE},
    error::{FatalHook, OpenError},
    file::{DatabaseFile, FileKind},
    generation,
    queue::{self, PushError, Pusher},
    snapshots::Snapshots,
};
use crate::{answers::no_partition, identity};

/// Bits of a place that are the offset; the partition stands above them.
const OFFSET_BITS: u32 = 48;
/// No partition reaches this many records: at a million a second it takes nine years.
const OFFSETS_MAX: u64 = 1 << OFFSET_BITS;

pub(super) const KIND: FileKind = FileKind {
    name: LOG_FILE,
    application_id: 0x506c_734c, // "PlsL"
    version: 1,
    schema: &[generation::SCHEMA, SCHEMA],
    upgrade: None,
    older_remedy: "use the version of the program that wrote it",
};

/// `place` is partition << 48 | offset; `appended_at` is in microseconds since 1970; the checksum is
/// of the body.
const SCHEMA: &str = "
    CREATE TABLE record (
        place       INTEGER PRIMARY KEY,
        appended_at INTEGER NOT NULL,
        crc32c      INTEGER NOT NULL,
        body        BLOB NOT NULL
    ) STRICT;
";

/// How a log is opened.
#[derive(Clone)]
pub struct LogOptions {
    /// What a fresh log is made with. Its `log_id` and `hash_seed` are not used: they are drawn at
    /// random. A log that is there keeps what it was made with.
    pub defaults: Generation,
    /// Partitions that must be there, where the user asked for a number. Default none: a log that
    /// is there is taken as it is, a fresh one gets those of `defaults`.
    pub partitions: Option<u16>,
    /// Length of the windows that it must have, where the user asked for one. Default none, as for
    /// `partitions`.
    pub window: Option<WindowLength>,
    /// Where append times come from.
    pub clock: Arc<dyn Clock>,
    /// Called when a commit or sync failed; see [`FatalHook`].
    pub fatal: FatalHook,
    /// Appends that may wait. One more is `Overloaded`. Default 4,096; too few refuse a burst, too
    /// many only add waiting.
    pub queue_requests_max: usize,
    /// Bytes of records that may wait or be written. An append that would pass it is `Overloaded`,
    /// unless it is alone. Default 64 MiB; this is also the memory the log takes at most.
    pub queue_bytes_max: usize,
    /// Bytes after which a transaction takes no further append. Default 8 MiB, some 25 ms of a
    /// disk that writes 0.3 GB/s; more raises the time to an answer under load, less the number of
    /// syncs.
    pub commit_bytes_max: usize,
    /// Bytes of pages written between checkpoints. Default 16 MiB; the write-ahead log takes about
    /// four times as much of the disk. With 64 MiB the syncs of the checkpoints made the slowest acks at
    /// half of the peak rate wait two to eight times longer, at the same peak.
    pub wal_bytes_target: u64,
    /// How far the clock may jump forward, against the time that has passed since the log was
    /// opened, before appends are refused. Default 10 minutes. Small ones refuse what a correction of
    /// the clock makes right; large ones let wrong times into the log, which an operator must take
    /// back.
    pub clock_jump_max: Duration,
}

impl LogOptions {
    /// The options of a log with these three and defaults else.
    #[must_use]
    pub fn new(defaults: Generation, clock: Arc<dyn Clock>, fatal: FatalHook) -> Self {
        Self {
            defaults,
            partitions: None,
            window: None,
            clock,
            fatal,
            queue_requests_max: 4_096,
            queue_bytes_max: 64 << 20,
            commit_bytes_max: 8 << 20,
            wal_bytes_target: 16 << 20,
            clock_jump_max: Duration::from_secs(600),
        }
    }
}

/// The embedded pulse log. Clones are handles of the same log.
#[derive(Clone)]
pub struct EmbeddedLog {
    inner: Arc<Inner>,
}

struct Inner {
    generation: Generation,
    file: DatabaseFile,
    bounds: Arc<[Bounds]>,
    queue: Pusher<Work>,
    appended_last: LastAppend,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Let go last.
    _directory: DataDirectory,
}

impl EmbeddedLog {
    /// Opens the log of a data directory, or makes one. Blocking.
    ///
    /// # Errors
    /// Any [`OpenError`] but `Held`.
    pub fn open(directory: &DataDirectory, options: LogOptions) -> Result<Self, OpenError> {
        let (file, mut connection) =
            DatabaseFile::open(directory, &KIND, options.wal_bytes_target)?;
        let sqlite = |error: rusqlite::Error| OpenError::sqlite(file.path(), &error);
        let generation = open_generation(&connection, &file, &options)?;
        let bounds = writer::read_bounds(&connection, &generation).map_err(sqlite)?;
        let gate = Gate::default();
        let checkpoints = file.checkpointer().map_err(sqlite)?;
        // The log is read in transactions of a bounded length, so no read has to be ended.
        let wal = (Wal::follow(&mut connection, LOG_FILE).map_err(sqlite)?, Snapshots::default());
        let target = options.wal_bytes_target;
        let checkpointer = Checkpointer::start(checkpoints, gate.clone(), wal, target)
            .map_err(|error| OpenError::io(file.path(), &error))?;
        let (queue, requests) = queue::bounded(options.queue_requests_max, options.queue_bytes_max);
        let appended_last = writer::read_appended_last(&connection, &bounds).map_err(sqlite)?;
        let appended_last = LastAppend::at(appended_last);
        let clock =
            ClockGuard::new(options.clock.clone(), options.clock_jump_max, appended_last.clone());
        let gated = (gate, checkpointer);
        let writer = Writer::new(connection, bounds.clone(), gated, clock, &options);
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run(&requests))
            .map_err(|error| OpenError::io(file.path(), &error))?;
        let (writer, _directory) = (Mutex::new(Some(writer)), directory.clone());
        info!(path = %file.path().display(), log_id = %generation.log_id, partitions = generation.partitions, window = %generation.window, "log opened");
        let inner = Inner { generation, file, bounds, queue, appended_last, writer, _directory };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does what is queued, copies the write-ahead log into the file, and ends the threads.
    /// Appends are `Unavailable` afterwards. Blocking; does nothing the second time.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Lets the next append be earlier than the last one, because an operator has said that the last
    /// one's time is wrong.
    pub fn forget_last_append(&self) {
        self.inner.appended_last.forget();
    }

    fn bounds_now(&self, partition: Partition) -> Result<LogBounds, LogError> {
        let bounds = self.inner.bounds.get(usize::from(partition.0));
        bounds.map(Bounds::get).ok_or_else(|| no_partition(partition))
    }
}

impl Inner {
    fn close(&self) {
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the log's writer panicked; what was acknowledged is in the log");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl PulseLog for EmbeddedLog {
    type Drain = EmbeddedDrain;

    fn generation(&self) -> &Generation {
        &self.inner.generation
    }

    async fn append(
        &self,
        partition: Partition,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Offset>, AppendError> {
        if partition.0 >= self.inner.generation.partitions {
            return Err(AppendError::Unavailable(no_partition(partition).to_string()));
        }
        writer::check_lengths(&records)?;
        let (answer, answered) = oneshot::channel();
        let bytes = records.iter().map(Vec::len).sum();
        let request = Request { partition, records, answer };
        self.inner.queue.push(Work::Append(request), bytes).map_err(|error| match error {
            PushError::Full(Work::Append(Request { records, .. })) => {
                AppendError::Overloaded { records }
            }
            PushError::Full(Work::Trim(_)) | PushError::Closed(_) => AppendError::Unavailable(
                "it was closed, or has stopped after a failed commit".to_owned(),
            ),
        })?;
        answered.await.unwrap_or_else(|_| {
            Err(AppendError::Unknown("the log stopped before it answered".to_owned()))
        })
    }

    async fn bounds(&self, partition: Partition) -> Result<LogBounds, LogError> {
        self.bounds_now(partition)
    }

    async fn trim(&self, partition: Partition, below: Offset) -> Result<u64, LogError> {
        let mut trimmed = 0;
        loop {
            let LogBounds { low, .. } = self.bounds_now(partition)?;
            if low >= below {
                return Ok(trimmed);
            }
            let (answer, answered) = oneshot::channel();
            let busy = || LogError::Unavailable("its queue is full or closed".to_owned());
            let work = Work::Trim(Trim { partition, below, answer });
            self.inner.queue.push(work, 0).map_err(|_| busy())?;
            match answered.await {
                Ok(Ok(0)) => return Ok(trimmed),
                Ok(Ok(some)) => trimmed += some,
                Ok(Err(why)) => return Err(LogError::Unavailable(why)),
                Err(_) => return Err(busy()),
            }
        }
    }

    fn drain(&self, partition: Partition, from: Offset) -> Result<EmbeddedDrain, LogError> {
        let LogBounds { low, end } = self.bounds_now(partition)?;
        if from < low || from > end {
            return Err(LogError::OutOfRange { partition, wanted: from, low, end });
        }
        let connection = self.inner.file.reader().map_err(|error| {
            LogError::Unavailable(format!("{}: {error}", self.inner.file.path().display()))
        })?;
        Ok(EmbeddedDrain::new(connection, self.clone(), partition, from))
    }
}

/// The stored generation, or a fresh one with an identity and a seed of its own.
fn open_generation(
    connection: &Connection,
    file: &DatabaseFile,
    options: &LogOptions,
) -> Result<Generation, OpenError> {
    let sqlite = |error: rusqlite::Error| OpenError::sqlite(file.path(), &error);
    let Some(stored) = generation::newest(connection).map_err(sqlite)? else {
        let partitions = options.partitions.unwrap_or(options.defaults.partitions);
        let window = options.window.unwrap_or(options.defaults.window);
        let fresh = identity::fresh(Generation { partitions, window, ..options.defaults });
        fresh.check()?;
        generation::check_storable(&fresh)?;
        generation::insert(connection, &fresh).map_err(sqlite)?;
        return Ok(fresh);
    };
    let path = || file.path().to_owned();
    match (options.partitions, options.window) {
        (Some(wanted), _) if wanted != stored.partitions => {
            Err(OpenError::Partitions { path: path(), wanted, stored: stored.partitions })
        }
        (_, Some(wanted)) if wanted != stored.window => {
            Err(OpenError::Windows { path: path(), wanted, stored: stored.window })
        }
        _ => Ok(stored),
    }
}

/// The primary key of a record.
pub(super) fn place(partition: Partition, offset: u64) -> i64 {
    // At most 1,024 partitions, so 58 bits.
    (i64::from(partition.0) << OFFSET_BITS) | offset.cast_signed()
}

/// The offset in a primary key.
fn offset_of(place: i64) -> u64 {
    place.cast_unsigned() & (OFFSETS_MAX - 1)
}
