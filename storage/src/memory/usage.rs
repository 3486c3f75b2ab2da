//! The usage store in memory.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex},
};

use domain::{
    Cell, DeadLetterGroup, DeadLetterKey, LogId, Manifest, Offset, RowKey, SegmentId, Tenant,
    UsageRow, UsageStore,
    blocks::{BlockManifest, BlockMap, BlockNumber, Page},
    epochs::LogEvent,
    generation::Generation,
    segment::Progress,
    store::{DeadLetterFilter, Flush, PartitionKey, SegmentClose, StoreError, UsageFilter},
};

use super::lock;
use crate::answers::{another_entry, another_log, other_parameters, unregistered};
use crate::order::{ScanKey, passes};

/// Usage that lives as long as its handles.
#[derive(Clone, Debug, Default)]
pub struct MemoryUsageStore {
    pub(super) state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) stored: StoredUsage,
    pub(super) blocks: StoredBlocks,
    /// See `fail_block_writes_after`.
    pub(super) block_writes_left: Option<u64>,
    pub(super) block_writes_even: bool,
    faults: VecDeque<FlushFault>,
    runs_read: u64,
    flushes: u64,
}

/// All that a usage store keeps, for comparing what two ways of folding left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredUsage {
    /// Generations in the order of their registration.
    pub generations: Vec<Generation>,
    /// Rows in the order of a scan.
    pub rows: BTreeMap<ScanKey, Cell>,
    /// Manifests by segment.
    pub manifests: BTreeMap<SegmentId, Manifest>,
    /// Runs of ids by segment, without empty ones.
    pub runs: BTreeMap<SegmentId, Vec<u8>>,
    /// Fold states by digest.
    pub states: BTreeMap<u128, Vec<u8>>,
    /// Groups of dead letters in the order of a scan.
    pub dead_letters: BTreeMap<DeadLetterKey, DeadLetterGroup>,
    /// Progress by partition.
    pub progress: BTreeMap<PartitionKey, Progress>,
    /// The journal of the log, oldest entry first.
    pub log_events: Vec<LogEvent>,
}

/// What a store keeps of blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBlocks {
    /// Which blocks are in use.
    pub map: BlockMap,
    /// Edges by log, in order.
    pub marks: BTreeMap<LogId, Vec<Vec<Offset>>>,
    /// Pages by block and number.
    pub pages: BTreeMap<(BlockNumber, u32), Page>,
    /// Manifests by block.
    pub manifests: BTreeMap<BlockNumber, BlockManifest>,
    /// Tenants that are in pages.
    pub tenants: BTreeSet<Tenant>,
}

/// How far a flush that is told to fail gets before it answers `Unavailable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlushFault {
    /// Nothing is written.
    BeforeRows,
    /// Half of the rows are written.
    HalfOfTheRows,
    /// Rows, dead letters, run and state are written.
    BeforeManifest,
    /// All but progress is written.
    BeforeProgress,
    /// All is written.
    AfterAll,
}

impl MemoryUsageStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next flush fail that no earlier call of this was for.
    pub fn fail_next_flush(&self, fault: FlushFault) {
        lock(&self.state).faults.push_back(fault);
    }

    /// Copies all that is stored.
    #[must_use]
    pub fn stored(&self) -> StoredUsage {
        lock(&self.state).stored.clone()
    }

    /// Copies all that is stored of blocks.
    #[must_use]
    pub fn stored_blocks_now(&self) -> StoredBlocks {
        lock(&self.state).blocks.clone()
    }

    /// Loses a row, as a failed disk would; tells whether there was one. For tests of audits.
    pub fn lose_row(&self, key: &RowKey) -> bool {
        lock(&self.state).stored.rows.remove(&ScanKey(key.clone())).is_some()
    }

    /// How many runs of ids were read so far. For tests of what a start costs.
    #[must_use]
    pub fn runs_read(&self) -> u64 {
        lock(&self.state).runs_read
    }

    /// How many flushes came so far. For tests of what is written while nothing happens.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        lock(&self.state).flushes
    }

    /// Lends all that is stored, without a copy. For tests that look after every step.
    pub fn read<T>(&self, read: impl FnOnce(&StoredUsage) -> T) -> T {
        read(&lock(&self.state).stored)
    }
}

