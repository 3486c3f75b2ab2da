//! Blocks of an audit: made again out of the segments that are folded again, and compared with what is
//! stored, entry by entry.

use std::collections::{HashMap, VecDeque};

use domain::{
    BlockStore, LogId, Manifest, SegmentId, UsageRow, View, WindowLength,
    blocks::{BlockManifest, BlockNumber, Entry, page},
};
use tokio::runtime::Handle;

use super::{AuditReport, place_of};
use crate::{
    blocks::{BlocksError, SortRoom, Sorted, Sorter, add_row, manifest_digest, manifest_of},
    consumer::ConsumerError,
};

/// Pages that are read at once.
const PAGES: usize = 16;

/// The blocks of a log.
pub(super) struct BlockAudit {
    seed: u64,
    blocks: Vec<Block>,
    /// Each segment's block, by place, and its number there.
    numbers: HashMap<SegmentId, (usize, u32)>,
    sorter: Sorter,
}

struct Block {
    number: BlockNumber,
    manifest: BlockManifest,
    /// Of one that counts in part only, the rest is not folded again.
    is_in_use: bool,
    /// Segments that were folded again.
    refolded: u64,
    /// XOR of the keyed hashes of their manifests.
    segments_digest: u128,
}

impl Block {
    /// Whether all that it is made of was folded again.
    fn is_whole(&self) -> bool {
        self.refolded == self.manifest.segments.iter().map(|count| u64::from(*count)).sum::<u64>()
    }
}

impl BlockAudit {
    pub(super) fn open<U: BlockStore>(
        handle: &Handle,
        store: &U,
        view: &View,
        (log_id, seed, window): (LogId, u64, WindowLength),
        room: SortRoom,
    ) -> Result<Self, ConsumerError> {
        let map = handle.block_on(store.block_map())?;
        let mut blocks = Vec::new();
        for (_, _, of_epoch) in map.epochs().filter(|(of, ..)| *of == log_id) {
            for block in &of_epoch.blocks {
                let number = block.number;
                let manifest = handle.block_on(manifest_of(store, number))?;
                let stretch = &manifest.stretch;
                let mut firsts =
                    (0..stretch.parts()).filter_map(|part| stretch.first_segment(part));
                let is_in_use = firsts.all(|first| view.counts(&first));
                let (refolded, segments_digest) = (0, 0);
                blocks.push(Block { number, manifest, is_in_use, refolded, segments_digest });
            }
        }
        let sorter = Sorter::new(window, room);
        Ok(Self { seed, blocks, numbers: HashMap::new(), sorter })
    }

    /// Takes all manifests of a stretch of a partition, ascending.
    pub(super) fn number(&mut self, manifests: &[Manifest]) {
        let mut counts = vec![0; self.blocks.len()];
        for Manifest { segment, .. } in manifests {
            let holds = |block: &Block| block.manifest.stretch.holds(segment);
            let Some(place) = self.blocks.iter().position(holds) else { continue };
            self.numbers.insert(*segment, (place, counts[place]));
            counts[place] += 1;
        }
    }

    /// Takes the rows of a segment that was folded again; gives them back where they are in no block.
    pub(super) fn take(
        &mut self,
        manifest: &Manifest,
        rows: &[UsageRow],
    ) -> Result<bool, ConsumerError> {
        let Some((place, number)) = self.numbers.get(&manifest.segment) else { return Ok(false) };
        let block = &mut self.blocks[*place];
        block.refolded += 1;
        block.segments_digest ^= manifest_digest(self.seed, manifest);
        for row in rows {
            let of = (block.number, &block.manifest.stretch);
            add_row(&mut self.sorter, of, row, *number).map_err(sorting)?;
        }
        Ok(true)
    }

    /// Compares the blocks that were made again whole.
    pub(super) fn finish<U: BlockStore>(
        self,
        handle: &Handle,
        store: &U,
        report: &mut AuditReport,
    ) -> Result<(), ConsumerError> {
        report.blocks += self.blocks.iter().filter(|block| block.is_in_use).count() as u64;
        let mut made = Made { sorted: self.sorter.sorted().map_err(sorting)?, next: None };
        made.step()?;
        // In the order of their numbers, as the sorter gives them.
        let mut blocks: Vec<&Block> = self.blocks.iter().collect();
        blocks.sort_by_key(|block| block.number);
        for block in blocks {
            let stored = Stored { handle, store, block, next_page: 0, entries: VecDeque::new() };
            if block.is_in_use && block.is_whole() {
                report.blocks_remade += 1;
                compare(block, stored, &mut made, self.seed, report)?;
            }
            while made.entry_of(block.number)?.is_some() {}
        }
        Ok(())
    }
}

