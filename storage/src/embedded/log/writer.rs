//! The one thread that appends: all that is queued, one transaction, then the answers.
//!
//! Order: insert, commit (which syncs), publish the new ends, answer. An answer is sent only after
//! the commit returned, and a drain sees a record only after it was committed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{
    Offset, Partition, Timestamp,
    generation::Generation,
    log::{AppendError, LogBounds},
};
use metrics::{counter, histogram};
use runtime::fault;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::{LogOptions, OFFSETS_MAX, guard::ClockGuard, offset_of, place};
use crate::embedded::{
    checkpoint::{Checkpointer, Gate},
    error::FatalHook,
    file,
    queue::Taker,
};

/// Keeps a record well below what SQLite can hold in a row.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Records for one partition, and where the answer goes.
pub(super) struct Request {
    pub(super) partition: Partition,
    pub(super) records: Vec<Vec<u8>>,
    pub(super) answer: oneshot::Sender<Result<Vec<Offset>, AppendError>>,
}

/// The records of a partition below an offset go, but for its last one.
pub(super) struct Trim {
    pub(super) partition: Partition,
    pub(super) below: Offset,
    /// How many of them went; fewer than all while there are more.
    pub(super) answer: oneshot::Sender<Result<u64, String>>,
}

/// What the thread is asked to do.
pub(super) enum Work {
    Append(Request),
    Trim(Trim),
}

/// Records that are deleted in one transaction: some milliseconds in which no append is answered.
const TRIMMED_AT_ONCE: u64 = 256;
/// Pages that are given back to the file system in one transaction.
const FREED_AT_ONCE: u32 = 256;

impl Request {
    /// A caller that went away is not an error.
    fn answer(self, answer: Result<Vec<Offset>, AppendError>) {
        let _ = self.answer.send(answer);
    }
}

/// What a partition holds, as of the last commit.
pub(super) struct Bounds {
    /// Raised before records are deleted, so that nobody begins to read one that goes.
    low: AtomicU64,
    end: AtomicU64,
}

impl Bounds {
    pub(super) fn get(&self) -> LogBounds {
        let low = Offset(self.low.load(Ordering::Acquire));
        LogBounds { low, end: Offset(self.end.load(Ordering::Acquire)) }
    }
}

