//! Audit: folds the log again and compares every row, manifest and dead letter with the store.
//!
//! It decides nothing and writes nothing. What it folds, it folds with the consumer's own fold, so
//! an equal result says that the stored totals are what the log says, to the last unit.

mod blocks;

use std::{collections::HashMap, sync::Arc};

use domain::{
    BlockStore, DeadLetterGroup, DeadLetterKey, Manifest, Offset, Partition, PulseLog, ResourceKey,
    RowKey, SegmentId, Tenant, Timestamp, UsageRow, View,
    blocks::Entry,
    epochs::{LogHistory, Stretch},
    log::{LogBounds, LogDrain as _},
    store::{Flush, PartitionKey},
};
use tokio::runtime::Handle;

use self::blocks::BlockAudit;
use crate::{
    blocks::SortRoom,
    consumer::ConsumerError,
    fold::{Fold, FoldError, IdsMemory},
    refold::fold_on,
    restart,
};

/// Mismatches that are listed; one more than none is already too many.
const MISMATCHES_MAX: usize = 1_000;

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct AuditReport {
    /// Closed segments in the store.
    pub segments: u64,
    /// Of these, how many were folded again and closed: all whose records the log still has, with the
    /// one that ended each.
    pub refolded: u64,
    /// Blocks in use.
    pub blocks: u64,
    /// Of these, how many were made again and compared: those all of whose records the log still has.
    pub blocks_remade: u64,
    /// Everything that is not as it must be, at most 1,000.
    pub mismatches: Vec<Mismatch>,
}

/// An inequality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The partition that the segment belongs to.
    pub partition: Partition,
    /// The first offset of that segment.
    pub segment_start: Offset,
    /// The invariant that does not hold, such as `I5`; `ARCHITECTURE.md` lists them.
    pub invariant: &'static str,
    /// What differs.
    pub message: String,
}

/// Audits every partition, one after the other, with the ids of each in memory that `ids` bounds; then the
/// blocks, which `room` is for.
///
/// # Errors
/// When log or store cannot be read; a mismatch is not an error.
pub async fn audit<L: PulseLog, U: BlockStore>(
    log: Arc<L>,
    store: Arc<U>,
    ids: Option<IdsMemory>,
    room: SortRoom,
) -> Result<AuditReport, ConsumerError> {
    let handle = Handle::current();
    let folding = tokio::task::spawn_blocking(move || {
        let mut report = AuditReport::default();
        let journal = handle.block_on(store.journal())?;
        let generation = *log.generation();
        let history = journal.log(generation.log_id);
        let of_log = (generation.log_id, generation.hash_seed, generation.window);
        let view = View::active(journal.clone());
        let mut blocks = BlockAudit::open(&handle, &*store, &view, of_log, room)?;
        for partition in log.generation().partitions() {
            for stretch in history.stretches(history.active(), partition) {
                let epoch = stretch.epoch;
                let key = PartitionKey { log_id: log.generation().log_id, partition, epoch };
                let newest = handle.block_on(store.newest_manifest(key))?;
                let audit = StretchAudit {
                    newest: newest.map_or(Timestamp::MIN, |newest| newest.eff_ts),
                    log: &log,
                    store: &*store,
                    handle: &handle,
                    history,
                    key,
                    stretch,
                    ids: ids.as_ref(),
                };
                audit.run(&mut report, &mut blocks)?;
            }
        }
        blocks.finish(&handle, &*store, &mut report)?;
        Ok(report)
    });
    folding.await.map_err(|_| ConsumerError::Ended)?
}

/// Audits what one epoch adds to the active totals of a partition.
struct StretchAudit<'a, L, U> {
    log: &'a Arc<L>,
    store: &'a U,
    handle: &'a Handle,
    history: &'a LogHistory,
    key: PartitionKey,
    stretch: Stretch,
    /// Log time of the epoch's newest closed segment.
    newest: Timestamp,
    ids: Option<&'a IdsMemory>,
}