fn sorting(error: BlocksError) -> ConsumerError {
    match error {
        BlocksError::Store(error) => error.into(),
        error => ConsumerError::Blocks(error.to_string()),
    }
}

/// Entries out of the log.
struct Made {
    sorted: Sorted,
    next: Option<(BlockNumber, Entry)>,
}

impl Made {
    fn step(&mut self) -> Result<Option<(BlockNumber, Entry)>, ConsumerError> {
        let next = self.sorted.next().map_err(sorting)?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// The next entry, if it is of this block.
    fn entry_of(&mut self, block: BlockNumber) -> Result<Option<Entry>, ConsumerError> {
        match &self.next {
            Some((of, _)) if *of == block => Ok(self.step()?.map(|(_, entry)| entry)),
            _ => Ok(None),
        }
    }
}

/// Entries out of the store.
struct Stored<'a, U> {
    handle: &'a Handle,
    store: &'a U,
    block: &'a Block,
    next_page: u32,
    entries: VecDeque<Entry>,
}

impl<U: BlockStore> Stored<'_, U> {
    fn next(&mut self) -> Result<Option<Entry>, ConsumerError> {
        while self.entries.is_empty() {
            let pages = self.store.block_pages(self.block.number, self.next_page, PAGES);
            let pages = self.handle.block_on(pages)?;
            if pages.is_empty() {
                return Ok(None);
            }
            for found in pages {
                self.next_page = found.number + 1;
                let read =
                    page::read(&found.bytes, |_| true, |entry| self.entries.push_back(entry));
                read.map_err(|error| sorting(error.into()))?;
            }
        }
        Ok(self.entries.pop_front())
    }
}

fn compare<U: BlockStore>(
    block: &Block,
    mut stored: Stored<'_, U>,
    made: &mut Made,
    seed: u64,
    report: &mut AuditReport,
) -> Result<(), ConsumerError> {
    let manifest = &block.manifest;
    let Some(first) = manifest.stretch.first_segment(0) else { return Ok(()) };
    let mut note = |invariant, what: String| {
        let message = format!("block {}: {what}", block.number);
        report.note(first.partition, first.start, invariant, message);
    };
    let (mut cells, mut digest) = (0, 0);
    let (mut one, mut other) = (stored.next()?, made.entry_of(block.number)?);
    while one.is_some() || other.is_some() {
        let (of_store, of_log) = match (one.take(), other.take()) {
            (Some(stored), Some(made)) if stored.key == made.key => (Some(stored), Some(made)),
            (Some(stored), made) if made.as_ref().is_none_or(|made| stored.key < made.key) => {
                other = made;
                (Some(stored), None)
            }
            (stored, made) => {
                one = stored;
                (None, made)
            }
        };
        if let Some(made) = &of_log {
            let key = made.key.as_bytes();
            cells += made.cells.len() as u64;
            digest = made.cells.iter().fold(digest, |all, cell| all ^ cell.digest(seed, key));
        }
        match (&of_store, &of_log) {
            (Some(stored), Some(made)) if stored == made => {}
            (Some(stored), Some(_)) => {
                note("I13", format!("{} is not what the log says", place_of(stored)));
            }
            (Some(stored), None) => {
                note("I13", format!("{} is not in the log", place_of(stored)));
            }
            (None, Some(made)) => note("I13", format!("{} is missing", place_of(made))),
            (None, None) => {}
        }
        one = match (one, of_store) {
            (None, Some(_)) => stored.next()?,
            (one, _) => one,
        };
        other = match (other, of_log) {
            (None, Some(_)) => made.entry_of(block.number)?,
            (other, _) => other,
        };
    }
    let of_log = (cells, digest, block.segments_digest);
    if of_log != (manifest.cells, manifest.cells_digest, manifest.segments_digest) {
        note("I13", format!("its manifest {manifest:?} is not what the log says: {of_log:?}"));
    }
    Ok(())
}