/// Reads the bounds of every partition: two steps down the tree each.
pub(super) fn read_bounds(
    connection: &Connection,
    generation: &Generation,
) -> rusqlite::Result<Arc<[Bounds]>> {
    let mut statement = connection.prepare(
        "SELECT (SELECT min(place) FROM record WHERE place >= ?1 AND place < ?2),
                (SELECT max(place) FROM record WHERE place >= ?1 AND place < ?2)",
    )?;
    let bounds = generation.partitions().map(|partition| {
        let range = [place(partition, 0), place(Partition(partition.0 + 1), 0)];
        statement.query_row(range, |row| {
            let (low, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
            let end = last.map_or(0, |last| offset_of(last) + 1);
            let low = AtomicU64::new(low.map_or(0, offset_of));
            Ok(Bounds { low, end: AtomicU64::new(end) })
        })
    });
    bounds.collect::<rusqlite::Result<Vec<_>>>().map(Arc::from)
}

/// The thread's state.
pub(super) struct Writer {
    connection: Connection,
    bounds: Arc<[Bounds]>,
    gate: Gate,
    checkpointer: Checkpointer,
    clock: ClockGuard,
    fatal: FatalHook,
    commit_bytes_max: usize,
}

/// Why a transaction did not come about.
enum Failure {
    /// Nothing was appended, and the next may succeed.
    Refused(String),
    /// Nobody knows what the disk holds.
    Fatal(String),
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        bounds: Arc<[Bounds]>,
        (gate, checkpointer): (Gate, Checkpointer),
        clock: ClockGuard,
        options: &LogOptions,
    ) -> Self {
        let (fatal, commit_bytes_max) = (options.fatal.clone(), options.commit_bytes_max);
        Self { connection, bounds, gate, checkpointer, clock, fatal, commit_bytes_max }
    }

    /// Works until the queue is closed or it has failed for good.
    pub(super) fn run(mut self, requests: &Taker<Work>) {
        loop {
            let (taken, bytes) = requests.take(self.commit_bytes_max);
            if taken.is_empty() {
                break;
            }
            let (mut batch, mut trims) = (Vec::with_capacity(taken.len()), Vec::new());
            for work in taken {
                match work {
                    Work::Append(request) => batch.push(request),
                    Work::Trim(trim) => trims.push(trim),
                }
            }
            if let Err(what) = self.trim_all(trims) {
                batch.into_iter().for_each(|request| request.answer(Err(unknown(&what))));
                return self.stop(&what, requests);
            }
            if batch.is_empty() {
                requests.release(bytes);
                continue;
            }
            let started = Instant::now();
            let outcome = self.transact(&batch);
            if outcome.is_ok() {
                fault::point("log.append.after_commit");
                self.measure(batch.len(), bytes, started.elapsed());
            }
            // Before the answers: whoever was answered finds the room free.
            requests.release(bytes);
            if let Err(what) = answer(batch, outcome) {
                return self.stop(&what, requests);
            }
        }
        let Self { connection, checkpointer, .. } = self;
        drop(connection);
        checkpointer.finish();
    }

    fn transact(&mut self, batch: &[Request]) -> Result<Vec<Vec<Offset>>, Failure> {
        let reading = self.clock.read().map_err(Failure::Refused)?;
        let mut ends: Vec<u64> =
            self.bounds.iter().map(|bounds| bounds.end.load(Ordering::Relaxed)).collect();
        let offsets = {
            let _no_checkpoint_waits = self.gate.pass();
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|error| sort("begin", &error))?;
            fault::point("log.append.before_insert");
            let offsets = insert(&transaction, batch, reading.now, &mut ends)?;
            fault::point("log.append.before_commit");
            commit(transaction)?;
            offsets
        };
        for (bounds, end) in self.bounds.iter().zip(ends) {
            bounds.end.store(end, Ordering::Release);
        }
        self.clock.appended(reading);
        Ok(offsets)
    }

    /// Deletes what is to be trimmed.
    ///
    /// # Errors
    /// What failed for good.
    fn trim_all(&mut self, trims: Vec<Trim>) -> Result<(), String> {
        for Trim { partition, below, answer } in trims {
            let outcome = match self.trim(partition, below) {
                Ok(count) => Ok(count),
                Err(Failure::Refused(why)) => Err(why),
                Err(Failure::Fatal(what)) => return Err(what),
            };
            // A caller that went away is not an error.
            let _ = answer.send(outcome);
        }
        Ok(())
    }

    fn trim(&mut self, partition: Partition, below: Offset) -> Result<u64, Failure> {
        let bounds = &self.bounds[usize::from(partition.0)];
        let LogBounds { low, end } = bounds.get();
        // The last record says where the next one goes, also after a restart.
        let to = below.0.min(end.0.saturating_sub(1)).min(low.0 + TRIMMED_AT_ONCE);
        if to <= low.0 {
            return Ok(0);
        }
        bounds.low.store(to, Ordering::Release);
        let _no_checkpoint_waits = self.gate.pass();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| sort("begin", &error))?;
        let range = [place(partition, low.0), place(partition, to)];
        transaction
            .prepare_cached("DELETE FROM record WHERE place >= ?1 AND place < ?2")
            .and_then(|mut delete| delete.execute(range))
            .map_err(|error| sort("trim", &error))?;
        give_back(&transaction).map_err(|error| sort("trim", &error))?;
        commit(transaction)?;
        self.checkpointer.committed();
        Ok(to - low.0)
    }

    fn measure(&self, requests: usize, bytes: usize, elapsed: Duration) {
        histogram!("pulso_log_append_seconds").record(elapsed);
        histogram!("pulso_log_append_requests").record(u32::try_from(requests).unwrap_or(u32::MAX));
        counter!("pulso_log_append_bytes_total").increment(bytes as u64);
        self.checkpointer.committed();
    }

    /// Answers all that wait, then ends the process through the hook. Nothing is tried again.
    fn stop(self, what: &str, requests: &Taker<Work>) {
        error!(what, "the log failed; the process must end and recover what the disk holds");
        for work in requests.close() {
            if let Work::Append(request) = work {
                request.answer(Err(unknown(what)));
            }
        }
        self.fatal.call(what);
    }
}

fn unknown(what: &str) -> AppendError {
    AppendError::Unknown(what.to_owned())
}

/// Gives pages back to the file system where a quarter of the file is free; fewer are soon used again.
fn give_back(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let pragma = |name: &str| -> rusqlite::Result<i64> {
        transaction.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
    };
    let (free, all) = (pragma("freelist_count")?, pragma("page_count")?);
    if free * 4 < all {
        return Ok(());
    }
    file::give_back(transaction, FREED_AT_ONCE)
}

/// Answers a batch.
///
/// # Errors
/// What failed for good; every request of the batch has been answered `Unknown`.
fn answer(batch: Vec<Request>, outcome: Result<Vec<Vec<Offset>>, Failure>) -> Result<(), String> {
    match outcome {
        Ok(offsets) => {
            let given = batch.into_iter().zip(offsets);
            given.for_each(|(request, offsets)| request.answer(Ok(offsets)));
            Ok(())
        }
        Err(Failure::Refused(why)) => {
            warn!(%why, requests = batch.len(), "append refused; nothing was written");
            let refused = || Err(AppendError::Unavailable(why.clone()));
            batch.into_iter().for_each(|request| request.answer(refused()));
            Ok(())
        }
        Err(Failure::Fatal(what)) => {
            let unknown = || Err(AppendError::Unknown(what.clone()));
            batch.into_iter().for_each(|request| request.answer(unknown()));
            Err(what)
        }
    }
}

