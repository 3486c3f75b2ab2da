//! Retention: fold states and runs of ids that nobody can begin from any more are deleted, and records of
//! an embedded log that are older than it is to keep.
//!
//! A fold begins again from the state at the end of a segment: at a start from the newest one, for an
//! explanation or an audit from one before the segments that they fold. So every state of the horizon is
//! kept, the last of each of some days before that, and of the time before them the last of each week and
//! of each month (where a block of old usage ends), for as long as the log has the records behind it. What is asked of a segment in between folds from the last
//! state before it on.

use std::{collections::HashSet, sync::Arc, time::Duration};

use domain::{
    BlockStore, Clock, Epoch, LogId, Manifest, Offset, PulseLog, SegmentId, Timestamp,
    WindowLength,
    epochs::{Journal, LogHistory},
    generation::Generation,
    log::LogError,
    store::{PartitionKey, StoreError},
};
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::{fold, restart};

/// For how long the state at the end of each day is kept; before that, only of each week.
const STATE_OF_EACH_DAY: Duration = Duration::from_hours(8 * 24);

fn start_of_day(time: Timestamp) -> Timestamp {
    WindowLength::DAY.start_of(time)
}

/// In UTC; the day's start, where no month is known.
fn start_of_month(time: Timestamp) -> Timestamp {
    let start = jiff::Timestamp::from_microsecond(time.micros()).ok().and_then(|time| {
        let first = TimeZone::UTC.to_datetime(time).date().first_of_month();
        first.to_zoned(TimeZone::UTC).ok()
    });
    let start = start.and_then(|start| Timestamp::from_micros(start.timestamp().as_microsecond()));
    start.unwrap_or_else(|| start_of_day(time))
}

/// A Monday, in UTC.
fn start_of_week(time: Timestamp) -> Timestamp {
    let day = Duration::from_hours(24);
    let days = time.interval(day);
    // 1970-01-05 was a Monday.
    let since_monday = (days - 4).rem_euclid(7);
    start_of_day(time).minus(day * u32::try_from(since_monday).unwrap_or_default())
}

/// How long things are kept.
#[derive(Clone, Debug)]
pub struct RetentionConfig {
    /// How long an embedded log keeps records, by log time; `None` keeps all. What is not in a block and
    /// below the cut of a bill stays, whatever this says.
    pub log: Option<Duration>,
}

/// Why something was not deleted. It is tried again.
#[derive(Debug, Error)]
pub enum RetentionError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be read or trimmed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Fold states.
    pub states: u64,
    /// Runs of ids.
    pub runs: u64,
    /// Records of the log.
    pub records: u64,
    /// Of dropped epochs: rows, groups of dead letters, manifests.
    pub rows: u64,
}

/// Keeps what is stored to what is needed.
pub struct Retention<L, U> {
    store: Arc<U>,
    generations: Vec<Generation>,
    /// Those of them that can be read here.
    logs: Vec<Arc<L>>,
    clock: Arc<dyn Clock>,
    config: RetentionConfig,
    /// Epochs of which nothing is left. Finding that costs a look at every row.
    dropped: HashSet<(LogId, Epoch)>,
}

/// The manifests of one epoch of a partition that matter.
struct Points {
    key: PartitionKey,
    /// Those whose states are kept, ascending.
    kept: Vec<Manifest>,
    /// The newest that was looked at.
    newest: Option<SegmentId>,
}

impl<L: PulseLog, U: BlockStore> Retention<L, U> {
    /// Of all generations that a store has, with the logs that can be read.
    #[must_use]
    pub fn new(
        store: Arc<U>,
        generations: Vec<Generation>,
        logs: Vec<Arc<L>>,
        clock: Arc<dyn Clock>,
        config: RetentionConfig,
    ) -> Self {
        Self { store, generations, logs, clock, config, dropped: HashSet::new() }
    }

    /// Deletes what is not needed now.
    ///
    /// # Errors
    /// See [`RetentionError`]; what was deleted was not needed.
    pub async fn run(&mut self) -> Result<Deleted, RetentionError> {
        let mut deleted = Deleted { records: self.trim_logs().await?, ..Deleted::default() };
        let journal = self.store.journal().await?;
        deleted.rows = self.delete_dropped(&journal).await?;
        let mut points = Vec::new();
        for generation in &self.generations {
            points.extend(self.points(generation, &journal).await?);
        }
        let digests = self.with_states_before(&points).await?;
        let seen: Vec<SegmentId> = points.iter().filter_map(|of| of.newest).collect();
        loop {
            let some = self.store.keep_states(digests.clone(), seen.clone()).await?;
            deleted.states += some;
            if some == 0 {
                break;
            }
        }
        for of in &points {
            deleted.runs += self.delete_runs(of).await?;
        }
        Ok(deleted)
    }

