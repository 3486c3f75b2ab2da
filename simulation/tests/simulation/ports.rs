//! The ports as one process sees them: the memory adapters, with the driver in between.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use domain::{
    Cell, DeadLetterGroup, DeadLetterKey, LogId, Manifest, Offset, Partition, PulseLog, RowKey,
    SegmentId, Tenant, TotalsFeed, UsageRow, UsageStore, WindowLength,
    epochs::LogEvent,
    generation::Generation,
    log::{AppendError, LogBounds, LogDrain, LogError, LogRecord},
    segment::Progress,
    store::{DeadLetterFilter, Flush, PartitionKey, StoreError, UsageFilter},
    totals::FeedError,
};
use storage::{
    memory::{MemoryDrain, MemoryLog, MemoryUsageStore},
    order::ScanKey,
};

use crate::{
    process::{AppendFate, FlushFate, Process},
    watch::{Publishes, Watch},
};

/// The memory log, with the faults of its world.
pub(crate) struct SimLog {
    pub(crate) inner: MemoryLog,
    pub(crate) process: Arc<Process>,
    pub(crate) watch: Arc<Watch>,
}

impl PulseLog for SimLog {
    type Drain = SimDrain;

    fn generation(&self) -> &Generation {
        self.inner.generation()
    }

    async fn append(
        &self,
        partition: Partition,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Offset>, AppendError> {
        self.process.live().await;
        match self.process.next_append() {
            None => self.inner.append(partition, records).await,
            Some(AppendFate::Failed(fault)) => {
                // Nothing comes between: the append takes the fault in its first poll.
                self.inner.fail_next_append(fault);
                self.inner.append(partition, records).await
            }
            Some(AppendFate::HeldBefore) => {
                self.process.hold().await;
                self.inner.append(partition, records).await
            }
            Some(AppendFate::HeldAfter) => {
                let answer = self.inner.append(partition, records).await;
                self.process.hold().await;
                answer
            }
        }
    }

    async fn bounds(&self, partition: Partition) -> Result<LogBounds, LogError> {
        self.process.live().await;
        self.fails("bounds", partition)?;
        self.inner.bounds(partition).await
    }

    fn assignment(&self) -> Result<Option<Vec<Partition>>, LogError> {
        Ok(Some(self.process.assigned()))
    }

    fn note_stored(&self, partition: Partition, folded_to: Offset) {
        self.watch.noted_stored(self.generation().log_id, partition, folded_to);
    }

    fn drain(&self, partition: Partition, from: Offset) -> Result<SimDrain, LogError> {
        let fails = self.fails("drain", partition).is_err();
        Ok(SimDrain { inner: self.inner.drain(partition, from)?, fails })
    }
}

impl SimLog {
    fn fails(&self, what: &str, partition: Partition) -> Result<(), LogError> {
        match self.process.reads().fails(&format!("{what} {partition}")) {
            true => Err(LogError::Unavailable("as the seed has it".to_owned())),
            false => Ok(()),
        }
    }
}

/// A reader of it, which may fail behind the first record.
pub(crate) struct SimDrain {
    inner: MemoryDrain,
    fails: bool,
}

impl LogDrain for SimDrain {
    fn read(
        &mut self,
        until: Offset,
        bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError> {
        if !self.fails {
            return self.inner.read(until, bytes_max, visit);
        }
        self.inner.read(until, 1, visit)?;
        Err(LogError::Unavailable("as the seed has it".to_owned()))
    }
}

/// The usage store.
pub(crate) struct SimStore {
    pub(crate) inner: MemoryUsageStore,
    pub(crate) process: Arc<Process>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) publishes: Publishes,
}

impl SimStore {
    async fn answers(&self, question: &str) -> Result<(), StoreError> {
        self.process.live().await;
        if self.process.reads().fails(question) { Err(not_now()) } else { Ok(()) }
    }
}

fn not_now() -> StoreError {
    StoreError::Unavailable("as the seed has it".to_owned())
}

impl UsageStore for SimStore {
    async fn register(
        &self,
        generation: &Generation,
        after: Option<LogId>,
    ) -> Result<(), StoreError> {
        self.answers("register").await?;
        self.inner.register(generation, after).await
    }