fn insert(
    transaction: &Transaction<'_>,
    batch: &[Request],
    now: Timestamp,
    ends: &mut [u64],
) -> Result<Vec<Vec<Offset>>, Failure> {
    let mut statement = transaction
        .prepare_cached(
            "INSERT INTO record (place, appended_at, crc32c, body) VALUES (?1, ?2, ?3, ?4)",
        )
        .map_err(|error| sort("prepare", &error))?;
    let mut offsets = Vec::with_capacity(batch.len());
    for request in batch {
        let end = &mut ends[usize::from(request.partition.0)];
        let mut given = Vec::with_capacity(request.records.len());
        for body in &request.records {
            check_room(*end)?;
            statement
                .execute(params![
                    place(request.partition, *end),
                    now.micros(),
                    crc32c::crc32c(body),
                    body
                ])
                .map_err(|error| sort("insert", &error))?;
            given.push(Offset(*end));
            *end += 1;
        }
        offsets.push(given);
    }
    Ok(offsets)
}

/// Lets records pass that a row can hold, before they wait beside others.
///
/// # Errors
/// `Unavailable` for one that is too large.
pub(super) fn check_lengths(records: &[Vec<u8>]) -> Result<(), AppendError> {
    match records.iter().map(Vec::len).find(|length| *length > RECORD_BYTES_MAX) {
        Some(length) => Err(AppendError::Unavailable(format!(
            "a record of {length} bytes; at most {RECORD_BYTES_MAX} can be kept"
        ))),
        None => Ok(()),
    }
}

fn check_room(offset: u64) -> Result<(), Failure> {
    if offset >= OFFSETS_MAX {
        return Err(Failure::Refused("the partition is full: start a new log".to_owned()));
    }
    Ok(())
}

/// Commits. A full disk is met while frames are written, before the one that would commit, so it
/// rolls back cleanly; any other failure, the sync's above all, leaves the disk unknown.
fn commit(transaction: Transaction<'_>) -> Result<(), Failure> {
    let answer = transaction.execute_batch("COMMIT");
    match answer {
        // Dropping a transaction that is over does nothing.
        Ok(()) => Ok(()),
        Err(error) if is_disk_full(&error) => {
            let rolled_back = match transaction.is_autocommit() {
                true => Ok(()),
                false => transaction.rollback(),
            };
            rolled_back.map_err(|error| Failure::Fatal(format!("rollback failed: {error}")))?;
            Err(disk_full())
        }
        Err(error) => Err(Failure::Fatal(format!("commit failed: {error}"))),
    }
}

/// Sorts what failed before the commit: the transaction is rolled back when it is dropped.
fn sort(step: &str, error: &rusqlite::Error) -> Failure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => disk_full(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::Refused(
            "another program holds the log's file; close it (sqlite3, a backup)".to_owned(),
        ),
        // A value, not the disk: the transaction is rolled back and the file is well.
        Some(ErrorCode::TooBig) => Failure::Refused(format!("{step}: a record is too large")),
        _ => Failure::Fatal(format!("{step} failed: {error}")),
    }
}

fn disk_full() -> Failure {
    Failure::Refused("the disk is full: free some space".to_owned())
}

fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// The greatest append time of the partitions' last records.
pub(super) fn read_appended_last(
    connection: &Connection,
    bounds: &[Bounds],
) -> rusqlite::Result<Timestamp> {
    let mut statement = connection.prepare("SELECT appended_at FROM record WHERE place = ?1")?;
    let mut last = Timestamp::MIN;
    for (number, bounds) in (0u16..).zip(bounds) {
        let LogBounds { end, .. } = bounds.get();
        if let Some(offset) = end.0.checked_sub(1) {
            let micros =
                statement.query_row([place(Partition(number), offset)], |row| row.get(0))?;
            last = last.max(Timestamp::from_micros(micros).unwrap_or(Timestamp::MIN));
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_value_that_is_too_large_is_told_apart_from_a_disk_that_fails() {
        let sorted =
            |code| sort("insert", &rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(matches!(sorted(ffi::SQLITE_TOOBIG), Failure::Refused(_)));
        assert!(matches!(sorted(ffi::SQLITE_FULL), Failure::Refused(_)));
        assert!(matches!(sorted(ffi::SQLITE_IOERR), Failure::Fatal(_)));
    }
}