    /// The states of all points, and those that they go back to.
    async fn with_states_before(&self, points: &[Points]) -> Result<Vec<u128>, StoreError> {
        let mut digests = HashSet::new();
        for manifest in points.iter().flat_map(|of| &of.kept) {
            let mut wanted = Some(manifest.state_digest);
            while let Some(digest) = wanted.filter(|digest| digests.insert(*digest)) {
                let head = self.store.state_head(digest, fold::STATE_HEAD_BYTES).await?;
                wanted = head.and_then(|head| fold::state_before(&head));
            }
        }
        Ok(digests.into_iter().collect())
    }

    /// Every epoch of every partition of a log.
    async fn points(
        &self,
        generation: &Generation,
        journal: &Journal,
    ) -> Result<Vec<Points>, RetentionError> {
        let history = journal.log(generation.log_id);
        let log = self.logs.iter().find(|log| log.generation().log_id == generation.log_id);
        let mut points = Vec::new();
        for partition in generation.partitions() {
            let low = match log {
                Some(log) => log.bounds(partition).await?.low,
                None => Offset(u64::MAX),
            };
            for epoch in history.epochs() {
                let key = PartitionKey { log_id: generation.log_id, partition, epoch };
                let kept = self.kept(generation, history, key, low).await?;
                let newest = kept.last().map(|newest| newest.segment);
                points.push(Points { key, kept, newest });
            }
        }
        Ok(points)
    }