impl StoredUsage {
    fn write(&mut self, flush: &Flush, fault: Option<FlushFault>) {
        let stops_before = |step| fault.is_some_and(|fault| fault < step);
        if fault == Some(FlushFault::BeforeRows) {
            return;
        }
        let half = fault == Some(FlushFault::HalfOfTheRows);
        let count = if half { flush.rows.len() / 2 } else { flush.rows.len() };
        flush.rows[..count].iter().for_each(|row| self.write_row(row));
        if stops_before(FlushFault::BeforeManifest) {
            return;
        }
        flush.dead_letters.iter().for_each(|group| self.write_group(group));
        if let Some(close) = &flush.close {
            self.write_close(flush.segment, close);
            if stops_before(FlushFault::BeforeProgress) {
                return;
            }
            self.manifests.insert(flush.segment, close.manifest);
        }
        if stops_before(FlushFault::AfterAll) {
            return;
        }
        flush.progress.iter().for_each(|progress| self.write_progress(progress));
    }

    fn write_row(&mut self, row: &UsageRow) {
        let stored = self.rows.entry(ScanKey(row.key.clone())).or_insert(row.cell);
        if row.cell.offset_last >= stored.offset_last {
            *stored = row.cell;
        }
    }

    fn write_group(&mut self, group: &DeadLetterGroup) {
        let stored = self.dead_letters.get(&group.key);
        if stored.is_none_or(|stored| group.offset_last > stored.offset_last) {
            self.dead_letters.insert(group.key.clone(), group.clone());
        }
    }

    fn write_close(&mut self, segment: SegmentId, close: &SegmentClose) {
        if !close.run.is_empty() {
            self.runs.insert(segment, close.run.clone());
        }
        self.states.insert(close.manifest.state_digest, close.state.clone());
    }

    fn write_progress(&mut self, progress: &Progress) {
        let Progress { log_id, partition, epoch, .. } = *progress;
        let key = PartitionKey { log_id, partition, epoch };
        let stored = self.progress.entry(key).or_insert(*progress);
        let caught_up_at = progress.caught_up_at.or(stored.caught_up_at);
        if progress.folded_to >= stored.folded_to {
            *stored = *progress;
        }
        stored.caught_up_at = caught_up_at;
    }
}

impl UsageStore for MemoryUsageStore {
    async fn register(
        &self,
        generation: &Generation,
        after: Option<LogId>,
    ) -> Result<(), StoreError> {
        let generations = &mut lock(&self.state).stored.generations;
        match generations.iter().find(|registered| registered.log_id == generation.log_id) {
            Some(registered) if registered == generation => Ok(()),
            Some(registered) => Err(other_parameters(registered, generation)),
            None => {
                let newest = generations.last().map(|generation| generation.log_id);
                if newest != after {
                    return Err(another_log(newest, generation.log_id));
                }
                generations.push(*generation);
                Ok(())
            }
        }
    }

