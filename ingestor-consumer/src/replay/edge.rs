//! Where a replay may begin: what is below has to be told apart from what is behind for ever, and a
//! block cannot be cut after it was made. And the fold begins with the states that were there, of which
//! not all are kept.

use domain::{
    BlockStore, Epoch, LogId, Offset, Partition,
    blocks::{BlockMap, EpochBlocks},
    epochs::LogHistory,
    store::{PartitionKey, StoreError},
};

use crate::restart::{self, RestartError};

/// The last place at or before `wanted` at which an epoch may begin and a fold can. Where it is the end
/// of a block, that is an edge from now on; the starts of epochs are edges of blocks made later.
///
/// # Errors
/// See [`StoreError`].
pub(super) async fn at_or_before<U: BlockStore>(
    store: &U,
    log_id: LogId,
    history: &LogHistory,
    wanted: Vec<Offset>,
) -> Result<Vec<Offset>, StoreError> {
    loop {
        let map = store.block_map().await?;
        let mut edges = store.block_marks(log_id).await?;
        edges.truncate(usize::try_from(map.marks(log_id).0).unwrap_or(usize::MAX));
        edges.extend(history.all_opened().map(|opened| opened.starts.clone()));
        let places = Places { store, log_id, history, map: &map, edges };
        let found = places.at_or_before(wanted.clone()).await?;
        // Nothing may be planned meanwhile over the place that was found.
        let mut next = map.next_version();
        next.keep_end(log_id, &found);
        match store.replace_block_map(&next).await {
            Ok(()) => return Ok(found),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The places of a log, by one map.
struct Places<'a, U> {
    store: &'a U,
    log_id: LogId,
    history: &'a LogHistory,
    map: &'a BlockMap,
    /// Those that are edges whatever blocks are made.
    edges: Vec<Vec<Offset>>,
}

impl<U: BlockStore> Places<'_, U> {
    async fn at_or_before(&self, mut wanted: Vec<Offset>) -> Result<Vec<Offset>, StoreError> {
        let mut next = Some(self.history.active());
        while let Some(epoch) = next {
            let partitions = (0..).map(Partition).take(wanted.len());
            let start: Vec<_> =
                partitions.map(|partition| self.history.start_of(epoch, partition)).collect();
            if is_before(&start, &wanted) {
                let mut places = self.of_epoch(epoch, &start, &wanted).await?;
                places.retain(|place| is_before(&start, place) && is_before(place, &wanted));
                places.sort_by_key(|place| place.iter().map(|at| u128::from(at.0)).sum::<u128>());
                while let Some(place) = places.pop() {
                    if self.can_begin(&place).await? {
                        return Ok(place);
                    }
                }
            }
            // What is behind the start of this epoch is not counted in its base.
            for (wanted, start) in wanted.iter_mut().zip(start) {
                *wanted = start.min(*wanted);
            }
            next = self.history.opened(epoch).map(|opened| opened.base);
        }
        Ok(vec![Offset(0); wanted.len()])
    }

    /// Everything at which the usage of an epoch can be cut, and is as long as it is stored.
    async fn of_epoch(
        &self,
        epoch: Epoch,
        start: &[Offset],
        wanted: &[Offset],
    ) -> Result<Vec<Vec<Offset>>, StoreError> {
        let none = EpochBlocks { from: start.to_vec(), ..EpochBlocks::default() };
        let blocks = self.map.epoch(self.log_id, epoch).unwrap_or(&none);
        let is_behind = |place: &[Offset]| is_before(blocks.planned_ends(), place);
        let mut places = vec![start.to_vec()];
        places.extend(self.edges.iter().filter(|edge| is_behind(edge)).cloned());
        // Edges follow one another: a block has them in one order for all partitions.
        let is_in_order = |edge: &Vec<Offset>| is_before(edge, wanted) || is_before(wanted, edge);
        if is_behind(wanted) && self.edges.iter().all(is_in_order) {
            places.push(wanted.to_vec());
        }
        for (place, block) in blocks.blocks.iter().enumerate() {
            if !is_merged_over(blocks, place) {
                places.push(block.ends.clone());
            }
            if block.has_edges {
                let manifest = self.store.block_manifest(block.number).await?;
                places.extend(manifest.into_iter().flat_map(|manifest| manifest.stretch.edges));
            }
        }
        Ok(places)
    }

    /// Whether the fold state there is kept, in every partition.
    async fn can_begin(&self, starts: &[Offset]) -> Result<bool, StoreError> {
        let Self { store, log_id, history, .. } = *self;
        for (partition, start) in (0..).map(Partition).zip(starts.iter().copied()) {
            let key = PartitionKey { log_id, partition, epoch: history.active() };
            if start == Offset(0) {
                continue;
            }
            let manifest = match restart::manifest_ending_at(store, history, key, start).await {
                Ok(manifest) => manifest,
                Err(RestartError::Store(error)) => return Err(error),
                Err(_) => return Ok(false),
            };
            if !restart::has_state(store, manifest.state_digest).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn is_before(place: &[Offset], other: &[Offset]) -> bool {
    place.iter().zip(other).all(|(place, other)| place <= other)
}

/// Whether a merge that is being made goes over the end of a block, which is no edge of it.
fn is_merged_over(blocks: &EpochBlocks, place: usize) -> bool {
    let block = &blocks.blocks[place];
    let merges = blocks.planned.as_ref().map_or(&[][..], |plan| &plan.merges);
    let is_inside = merges.iter().rev().skip(1).any(|number| *number == block.number);
    is_inside && !block.ends_at_edge
}
