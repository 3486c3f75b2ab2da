//! Blocks in memory.

use std::collections::BTreeSet;

use domain::{
    BlockStore, Epoch, LogId, Offset, RowKey, SegmentId, Tenant,
    blocks::{BlockManifest, BlockMap, BlockNumber, Page},
    store::{PartitionKey, StoreError},
};

use super::{
    lock,
    usage::{MemoryUsageStore, StoredUsage},
};
use crate::{answers::another_map, order::ScanKey};

impl MemoryUsageStore {
    /// Lets so many writes of blocks be done; the one behind them is done or not, by whether that number
    /// is even, and answers `Unavailable` as all later ones do, until this is called again.
    pub fn fail_block_writes_after(&self, writes: Option<u64>) {
        lock(&self.state).block_writes_left = writes;
    }

    fn write_blocks<T>(
        &self,
        write: impl FnOnce(&mut super::usage::State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = lock(&self.state);
        let failed = || StoreError::Unavailable("as the test asked".to_owned());
        match &mut state.block_writes_left {
            None => write(&mut state),
            Some(0) => {
                // From now on nothing is done.
                state.block_writes_left = Some(u64::MAX);
                if state.block_writes_even {
                    write(&mut state)?;
                }
                Err(failed())
            }
            Some(u64::MAX) => Err(failed()),
            Some(left) => {
                *left -= 1;
                state.block_writes_even = !state.block_writes_even;
                write(&mut state)
            }
        }
    }
}

impl BlockStore for MemoryUsageStore {
    async fn block_map(&self) -> Result<BlockMap, StoreError> {
        Ok(lock(&self.state).blocks.map.clone())
    }

    async fn replace_block_map(&self, map: &BlockMap) -> Result<(), StoreError> {
        self.write_blocks(|state| {
            let stored = &mut state.blocks.map;
            if stored.version + 1 != map.version {
                return Err(another_map(map.version));
            }
            stored.clone_from(map);
            Ok(())
        })
    }

    async fn block_marks(&self, log_id: LogId) -> Result<Vec<Vec<Offset>>, StoreError> {
        Ok(lock(&self.state).blocks.marks.get(&log_id).cloned().unwrap_or_default())
    }

    async fn put_block_mark(
        &self,
        log_id: LogId,
        number: u64,
        edge: &[Offset],
    ) -> Result<(), StoreError> {
        self.write_blocks(|state| {
            let marks = state.blocks.marks.entry(log_id).or_default();
            if marks.len() as u64 == number {
                marks.push(edge.to_vec());
            }
            Ok(())
        })
    }

    async fn write_block_pages(
        &self,
        block: BlockNumber,
        pages: Vec<Page>,
        tenants: Vec<Tenant>,
    ) -> Result<(), StoreError> {
        self.write_blocks(|state| {
            let pages = pages.into_iter().map(|page| ((block, page.number), page));
            state.blocks.pages.extend(pages);
            state.blocks.tenants.extend(tenants);
            Ok(())
        })
    }

    async fn write_block_manifest(
        &self,
        block: BlockNumber,
        manifest: &BlockManifest,
    ) -> Result<(), StoreError> {
        self.write_blocks(|state| {
            state.blocks.manifests.insert(block, manifest.clone());
            Ok(())
        })
    }

    async fn block_manifest(
        &self,
        block: BlockNumber,
    ) -> Result<Option<BlockManifest>, StoreError> {
        Ok(lock(&self.state).blocks.manifests.get(&block).cloned())
    }

    async fn find_block_page(&self, block: BlockNumber, key: &[u8]) -> Result<u32, StoreError> {
        let state = lock(&self.state);
        let mut pages = state.blocks.pages.range((block, 0)..=(block, u32::MAX)).rev();
        let found = pages.find(|(_, page)| page.first.as_bytes() <= key);
        Ok(found.map_or(0, |((_, number), _)| *number))
    }

    async fn block_pages(
        &self,
        block: BlockNumber,
        from: u32,
        limit: usize,
    ) -> Result<Vec<Page>, StoreError> {
        let state = lock(&self.state);
        let pages = state.blocks.pages.range((block, from)..=(block, u32::MAX));
        Ok(pages.take(limit).map(|(_, page)| page.clone()).collect())
    }

    async fn stored_blocks(&self) -> Result<Vec<BlockNumber>, StoreError> {
        let blocks = &lock(&self.state).blocks;
        let of_pages = blocks.pages.keys().map(|(block, _)| *block);
        let all: BTreeSet<_> = blocks.manifests.keys().copied().chain(of_pages).collect();
        Ok(all.into_iter().collect())
    }

    async fn delete_block(&self, block: BlockNumber) -> Result<bool, StoreError> {
        self.write_blocks(|state| {
            let blocks = &mut state.blocks;
            blocks.manifests.remove(&block);
            let first = blocks.pages.range((block, 0)..=(block, u32::MAX)).next();
            let first = first.map(|(key, _)| *key);
            if let Some(key) = first {
                blocks.pages.remove(&key);
            }
            Ok(first.is_some())
        })
    }

    async fn delete_rows(&self, rows: Vec<RowKey>) -> Result<(), StoreError> {
        self.write_blocks(|state| {
            for key in rows {
                state.stored.rows.remove(&ScanKey(key));
            }
            Ok(())
        })
    }

    async fn keep_states(
        &self,
        digests: Vec<u128>,
        seen: Vec<SegmentId>,
    ) -> Result<u64, StoreError> {
        let stored = &mut lock(&self.state).stored;
        let mut kept: BTreeSet<u128> = digests.into_iter().collect();
        let place = |segment: &SegmentId| (segment.log_id, segment.partition, segment.epoch);
        for (segment, manifest) in &stored.manifests {
            let seen = seen.iter().find(|seen| place(seen) == place(segment));
            if seen.is_none_or(|seen| seen.start < segment.start) {
                kept.insert(manifest.state_digest);
            }
        }
        let before = stored.states.len();
        stored.states.retain(|digest, _| kept.contains(digest));
        Ok((before - stored.states.len()) as u64)
    }

    async fn delete_epoch(&self, log_id: LogId, epoch: Epoch) -> Result<u64, StoreError> {
        let is_of = |segment: &SegmentId| (segment.log_id, segment.epoch) == (log_id, epoch);
        let stored = &mut lock(&self.state).stored;
        let count = |stored: &StoredUsage| {
            let proofs = stored.runs.len() + stored.manifests.len();
            stored.rows.len() + stored.dead_letters.len() + proofs
        };
        let before = count(stored);
        stored.rows.retain(|key, _| !is_of(&key.0.segment));
        stored.dead_letters.retain(|key, _| !is_of(&key.segment));
        stored.runs.retain(|segment, _| !is_of(segment));
        stored.manifests.retain(|segment, _| !is_of(segment));
        stored.progress.retain(|key, _| (key.log_id, key.epoch) != (log_id, epoch));
        Ok((before - count(stored)) as u64)
    }

    async fn runs_below(
        &self,
        partition: PartitionKey,
        below: Offset,
    ) -> Result<Vec<Offset>, StoreError> {
        let PartitionKey { log_id, partition, epoch } = partition;
        let at = |start| SegmentId { log_id, partition, epoch, start };
        let state = lock(&self.state);
        let runs = state.stored.runs.range(at(Offset(0))..at(below));
        Ok(runs.map(|(segment, _)| segment.start).collect())
    }

    async fn delete_run(&self, segment: SegmentId) -> Result<(), StoreError> {
        lock(&self.state).stored.runs.remove(&segment);
        Ok(())
    }
}
