//! What has to be right at the end: the store against the naive model, the model against what clients
//! were told, and the product's own audit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use domain::{
    DeadLetterReason, Epoch, Manifest, Offset, Partition, SegmentId, Timestamp, UsageCursor,
    UsageStore as _,
    epochs::Journal,
    log::LogDrain as _,
    store::{DeadLetterFilter, PartitionKey, UsageFilter},
};
use domain::{PulseLog as _, log::LogRecord};
use ingestor_consumer::{audit, blocks::SortRoom};

use crate::{
    clients::Manners,
    model::{self, Log, Meaning, Record, Starts, Step, Totals},
    world::World,
};

/// Rows and groups of a page, so that reading goes over pages.
const PAGE: usize = 7;

/// Dead letters that a client which keeps the rules may get.
const EXCUSES: &[DeadLetterReason] = &[
    DeadLetterReason::TooLate,
    DeadLetterReason::InTheFuture,
    DeadLetterReason::AfterSeal,
    DeadLetterReason::TooManyKeys,
];

impl World {
    /// Looks at everything. What is wrong is noted with the watch.
    pub(crate) async fn judge(&self) {
        let journal = self.store.journal().await.unwrap();
        let logs: Vec<Log> = (0..self.logs.len()).map(|of| self.read_log(of)).collect();
        let starts: Vec<Starts> = logs.iter().map(|log| self.starts(&journal, log)).collect();
        let meaning = model::read(&logs, &journal, &starts);
        self.compare_totals(&meaning).await;
        self.compare_letters(&meaning).await;
        for (of, log) in logs.iter().enumerate() {
            for partition in log.generation.partitions() {
                let steps = meaning.steps.get(&(of, partition.0));
                let steps = steps.map_or(&[][..], Vec::as_slice);
                self.compare_segments(&journal, log, partition, steps);
                self.compare_progress(&journal, log, partition, steps).await;
            }
        }
        self.compare_ledger(&meaning);
        self.audit().await;
    }

