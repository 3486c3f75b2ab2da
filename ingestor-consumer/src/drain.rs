//! Drain: a blocking thread that reads a lane's partitions into recycled buffers.
//!
//! A chunk is about a mebibyte of records, copied (70 bytes a pulse cost little) so that the log's
//! own pages are held for a moment only.

use std::{collections::HashMap, sync::Arc};

use crossbeam_channel::{Receiver, Sender};
use domain::{
    Offset, Partition, PulseLog,
    log::{LogDrain, LogError},
};

use crate::{
    fold::Fold,
    handover::{Chunk, DrainCommand, DrainTo, ToLane},
};

/// The drain thread of one lane.
pub(crate) struct Drain<L: PulseLog> {
    log: Arc<L>,
    chunk_bytes: usize,
    partitions: HashMap<Partition, Reading<L::Drain>>,
    /// Readers that may be open together, at least one.
    readers_max: usize,
    /// Drains so far.
    turn: u64,
    lane: Sender<ToLane>,
    recycled: Receiver<Chunk>,
}

/// Where a partition is read.
struct Reading<D> {
    /// Behind the last record that was lent. Not the end that was asked for: records may yet come
    /// below that, and a reader that is opened again must not pass over them.
    position: Offset,
    /// Kept from tick to tick, because a broker's reader is dear to open and reads ahead. Dropped
    /// after a failure, and when others need its place.
    reader: Option<D>,
    /// The turn in which the partition was last read.
    read_in: u64,
}

/// The lane has ended, which it does only with the process or after a panic.
struct LaneGone;

impl<L: PulseLog> Drain<L> {
    pub(crate) fn new(
        log: Arc<L>,
        chunk_bytes: usize,
        readers_max: usize,
        lane: Sender<ToLane>,
        recycled: Receiver<Chunk>,
    ) -> Self {
        let (partitions, readers_max) = (HashMap::new(), readers_max.max(1));
        Self { log, chunk_bytes, partitions, readers_max, turn: 0, lane, recycled }
    }

    /// Serves commands until their sender is gone, or the lane.
    pub(crate) fn run(mut self, commands: &Receiver<DrainCommand>) {
        for command in commands {
            let served = match command {
                DrainCommand::Take { partition, fold } => self.take(partition, fold),
                DrainCommand::LetGo { partition } => {
                    self.partitions.remove(&partition);
                    self.send(ToLane::LetGo { partition })
                }
                DrainCommand::Drain(to) => self.drain_and_flush(to),
            };
            if served.is_err() {
                return;
            }
        }
    }

    fn take(&mut self, partition: Partition, fold: Box<Fold>) -> Result<(), LaneGone> {
        let reading = Reading { position: fold.folded_to(), reader: None, read_in: self.turn };
        self.partitions.insert(partition, reading);
        self.send(ToLane::Take { partition, fold })
    }

    fn drain_and_flush(&mut self, to: DrainTo) -> Result<(), LaneGone> {
        let DrainTo { partition, until, seen_at, must_store, done } = to;
        match self.drain(partition, until)? {
            Ok(()) => self.send(ToLane::Flush { partition, seen_at, must_store, done }),
            Err(error) => self.send(ToLane::Failed { partition, error, done }),
        }
    }

    fn drain(
        &mut self,
        partition: Partition,
        until: Offset,
    ) -> Result<Result<(), LogError>, LaneGone> {
        let reading = self.reading(partition);
        if reading.position >= until {
            return Ok(Ok(()));
        }
        let mut reader = match self.reader(partition) {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let mut chunk = self.recycled.try_recv().unwrap_or_default();
            chunk.clear();
            let result = reader.read(until, self.chunk_bytes, &mut |record| chunk.push(record));
            // What was lent before an error was lent in order: the lane may have it.
            if let Some(last) = chunk.last() {
                self.reading(partition).position = last.next();
                self.lane.send(ToLane::Chunk { partition, chunk }).map_err(|_| LaneGone)?;
            }
            match result {
                Ok(next) if next >= until => break,
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        self.reading(partition).reader = Some(reader);
        Ok(Ok(()))
    }

    fn reading(&mut self, partition: Partition) -> &mut Reading<L::Drain> {
        self.partitions.get_mut(&partition).expect("a tick asks for what was taken only")
    }

    /// The partition's reader, as it was left or opened where the partition stands.
    fn reader(&mut self, partition: Partition) -> Result<L::Drain, LogError> {
        self.turn += 1;
        let turn = self.turn;
        let reading = self.reading(partition);
        reading.read_in = turn;
        if let Some(reader) = reading.reader.take() {
            return Ok(reader);
        }
        let position = reading.position;
        self.make_room();
        self.log.drain(partition, position)
    }

    /// Closes the readers that were not used for longest, so that one more may be opened.
    fn make_room(&mut self) {
        let open = self.partitions.values_mut().filter(|reading| reading.reader.is_some());
        let mut open: Vec<_> = open.collect();
        open.sort_unstable_by_key(|reading| reading.read_in);
        let surplus = (open.len() + 1).saturating_sub(self.readers_max);
        open.into_iter().take(surplus).for_each(|reading| reading.reader = None);
    }

    fn send(&self, message: ToLane) -> Result<(), LaneGone> {
        self.lane.send(message).map_err(|_| LaneGone)
    }
}
