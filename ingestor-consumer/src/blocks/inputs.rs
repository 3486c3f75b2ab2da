//! Inputs: what a block is made from, as cells.

use std::collections::VecDeque;

use domain::{
    BlockStore, Offset, Partition, UsageRow,
    blocks::{BlockManifest, BlockNumber, BlockStretch, Entry, cells_of, page},
    store::StoreError,
};

use super::{BlocksError, Sorter};

/// Pages of a block that are read at once: half a mebibyte.
const PAGES: usize = 16;

/// The segments of a stretch: in each partition the starts, ascending. A block numbers them so.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentNumbers(pub(crate) Vec<Vec<Offset>>);

impl SegmentNumbers {
    /// The number of a segment in its partition, if it is one of them.
    pub(crate) fn of(&self, partition: Partition, start: Offset) -> Option<u32> {
        let starts = self.0.get(usize::from(partition.0))?;
        let at = starts.binary_search(&start).ok()?;
        u32::try_from(at).ok()
    }
}

/// The manifest of a block that is in use.
///
/// # Errors
/// `Damaged` where it has none; see [`StoreError`].
pub(crate) async fn manifest_of<U: BlockStore>(
    store: &U,
    number: BlockNumber,
) -> Result<BlockManifest, StoreError> {
    let lost = || StoreError::Damaged(format!("block {number} has no manifest"));
    store.block_manifest(number).await?.ok_or_else(lost)
}

/// Adds a row of a segment to a block's cells: the resource's, and those of the roll-ups.
///
/// # Errors
/// As [`Sorter::add`].
pub(crate) fn add_row(
    sorter: &mut Sorter,
    (block, stretch): (BlockNumber, &BlockStretch),
    row: &UsageRow,
    number: u32,
) -> Result<(), BlocksError> {
    let cells = cells_of(stretch, row, number);
    cells.into_iter().try_for_each(|(key, cell)| sorter.add(block, key, cell))
}

/// The entries of blocks that are merged, as the new block has them, in order.
pub(super) struct Merge<'a, U> {
    store: &'a U,
    blocks: Vec<Merged>,
}

struct Merged {
    number: BlockNumber,
    /// Which part of the new block each of its parts is in.
    parts: Vec<u32>,
    /// By partition, how many segments the new block has before those of this one.
    before: Vec<u32>,
    next_page: u32,
    is_last: bool,
    entries: VecDeque<Entry>,
}

impl<'a, U: BlockStore> Merge<'a, U> {
    /// Of blocks, in the order of the log, into one of a stretch.
    pub(super) fn new(
        store: &'a U,
        stretch: &BlockStretch,
        blocks: &[(BlockNumber, BlockManifest)],
    ) -> Self {
        let mut before = vec![0u32; stretch.from.len()];
        let mut merged = Vec::with_capacity(blocks.len());
        for (number, manifest) in blocks {
            let of = &manifest.stretch;
            let parts = (0..of.parts()).map(|part| {
                let first = of.first_segment(part);
                first.map_or(0, |first| stretch.part_of(first.partition, first.start))
            });
            merged.push(Merged {
                number: *number,
                parts: parts.collect(),
                before: before.clone(),
                next_page: 0,
                is_last: false,
                entries: VecDeque::new(),
            });
            before.iter_mut().zip(&manifest.segments).for_each(|(sum, count)| *sum += count);
        }
        Self { store, blocks: merged }
    }

    /// The next entry.
    ///
    /// # Errors
    /// When the store fails, or a page is damaged.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, BlocksError> {
        for block in &mut self.blocks {
            block.fill(self.store).await?;
        }
        let fronts = self.blocks.iter().filter_map(|block| block.entries.front());
        let Some(key) = fronts.map(|entry| &entry.key).min().cloned() else { return Ok(None) };
        let mut found: Option<Entry> = None;
        for block in &mut self.blocks {
            let Some(entry) = block.entries.pop_front_if(|entry| entry.key == key) else {
                continue;
            };
            match &mut found {
                Some(all) => all.merge(entry),
                None => found = Some(entry),
            }
        }
        Ok(found)
    }
}

impl Merged {
    async fn fill<U: BlockStore>(&mut self, store: &U) -> Result<(), BlocksError> {
        while self.entries.is_empty() && !self.is_last {
            let pages = store.block_pages(self.number, self.next_page, PAGES).await?;
            self.is_last = pages.len() < PAGES;
            for found in pages {
                self.next_page = found.number + 1;
                page::read(&found.bytes, |_| true, |entry| self.entries.push_back(entry))?;
            }
            self.entries.iter_mut().for_each(|entry| renumber(entry, &self.parts, &self.before));
        }
        Ok(())
    }
}

/// Several parts of a block may be one in a larger one: then their cells are merged.
fn renumber(entry: &mut Entry, parts: &[u32], before: &[u32]) {
    for cell in &mut entry.cells {
        cell.part = parts.get(cell.part as usize).copied().unwrap_or(cell.part);
        let sources = std::mem::take(&mut cell.sources);
        let before =
            |partition: Partition| before.get(usize::from(partition.0)).copied().unwrap_or(0);
        cell.sources = sources.behind(before);
    }
}
