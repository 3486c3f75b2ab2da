//! The one thread that writes: all that is queued, one transaction, then the answers.

use std::{io, thread::JoinHandle, time::Instant};

use domain::store::StoreError;
use metrics::histogram;
use runtime::fault;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::{
    StoreOptions,
    failure::{Failure, disk_full},
};
use crate::embedded::{
    checkpoint::{Checkpointer, Gate},
    error::FatalHook,
    queue::{PushError, Pusher, Taker, bounded},
};

/// A write that waits, is done, or was refused; and the way to its caller.
trait Job: Send {
    /// Writes, again where a neighbour made the transaction start anew. A refusal of the port is kept
    /// for the answer; it does not touch the neighbours.
    fn write(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Answers: with what `write` gave, unless the transaction did not come about.
    fn answer(self: Box<Self>, transaction: Result<(), StoreError>);
}

struct Task<T, F> {
    work: F,
    given: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: Fn(&Connection) -> Result<T, Failure> + Send,
{
    fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.given = Some(match (self.work)(connection) {
            Ok(value) => Ok(value),
            Err(Failure::Store(refused)) => Err(refused),
            Err(Failure::Sqlite(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, transaction: Result<(), StoreError>) {
        let undone = || Err(StoreError::Unavailable("it was not written".to_owned()));
        let Self { work, given, answer } = *self;
        // What it wrote is let go before its caller goes on, who may hold the other end of it.
        drop(work);
        // A caller that went away is not an error.
        let _ = answer.send(transaction.and_then(|()| given.unwrap_or_else(undone)));
    }
}

/// The callers' end.
pub(super) struct Writes(Pusher<Box<dyn Job>>);

impl Writes {
    /// Queues a write of about so many bytes and waits until it is durable. It is done even if the
    /// caller goes away.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Task { work, given: None, answer });
        self.0.push(job, bytes).map_err(|error| match error {
            PushError::Full(_) => StoreError::Unavailable("too many writes wait".to_owned()),
            PushError::Closed(_) => closed(),
        })?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Takes nothing more; what is queued is still done.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store was closed, or has stopped after a failed commit".to_owned())
}

/// Starts the thread.
pub(super) fn start(
    connection: Connection,
    gate: Gate,
    checkpointer: Checkpointer,
    options: &StoreOptions,
) -> io::Result<(Writes, JoinHandle<()>)> {
    let (writes, taker) = bounded(options.writes_queued_max, usize::MAX);
    let writer = Writer { connection, gate, checkpointer, fatal: options.fatal.clone() };
    let thread = std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || writer.run(&taker))?;
    Ok((Writes(writes), thread))
}

struct Writer {
    connection: Connection,
    gate: Gate,
    checkpointer: Checkpointer,
    fatal: FatalHook,
}

/// Bytes after which a transaction takes no further write.
const COMMIT_BYTES_MAX: usize = 32 << 20;

impl Writer {
    fn run(mut self, jobs: &Taker<Box<dyn Job>>) {
        loop {
            let (batch, bytes) = jobs.take(COMMIT_BYTES_MAX);
            if batch.is_empty() {
                break;
            }
            let outcome = self.write(batch);
            jobs.release(bytes);
            if let Err(what) = outcome {
                return self.stop(&what, jobs);
            }
        }
        let Self { connection, checkpointer, .. } = self;
        drop(connection);
        checkpointer.finish();
    }

    /// Writes jobs in one transaction and answers them. One with a value that is too large is
    /// answered alone, and the others are written without it.
    ///
    /// # Errors
    /// What failed for good; every job has been answered.
    fn write(&mut self, mut jobs: Vec<Box<dyn Job>>) -> Result<(), String> {
        let started = Instant::now();
        loop {
            match self.transact(&mut jobs) {
                Ok(()) => {
                    fault::point("store.flush.after_commit");
                    histogram!("pulso_store_write_seconds").record(started.elapsed());
                    self.checkpointer.committed();
                    jobs.into_iter().for_each(|job| job.answer(Ok(())));
                    return Ok(());
                }
                Err(Outcome::TooLarge { job, why }) => {
                    error!(why, "a write has a value that the store's file cannot hold");
                    jobs.remove(job).answer(Err(StoreError::TooLarge(why)));
                    if jobs.is_empty() {
                        return Ok(());
                    }
                }
                Err(Outcome::Refused(refusal)) => {
                    warn!(%refusal, writes = jobs.len(), "write refused; nothing was written");
                    jobs.into_iter().for_each(|job| job.answer(Err(refusal.clone())));
                    return Ok(());
                }
                Err(Outcome::Fatal(what)) => {
                    let refusal = StoreError::Fatal(what.clone());
                    jobs.into_iter().for_each(|job| job.answer(Err(refusal.clone())));
                    return Err(what);
                }
            }
        }
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Outcome> {
        let _no_checkpoint_waits = self.gate.pass();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| sort("begin", &error))?;
        for (number, job) in jobs.iter_mut().enumerate() {
            if let Err(error) = job.write(&transaction) {
                let outcome = match error.sqlite_error_code() {
                    Some(ErrorCode::TooBig) => {
                        Outcome::TooLarge { job: number, why: error.to_string() }
                    }
                    _ => sort("write", &error),
                };
                return roll_back(transaction, outcome);
            }
        }
        fault::point("store.flush.before_commit");
        match transaction.execute_batch("COMMIT") {
            Ok(()) => Ok(()),
            // Met while frames are written, before the one that would commit.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                roll_back(transaction, Outcome::Refused(disk_full()))
            }
            Err(error) => Err(Outcome::Fatal(format!("commit failed: {error}"))),
        }
    }

    fn stop(self, what: &str, jobs: &Taker<Box<dyn Job>>) {
        error!(what, "the store failed; the process must end and recover what the disk holds");
        let refusal = || Err(StoreError::Fatal(what.to_owned()));
        jobs.close().into_iter().for_each(|job| job.answer(refusal()));
        self.fatal.call(what);
    }
}

/// Takes back what a transaction did, unless SQLite has.
///
/// # Errors
/// The outcome given; `Fatal` where that failed.
fn roll_back(transaction: Transaction<'_>, outcome: Outcome) -> Result<(), Outcome> {
    let open = !transaction.is_autocommit();
    let rolled_back = if open { transaction.rollback() } else { Ok(()) };
    rolled_back.map_err(|error| Outcome::Fatal(format!("rollback failed: {error}")))?;
    Err(outcome)
}

/// Why a transaction did not come about.
enum Outcome {
    /// Nothing was written, because the job of this number has a value that is too large.
    TooLarge { job: usize, why: String },
    /// Nothing was written, and the next may succeed.
    Refused(StoreError),
    /// Nobody knows what the disk holds.
    Fatal(String),
}

fn sort(step: &str, error: &rusqlite::Error) -> Outcome {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Outcome::Refused(disk_full()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Outcome::Refused(StoreError::Unavailable(
                "another program holds the store's file; close it (sqlite3, a backup)".to_owned(),
            ))
        }
        _ => Outcome::Fatal(format!("{step} failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{limits::Limit, params};

    use super::*;
    use crate::{
        conformance::together,
        embedded::{
            DataDirectory, OpenOptions, checkpoint::Wal, directory::STORE_FILE, file::DatabaseFile,
            snapshots::Snapshots, store::schema,
        },
    };

    /// Adds an entry of so many bytes to a table.
    fn entry(
        sequence: i64,
        bytes: usize,
    ) -> impl Fn(&Connection) -> Result<(), Failure> + Send + 'static {
        move |connection| {
            let values = params![sequence, vec![7u8; bytes]];
            connection.execute("INSERT INTO log_event VALUES (?1, ?2)", values)?;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_value_that_is_too_large_is_refused_alone_and_ends_nothing() {
        let home = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(home.path(), OpenOptions::default()).unwrap();
        let (file, mut connection) =
            DatabaseFile::open(&directory, &schema::KIND, 1 << 20).unwrap();
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, 100_000).unwrap();
        let gate = Gate::default();
        let wal = (Wal::follow(&mut connection, STORE_FILE).unwrap(), Snapshots::default());
        let checkpoints = file.checkpointer().unwrap();
        let checkpointer = Checkpointer::start(checkpoints, gate.clone(), wal, 1 << 20).unwrap();
        let fatal = FatalHook::new(|what| panic!("the process was told to end: {what}"));
        let options = StoreOptions::new(fatal);
        let (writes, thread) = start(connection, gate.clone(), checkpointer, &options).unwrap();
        // The first write waits at the gate, so that the others share a transaction behind it.
        let held = gate.pass();
        let first = writes.run(0, entry(0, 1));
        let others =
            [(1, 1), (2, 200_000), (3, 1)].map(|(at, bytes)| writes.run(0, entry(at, bytes)));
        let answers = {
            let mut all = std::pin::pin!(async { tokio::join!(first, together(others)) });
            let waker = std::task::Waker::noop();
            let early = all.as_mut().poll(&mut std::task::Context::from_waker(waker));
            assert!(early.is_pending());
            drop(held);
            all.await.1
        };
        let [Ok(()), Err(StoreError::TooLarge(why)), Ok(())] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert!(why.contains("too big"), "{why}");
        assert_eq!(writes.run(0, entry(4, 1)).await, Ok(()), "the store takes more");
        writes.close();
        thread.join().unwrap();
        let stored: i64 = file
            .reader()
            .unwrap()
            .query_row("SELECT sum(sequence) FROM log_event", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stored, 1 + 3 + 4);
    }
}
