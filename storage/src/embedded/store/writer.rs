//! The one thread that writes: all that is queued, one transaction, then the answers.

use std::{io, thread::JoinHandle, time::Instant};

use domain::store::StoreError;
use metrics::histogram;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use service::fault;
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
    /// Writes. A refusal of the port is kept for the answer; it does not touch the neighbours.
    fn write(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Answers: with what `write` gave, unless the transaction did not come about.
    fn answer(self: Box<Self>, transaction: Result<(), StoreError>);
}

struct Task<T, F> {
    work: Option<F>,
    given: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Failure> + Send,
{
    fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.given = Some(match work(connection) {
            Ok(value) => Ok(value),
            Err(Failure::Store(refused)) => Err(refused),
            Err(Failure::Sqlite(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, transaction: Result<(), StoreError>) {
        let undone = || Err(StoreError::Unavailable("it was not written".to_owned()));
        let Self { given, answer, .. } = *self;
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
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Task { work: Some(work), given: None, answer });
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
            let outcome = self.write(batch, bytes);
            jobs.release(bytes);
            if let Err(what) = outcome {
                return self.stop(&what, jobs);
            }
        }
        let Self { connection, checkpointer, .. } = self;
        drop(connection);
        checkpointer.finish();
    }

    /// Writes jobs in one transaction and answers them.
    ///
    /// # Errors
    /// What failed for good; every job has been answered.
    fn write(&mut self, mut jobs: Vec<Box<dyn Job>>, bytes: usize) -> Result<(), String> {
        let started = Instant::now();
        match self.transact(&mut jobs) {
            Ok(()) => {
                fault::point("store.flush.after_commit");
                histogram!("pulso_store_write_seconds").record(started.elapsed());
                self.checkpointer.wrote(bytes as u64);
                jobs.into_iter().for_each(|job| job.answer(Ok(())));
                Ok(())
            }
            Err(Outcome::Refused(refusal)) => {
                warn!(%refusal, writes = jobs.len(), "write refused; nothing was written");
                jobs.into_iter().for_each(|job| job.answer(Err(refusal.clone())));
                Ok(())
            }
            Err(Outcome::Fatal(what)) => {
                let refusal = StoreError::Fatal(what.clone());
                jobs.into_iter().for_each(|job| job.answer(Err(refusal.clone())));
                Err(what)
            }
        }
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Outcome> {
        let _no_checkpoint_waits = self.gate.pass();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| sort("begin", &error))?;
        for job in jobs {
            job.write(&transaction).map_err(|error| sort("write", &error))?;
        }
        fault::point("store.flush.before_commit");
        match transaction.execute_batch("COMMIT") {
            Ok(()) => Ok(()),
            // Met while frames are written, before the one that would commit.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                let open = !transaction.is_autocommit();
                let rolled_back = if open { transaction.rollback() } else { Ok(()) };
                rolled_back.map_err(|error| Outcome::Fatal(format!("rollback failed: {error}")))?;
                Err(Outcome::Refused(disk_full()))
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

/// Why a transaction did not come about.
enum Outcome {
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