    async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        Ok(self.read(|stored| stored.generations.clone()))
    }

    async fn flush(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let log_id = flush.segment.log_id;
        if !state.stored.generations.iter().any(|generation| generation.log_id == log_id) {
            return Err(unregistered(log_id));
        }
        let fault = state.faults.pop_front();
        state.flushes += 1;
        state.stored.write(&flush, fault);
        match fault {
            Some(_) => Err(StoreError::Unavailable("as the test asked".to_owned())),
            None => Ok(()),
        }
    }

    async fn newest_manifest(
        &self,
        partition: PartitionKey,
    ) -> Result<Option<Manifest>, StoreError> {
        let all = segments(partition, Offset(0));
        Ok(self.read(|stored| stored.manifests.range(all).next_back().map(|(_, found)| *found)))
    }

    async fn manifests(
        &self,
        partition: PartitionKey,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<Manifest>, StoreError> {
        let range = segments(partition, from);
        Ok(self.read(|stored| stored.manifests.range(range).take(limit).map(|(_, m)| *m).collect()))
    }

    async fn progress(&self, partition: PartitionKey) -> Result<Option<Progress>, StoreError> {
        Ok(self.read(|stored| stored.progress.get(&partition).copied()))
    }

    async fn state(&self, digest: u128) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read(|stored| stored.states.get(&digest).cloned()))
    }

    async fn state_head(&self, digest: u128, bytes: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let head = |state: &Vec<u8>| state.iter().copied().take(bytes).collect();
        Ok(self.read(|stored| stored.states.get(&digest).map(head)))
    }

    async fn run(&self, segment: SegmentId) -> Result<Vec<u8>, StoreError> {
        let mut state = lock(&self.state);
        state.runs_read += 1;
        Ok(state.stored.runs.get(&segment).cloned().unwrap_or_default())
    }

    async fn segment_rows(
        &self,
        segment: SegmentId,
        places: &[(Tenant, i32)],
    ) -> Result<Vec<UsageRow>, StoreError> {
        let wanted = |key: &RowKey| {
            let day = key.window_day();
            key.segment == segment
                && places
                    .iter()
                    .any(|(tenant, wanted)| *wanted == day && *tenant == key.resource.tenant)
        };
        Ok(self.read(|stored| {
            let rows = stored.rows.iter().filter(|(key, _)| wanted(&key.0));
            rows.map(|(key, cell)| UsageRow { key: key.0.clone(), cell: *cell }).collect()
        }))
    }

    async fn scan(
        &self,
        filter: &UsageFilter,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<UsageRow>, StoreError> {
        let after = after.map(|key| ScanKey(key.clone()));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.read(|stored| {
            let rows = stored.rows.range((from, Bound::Unbounded));
            let wanted = rows.filter(|(key, _)| passes(filter, &key.0)).take(limit);
            wanted.map(|(key, cell)| UsageRow { key: key.0.clone(), cell: *cell }).collect()
        }))
    }

    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let state = lock(&self.state);
        let in_rows = state.stored.rows.keys().map(|key| &key.0.resource.tenant);
        let all: BTreeSet<&Tenant> = in_rows.chain(&state.blocks.tenants).collect();
        let behind = all.into_iter().filter(|tenant| after.is_none_or(|after| *tenant > after));
        Ok(behind.take(limit).cloned().collect())
    }

    async fn scan_dead_letters(
        &self,
        log_id: LogId,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterKey>,
        limit: usize,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        let DeadLetterFilter { reason, tenant } = filter;
        let passes = |key: &DeadLetterKey| {
            key.segment.log_id == log_id
                && after.is_none_or(|after| key > after)
                && reason.is_none_or(|reason| key.reason == reason)
                && tenant.as_ref().is_none_or(|tenant| key.tenant == *tenant)
        };
        Ok(self.read(|stored| {
            let wanted = stored.dead_letters.values().filter(|group| passes(&group.key));
            wanted.take(limit).cloned().collect()
        }))
    }

    async fn log_events(&self) -> Result<Vec<LogEvent>, StoreError> {
        Ok(self.read(|stored| stored.log_events.clone()))
    }

    async fn append_log_event(&self, entries: u64, event: &LogEvent) -> Result<(), StoreError> {
        let events = &mut lock(&self.state).stored.log_events;
        if events.len() as u64 != entries {
            return Err(another_entry(entries));
        }
        events.push(event.clone());
        Ok(())
    }
}

/// All segments of a partition that start at or after `from`.
fn segments(
    PartitionKey { log_id, partition, epoch }: PartitionKey,
    from: Offset,
) -> std::ops::RangeInclusive<SegmentId> {
    let at = |start| SegmentId { log_id, partition, epoch, start };
    at(from)..=at(Offset(u64::MAX))
}
