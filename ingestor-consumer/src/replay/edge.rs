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

/// The last place at or before `wanted` at which an epoch may begin and a fold can, kept as an edge from
/// now on.
///
/// # Errors
/// See [`StoreError`].
pub(super) async fn at_or_before<U: BlockStore>(
    store: &U,
    log_id: LogId,
    history: &LogHistory,
    wanted: Vec<Offset>,
) -> Result<Vec<Offset>, StoreError> {
    let active = history.active();
    loop {
        let map = store.block_map().await?;
        if map.edge_from(log_id, active, &wanted) == wanted
            && can_begin(store, (log_id, history), &wanted).await?
        {
            // Nothing is behind it: unless something comes in between, it is an edge of its own.
            if store.mark_edge(log_id, active, &wanted).await? == wanted {
                return Ok(wanted);
            }
            continue;
        }
        let Some(found) = in_blocks(store, &map, (log_id, history), &wanted).await? else {
            return Ok(vec![Offset(0); wanted.len()]);
        };
        match found {
            Found::Edge(edge) => return Ok(edge),
            Found::End { epoch, place } => {
                let mut next = map.next_version();
                let edge = next.keep_end((log_id, epoch), place);
                match store.replace_block_map(&next).await {
                    Ok(()) => return Ok(edge),
                    Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

enum Found {
    /// An edge inside a block, or where an epoch begins.
    Edge(Vec<Offset>),
    /// The end of a block, by its place.
    End { epoch: Epoch, place: usize },
}

async fn in_blocks<U: BlockStore>(
    store: &U,
    map: &BlockMap,
    (log_id, history): (LogId, &LogHistory),
    wanted: &[Offset],
) -> Result<Option<Found>, StoreError> {
    let is_before = |at: &[Offset]| at.iter().zip(wanted).all(|(at, wanted)| at <= wanted);
    let mut epoch = Some(history.active());
    while let Some(of) = epoch {
        epoch = history.opened(of).map(|opened| opened.base);
        let Some(blocks) = map.epoch(log_id, of) else { continue };
        for (place, block) in blocks.blocks.iter().enumerate().rev() {
            if is_before(&block.ends)
                && !is_merged_over(blocks, place)
                && can_begin(store, (log_id, history), &block.ends).await?
            {
                return Ok(Some(Found::End { epoch: of, place }));
            }
            if !block.has_edges {
                continue;
            }
            let manifest = store.block_manifest(block.number).await?;
            let edges = manifest.map(|manifest| manifest.stretch.edges).unwrap_or_default();
            for edge in edges.into_iter().rev().filter(|edge| is_before(edge)) {
                if can_begin(store, (log_id, history), &edge).await? {
                    return Ok(Some(Found::Edge(edge)));
                }
            }
        }
        if is_before(&blocks.from) && can_begin(store, (log_id, history), &blocks.from).await? {
            return Ok(Some(Found::Edge(blocks.from.clone())));
        }
    }
    Ok(None)
}

/// Whether the fold state there is kept, in every partition.
async fn can_begin<U: BlockStore>(
    store: &U,
    (log_id, history): (LogId, &LogHistory),
    starts: &[Offset],
) -> Result<bool, StoreError> {
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
        if store.state(manifest.state_digest).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a merge that is being made goes over the end of a block, which is no edge of it.
fn is_merged_over(blocks: &EpochBlocks, place: usize) -> bool {
    let block = &blocks.blocks[place];
    let merges = blocks.planned.as_ref().map_or(&[][..], |plan| &plan.merges);
    let is_inside = merges.iter().rev().skip(1).any(|number| *number == block.number);
    is_inside && !block.ends_at_edge
}
