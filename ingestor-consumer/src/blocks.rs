//! Blocks: closed segments are merged into blocks, blocks into larger ones, and what they were made from
//! goes.
//!
//! In reading order:
//! - `sorter`: cells in any order become entries in order, in bounded memory;
//! - `inputs`: the rows of a stretch, or the entries of the blocks that are merged;
//! - `plan`: which block is made next;
//! - `make`: the pages, the manifest, the swap;
//! - `clean`: what was replaced is deleted, a while later.
//!
//! Everything is safe to repeat and to do twice at once. A plan is fixed in the map before its block is
//! made, so two that make it write the same bytes; the map is replaced by compare-and-set; and what is
//! deleted is what the map says is counted elsewhere.

mod sorter;
mod inputs;
mod plan;
mod make;
mod clean;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use domain::{
    BlockStore, Clock, Epoch, Timestamp, codec::CodecError, generation::Generation,
    store::StoreError,
};
use thiserror::Error;

pub use self::sorter::SortRoom;
pub(crate) use self::{
    inputs::{add_row, manifest_of},
    make::manifest_digest,
    sorter::{Sorted, Sorter},
};

/// When blocks are made, and with what.
#[derive(Clone, Debug)]
pub struct BlocksConfig {
    /// Log time of a first block. Default one hour. Short ones leave fewer rows behind
    /// the last block, which every query reads; long ones write fewer pages.
    pub every: Duration,
    /// How long after the end of such a time a block is made, so that what is on its way is in it. Default
    /// 5 minutes. What comes later is in a later block.
    pub delay: Duration,
    /// How long what was replaced is kept for those who are reading it. Default 10 minutes, above any
    /// timeout of a read; one that reads longer fails and begins again.
    pub keep_replaced: Duration,
    /// What one block may take while it is made. Default 64 MiB.
    pub room: SortRoom,
}

impl BlocksConfig {
    /// The defaults, with scratch files in this directory.
    #[must_use]
    pub fn new(scratch: Arc<Path>) -> Self {
        Self {
            every: Duration::from_secs(3_600),
            delay: Duration::from_secs(300),
            keep_replaced: Duration::from_secs(600),
            room: SortRoom { bytes_max: 64 << 20, scratch },
        }
    }
}

/// Why no block is made now. Nothing counts otherwise than before.
#[derive(Debug, Error)]
pub enum BlocksError {
    /// The store does not answer or is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Scratch files cannot be written or read.
    #[error("scratch files in {path}: {error}; free some space there, or name another directory in consumer.scratch_dir", path = .path.display())]
    Scratch {
        /// The directory that they go to.
        path: Arc<Path>,
        /// What the system says.
        error: std::io::Error,
    },
    /// Stored bytes are no entries.
    #[error("a page or a map of blocks is damaged: {0}")]
    Codec(#[from] CodecError),
    /// The rows of a segment are not those that its manifest has. They stay as they are.
    #[error(
        "partition {partition}: the store has {found} rows of the segment that starts at {start}, and its manifest has {proved}: no block is made of it. `pulso audit` says which differ"
    )]
    Rows {
        /// The one that the segment is of.
        partition: domain::Partition,
        /// Start of the segment.
        start: domain::Offset,
        /// Rows in the store.
        found: u64,
        /// Rows that the segment was closed with.
        proved: u64,
    },
}

/// Makes the blocks of one log generation.
pub struct BlockMaker<U> {
    store: Arc<U>,
    generation: Generation,
    clock: Arc<dyn Clock>,
    config: BlocksConfig,
    /// Up to when a first block of an epoch was last planned, or there was nothing to: one each time, so
    /// that a consumer that catches up does not leave a block of each moment.
    planned_until: BTreeMap<Epoch, Timestamp>,
    cleaning: clean::Cleaning,
}

/// What a maker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlocksMade {
    /// Blocks that were swapped in.
    pub blocks: u64,
    /// Their cells.
    pub cells: u64,
    /// Rows and blocks that were deleted.
    pub deleted: u64,
}

impl<U: BlockStore> BlockMaker<U> {
    /// Of a log that the store knows.
    #[must_use]
    pub fn new(
        store: Arc<U>,
        generation: Generation,
        clock: Arc<dyn Clock>,
        config: BlocksConfig,
    ) -> Self {
        let planned_until = BTreeMap::new();
        let cleaning = clean::Cleaning::default();
        Self { store, generation, clock, config, planned_until, cleaning }
    }

    /// Makes all blocks that can be made now, and deletes what may go.
    ///
    /// # Errors
    /// See [`BlocksError`]; the next call goes on.
    pub async fn run(&mut self) -> Result<BlocksMade, BlocksError> {
        let mut made = BlocksMade::default();
        let made_all = self.make_all(&mut made).await;
        // What was replaced goes also where a block cannot be made.
        made.deleted = self.clean().await?;
        made_all.map(|()| made)
    }

    async fn make_all(&mut self, made: &mut BlocksMade) -> Result<(), BlocksError> {
        while let Some((epoch, plan)) = self.next_plan().await? {
            if let Some(cells) = self.make(epoch, &plan).await? {
                made.blocks += 1;
                made.cells += cells;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
