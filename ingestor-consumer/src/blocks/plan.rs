//! Plans: which block is made next. A plan stands in the map before anything is made.

use domain::{
    BlockStore, Epoch, Manifest, Offset, Timestamp,
    blocks::{BlockMap, EpochBlocks, Level, Plan},
    epochs::LogHistory,
    store::{PartitionKey, StoreError},
};
use jiff::{ToSpan as _, civil::Date, tz::TimeZone};
use tracing::debug;

use super::{BlockMaker, BlocksError, inputs::manifest_of};
use crate::restart;

impl<U: BlockStore> BlockMaker<U> {
    /// The block that is to be made now, if any: one that was planned before, or a new one.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn next_plan(&mut self) -> Result<Option<(Epoch, Plan)>, BlocksError> {
        loop {
            let map = self.store.block_map().await?;
            let log_id = self.generation.log_id;
            let journal = self.store.journal().await?;
            let history = journal.log(log_id);
            let planned = epochs_in_use(history)
                .find_map(|epoch| Some((epoch, map.epoch(log_id, epoch)?.planned.clone()?)));
            if planned.is_some() {
                return Ok(planned);
            }
            let Some((epoch, from, plan)) = self.new_plan(&map, history).await? else {
                return Ok(None);
            };
            let mut next = map.next_version();
            next.plan((log_id, epoch), from, plan);
            match self.store.replace_block_map(&next).await {
                // Another process may have planned something, or marked an edge: look again.
                Ok(()) | Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn new_plan(
        &mut self,
        map: &BlockMap,
        history: &LogHistory,
    ) -> Result<Option<(Epoch, Vec<Offset>, Plan)>, BlocksError> {
        let log_id = self.generation.log_id;
        let until = self.clock.now().minus(self.config.delay);
        let until = start_of(until, self.config.every);
        for epoch in epochs_in_use(history).collect::<Vec<_>>() {
            let starts = self.generation.partitions().map(|at| history.start_of(epoch, at));
            let none = EpochBlocks { from: starts.collect(), ..EpochBlocks::default() };
            let blocks = map.epoch(log_id, epoch).unwrap_or(&none);
            if self.planned_until.get(&epoch) != Some(&until) {
                let plan = self.of_segments(map, history, epoch, blocks, until).await?;
                self.planned_until.insert(epoch, until);
                if let Some(plan) = plan {
                    return Ok(Some((epoch, blocks.from.clone(), plan)));
                }
            }
            let now = self.clock.now().minus(self.config.delay);
            if let Some(merges) = to_merge(blocks, now) {
                let plan = self.merge(blocks, merges).await?;
                return Ok(Some((epoch, blocks.from.clone(), plan)));
            }
        }
        Ok(None)
    }

    /// A block of the closed segments behind the last one, of log time before `until`.
    async fn of_segments(
        &self,
        map: &BlockMap,
        history: &LogHistory,
        epoch: Epoch,
        blocks: &EpochBlocks,
        until: Timestamp,
    ) -> Result<Option<Plan>, BlocksError> {
        let log_id = self.generation.log_id;
        let mut ends = Vec::with_capacity(blocks.ends().len());
        let mut newest = Timestamp::MIN;
        for (partition, from) in self.generation.partitions().zip(blocks.ends()) {
            let key = PartitionKey { log_id, partition, epoch };
            let mut stretches = history.stretches(history.active(), partition);
            let stretch = stretches.find(|stretch| stretch.epoch == epoch);
            let last = match (stretch, self.store.newest_manifest(key).await?) {
                // What an epoch folded beyond its stretch counts in no total.
                (Some(stretch), Some(newest)) => {
                    stretch.to.map_or(newest.end, |to| to.min(newest.end))
                }
                _ => *from,
            };
            let is_behind = |segment: &Manifest| segment.eff_ts >= until;
            let end = match last > *from {
                true => restart::first_from(&*self.store, key, *from, last, is_behind).await?,
                false => *from,
            };
            if end > *from {
                let last = restart::segment_before(&*self.store, key, (*from, end), end).await?;
                newest = last.map_or(newest, |last| newest.max(last.eff_ts));
            }
            ends.push(end);
        }
        if ends == blocks.ends() {
            return Ok(None);
        }
        let (edges, ends_at_edge) = self.edges((map, history), epoch, blocks.ends(), &ends).await?;
        // That of its newest record, so that a log that rested is merged with the days before it did.
        let until = until.min(start_of(newest, self.config.every).plus(self.config.every));
        let level = Level::First;
        debug!(%epoch, %until, "a block is planned");
        Ok(Some(Plan { number: 0, level, until, ends, edges, ends_at_edge, merges: Vec::new() }))
    }

    /// The edges inside a stretch of an epoch, and whether its end is one: what was marked, and where
    /// other epochs begin. An edge of another epoch is at the end of the segment that it is in.
    async fn edges(
        &self,
        (map, history): (&BlockMap, &LogHistory),
        epoch: Epoch,
        from: &[Offset],
        ends: &[Offset],
    ) -> Result<(Vec<Vec<Offset>>, bool), BlocksError> {
        let log_id = self.generation.log_id;
        let count = usize::try_from(map.marks(log_id).0).unwrap_or(usize::MAX);
        let mut marks = self.store.block_marks(log_id).await?;
        marks.truncate(count);
        marks.extend(history.all_opened().map(|opened| opened.starts.clone()));
        // They follow one another in every partition.
        marks.sort();
        let (mut inside, mut at_end) = (Vec::<Vec<Offset>>::new(), false);
        for mark in marks {
            let is_behind = mark.iter().zip(ends).any(|(mark, end)| mark > end);
            let mut edge = Vec::with_capacity(ends.len());
            for (partition, mark) in self.generation.partitions().zip(mark) {
                let place = usize::from(partition.0);
                let key = PartitionKey { log_id, partition, epoch };
                let is_in = from[place] < mark && mark < ends[place];
                edge.push(match is_in {
                    true => {
                        let between = (from[place], ends[place]);
                        let found =
                            restart::segment_before(&*self.store, key, between, mark).await?;
                        found.map_or(ends[place], |segment| segment.end.min(ends[place]))
                    }
                    false => mark.clamp(from[place], ends[place]),
                });
            }
            if edge == ends {
                at_end |= !is_behind;
            } else if edge != from && inside.last() != Some(&edge) {
                inside.push(edge);
            }
        }
        Ok((inside, at_end))
    }

    /// A block of these neighbours.
    pub(super) async fn merge(
        &self,
        blocks: &EpochBlocks,
        (level, until, range): (Level, Timestamp, std::ops::Range<usize>),
    ) -> Result<Plan, BlocksError> {
        let (mut edges, mut merges) = (Vec::new(), Vec::new());
        let last = range.end - 1;
        for at in range {
            let block = &blocks.blocks[at];
            if block.has_edges {
                let manifest = manifest_of(&*self.store, block.number).await?;
                edges.extend(manifest.stretch.edges);
            }
            if block.ends_at_edge && at != last {
                edges.push(block.ends.clone());
            }
            merges.push(block.number);
        }
        let Some(block) = blocks.blocks.get(last) else {
            return Err(StoreError::Damaged("a merge of no block".to_owned()).into());
        };
        let (ends, ends_at_edge) = (block.ends.clone(), block.ends_at_edge);
        debug!(level = level.as_str(), %until, blocks = merges.len(), "a merge of blocks is planned");
        Ok(Plan { number: 0, level, until, ends, edges, ends_at_edge, merges })
    }
}

/// The epochs that the totals in use are from, the newest first.
fn epochs_in_use(history: &LogHistory) -> impl Iterator<Item = Epoch> {
    std::iter::successors(Some(history.active()), |epoch| {
        history.opened(*epoch).map(|opened| opened.base)
    })
}

/// Blocks that are merged at once, at most: each takes some pages of memory.
const MERGED_MAX: usize = 64;

/// Neighbours that are to be one block: all of a day that is over, or of a month.
fn to_merge(
    blocks: &EpochBlocks,
    now: Timestamp,
) -> Option<(Level, Timestamp, std::ops::Range<usize>)> {
    let day: fn(Date) -> Date = |day| day;
    [(Level::Day, day), (Level::Month, Date::last_of_month)].into_iter().find_map(
        |(level, last_day)| {
            let mut from = 0;
            while from < blocks.blocks.len() {
                let first = &blocks.blocks[from];
                let end = end_of(first.until, last_day)?;
                let same = |at: usize| {
                    let block = &blocks.blocks[at];
                    block.level < level && end_of(block.until, last_day) == Some(end)
                };
                let most = blocks.blocks.len().min(from + MERGED_MAX);
                let to = (from..most).find(|at| !same(*at)).unwrap_or(most);
                if to - from >= 2 && end <= now {
                    return Some((level, end, from..to));
                }
                from = to.max(from + 1);
            }
            None
        },
    )
}

/// End of the days in UTC, up to the one that `last_day` says, of a block that reaches to a moment.
fn end_of(until: Timestamp, last_day: fn(Date) -> Date) -> Option<Timestamp> {
    let last = jiff::Timestamp::from_microsecond(until.micros().checked_sub(1)?).ok()?;
    let day = last_day(TimeZone::UTC.to_datetime(last).date());
    let end = day.checked_add(1.day()).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Timestamp::from_micros(end.timestamp().as_microsecond())
}

fn start_of(moment: Timestamp, every: std::time::Duration) -> Timestamp {
    let length = i64::try_from(every.as_micros()).unwrap_or(i64::MAX).max(1);
    let micros = moment.micros();
    Timestamp::from_micros(micros - micros.rem_euclid(length)).unwrap_or(Timestamp::MIN)
}
