//! Drain: a blocking thread that reads a lane's partitions into recycled buffers.
//!
//! A chunk is about a mebibyte of records, copied (70 bytes a pulse cost little) so that the log's
//! own pages are held for a moment only. The bounded channel to the lane is the back-pressure: when
//! the lane is behind, reading waits.

use std::{collections::HashMap, sync::Arc};

use crossbeam_channel::{Receiver, Sender};
use domain::{
    Offset, Partition, PulseLog, Timestamp,
    log::{LogDrain, LogError, LogRecord},
};
use tokio::sync::oneshot;

use crate::{consumer::PartitionReport, lane::ToLane};

/// Asks for all records of a partition below `until`.
pub(crate) struct DrainCommand {
    pub(crate) partition: Partition,
    pub(crate) until: Offset,
    /// When `until` was seen to be the end of the log.
    pub(crate) seen_at: Timestamp,
    /// Answered once everything below `until` is stored.
    pub(crate) done: Done,
}

/// Where the end of a drain is reported.
pub(crate) type Done = oneshot::Sender<Result<PartitionReport, StopReason>>;

/// Why a partition went no further.
#[derive(Debug)]
pub(crate) enum StopReason {
    /// Reading failed; the next tick tries again.
    Log(LogError),
    /// The partition is stopped until the process starts again.
    Stopped(Arc<str>),
}

/// Records of one partition, copied out of the log.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    bodies: Vec<u8>,
    records: Vec<(Offset, Timestamp, usize)>,
}

impl Chunk {
    fn push(&mut self, record: LogRecord<'_>) {
        self.bodies.extend_from_slice(record.body);
        self.records.push((record.offset, record.appended_at, self.bodies.len()));
    }

    fn clear(&mut self) {
        self.bodies.clear();
        self.records.clear();
    }

    /// The records in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = LogRecord<'_>> {
        let mut start = 0;
        self.records.iter().map(move |(offset, appended_at, end)| {
            let body = &self.bodies[start..*end];
            start = *end;
            LogRecord { offset: *offset, appended_at: *appended_at, body }
        })
    }
}

/// The drain thread of one lane.
pub(crate) struct Drain<L: PulseLog> {
    log: Arc<L>,
    chunk_bytes: usize,
    positions: HashMap<Partition, Offset>,
    lane: Sender<ToLane>,
    recycled: Receiver<Chunk>,
}

impl<L: PulseLog> Drain<L> {
    /// `positions` are the offsets to read from next.
    pub(crate) fn new(
        log: Arc<L>,
        chunk_bytes: usize,
        positions: HashMap<Partition, Offset>,
        lane: Sender<ToLane>,
        recycled: Receiver<Chunk>,
    ) -> Self {
        Self { log, chunk_bytes, positions, lane, recycled }
    }

    /// Serves commands until their sender is gone.
    pub(crate) fn run(mut self, commands: &Receiver<DrainCommand>) {
        for DrainCommand { partition, until, seen_at, done } in commands {
            let message = match self.drain(partition, until) {
                Ok(()) => ToLane::Flush { partition, seen_at, done },
                Err(error) => {
                    // The tick may have been dropped; then nobody asks.
                    drop(done.send(Err(StopReason::Log(error))));
                    continue;
                }
            };
            if self.lane.send(message).is_err() {
                return;
            }
        }
    }

    fn drain(&mut self, partition: Partition, until: Offset) -> Result<(), LogError> {
        let position = self.positions.entry(partition).or_default();
        if *position >= until {
            return Ok(());
        }
        let mut reader = self.log.drain(partition, *position)?;
        while *position < until {
            let mut chunk = self.recycled.try_recv().unwrap_or_default();
            chunk.clear();
            let result = reader.read(until, self.chunk_bytes, &mut |record| chunk.push(record));
            // What was lent before an error was lent in order: the lane may have it.
            let next = match (&result, chunk.records.last()) {
                (Ok(next), _) => *next,
                (Err(_), Some((last, ..))) => last.next(),
                (Err(_), None) => *position,
            };
            *position = next;
            if !chunk.records.is_empty()
                && self.lane.send(ToLane::Chunk { partition, chunk }).is_err()
            {
                let message = "the lane has ended; see the log above for its reason".to_owned();
                return Err(LogError::Fatal(message));
            }
            result?;
        }
        Ok(())
    }
}