    /// What is stored of epochs that were dropped; their states go with all others, and their blocks once
    /// nobody reads by a map that has them.
    async fn delete_dropped(&mut self, journal: &Journal) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for generation in &self.generations {
            let log_id = generation.log_id;
            for epoch in journal.log(log_id).dropped() {
                if self.dropped.contains(&(log_id, epoch)) {
                    continue;
                }
                let mut map = self.store.block_map().await?.next_version();
                if map.remove((log_id, epoch)) {
                    self.store.replace_block_map(&map).await?;
                }
                loop {
                    match self.store.delete_epoch(log_id, epoch).await? {
                        0 => break,
                        some => deleted += some,
                    }
                }
                self.dropped.insert((log_id, epoch));
            }
        }
        Ok(deleted)
    }

    async fn kept(
        &self,
        generation: &Generation,
        history: &LogHistory,
        key: PartitionKey,
        low: Offset,
    ) -> Result<Vec<Manifest>, RetentionError> {
        let Some(newest) = self.store.newest_manifest(key).await? else { return Ok(Vec::new()) };
        let begin = history.start_of(key.epoch, key.partition);
        // The first segment whose end the log still has a record at.
        let has_log = |manifest: &Manifest| manifest.end >= low;
        let from = restart::first_from(&*self.store, key, begin, newest.end, has_log).await?;
        let manifests = restart::manifests_between(&*self.store, key, from, newest.end).await?;
        let recent = newest.eff_ts.minus(generation.horizon + 2 * generation.segment_span);
        let by_days = newest.eff_ts.minus(STATE_OF_EACH_DAY);
        let starts = history.all_opened().filter(|opened| opened.epoch > key.epoch);
        let sealed = history.sealed().filter(|sealed| sealed.epoch == key.epoch);
        let begun = starts.map(|opened| &opened.starts).chain(sealed.map(|sealed| &sealed.ends));
        let begun = begun.filter_map(|places| places.get(usize::from(key.partition.0)).copied());
        // Where another epoch or the next generation begins.
        let begun: Vec<Offset> = begun.collect();
        let mut kept = self.inherited(history, key, from).await?;
        for (place, manifest) in manifests.iter().enumerate() {
            let next = manifests.get(place + 1).map(|next| next.eff_ts);
            let is_last_of = |start_of: fn(Timestamp) -> Timestamp| {
                next.is_none_or(|next| start_of(next) > start_of(manifest.eff_ts))
            };
            let is_last = match manifest.eff_ts >= by_days {
                true => is_last_of(start_of_day),
                false => is_last_of(start_of_week) || is_last_of(start_of_month),
            };
            if manifest.eff_ts >= recent || is_last || begun.contains(&manifest.end) {
                kept.push(*manifest);
            }
        }
        if kept.last().is_none_or(|last| last.segment != newest.segment) {
            kept.push(newest);
        }
        Ok(kept)
    }

    /// The end that the next generation began from, where it is before `from`.
    async fn inherited(
        &self,
        history: &LogHistory,
        key: PartitionKey,
        from: Offset,
    ) -> Result<Vec<Manifest>, RetentionError> {
        let sealed = history.sealed().filter(|sealed| sealed.epoch == key.epoch);
        let end = sealed.and_then(|sealed| sealed.ends.get(usize::from(key.partition.0)));
        let Some(end) = end.copied() else { return Ok(Vec::new()) };
        let found = restart::segment_before(&*self.store, key, (Offset(0), end), end).await?;
        Ok(found.into_iter().filter(|last| last.end == end && last.segment.start < from).collect())
    }

    /// Those of segments whose ids are too old for every state that is kept.
    async fn delete_runs(&self, points: &Points) -> Result<u64, RetentionError> {
        let Points { key, kept, .. } = points;
        let Some(generation) = self.generation(key) else { return Ok(0) };
        let Some(first) = kept.first() else { return Ok(0) };
        let needed = first.eff_ts.minus(generation.horizon + 2 * generation.segment_span);
        let is_needed = |manifest: &Manifest| manifest.eff_ts >= needed;
        let below =
            restart::first_from(&*self.store, *key, Offset(0), first.end, is_needed).await?;
        let mut deleted = 0;
        for start in self.store.runs_below(*key, below).await? {
            let PartitionKey { log_id, partition, epoch } = *key;
            let segment = SegmentId { log_id, partition, epoch, start };
            self.store.delete_run(segment).await?;
            deleted += 1;
        }
        Ok(deleted)
    }

    fn generation(&self, key: &PartitionKey) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.log_id == key.log_id)
    }

    /// Records that are old enough, in a block and below the newest edge of a bill.
    async fn trim_logs(&self) -> Result<u64, RetentionError> {
        let Some(keep) = self.config.log else { return Ok(0) };
        let until = self.clock.now().minus(keep);
        let (journal, map) = (self.store.journal().await?, self.store.block_map().await?);
        let mut deleted = 0;
        for log in &self.logs {
            let log_id = log.generation().log_id;
            let history = journal.log(log_id);
            let active = history.active();
            let Some(blocks) = map.epoch(log_id, active) else { continue };
            let (_, billed) = map.marks(log_id);
            let ends = blocks.ends().iter().zip(billed).map(|(end, billed)| *end.min(billed));
            for (partition, end) in log.generation().partitions().zip(ends) {
                let key = PartitionKey { log_id, partition, epoch: active };
                let below = self.trimmed(history, key, end, until).await?;
                deleted += log.trim(partition, below).await?;
            }
        }
        Ok(deleted)
    }

    /// Start of the first segment of the week in which the last segment of a stretch ends.
    async fn start_of_last_week(
        &self,
        key: PartitionKey,
        (begin, end): (Offset, Offset),
    ) -> Result<Offset, StoreError> {
        let last = restart::segment_before(&*self.store, key, (begin, end), end).await?;
        let Some(last) = last else { return Ok(begin) };
        let week = start_of_week(last.eff_ts);
        let is_of_week = |manifest: &Manifest| manifest.eff_ts >= week;
        restart::first_from(&*self.store, key, begin, end, is_of_week).await
    }

    /// Up to where a partition may go: the end of a week's last segment, so that what is behind it can be
    /// folded again.
    async fn trimmed(
        &self,
        history: &LogHistory,
        key: PartitionKey,
        end: Offset,
        until: Timestamp,
    ) -> Result<Offset, RetentionError> {
        let until = start_of_week(until);
        let begin = history.start_of(key.epoch, key.partition);
        let is_kept = |manifest: &Manifest| manifest.eff_ts >= until;
        let below = restart::first_from(&*self.store, key, begin, end, is_kept).await?;
        let below = match below == end {
            true => self.start_of_last_week(key, (begin, end)).await?,
            false => below,
        };
        // An epoch that is being folded needs what is behind its start.
        let opened = history.all_opened().filter(|opened| opened.epoch > key.epoch);
        let place = usize::from(key.partition.0);
        let needed = opened.filter_map(|opened| opened.starts.get(place).copied()).min();
        Ok(if below == begin {
            Offset(0)
        } else {
            needed.map_or(below, |needed| needed.min(below))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_mondays_and_months_on_their_first_days() {
        for (time, week, month) in [
            ("1970-01-01T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-12-06T23:59:59Z", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"),
        ] {
            let time: Timestamp = time.parse().unwrap();
            assert_eq!(start_of_week(time).to_string(), week);
            assert_eq!(start_of_month(time).to_string(), month);
        }
    }
}
