//! Making: the pages of a planned block, its manifest, and the swap.

use std::collections::{BTreeSet, HashMap};

use domain::{
    BlockStore, Epoch, Manifest, Offset, Partition, RowKey, Tenant, Timestamp,
    blocks::{BlockManifest, BlockNumber, BlockStretch, Entry, Page, PageWriter, Plan, Series},
    hash,
    store::{PartitionKey, StoreError, UsageFilter},
};
use runtime::fault;
use tracing::info;

use super::{
    BlockMaker, BlocksError,
    inputs::{Merge, SegmentNumbers, add_row, manifest_of},
    sorter::Sorter,
};
use crate::restart;

/// Rows asked of the store at once.
const ROWS: usize = 8_192;
/// Bytes of pages that are written at once.
const WRITTEN_BYTES: usize = 1 << 20;

/// All usage there is.
pub(super) const EVERYTHING: UsageFilter = UsageFilter {
    tenant: None,
    product_sku: None,
    use_unity: None,
    from: Timestamp::MIN,
    to: Timestamp::MAX,
};

impl<U: BlockStore> BlockMaker<U> {
    /// Makes a planned block and swaps it in; gives the number of its cells, or `None` where another
    /// process has done so meanwhile.
    ///
    /// # Errors
    /// See [`BlocksError`]; it is still planned.
    pub(super) async fn make(&self, epoch: Epoch, plan: &Plan) -> Result<Option<u64>, BlocksError> {
        let log_id = self.generation.log_id;
        let map = self.store.block_map().await?;
        let Some(blocks) = map.epoch(log_id, epoch) else { return Ok(None) };
        if blocks.planned.as_ref().is_none_or(|planned| planned.number != plan.number) {
            return Ok(None);
        }
        let from = blocks.from_of(blocks.place_of(plan)?.start).to_vec();
        let (ends, edges) = (plan.ends.clone(), plan.edges.clone());
        let stretch = BlockStretch { log_id, epoch, from, ends, edges };
        let manifest = match plan.merges.is_empty() {
            true => self.make_from_segments(plan.number, stretch).await?,
            false => self.make_from_blocks(plan, stretch).await?,
        };
        fault::point("blocks.before_manifest");
        self.store.write_block_manifest(plan.number, &manifest).await?;
        fault::point("blocks.before_swap");
        let swapped = self.swap(epoch, plan.number, &manifest).await?;
        fault::point("blocks.after_swap");
        if swapped {
            let (level, cells, bytes) = (plan.level.as_str(), manifest.cells, manifest.bytes);
            info!(block = plan.number, level, until = %plan.until, cells, bytes, "block made");
        }
        Ok(swapped.then_some(manifest.cells))
    }

    async fn swap(
        &self,
        epoch: Epoch,
        number: BlockNumber,
        manifest: &BlockManifest,
    ) -> Result<bool, BlocksError> {
        let key = (self.generation.log_id, epoch);
        loop {
            let map = self.store.block_map().await?;
            let blocks = map.epoch(key.0, key.1);
            let planned = blocks.and_then(|blocks| blocks.planned.as_ref());
            if planned.is_none_or(|plan| plan.number != number) {
                return Ok(false);
            }
            let mut next = map.next_version();
            let has_edges = !manifest.stretch.edges.is_empty();
            next.swap(key, number, (has_edges, manifest.windows))?;
            match self.store.replace_block_map(&next).await {
                Ok(()) => return Ok(true),
                // An edge was marked, or something else swapped: look again.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn make_from_segments(
        &self,
        number: BlockNumber,
        stretch: BlockStretch,
    ) -> Result<BlockManifest, BlocksError> {
        let segments = self.segments(&stretch).await?;
        let numbers = SegmentNumbers(
            segments.iter().map(|of| of.iter().map(|one| one.segment.start).collect()).collect(),
        );
        let mut counted: HashMap<(Partition, Offset), u64> = HashMap::new();
        let window = self.generation.window;
        let mut sorter = Sorter::new(window, self.config.room.clone());
        let mut after: Option<RowKey> = None;
        loop {
            let rows = self.store.scan(&EVERYTHING, after.as_ref(), ROWS).await?;
            let is_last = rows.len() < ROWS;
            after = rows.last().map(|row| row.key.clone());
            for row in &rows {
                let segment = row.key.segment;
                if (segment.log_id, segment.epoch) != (stretch.log_id, stretch.epoch) {
                    continue;
                }
                if let Some(place) = numbers.of(segment.partition, segment.start) {
                    add_row(&mut sorter, (number, &stretch), row, place)?;
                    *counted.entry((segment.partition, segment.start)).or_default() += 1;
                }
            }
            if is_last {
                break;
            }
        }
        check_rows(segments.iter().flatten(), &counted)?;
        let seed = self.generation.hash_seed;
        let mut making = Making::new(&*self.store, number, seed, PageWriter::new(window));
        let mut sorted = sorter.sorted()?;
        while let Some((_, entry)) = sorted.next()? {
            making.push(&entry).await?;
        }
        let digest = |digest, one: &Manifest| digest ^ manifest_digest(seed, one);
        let segments_digest = segments.iter().flatten().fold(0, digest);
        let counts = segments.iter().map(|of| u32::try_from(of.len()).unwrap_or(u32::MAX));
        making.finish(stretch, counts.collect(), segments_digest).await
    }

    /// By partition, the manifests of a stretch's segments.
    async fn segments(&self, stretch: &BlockStretch) -> Result<Vec<Vec<Manifest>>, BlocksError> {
        let mut segments = Vec::with_capacity(stretch.from.len());
        for partition in self.generation.partitions() {
            let place = usize::from(partition.0);
            let (log_id, epoch) = (stretch.log_id, stretch.epoch);
            let key = PartitionKey { log_id, partition, epoch };
            let (from, to) = (stretch.from[place], stretch.ends[place]);
            let of = match from < to {
                true => restart::manifests_between(&*self.store, key, from, to).await?,
                false => Vec::new(),
            };
            segments.push(of);
        }
        Ok(segments)
    }

    async fn make_from_blocks(
        &self,
        plan: &Plan,
        stretch: BlockStretch,
    ) -> Result<BlockManifest, BlocksError> {
        let mut merged = Vec::with_capacity(plan.merges.len());
        for number in &plan.merges {
            merged.push((*number, manifest_of(&*self.store, *number).await?));
        }
        let mut entries = Merge::new(&*self.store, &stretch, &merged);
        let writer = PageWriter::new(self.generation.window);
        let seed = self.generation.hash_seed;
        let mut making = Making::new(&*self.store, plan.number, seed, writer);
        while let Some(entry) = entries.next().await? {
            making.push(&entry).await?;
        }
        let mut counts = vec![0; stretch.from.len()];
        let mut digest = 0;
        for (_, manifest) in &merged {
            counts.iter_mut().zip(&manifest.segments).for_each(|(sum, count)| *sum += count);
            digest ^= manifest.segments_digest;
        }
        making.finish(stretch, counts, digest).await
    }
}

/// Keyed hash of a manifest under its segment; XOR of these is what a block's manifest has.
pub(crate) fn manifest_digest(seed: u64, manifest: &Manifest) -> u128 {
    let segment = &manifest.segment;
    let place = [
        &segment.log_id.0[..],
        &segment.partition.0.to_le_bytes(),
        &segment.epoch.0.to_le_bytes(),
        &segment.start.0.to_le_bytes(),
        &manifest.encode(),
    ];
    hash::parts(seed, place)
}

/// Every segment has as many rows as it was closed with.
fn check_rows<'m>(
    segments: impl Iterator<Item = &'m Manifest>,
    counted: &HashMap<(Partition, Offset), u64>,
) -> Result<(), BlocksError> {
    for manifest in segments {
        let (partition, start) = (manifest.segment.partition, manifest.segment.start);
        let found = counted.get(&(partition, start)).copied().unwrap_or(0);
        if found != manifest.rows {
            return Err(BlocksError::Rows { partition, start, found, proved: manifest.rows });
        }
    }
    Ok(())
}

/// A block that is being written.
struct Making<'a, U> {
    store: &'a U,
    number: BlockNumber,
    seed: u64,
    writer: PageWriter,
    /// Not written yet.
    pages: Vec<Page>,
    tenants: BTreeSet<Tenant>,
    tenant: Vec<u8>,
    cells: u64,
    digest: u128,
    bytes: u64,
    windows: Option<(Timestamp, Timestamp)>,
}

