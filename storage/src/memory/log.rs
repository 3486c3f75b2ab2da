//! The pulse log in memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use domain::{
    Clock, Offset, Partition, PulseLog, Timestamp,
    generation::Generation,
    log::{AppendError, LogBounds, LogDrain, LogError, LogRecord},
};
use tokio::sync::watch;

use super::lock;
use crate::answers::no_partition;

/// A log that lives as long as its handles. Appends are acknowledged at once unless a test holds
/// the acknowledgements back.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

struct Shared {
    generation: Generation,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// How many [`HeldAcks`] there are; appends are acknowledged while there is none.
    holds: watch::Sender<usize>,
}

struct State {
    partitions: Vec<Records>,
    faults: VecDeque<AppendFault>,
    /// Appends whose acknowledgement is held back.
    waiting: usize,
    waiting_max: usize,
}

#[derive(Default)]
struct Records {
    low: Offset,
    end: Offset,
    /// Ascending by offset.
    records: VecDeque<Record>,
}

#[derive(Clone)]
struct Record {
    offset: Offset,
    appended_at: Timestamp,
    body: Arc<[u8]>,
    intact: Integrity,
}

#[derive(Clone, Copy, PartialEq)]
enum Integrity {
    Whole,
    Damaged,
}

/// What an append that is told to fail answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFault {
    /// `Overloaded`, with nothing appended and the records handed back.
    Overloaded,
    /// `Unavailable`, with nothing appended.
    Unavailable,
    /// `Unknown`, and the records are in the log.
    UnknownButAppended,
    /// `Unknown`, and the records are not in the log.
    UnknownAndLost,
    /// `Replaced`, and the records are not in the log.
    Replaced,
}

impl MemoryLog {
    /// An empty log that takes append times from `clock`.
    #[must_use]
    pub fn new(generation: Generation, clock: Arc<dyn Clock>) -> Self {
        let partitions = generation.partitions().map(|_| Records::default()).collect();
        let state =
            State { partitions, faults: VecDeque::new(), waiting: 0, waiting_max: usize::MAX };
        let (holds, _) = watch::channel(0);
        Self { shared: Arc::new(Shared { generation, clock, state: Mutex::new(state), holds }) }
    }

    /// Sets how many appends may wait for a held acknowledgement; one more is `Overloaded`.
    /// Without a bound at first.
    pub fn set_queue_requests_max(&self, requests: usize) {
        lock(&self.shared.state).waiting_max = requests;
    }

    /// Holds the acknowledgements of appends back until the returned value is dropped. Their
    /// records are in the log meanwhile, as in a log that has written them but not yet synced.
    #[must_use = "acknowledgements are held only while this lives"]
    pub fn hold_acks(&self) -> HeldAcks {
        self.shared.holds.send_modify(|holds| *holds += 1);
        HeldAcks { log: self.clone() }
    }

    /// Makes the next append fail that no earlier call of this was for.
    pub fn fail_next_append(&self, fault: AppendFault) {
        lock(&self.shared.state).faults.push_back(fault);
    }

    /// Leaves a hole of `count` offsets, as brokers do at the end of a transaction or after
    /// compaction. Nothing happens where there is no such partition.
    pub fn skip_offsets(&self, partition: Partition, count: u64) {
        if let Some(records) = self.partition(&mut lock(&self.shared.state), partition) {
            records.end.0 += count;
        }
    }

    /// Drops the records below `low`, as retention does. Nothing happens where there is no such
    /// partition.
    pub fn expire(&self, partition: Partition, low: Offset) {
        if let Some(records) = self.partition(&mut lock(&self.shared.state), partition) {
            records.low = records.low.max(low.min(records.end));
            let kept = records.low;
            records.records.retain(|record| record.offset >= kept);
        }
    }

    /// Makes a drain find the record damaged. Nothing happens where there is no such record.
    pub fn damage(&self, partition: Partition, offset: Offset) {
        if let Some(records) = self.partition(&mut lock(&self.shared.state), partition) {
            let damaged = records.records.iter_mut().filter(|record| record.offset == offset);
            damaged.for_each(|record| record.intact = Integrity::Damaged);
        }
    }

    fn partition<'a>(&self, state: &'a mut State, partition: Partition) -> Option<&'a mut Records> {
        state.partitions.get_mut(usize::from(partition.0))
    }

    fn bounds_now(&self, partition: Partition) -> Result<LogBounds, LogError> {
        let mut state = lock(&self.shared.state);
        let records =
            self.partition(&mut state, partition).ok_or_else(|| no_partition(partition))?;
        Ok(LogBounds { low: records.low, end: records.end })
    }

    /// Appends and tells whether the acknowledgement has to wait.
    fn append_now(
        &self,
        partition: Partition,
        bodies: Vec<Vec<u8>>,
    ) -> Result<(Vec<Offset>, AckGate), AppendError> {
        let mut state = lock(&self.shared.state);
        let gate = if *self.shared.holds.borrow() > 0 { AckGate::Held } else { AckGate::Open };
        let fault = state.faults.pop_front();
        let full = matches!(gate, AckGate::Held) && state.waiting >= state.waiting_max;
        match fault {
            _ if full => return Err(AppendError::Overloaded { records: bodies }),
            Some(AppendFault::Overloaded) => {
                return Err(AppendError::Overloaded { records: bodies });
            }
            Some(AppendFault::Unavailable) => return Err(unavailable("as the test asked")),
            Some(AppendFault::UnknownAndLost) => return Err(unknown()),
            Some(AppendFault::Replaced) => {
                let offset = Offset(0);
                return Err(AppendError::Replaced(LogError::Replaced { partition, offset }));
            }
            Some(AppendFault::UnknownButAppended) | None => {}
        }
        let now = self.shared.clock.now();
        let Some(records) = self.partition(&mut state, partition) else {
            return Err(unavailable("it has no such partition"));
        };
        let offsets = bodies.into_iter().map(|body| records.push(now, body)).collect();
        if fault.is_some() {
            return Err(unknown());
        }
        if matches!(gate, AckGate::Held) {
            state.waiting += 1;
        }
        Ok((offsets, gate))
    }
}