    fn read_log(&self, of: usize) -> Log {
        let generation = self.generation(of);
        let partitions = generation.partitions().map(|partition| {
            let mut records = Vec::new();
            let mut take = |record: LogRecord<'_>| {
                let LogRecord { offset, appended_at, body } = record;
                let (offset, appended_at) = (offset.0, appended_at.micros());
                records.push(Record { offset, appended_at, body: body.to_vec() });
            };
            let mut drain = self.logs[of].drain(partition, Offset(0)).unwrap();
            drain.read(Offset(u64::MAX), usize::MAX, &mut take).unwrap();
            records
        });
        Log { generation, partitions: partitions.collect() }
    }

    /// Where segments begin, the open ones too.
    fn starts(&self, journal: &Journal, log: &Log) -> Starts {
        let mut starts = Starts::new();
        for opened in journal.log(log.generation.log_id).all_opened() {
            for (partition, start) in (0..).zip(&opened.starts) {
                starts.entry((partition, opened.epoch)).or_default().insert(start.0);
            }
        }
        self.store.read(|stored| {
            for (segment, manifest) in &stored.manifests {
                if segment.log_id == log.generation.log_id {
                    let all = starts.entry((segment.partition.0, segment.epoch)).or_default();
                    all.extend([segment.start.0, manifest.end.0]);
                }
            }
        });
        starts
    }

    async fn compare_totals(&self, meaning: &Meaning) {
        let view = self.store.active_view().await.unwrap();
        let everything = UsageFilter {
            tenant: None,
            product_sku: None,
            use_unity: None,
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        };
        let mut stored = Totals::new();
        let wanted = |segment: &SegmentId| view.counts(segment);
        let mut cursor = UsageCursor::open(&self.store, everything, wanted).await.unwrap();
        while let Some(rows) = cursor.next(&self.store, PAGE).await.unwrap() {
            for row in &rows {
                let resource = &row.key.resource;
                let names = (
                    resource.tenant.to_string(),
                    resource.product_sku.to_string(),
                    resource.use_unity.to_string(),
                    resource.dimensions.to_string(),
                );
                let place = (names, row.key.window_start.micros());
                let total: &mut (u64, i128) = stored.entry(place).or_default();
                let aggregate = row.cell.aggregate;
                *total = (total.0 + aggregate.count, total.1 + aggregate.sum.raw());
            }
        }
        if let Some(difference) = differences(&stored, &meaning.totals) {
            self.watch.violated("totals", difference);
        }
    }

    async fn compare_letters(&self, meaning: &Meaning) {
        let view = self.store.active_view().await.unwrap();
        let filter = DeadLetterFilter::default();
        let mut stored = BTreeMap::new();
        for of in 0..self.logs.len() {
            let (log_id, mut after) = (self.generation(of).log_id, None);
            loop {
                let groups = self.store.dead_letters(&view, log_id, &filter, after.as_ref(), PAGE);
                let groups = groups.await.unwrap();
                for group in &groups {
                    let (key, partition) = (&group.key, group.key.segment.partition.0);
                    let place = (of, partition, key.reason, key.tenant.clone());
                    *stored.entry(place).or_default() += group.count;
                }
                after = groups.last().map(|group| group.key.clone());
                if groups.len() < PAGE {
                    break;
                }
            }
        }
        if let Some(difference) = differences(&stored, &meaning.letters) {
            self.watch.violated("dead letters", difference);
        }
    }

    /// The segments in use of a partition tile it, are cut where they must be and nowhere else, and say
    /// what the model says.
    fn compare_segments(&self, journal: &Journal, log: &Log, partition: Partition, steps: &[Step]) {
        let history = journal.log(log.generation.log_id);
        let in_use = self.store.read(|stored| {
            let all = stored.manifests.iter().filter(|(segment, _)| {
                (segment.log_id, segment.partition) == (log.generation.log_id, partition)
                    && history.holding(history.active(), partition, segment.start) == segment.epoch
            });
            let mut all: Vec<Manifest> = all.map(|(_, manifest)| *manifest).collect();
            all.sort_by_key(|manifest| manifest.segment.start);
            all
        });
        let mut end = 0;
        for manifest in in_use {
            let start = manifest.segment.start.0;
            if start != end {
                self.watch.violated("manifests tile", format!("{end}, then {manifest:?}"));
            }
            end = manifest.end.0;
            let inside = steps.iter().filter(|step| (start..end).contains(&step.offset));
            let inside: Vec<&Step> = inside.collect();
            let behind = steps.iter().find(|step| step.offset >= end);
            if let Some(wrong) = wrong_segment(log, &manifest, &inside, behind) {
                let message = format!("{wrong}: {manifest:?}, the model says {inside:?}");
                self.watch.violated("segments", message);
            }
        }
    }

    async fn compare_progress(
        &self,
        journal: &Journal,
        log: &Log,
        partition: Partition,
        steps: &[Step],
    ) {
        let log_id = log.generation.log_id;
        let epoch: Epoch = journal.log(log_id).active();
        let progress =
            self.store.progress(PartitionKey { log_id, partition, epoch }).await.unwrap();
        let Some(last) = steps.last() else { return };
        let stored = progress.map(|progress| (progress.counts, progress.eff_ts.micros()));
        if stored != Some((last.counts, last.log_time)) {
            self.watch.violated("progress", format!("{progress:?}, the model says {last:?}"));
        }
    }

    fn compare_ledger(&self, meaning: &Meaning) {
        for (number, owed) in &self.ledger {
            let verdicts = meaning.pulses.get(number).cloned().unwrap_or_default();
            let is_seen = verdicts.counted + verdicts.duplicates > 0 || !verdicts.dead.is_empty();
            let is_excused = !verdicts.dead.is_empty()
                && verdicts.dead.iter().all(|reason| EXCUSES.contains(reason));
            let wrong = if owed.is_safe && verdicts.counted > 1 {
                "counted twice"
            } else if owed.is_acked && !is_seen {
                "acknowledged and not in the log"
            } else if owed.is_acked
                && owed.manners == Manners::Honest
                && verdicts.counted == 0
                && !is_excused
            {
                "acknowledged and neither counted nor excused"
            } else {
                continue;
            };
            self.watch
                .violated("what clients were told", format!("{number} is {wrong}: {verdicts:?}"));
        }
    }

    async fn audit(&self) {
        for log in &self.logs {
            let (log, store) = (Arc::new(log.clone()), Arc::new(self.store.clone()));
            let report =
                audit::audit(log, store, self.ids_memory(0), SortRoom::in_temp_dir(1 << 16)).await;
            let report = report.unwrap();
            if report.refolded != report.segments || !report.mismatches.is_empty() {
                self.watch.violated("audit", format!("{report:?}"));
            }
        }
    }
}

fn wrong_segment(
    log: &Log,
    manifest: &Manifest,
    inside: &[&Step],
    behind: Option<&Step>,
) -> Option<&'static str> {
    let generation = &log.generation;
    let interval =
        |step: &Step| step.log_time.div_euclid(generation.segment_span.as_micros() as i64);
    let start = manifest.segment.start.0;
    let (Some(first), Some(last)) = (inside.first(), inside.last()) else {
        return Some("it holds no record");
    };
    let is_beyond = |step: &Step| {
        step.offset - start >= generation.segment_records_max || interval(step) > interval(first)
    };
    // The first record is in its segment wherever it stands: none is without a record.
    let (before, behind_first) = (&inside[..inside.len() - 1], &inside[1..]);
    let is_small = last.limits.segment_bytes < 1 << 20;
    if (manifest.counts_to_end, manifest.eff_ts.micros()) != (last.counts, last.log_time) {
        Some("the model has other counts or another time")
    } else if before.iter().any(|step| step.ends) || behind_first.iter().any(|step| is_beyond(step))
    {
        Some("it should have ended before")
    } else if !last.ends && !is_small && !behind.is_some_and(is_beyond) {
        Some("nothing ends it")
    } else {
        None
    }
}

fn differences<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    stored: &BTreeMap<K, V>,
    meant: &BTreeMap<K, V>,
) -> Option<String> {
    let keys: BTreeSet<&K> = stored.keys().chain(meant.keys()).collect();
    let different = keys.into_iter().filter(|key| stored.get(key) != meant.get(key));
    let described = different.map(|key| {
        let (stored, meant) = (stored.get(key), meant.get(key));
        format!("{key:?}: stored {stored:?}, the model says {meant:?}")
    });
    let described: Vec<String> = described.take(5).collect();
    (!described.is_empty()).then(|| described.join("; "))
}