    async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        self.answers("generations").await?;
        self.inner.generations().await
    }

    async fn flush(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        let fate = self.process.flush_fate().await;
        if fate == FlushFate::Postponed {
            self.watch.postpone(&flush, self.publishes);
            return Err(not_now());
        }
        if let FlushFate::Failed(fault) | FlushFate::Died(fault) = fate {
            self.inner.fail_next_flush(fault);
        }
        let answer = self.inner.flush(Arc::clone(&flush)).await;
        self.watch.flushed(&flush, self.publishes);
        if let FlushFate::Died(_) = fate {
            self.process.die();
            self.process.live().await;
        }
        answer
    }

    async fn newest_manifest(&self, key: PartitionKey) -> Result<Option<Manifest>, StoreError> {
        let question = format!("newest manifest {key:?}");
        self.answers(&question).await?;
        if !self.process.reads().is_stale(&question) {
            return self.inner.newest_manifest(key).await;
        }
        let all = self.inner.manifests(key, Offset(0), usize::MAX).await?;
        Ok(all.iter().rev().nth(1).copied())
    }

    async fn manifests(
        &self,
        key: PartitionKey,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<Manifest>, StoreError> {
        self.answers(&format!("manifests {key:?} {from}")).await?;
        self.inner.manifests(key, from, limit).await
    }

    async fn progress(&self, key: PartitionKey) -> Result<Option<Progress>, StoreError> {
        let question = format!("progress {key:?}");
        self.answers(&question).await?;
        if self.process.reads().is_stale(&question) {
            return Ok(None);
        }
        self.inner.progress(key).await
    }

    async fn state(&self, digest: u128) -> Result<Option<Vec<u8>>, StoreError> {
        self.answers(&format!("state {digest}")).await?;
        self.inner.state(digest).await
    }

    async fn state_head(&self, digest: u128, bytes: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.answers(&format!("head of state {digest}")).await?;
        self.inner.state_head(digest, bytes).await
    }

    async fn run(&self, segment: SegmentId) -> Result<Vec<u8>, StoreError> {
        self.answers(&format!("run {segment:?}")).await?;
        self.inner.run(segment).await
    }

    async fn segment_rows(
        &self,
        segment: SegmentId,
        places: &[(Tenant, i32)],
    ) -> Result<Vec<UsageRow>, StoreError> {
        self.inner.segment_rows(segment, places).await
    }

    async fn scan(
        &self,
        filter: &UsageFilter,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<UsageRow>, StoreError> {
        self.inner.scan(filter, after, limit).await
    }

    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        self.inner.tenants(after, limit).await
    }

    async fn scan_dead_letters(
        &self,
        log_id: LogId,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterKey>,
        limit: usize,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        self.inner.scan_dead_letters(log_id, filter, after, limit).await
    }

    async fn log_events(&self) -> Result<Vec<LogEvent>, StoreError> {
        self.answers("log events").await?;
        self.inner.log_events().await
    }

    async fn append_log_event(&self, entries: u64, event: &LogEvent) -> Result<(), StoreError> {
        self.answers("append log event").await?;
        self.inner.append_log_event(entries, event).await
    }
}

/// Final totals as their readers have them: of each row the one that was folded furthest.
#[derive(Clone, Default)]
pub(crate) struct SimFeed(Arc<Mutex<BTreeMap<ScanKey, Cell>>>);

impl SimFeed {
    pub(crate) fn cell(&self, key: &ScanKey) -> Option<Cell> {
        self.0.lock().unwrap().get(key).copied()
    }
}

impl TotalsFeed for SimFeed {
    async fn publish(&self, _: WindowLength, rows: &[UsageRow]) -> Result<(), FeedError> {
        let mut published = self.0.lock().unwrap();
        for row in rows {
            let known = published.entry(ScanKey(row.key.clone())).or_insert(row.cell);
            if row.cell.offset_last >= known.offset_last {
                *known = row.cell;
            }
        }
        Ok(())
    }
}
