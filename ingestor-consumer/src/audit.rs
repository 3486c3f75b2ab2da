//! Audit: folds the log again and compares every row, manifest and dead letter with the store.
//!
//! It decides nothing and writes nothing. What it folds, it folds with the consumer's own fold, so
//! an equal result says that the stored totals are what the log says, to the last unit.

use std::{collections::HashMap, sync::Arc};

use domain::{
    Epoch, Manifest, Offset, Partition, PulseLog, RowKey, SegmentId, Tenant, UsageRow, UsageStore,
    log::LogDrain,
    store::{Flush, PartitionKey},
};
use tokio::runtime::Handle;

use crate::{consumer::ConsumerError, fold::Fold, restart};

/// Bytes of records folded between two looks at the store.
const READ_BYTES: usize = 1 << 20;
/// Mismatches that are listed; one more than none is already too many.
const MISMATCHES_MAX: usize = 1_000;

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct AuditReport {
    /// Closed segments in the store.
    pub segments: u64,
    /// Of these, how many were folded again: all whose records the log still has.
    pub refolded: u64,
    /// Everything that is not as it must be, at most 1,000.
    pub mismatches: Vec<Mismatch>,
}

/// An inequality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The partition.
    pub partition: Partition,
    /// The segment.
    pub segment_start: Offset,
    /// The invariant that does not hold, `I1` to `I5`.
    pub invariant: &'static str,
    /// What differs.
    pub message: String,
}

/// Audits every partition, one after the other.
///
/// # Errors
/// When log or store cannot be read; a mismatch is not an error.
pub async fn audit<L: PulseLog, U: UsageStore>(
    log: Arc<L>,
    store: Arc<U>,
) -> Result<AuditReport, ConsumerError> {
    let handle = Handle::current();
    let folding = tokio::task::spawn_blocking(move || {
        let mut report = AuditReport::default();
        for partition in log.generation().partitions() {
            PartitionAudit::new(&log, &*store, &handle, partition).run(&mut report)?;
        }
        Ok(report)
    });
    folding.await.map_err(|_| ConsumerError::Ended)?
}

struct PartitionAudit<'a, L, U> {
    log: &'a Arc<L>,
    store: &'a U,
    handle: &'a Handle,
    key: PartitionKey,
}

impl<'a, L: PulseLog, U: UsageStore> PartitionAudit<'a, L, U> {
    fn new(log: &'a Arc<L>, store: &'a U, handle: &'a Handle, partition: Partition) -> Self {
        let key = PartitionKey { log_id: log.generation().log_id, partition, epoch: Epoch(0) };
        Self { log, store, handle, key }
    }

    fn run(&self, report: &mut AuditReport) -> Result<(), ConsumerError> {
        let Some(progress) = self.handle.block_on(self.store.progress(self.key))? else {
            return Ok(());
        };
        let manifests = self.manifests(report)?;
        let (mut fold, start) = self.start(&manifests)?;
        let stored: HashMap<Offset, Manifest> =
            manifests.into_iter().map(|manifest| (manifest.segment.start, manifest)).collect();
        let mut reader = self.log.drain(self.key.partition, start)?;
        let mut next = start;
        while next < progress.folded_to {
            let (mut closed, mut failure) = (Vec::new(), None);
            next = reader.read(progress.folded_to, READ_BYTES, &mut |record| {
                failure = failure.take().or(fold.record(record, &mut closed).err());
            })?;
            if let Some(error) = failure {
                report.note(self.key.partition, fold.folded_to(), "I11", error.to_string());
                return Ok(());
            }
            for flush in closed {
                report.refolded += 1;
                self.compare_closed(&flush, &stored, report)?;
            }
        }
        self.compare_open(&fold, progress.folded_to, report)
    }

    /// All manifests, checked for their own laws and for tiling the partition.
    fn manifests(&self, report: &mut AuditReport) -> Result<Vec<Manifest>, ConsumerError> {
        const PAGE: usize = 1_000;
        let mut manifests: Vec<Manifest> = Vec::new();
        loop {
            let from = manifests.last().map_or(Offset(0), |last| last.segment.start.next());
            let page = self.handle.block_on(self.store.manifests(self.key, from, PAGE))?;
            let full = page.len() == PAGE;
            for manifest in page {
                let expected = manifests.last().map_or(Offset(0), |last| last.end);
                let (partition, start) = (self.key.partition, manifest.segment.start);
                if start != expected {
                    let message =
                        format!("a segment starts at {start}, the one before ends at {expected}");
                    report.note(partition, start, "I3", message);
                }
                if let Err(error) = manifest.check() {
                    report.note(partition, start, "I1", error.to_string());
                }
                manifests.push(manifest);
            }
            if !full {
                report.segments += manifests.len() as u64;
                return Ok(manifests);
            }
        }
    }

    /// The fold at the first segment whose records the log still has, and its offset.
    fn start(&self, manifests: &[Manifest]) -> Result<(Fold, Offset), ConsumerError> {
        let generation = *self.log.generation();
        let low = self.handle.block_on(self.log.bounds(self.key.partition))?.low;
        if low == Offset(0) {
            return Ok((Fold::new(generation, self.key), Offset(0)));
        }
        let before = manifests.iter().find(|manifest| manifest.end >= low);
        let before = before.ok_or(ConsumerError::Ended)?;
        let fold =
            self.handle.block_on(restart::resume(&generation, self.store, self.key, before))?;
        Ok((fold, before.end))
    }

    fn compare_closed(
        &self,
        flush: &Flush,
        stored: &HashMap<Offset, Manifest>,
        report: &mut AuditReport,
    ) -> Result<(), ConsumerError> {
        let (partition, start) = (self.key.partition, flush.segment.start);
        let close =
            flush.close.as_ref().expect("a fold without flushes gives closed segments only");
        match stored.get(&start) {
            None => report.note(partition, start, "I3", "its manifest is missing".into()),
            Some(manifest) if *manifest != close.manifest => {
                let message = format!("manifest {manifest:?} should be {:?}", close.manifest);
                report.note(partition, start, "I5", message);
            }
            Some(_) => {}
        }
        if self.handle.block_on(self.store.run(flush.segment))? != close.run {
            report.note(partition, start, "I5", "its run of ids differs or is missing".into());
        }
        let state = self.handle.block_on(self.store.state(close.manifest.state_digest))?;
        if state.as_deref() != Some(&close.state[..]) {
            report.note(partition, start, "I5", "its fold state differs or is missing".into());
        }
        for letter in &flush.dead_letters {
            let place = (letter.partition, letter.offset, letter.index);
            if self.handle.block_on(self.store.dead_letter(place))?.as_ref() != Some(letter) {
                let message =
                    format!("dead letter {}.{} differs or is missing", letter.offset, letter.index);
                report.note(partition, start, "I7", message);
            }
        }
        let found = self.stored_rows(flush.segment, &flush.rows)?;
        compare_rows(flush.segment, &flush.rows, found, None, report);
        Ok(())
    }

    fn compare_open(
        &self,
        fold: &Fold,
        folded_to: Offset,
        report: &mut AuditReport,
    ) -> Result<(), ConsumerError> {
        let rows: Vec<UsageRow> = fold.open_rows().collect();
        let Some(segment) = rows.first().map(|row| row.key.segment) else { return Ok(()) };
        let found = self.stored_rows(segment, &rows)?;
        compare_rows(segment, &rows, found, Some(folded_to), report);
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
    let resource = &key.resource;
    format!(
        "{} {} {} {} {}",
        resource.tenant,
        resource.product_sku,
        resource.use_unity,
        resource.dimensions,
        key.window_start
    )
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
