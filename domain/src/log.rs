//! Port: the pulse log, where an acknowledged pulse is safe.
//!
//! An adapter keeps records per partition, in the order they were appended, each under an offset
//! that only rises, with the time at which the log took it. It answers an append only once a crash
//! of the machine can no longer lose it.

use std::future::Future;

use thiserror::Error;

use crate::{Offset, Partition, Timestamp, generation::Generation};

/// An append-only log of records, in partitions. One process writes an embedded log; many may write
/// a broker's.
pub trait PulseLog: Send + Sync + 'static {
    /// A reader of one partition.
    type Drain: LogDrain;

    /// What is fixed about this log.
    fn generation(&self) -> &Generation;

    /// Appends records to a partition, in order, and returns their offsets in that order once all
    /// are durable. Calls for one partition that were made one after the other (first polled in
    /// that order) keep their order. Dropping the future may or may not append.
    ///
    /// # Errors
    /// `Overloaded` at once when the adapter's queue is full, with nothing appended and the records
    /// handed back; `Unknown` when it cannot tell whether they were appended.
    fn append(
        &self,
        partition: Partition,
        records: Vec<Vec<u8>>,
    ) -> impl Future<Output = Result<Vec<Offset>, AppendError>> + Send;

    /// What the partition holds now.
    ///
    /// # Errors
    /// See [`LogError`].
    fn bounds(
        &self,
        partition: Partition,
    ) -> impl Future<Output = Result<LogBounds, LogError>> + Send;

    /// Partitions that this process is to drain now, ascending: all of them, unless several
    /// processes share a log. Two processes that drain the same partition for a while do no harm.
    /// `None` while the processes have not yet agreed, which they have not where this one has none and
    /// nobody has them all: a share is empty only beside others that drain everything.
    ///
    /// # Errors
    /// See [`LogError`].
    fn assignment(&self) -> Result<Option<Vec<Partition>>, LogError> {
        Ok(Some(self.generation().partitions().collect()))
    }

    /// Tells a log that shows how far it has been read that everything below `folded_to` has its
    /// manifest (I6). Only for people who watch the log: nothing is decided by it, it returns at
    /// once, and it may be lost.
    fn note_stored(&self, _partition: Partition, _folded_to: Offset) {}

    /// Deletes records below an offset, but never the last one, where the log keeps them for as long as
    /// somebody says so; gives how many went. A broker has a rule of its own, and does nothing here.
    ///
    /// # Errors
    /// See [`LogError`]; some may be gone.
    fn trim(
        &self,
        _partition: Partition,
        _below: Offset,
    ) -> impl Future<Output = Result<u64, LogError>> + Send {
        async { Ok(0) }
    }

    /// Opens a blocking reader whose first record is the first at or after `from`.
    ///
    /// # Errors
    /// `OutOfRange` when `from` is below what is kept or above the end.
    fn drain(&self, partition: Partition, from: Offset) -> Result<Self::Drain, LogError>;
}

/// Reads one partition in offset order, blocking its thread.
pub trait LogDrain: Send + 'static {
    /// Lends records below `until` to `visit`, in order, up to about `bytes_max` of bodies but at
    /// least one, and returns the offset to go on from: `until` when there is no further record
    /// below it. Slices live only for the call.
    ///
    /// # Errors
    /// See [`LogError`]; records lent before it have been lent.
    fn read(
        &mut self,
        until: Offset,
        bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError>;
}

/// A record, lent.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// Its place.
    pub offset: Offset,
    /// When the log took it, by the log's clock. May fall between records; the fold takes the
    /// greatest seen.
    pub appended_at: Timestamp,
    /// Its bytes.
    pub body: &'a [u8],
}

/// What a partition holds: offsets in `[low, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Least offset that may still be read.
    pub low: Offset,
    /// Offset that the next record will have at the least.
    pub end: Offset,
}

/// Why an append was not acknowledged.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The queue is full. Nothing was appended.
    #[error("the log's queue is full; send again later")]
    Overloaded {
        /// The records, handed back.
        records: Vec<Vec<u8>>,
    },
    /// The log cannot take records now. Nothing was appended.
    #[error("the log takes no records: {0}")]
    Unavailable(String),
    /// They may be in the log or not. Only an identity makes sending again safe.
    #[error("it is not known whether the log has the records: {0}")]
    Unknown(String),
    /// This is not the log any more that took earlier records, so nobody would count these. They may be
    /// in it or not. From then on every append is answered so, until the log is opened again.
    #[error(transparent)]
    Replaced(LogError),
}

/// Why the log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// Passing; try again.
    #[error("the log cannot be read now: {0}")]
    Unavailable(String),
    /// The offset is gone or never was: records were lost, or this is another log.
    #[error(
        "partition {partition} holds offsets {low} to {end}, but {wanted} is needed: the log was truncated, expired or made again"
    )]
    OutOfRange {
        /// The partition that was read.
        partition: Partition,
        /// The offset asked for.
        wanted: Offset,
        /// Least offset kept.
        low: Offset,
        /// End of the log.
        end: Offset,
    },
    /// There is another record where one was before: this is another log.
    #[error(
        "partition {partition}: the record at offset {offset} is not the one that was there before: the log was made again, or truncated and written anew. Bring back the right log, or start a new log generation"
    )]
    Replaced {
        /// The partition that was read.
        partition: Partition,
        /// The place at which the two logs differ.
        offset: Offset,
    },
    /// A record's bytes do not match their checksum.
    #[error("record {offset} of partition {partition} is damaged: {message}")]
    Damaged {
        /// The partition that was read.
        partition: Partition,
        /// The place of the damaged record.
        offset: Offset,
        /// What is wrong.
        message: String,
    },
    /// Cannot be mended by trying again.
    #[error("{0}")]
    Fatal(String),
}