impl<L: PulseLog, U: BlockStore> StretchAudit<'_, L, U> {
    fn run(&self, report: &mut AuditReport, blocks: &mut BlockAudit) -> Result<(), ConsumerError> {
        let progress = self.handle.block_on(self.store.progress(self.key))?;
        let manifests = self.manifests(report)?;
        blocks.number(&manifests);
        // A consumer that died between the two leaves a manifest that progress does not reach.
        let closed_to = manifests.last().map(|last| last.end);
        let stored_to = progress.map(|progress| progress.folded_to).max(closed_to);
        let Some(stored_to) = stored_to else { return Ok(()) };
        let LogBounds { low, end } = self.handle.block_on(self.log.bounds(self.key.partition))?;
        let Some((mut fold, start)) = self.start(&manifests, low)? else { return Ok(()) };
        let stored: HashMap<Offset, Manifest> =
            manifests.into_iter().map(|manifest| (manifest.segment.start, manifest)).collect();
        let mut reader = self.log.drain(self.key.partition, start)?;
        let (until, mut next) = (stored_to.min(end), start);
        while next < until && self.stretch.to.is_none_or(|to| next < to) {
            let mut closed = Vec::new();
            match fold_on(&mut fold, &mut reader, until, &mut closed)? {
                Ok(folded_to) => next = folded_to,
                Err(error) => return self.not_folded(fold.folded_to(), error, report),
            }
            for flush in closed {
                if self.stretch.to.is_some_and(|to| flush.segment.start >= to) {
                    return Ok(());
                }
                report.refolded += 1;
                let manifest = stored.get(&flush.segment.start);
                self.compare_closed(&flush, manifest, (report, blocks))?;
            }
        }
        if end < stored_to {
            let message = format!(
                "the log ends at {end}, and records up to {stored_to} were counted: it was truncated, or restored from an older copy"
            );
            report.note(self.key.partition, fold.segment().start, "I7", message);
        }
        if let Some(manifest) = stored.get(&fold.segment().start) {
            return self.compare_last(&mut fold, (&mut reader, end), manifest, (report, blocks));
        }
        match self.stretch.to {
            // What an epoch folded beyond its stretch counts in no total.
            Some(_) => Ok(()),
            None => self.compare_open(&fold, stored_to, report),
        }
    }

    /// Compares a segment that is closed and has not been closed here: the record behind it cuts it, and
    /// nobody has counted that one yet.
    fn compare_last(
        &self,
        fold: &mut Fold,
        (reader, end): (&mut L::Drain, Offset),
        manifest: &Manifest,
        (report, blocks): (&mut AuditReport, &mut BlockAudit),
    ) -> Result<(), ConsumerError> {
        let (partition, start) = (self.key.partition, manifest.segment.start);
        let (mut closed, mut folded) = (Vec::new(), Ok(()));
        // As few bytes as there can be: one record. A drain may lend more, and none counts behind one
        // that cannot be folded.
        reader.read(end, 1, &mut |record| {
            if folded.is_ok() {
                folded = fold.record(record, &mut closed);
            }
        })?;
        let is_this = |flush: &&Flush| flush.segment == manifest.segment;
        if let Some(flush) = closed.iter().find(is_this) {
            report.refolded += 1;
            self.compare_closed(flush, Some(manifest), (report, blocks))?;
        }
        match folded {
            Err(error) => self.not_folded(fold.folded_to(), error, report)?,
            Ok(()) if fold.segment().start != start => {}
            Ok(()) if fold.folded_to() > manifest.end => {
                let message = format!("its manifest ends it at {}, the log does not", manifest.end);
                report.note(partition, start, "I3", message);
            }
            Ok(()) => {
                report.note(partition, start, "I7", "the record that ended it is gone".into());
                // All of it is folded, so no stored row may be newer.
                self.compare_open(fold, Offset(u64::MAX), report)?;
            }
        }
        Ok(())
    }

    /// The log is not what was counted; or this audit had no room for what it folds, which says nothing
    /// about the log.
    fn not_folded(
        &self,
        at: Offset,
        error: FoldError,
        report: &mut AuditReport,
    ) -> Result<(), ConsumerError> {
        let partition = self.key.partition;
        match error {
            FoldError::Scratch(_) => {
                Err(ConsumerError::Stopped { partition, reason: error.to_string() })
            }
            FoldError::OffsetsFall { .. } | FoldError::Newer { .. } => {
                report.note(partition, at, "I11", error.to_string());
                Ok(())
            }
        }
    }

    /// All manifests of the stretch, checked for their own laws and for tiling it.
    fn manifests(&self, report: &mut AuditReport) -> Result<Vec<Manifest>, ConsumerError> {
        let to = self.stretch.to.unwrap_or(Offset(u64::MAX));
        let between = restart::manifests_between(self.store, self.key, self.stretch.from, to);
        let manifests = self.handle.block_on(between)?;
        let (partition, mut expected) = (self.key.partition, self.stretch.from);
        for manifest in &manifests {
            let start = manifest.segment.start;
            if start != expected {
                let message =
                    format!("a segment starts at {start}, the one before ends at {expected}");
                report.note(partition, start, "I3", message);
            }
            if let Err(error) = manifest.check() {
                report.note(partition, start, "I1", error.to_string());
            }
            expected = manifest.end;
        }
        if let Some(to) = self.stretch.to.filter(|to| *to != expected) {
            let message =
                format!("the segments end at {expected}, and the next epoch starts at {to}");
            report.note(partition, expected, "I3", message);
        }
        report.segments += manifests.len() as u64;
        Ok(manifests)
    }

    /// The fold at the first segment whose records the log still has, and its offset; `None` where
    /// it has none of them.
    fn start(
        &self,
        manifests: &[Manifest],
        low: Offset,
    ) -> Result<Option<(Fold, Offset)>, ConsumerError> {
        let generation = self.log.generation();
        let inheritance = &restart::Inheritance::alone(self.key.partition, self.ids);
        if low <= self.stretch.from {
            let begun = restart::begin(generation, self.store, self.history, self.key, inheritance);
            return Ok(Some((self.handle.block_on(begun)?, self.stretch.from)));
        }
        for before in manifests.iter().filter(|manifest| manifest.end >= low) {
            let has_state = restart::has_state(self.store, before.state_digest);
            // Of older ones the last of a week is kept, and the newest always.
            if self.handle.block_on(has_state)? || Some(before) == manifests.last() {
                let (store, key) = (self.store, self.key);
                let resumed =
                    restart::resume(generation, store, self.history, key, before, inheritance);
                return Ok(Some((self.handle.block_on(resumed)?, before.end)));
            }
        }
        Ok(None)
    }

    fn compare_closed(
        &self,
        flush: &Flush,
        stored: Option<&Manifest>,
        (report, blocks): (&mut AuditReport, &mut BlockAudit),
    ) -> Result<(), ConsumerError> {
        let (partition, start) = (self.key.partition, flush.segment.start);
        let close =
            flush.close.as_ref().expect("a fold without flushes gives closed segments only");
        match stored {
            None => report.note(partition, start, "I3", "its manifest is missing".into()),
            Some(manifest) if *manifest != close.manifest => {
                let message = format!("manifest {manifest:?} should be {:?}", close.manifest);
                report.note(partition, start, "I5", message);
            }
            Some(_) => {}
        }
        let run = self.handle.block_on(self.store.run(flush.segment))?;
        if run != close.run && !(run.is_empty() && self.may_be_gone(&close.manifest)) {
            report.note(partition, start, "I5", "its run of ids differs or is missing".into());
        }
        let state = self.handle.block_on(self.store.state(close.manifest.state_digest))?;
        let is_gone = state.is_none() && self.may_be_gone(&close.manifest);
        if state.as_deref() != Some(&close.state[..]) && !is_gone {
            report.note(partition, start, "I5", "its fold state differs or is missing".into());
        }
        self.compare_dead_letters(flush.segment, &flush.dead_letters, None, report)?;
        if !blocks.take(&close.manifest, &flush.rows)? {
            let found = self.stored_rows(flush.segment, &flush.rows)?;
            compare_rows(flush.segment, &flush.rows, found, None, report);
        }
        Ok(())
    }

    /// Whether a segment is too old for its state and its run of ids to be kept in any case.
    fn may_be_gone(&self, manifest: &Manifest) -> bool {
        let generation = self.log.generation();
        manifest.eff_ts < self.newest.minus(generation.horizon + generation.segment_span)
    }

    fn compare_open(
        &self,
        fold: &Fold,
        folded_to: Offset,
        report: &mut AuditReport,
    ) -> Result<(), ConsumerError> {
        let segment = fold.segment();
        let letters: Vec<DeadLetterGroup> = fold.open_dead_letters().collect();
        self.compare_dead_letters(segment, &letters, Some(folded_to), report)?;
        let rows: Vec<UsageRow> = fold.open_rows().collect();
        if !rows.is_empty() {
            let found = self.stored_rows(segment, &rows)?;
            compare_rows(segment, &rows, found, Some(folded_to), report);
        }
        Ok(())
    }

    /// Compares a segment's groups of dead letters, both ways. `newer_from` as in [`compare_rows`].
    fn compare_dead_letters(
        &self,
        segment: SegmentId,
        folded: &[DeadLetterGroup],
        newer_from: Option<Offset>,
        report: &mut AuditReport,
    ) -> Result<(), ConsumerError> {
        let stored = self.handle.block_on(self.store.segment_dead_letters(segment))?;
        let is_newer =
            |group: &DeadLetterGroup| newer_from.is_some_and(|from| group.offset_last >= from);
        let key = |group: &DeadLetterGroup| group.key.clone();
        let mut stored: HashMap<_, _> =
            stored.into_iter().map(|group| (key(&group), group)).collect();
        let mut differing: Vec<DeadLetterKey> = Vec::new();
        for group in folded {
            let found = stored.remove(&group.key);
            if !found.is_some_and(|found| found == *group || is_newer(&found)) {
                differing.push(key(group));
            }
        }
        differing.extend(stored.values().filter(|group| !is_newer(group)).map(key));
        for DeadLetterKey { reason, tenant, .. } in differing {
            let reason = reason.as_str();
            let message = format!(
                "dead letters {reason} of tenant {tenant:?} differ, are missing, or are not what the log says"
            );
            report.note(segment.partition, segment.start, "I7", message);
        }
        Ok(())
    }

    fn stored_rows(
        &self,
        segment: SegmentId,
        rows: &[UsageRow],
    ) -> Result<HashMap<RowKey, UsageRow>, ConsumerError> {
        let mut places: Vec<(Tenant, i32)> = rows
            .iter()
            .map(|row| (row.key.resource.tenant.clone(), row.key.window_day()))
            .collect();
        places.sort();
        places.dedup();
        let found = self.handle.block_on(self.store.segment_rows(segment, &places))?;
        Ok(found.into_iter().map(|row| (row.key.clone(), row)).collect())
    }
}