enum AckGate {
    Open,
    Held,
}

impl Records {
    fn push(&mut self, appended_at: Timestamp, body: Vec<u8>) -> Offset {
        let offset = self.end;
        self.end = offset.next();
        let body = body.into();
        self.records.push_back(Record { offset, appended_at, body, intact: Integrity::Whole });
        offset
    }
}

fn unavailable(why: &str) -> AppendError {
    AppendError::Unavailable(why.to_owned())
}

fn unknown() -> AppendError {
    AppendError::Unknown("as the test asked".to_owned())
}

impl PulseLog for MemoryLog {
    type Drain = MemoryDrain;

    fn generation(&self) -> &Generation {
        &self.shared.generation
    }

    async fn append(
        &self,
        partition: Partition,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Offset>, AppendError> {
        let (offsets, gate) = self.append_now(partition, records)?;
        if matches!(gate, AckGate::Held) {
            let _waiting = Waiting(&self.shared);
            // The sender lives in `shared`, so waiting cannot fail.
            let _ = self.shared.holds.subscribe().wait_for(|holds| *holds == 0).await;
        }
        Ok(offsets)
    }

    async fn bounds(&self, partition: Partition) -> Result<LogBounds, LogError> {
        self.bounds_now(partition)
    }

    async fn trim(&self, partition: Partition, below: Offset) -> Result<u64, LogError> {
        let LogBounds { low, end } = self.bounds_now(partition)?;
        let last = Offset(end.0.saturating_sub(1));
        self.expire(partition, below.min(last));
        Ok(self.bounds_now(partition)?.low.0 - low.0)
    }

    fn drain(&self, partition: Partition, from: Offset) -> Result<MemoryDrain, LogError> {
        let LogBounds { low, end } = self.bounds_now(partition)?;
        if from < low || from > end {
            return Err(LogError::OutOfRange { partition, wanted: from, low, end });
        }
        Ok(MemoryDrain { log: self.clone(), partition, position: from })
    }
}

/// Counts an append as waiting until its future ends, also by being dropped.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).waiting -= 1;
    }
}

/// Holds acknowledgements back while it lives.
pub struct HeldAcks {
    log: MemoryLog,
}

impl Drop for HeldAcks {
    fn drop(&mut self) {
        self.log.shared.holds.send_modify(|holds| *holds -= 1);
    }
}

/// Reads a partition of a [`MemoryLog`].
pub struct MemoryDrain {
    log: MemoryLog,
    partition: Partition,
    /// Records below were lent.
    position: Offset,
}

impl MemoryDrain {
    /// Takes what one read lends out of the lock, so that `visit` may use the log.
    fn take(&self, until: Offset, bytes_max: usize) -> Result<(Vec<Record>, Offset), LogError> {
        let LogBounds { low, end } = self.log.bounds_now(self.partition)?;
        if self.position < low {
            let (partition, wanted) = (self.partition, self.position);
            return Err(LogError::OutOfRange { partition, wanted, low, end });
        }
        let mut state = lock(&self.log.shared.state);
        let records = self
            .log
            .partition(&mut state, self.partition)
            .ok_or_else(|| no_partition(self.partition))?;
        let first = records.records.partition_point(|record| record.offset < self.position);
        let below = records.records.range(first..).take_while(|record| record.offset < until);
        let (mut taken, mut bytes) = (Vec::new(), 0usize);
        for record in below {
            if !taken.is_empty() && bytes + record.body.len() > bytes_max {
                return Ok((taken, record.offset));
            }
            bytes += record.body.len();
            taken.push(record.clone());
        }
        Ok((taken, until.max(self.position)))
    }
}

impl LogDrain for MemoryDrain {
    fn read(
        &mut self,
        until: Offset,
        bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError> {
        let (records, next) = self.take(until, bytes_max)?;
        for Record { offset, appended_at, body, intact } in records {
            if intact == Integrity::Damaged {
                let (partition, message) = (self.partition, "as the test asked".to_owned());
                return Err(LogError::Damaged { partition, offset, message });
            }
            visit(LogRecord { offset, appended_at, body: &body });
            // Not `next`: a later read with a greater `until` must not pass over records that
            // were appended in between.
            self.position = offset.next();
        }
        Ok(next)
    }
}
