//! What has to hold after every single write, looked at when it happens.
//!
//! - Progress never passes what is stored: manifests reach up to the segment that it speaks of, and
//!   the rows hold at least as many pulses as it counts.
//! - A manifest is written only over all of its rows, behind the manifest before it, and (where final
//!   totals are published) after they were published.
//! - The log is told that something is stored only once it is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use domain::{
    LogId, Offset, Partition, SegmentId, UsageStore as _,
    epochs::Journal,
    segment::Progress,
    store::{Flush, PartitionKey},
};
use storage::memory::{MemoryUsageStore, StoredUsage};

use crate::ports::SimFeed;

pub(crate) struct Watch {
    store: MemoryUsageStore,
    feed: SimFeed,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    violations: Vec<String>,
    postponed: Vec<(Arc<Flush>, Publishes)>,
    /// How far progress and manifests of each partition have been seen.
    reached: BTreeMap<PartitionKey, (Offset, Offset)>,
}

/// Whether the process of a flush publishes final totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publishes {
    Final,
    Nothing,
}

impl Watch {
    pub(crate) fn new(store: MemoryUsageStore, feed: SimFeed) -> Arc<Self> {
        Arc::new(Self { store, feed, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn violated(&self, oracle: &str, message: String) {
        self.state().violations.push(format!("{oracle}: {message}"));
    }

    /// What did not hold, the first few of it.
    pub(crate) fn violation(&self) -> Option<String> {
        let violations = &self.state().violations;
        (!violations.is_empty()).then(|| violations[..violations.len().min(4)].join("\n"))
    }

    pub(crate) fn postpone(&self, flush: &Arc<Flush>, publishes: Publishes) {
        self.state().postponed.push((Arc::clone(flush), publishes));
    }

    pub(crate) fn postponed(&self) -> usize {
        self.state().postponed.len()
    }

    /// Stores a postponed flush now.
    pub(crate) async fn land(&self, place: usize) {
        let (flush, publishes) = self.state().postponed.remove(place);
        self.store.flush(Arc::clone(&flush)).await.unwrap();
        self.flushed(&flush, publishes);
    }

    /// Looks at what a flush left, in whole or in part.
    pub(crate) fn flushed(&self, flush: &Flush, publishes: Publishes) {
        let SegmentId { log_id, partition, epoch, .. } = flush.segment;
        let key = PartitionKey { log_id, partition, epoch };
        self.store.read(|stored| {
            let journal = Journal::of(stored.log_events.iter().cloned());
            self.check_manifest(stored, &journal, flush, publishes);
            self.check_progress(stored, &journal, flush, key);
        });
    }

    fn check_manifest(
        &self,
        stored: &StoredUsage,
        journal: &Journal,
        flush: &Flush,
        publishes: Publishes,
    ) {
        let segment = flush.segment;
        let Some(manifest) = stored.manifests.get(&segment) else { return };
        let mut rows = (0, 0);
        for (key, cell) in stored.rows.iter().filter(|(key, _)| key.0.segment == segment) {
            rows = (rows.0 + 1, rows.1 + cell.aggregate.count);
            let is_published =
                publishes == Publishes::Nothing || self.feed.cell(key) == Some(*cell);
            if flush.close.is_some() && !is_published {
                let place = &key.0;
                self.violated("proved before published", format!("{segment:?} {place:?}"));
            }
        }
        if rows != (manifest.rows, manifest.counts.accepted) {
            let message = format!("{segment:?}: {rows:?} rows and pulses, {manifest:?}");
            self.violated("a manifest without its rows", message);
        }
        if manifest.check().is_err() {
            self.violated("conservation", format!("{manifest:?}"));
        }
        if !is_closed_up_to(stored, journal, segment) {
            self.violated("manifests tile", format!("none ends where {segment:?} begins"));
        }
    }

    fn check_progress(
        &self,
        stored: &StoredUsage,
        journal: &Journal,
        flush: &Flush,
        key: PartitionKey,
    ) {
        let Some(progress) = stored.progress.get(&key) else { return };
        let known = self.state().reached.get(&key).map_or(Offset(0), |(folded_to, _)| *folded_to);
        // Who moved it has to have stored all that it speaks of.
        let is_whole = progress.folded_to == known
            || flush.progress.is_some_and(|own| is_stored(stored, journal, flush, &own));
        let log = journal.log(key.log_id);
        let counts = |segment: &SegmentId| {
            (segment.log_id, segment.partition) == (key.log_id, key.partition)
                && log.holding(key.epoch, key.partition, segment.start) == segment.epoch
        };
        let rows = stored.rows.iter().filter(|(row, _)| counts(&row.0.segment));
        let pulses: u64 = rows.map(|(_, cell)| cell.aggregate.count).sum();
        if !is_whole || pulses < progress.counts.accepted {
            let message = format!("{pulses} pulses are in rows, {progress:?}");
            self.violated("progress passes what is stored", message);
        }
        if !progress.counts.holds() {
            self.violated("conservation", format!("{progress:?}"));
        }
        let closed = stored.manifests.iter().filter(|(segment, _)| {
            (segment.log_id, segment.partition, segment.epoch)
                == (key.log_id, key.partition, key.epoch)
        });
        let closed = closed.map(|(_, manifest)| manifest.end).max().unwrap_or_default();
        let mut state = self.state();
        let reached = state.reached.entry(key).or_default();
        let (before, now) = (*reached, (progress.folded_to, closed));
        *reached = now;
        drop(state);
        if now.0 < before.0 || now.1 < before.1 {
            self.violated("final totals fall", format!("{key:?}: {before:?}, then {now:?}"));
        }
    }

    /// A tick ended well that found so much.
    pub(crate) fn is_folded(&self, key: PartitionKey, end: Offset) {
        let progress = self.store.read(|stored| stored.progress.get(&key).copied());
        if end > Offset(0) && progress.is_none_or(|progress| progress.folded_to < end) {
            let message = format!("{key:?} to {end}, but {progress:?}");
            self.violated("a tick leaves something out", message);
        }
    }

    /// The log was told that everything below is proved.
    pub(crate) fn noted_stored(&self, log_id: LogId, partition: Partition, folded_to: Offset) {
        let is_proved = self.store.read(|stored| {
            let mut all = stored.manifests.iter();
            all.any(|(segment, manifest)| {
                (segment.log_id, segment.partition) == (log_id, partition)
                    && manifest.end >= folded_to
            })
        });
        if !is_proved {
            let message = format!("partition {partition} below {folded_to}");
            self.violated("the log was told of what is not stored", message);
        }
    }
}

/// Whether everything below a flush's progress is in closed segments or in the flush's own.
fn is_stored(stored: &StoredUsage, journal: &Journal, flush: &Flush, own: &Progress) -> bool {
    let is_closed = |segment| stored.manifests.contains_key(&segment);
    is_closed_up_to(stored, journal, flush.segment)
        && (flush.close.is_none() || is_closed(flush.segment))
        && own.folded_to >= flush.segment.start
}

/// Whether another segment ends where this one starts, or its epoch begins there.
fn is_closed_up_to(stored: &StoredUsage, journal: &Journal, segment: SegmentId) -> bool {
    let SegmentId { log_id, partition, epoch, start } = segment;
    if start == journal.log(log_id).start_of(epoch, partition) {
        return true;
    }
    let from = SegmentId { start: Offset(0), ..segment };
    stored.manifests.range(from..segment).next_back().is_some_and(|(_, last)| last.end == start)
}
