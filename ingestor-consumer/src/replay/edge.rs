//! Where a replay may begin: what is below has to be told apart from what is behind for ever, and a
//! block cannot be cut after it was made.

use domain::{
    BlockStore, Epoch, LogId, Offset,
    blocks::{BlockMap, EpochBlocks},
    epochs::LogHistory,
    store::StoreError,
};

/// The last place at or before `wanted` at which an epoch may begin, kept as an edge from now on.
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
        if map.edge_from(log_id, active, &wanted) == wanted {
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
            if is_before(&block.ends) && !is_merged_over(blocks, place) {
                return Ok(Some(Found::End { epoch: of, place }));
            }
            if !block.has_edges {
                continue;
            }
            let manifest = store.block_manifest(block.number).await?;
            let edges = manifest.map(|manifest| manifest.stretch.edges).unwrap_or_default();
            if let Some(edge) = edges.into_iter().rev().find(|edge| is_before(edge)) {
                return Ok(Some(Found::Edge(edge)));
            }
        }
        if is_before(&blocks.from) {
            return Ok(Some(Found::Edge(blocks.from.clone())));
        }
    }
    Ok(None)
}

/// Whether a merge that is being made goes over the end of a block, which is no edge of it.
fn is_merged_over(blocks: &EpochBlocks, place: usize) -> bool {
    let block = &blocks.blocks[place];
    let merges = blocks.planned.as_ref().map_or(&[][..], |plan| &plan.merges);
    let is_inside = merges.iter().rev().skip(1).any(|number| *number == block.number);
    is_inside && !block.ends_at_edge
}