/// Compares both ways. `newer_from`: stored rows changed at or after that offset are left alone,
/// because the consumer has gone on since.
fn compare_rows(
    segment: SegmentId,
    folded: &[UsageRow],
    mut stored: HashMap<RowKey, UsageRow>,
    newer_from: Option<Offset>,
    report: &mut AuditReport,
) {
    let (partition, start) = (segment.partition, segment.start);
    let is_newer = |row: &UsageRow| newer_from.is_some_and(|from| row.cell.offset_last >= from);
    for row in folded {
        match stored.remove(&row.key) {
            None => {
                report.note(partition, start, "I2", format!("row missing: {}", place(&row.key)))
            }
            Some(found) if is_newer(&found) || found.cell == row.cell => {}
            Some(found) => {
                let message = format!(
                    "row {}: stored {:?}, log says {:?}",
                    place(&row.key),
                    found.cell,
                    row.cell
                );
                report.note(partition, start, "I5", message);
            }
        }
    }
    for row in stored.into_values().filter(|row| !is_newer(row)) {
        report.note(
            partition,
            start,
            "I2",
            format!("row that the log does not say: {}", place(&row.key)),
        );
    }
}

fn place(key: &RowKey) -> String {
    format!("{} {}", resource(&key.resource), key.window_start)
}

fn resource(resource: &ResourceKey) -> String {
    let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
    format!("{tenant} {product_sku} {use_unity} {dimensions}")
}

/// Names an entry of a block.
fn place_of(entry: &Entry) -> String {
    let of = entry
        .key
        .resource(None)
        .map_or_else(|_| "an unreadable key".to_owned(), |of| resource(&of));
    let windows = entry.cells.iter().map(|cell| cell.window_start);
    let series = entry.key.series();
    format!("{series:?} of {of}, windows {:?} to {:?}", windows.clone().min(), windows.max())
}

impl AuditReport {
    fn note(
        &mut self,
        partition: Partition,
        segment_start: Offset,
        invariant: &'static str,
        message: String,
    ) {
        if self.mismatches.len() < MISMATCHES_MAX {
            self.mismatches.push(Mismatch { partition, segment_start, invariant, message });
        }
    }
}

#[cfg(test)]
mod tests;
