//! Port: the part of a usage store that keeps blocks; and how usage is read out of blocks and rows.
//!
//! Pages and manifests are written under a block's number before anything says that they count, and the
//! same number always gets the same bytes. What counts is said by the map alone.

use std::future::Future;

use crate::{
    Epoch, LogId, Offset, RowKey, SegmentId, Tenant, UsageStore,
    blocks::{BlockManifest, BlockMap, BlockNumber, Page},
    store::{PartitionKey, StoreError},
};

/// Blocks, their map, and the rows that they replace.
pub trait BlockStore: UsageStore {
    /// The map; an empty one where none was ever written.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn block_map(&self) -> impl Future<Output = Result<BlockMap, StoreError>> + Send;

    /// Puts a map in the place of that of the version before it, by compare-and-set: of two processes
    /// that do so at once, one does. Durable on return.
    ///
    /// # Errors
    /// `Conflict` when the stored map is of another version. After `Unavailable` it may be there.
    fn replace_block_map(
        &self,
        map: &BlockMap,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The edges that were marked in a log, in order; [`BlockMap::marks`] says how many of them count.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn block_marks(
        &self,
        log_id: LogId,
    ) -> impl Future<Output = Result<Vec<Vec<Offset>>, StoreError>> + Send;

    /// Keeps an edge under its number, or what is there.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn put_block_mark(
        &self,
        log_id: LogId,
        number: u64,
        edge: &[Offset],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes pages of a block, and the tenants that are in them among those that
    /// [`UsageStore::tenants`] gives. The same pages may come again.
    ///
    /// # Errors
    /// See [`StoreError`]; some may be written.
    fn write_block_pages(
        &self,
        block: BlockNumber,
        pages: Vec<Page>,
        tenants: Vec<Tenant>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes the manifest of a block, which has all its pages.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn write_block_manifest(
        &self,
        block: BlockNumber,
        manifest: &BlockManifest,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The manifest of a block.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn block_manifest(
        &self,
        block: BlockNumber,
    ) -> impl Future<Output = Result<Option<BlockManifest>, StoreError>> + Send;

    /// Number of the page that may hold the first entry at or behind a key: the last whose first key is
    /// not behind it, or the first page.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn find_block_page(
        &self,
        block: BlockNumber,
        key: &[u8],
    ) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Pages of a block from this number on, in order, at most `limit` (at least 1); fewer only at the
    /// end.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn block_pages(
        &self,
        block: BlockNumber,
        from: u32,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Page>, StoreError>> + Send;

    /// The blocks of which anything is stored, ascending.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn stored_blocks(&self) -> impl Future<Output = Result<Vec<BlockNumber>, StoreError>> + Send;

    /// Deletes a block's manifest, and of its pages some; tells whether there are more. Costs a bounded
    /// time, so that other writes go on in between.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn delete_block(
        &self,
        block: BlockNumber,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes rows of segments, at most some thousand at a time. Those that are gone already are no error.
    ///
    /// # Errors
    /// See [`StoreError`]; some may be deleted.
    fn delete_rows(&self, rows: Vec<RowKey>)
    -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes some fold states, but none with these digests; gives how many pieces of them went, 0 where
    /// there are no others. `seen` has the newest segment, of each partition and epoch, that was looked at
    /// before the digests were chosen: states of later ones are kept, and of partitions that are not in it.
    ///
    /// # Errors
    /// See [`StoreError`]; some may be deleted.
    fn keep_states(
        &self,
        digests: Vec<u128>,
        seen: Vec<SegmentId>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes some of what is stored of an epoch of a log: rows, groups of dead letters, runs of ids,
    /// manifests and progress. Gives how many rows of tables went, 0 where there are no more. Its states go
    /// with [`BlockStore::keep_states`], its blocks with [`BlockStore::delete_block`].
    ///
    /// # Errors
    /// See [`StoreError`]; some may be deleted.
    fn delete_epoch(
        &self,
        log_id: LogId,
        epoch: Epoch,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Starts of the segments below an offset that have a run of ids, at most some thousand, ascending.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn runs_below(
        &self,
        partition: PartitionKey,
        below: Offset,
    ) -> impl Future<Output = Result<Vec<Offset>, StoreError>> + Send;

    /// Deletes the run of ids of a segment.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn delete_run(&self, segment: SegmentId)
    -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes a moment of the log an edge: what is below it can be told apart for ever. `at` has the end
    /// of a closed segment of every partition. Gives the edge, which is `at` or later where blocks or
    /// other edges are.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn mark_edge(
        &self,
        log_id: LogId,
        epoch: Epoch,
        at: &[Offset],
    ) -> impl Future<Output = Result<Vec<Offset>, StoreError>> + Send {
        async move {
            loop {
                let map = self.block_map().await?;
                let edge = map.edge_from(log_id, epoch, at);
                let (marks, newest) = map.marks(log_id);
                if newest == edge {
                    return Ok(edge);
                }
                self.put_block_mark(log_id, marks, &edge).await?;
                // Another process may have put its own there and died before it said so.
                let kept = self.block_marks(log_id).await?;
                let kept = usize::try_from(marks).ok().and_then(|number| kept.get(number)).cloned();
                let kept = kept.ok_or_else(|| StoreError::Damaged(lost_mark(log_id, marks)))?;
                let mut next = map.next_version();
                next.mark(log_id, kept);
                match self.replace_block_map(&next).await {
                    Ok(()) | Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn lost_mark(log_id: LogId, number: u64) -> String {
    format!("edge {number} of log {log_id} is missing")
}