impl<'a, U: BlockStore> Making<'a, U> {
    fn new(store: &'a U, number: BlockNumber, seed: u64, writer: PageWriter) -> Self {
        Self {
            store,
            number,
            seed,
            writer,
            pages: Vec::new(),
            tenants: BTreeSet::new(),
            tenant: Vec::new(),
            cells: 0,
            digest: 0,
            bytes: 0,
            windows: None,
        }
    }

    async fn push(&mut self, entry: &Entry) -> Result<(), BlocksError> {
        let key = entry.key.as_bytes();
        self.cells += entry.cells.len() as u64;
        let digests = entry.cells.iter().map(|cell| cell.digest(self.seed, key));
        self.digest = digests.fold(self.digest, |all, one| all ^ one);
        if entry.key.series() == Some(Series::SkuDays) {
            self.note_tenant(entry)?;
        }
        if entry.key.series() == Some(Series::Resources) {
            self.note_windows(entry);
        }
        if let Some(page) = self.writer.push(entry) {
            self.add(page).await?;
        }
        Ok(())
    }

    /// The tenant's name is the first text of a key.
    fn note_tenant(&mut self, entry: &Entry) -> Result<(), BlocksError> {
        let key = entry.key.as_bytes();
        let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
        if self.tenant != key[..end] {
            self.tenant = key[..end].to_vec();
            self.tenants.insert(entry.key.resource(None)?.tenant);
        }
        Ok(())
    }

    fn note_windows(&mut self, entry: &Entry) {
        let (Some(first), Some(last)) = (entry.cells.first(), entry.cells.last()) else { return };
        let (first, last) = (first.window_start, last.window_start);
        let (least, greatest) = self.windows.unwrap_or((first, last));
        self.windows = Some((least.min(first), greatest.max(last)));
    }

    async fn add(&mut self, page: Page) -> Result<(), BlocksError> {
        self.bytes += page.bytes.len() as u64;
        self.pages.push(page);
        let waiting: usize = self.pages.iter().map(|page| page.bytes.len()).sum();
        if waiting >= WRITTEN_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), BlocksError> {
        let pages = std::mem::take(&mut self.pages);
        let tenants = std::mem::take(&mut self.tenants).into_iter().collect();
        self.store.write_block_pages(self.number, pages, tenants).await?;
        fault::point("blocks.after_pages");
        Ok(())
    }

    async fn finish(
        mut self,
        stretch: BlockStretch,
        segments: Vec<u32>,
        segments_digest: u128,
    ) -> Result<BlockManifest, BlocksError> {
        if let Some(page) = self.writer.finish() {
            self.add(page).await?;
        }
        self.write().await?;
        let (cells, cells_digest) = (self.cells, self.digest);
        let (bytes, windows) = (self.bytes, self.windows);
        Ok(BlockManifest {
            stretch,
            segments,
            segments_digest,
            cells,
            cells_digest,
            bytes,
            windows,
        })
    }
}
