//! Cleaning: what blocks stand for is deleted once nobody should be reading it any more.

use std::collections::VecDeque;

use domain::{BlockStore, RowKey, Timestamp, blocks::BlockMap, store::StoreError};
use runtime::fault;

use super::{BlockMaker, BlocksError, make::EVERYTHING};

/// Rows that are looked at, and deleted at the most, at once.
const ROWS: usize = 4_096;

/// The maps that were seen, oldest first, each with when it was seen first: the first is the newest that
/// is old enough for nobody to read by one before it.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    seen: VecDeque<(BlockMap, Timestamp)>,
    /// The last swap behind which all is deleted.
    done: u64,
}

impl<U: BlockStore> BlockMaker<U> {
    /// Deletes rows that blocks stand for and blocks that were merged, for as long as they are kept. Gives
    /// how many went.
    ///
    /// # Errors
    /// When the store fails; the next call goes on.
    pub(super) async fn clean(&mut self) -> Result<u64, BlocksError> {
        let (map, now) = (self.store.block_map().await?, self.clock.now());
        let Cleaning { seen, done } = &mut self.cleaning;
        if seen.back().is_none_or(|(newest, _)| newest.version != map.version) {
            seen.push_back((map, now));
        }
        // A clock that was ahead does not keep them for as long as it was.
        seen.iter_mut().for_each(|(_, since)| *since = now.min(*since));
        let is_old =
            |(_, since): &(BlockMap, Timestamp)| since.plus(self.config.keep_replaced) <= now;
        while seen.get(1).is_some_and(is_old) {
            seen.pop_front();
        }
        let oldest = seen.front().filter(|oldest| is_old(oldest) && oldest.0.swapped_in > *done);
        let Some((oldest, _)) = oldest.cloned() else { return Ok(0) };
        if !self.tell_readers(oldest.version).await? {
            return Ok(0);
        }
        fault::point("blocks.before_deleted");
        let deleted = self.delete_rows(&oldest).await? + self.delete_blocks(&oldest).await?;
        fault::point("blocks.after_deleted");
        self.cleaning.done = oldest.swapped_in;
        Ok(deleted)
    }

    /// Readers that hold an earlier map find at their end that it is not theirs any more. False where
    /// another process has replaced the map meanwhile.
    async fn tell_readers(&self, version: u64) -> Result<bool, BlocksError> {
        let map = self.store.block_map().await?;
        if map.kept_from >= version {
            return Ok(true);
        }
        let mut next = map.next_version();
        next.kept_from = version;
        match self.store.replace_block_map(&next).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete_rows(&self, map: &BlockMap) -> Result<u64, BlocksError> {
        let (mut deleted, mut after) = (0, None::<RowKey>);
        loop {
            let rows = self.store.scan(&EVERYTHING, after.as_ref(), ROWS).await?;
            let is_last = rows.len() < ROWS;
            after = rows.last().map(|row| row.key.clone());
            let covered = rows.into_iter().map(|row| row.key);
            let covered: Vec<_> = covered.filter(|key| map.covers(&key.segment)).collect();
            if !covered.is_empty() {
                deleted += covered.len() as u64;
                self.store.delete_rows(covered).await?;
            }
            if is_last {
                return Ok(deleted);
            }
        }
    }

    /// Those that neither that map nor the present one has. A newer one is made by now, or being made.
    async fn delete_blocks(&self, map: &BlockMap) -> Result<u64, BlocksError> {
        let now = self.store.block_map().await?;
        let mut deleted = 0;
        for block in self.store.stored_blocks().await? {
            if map.has(block) || now.has(block) || !map.knows(block) {
                continue;
            }
            while self.store.delete_block(block).await? {}
            deleted += 1;
        }
        Ok(deleted)
    }
}
