//! Cursors: usage read out of blocks and rows, everything once.
//!
//! A cursor takes the map as it is when it is opened, and reads the blocks of that map and the rows
//! behind them. What a later map has replaced is kept for a while; a cursor that is slower than that
//! says so at its end, and what it gave is not used.

use std::collections::VecDeque;

use crate::{
    BlockStore, Cell, Epoch, LogId, Offset, ResourceKey, RowKey, SegmentId, Sku, Tenant, Timestamp,
    Unit, UsageRow, WindowLength,
    blocks::{
        BlockCell, BlockMap, BlockNumber, BlockStretch, Entry, EntryKey, EpochBlocks, Series,
        entry, page,
    },
    codec::CodecError,
    store::{StoreError, UsageFilter},
};

/// Rows that a page holds, about.
const PAGE_ROWS: usize = 1_024;
/// Pages asked for at once, at most: half a mebibyte.
const PAGES_MAX: usize = 16;

/// All usage of the segments that are wanted and that passes a filter: first what blocks hold, block by
/// block, then the rows of segments behind them. In no order of its own.
///
/// Segments are wanted by what a [`View`](crate::View) counts and, for who reads below an edge, by which
/// side of it they are on; never otherwise, because a block stands for many of them.
#[derive(Debug)]
pub struct UsageCursor<W> {
    wanted: W,
    filter: UsageFilter,
    map: BlockMap,
    blocks: VecDeque<BlockCursor>,
    after: Option<RowKey>,
    is_last: bool,
}

impl<W: Fn(&SegmentId) -> bool> UsageCursor<W> {
    /// Begins with what counts now.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open<U: BlockStore>(
        store: &U,
        filter: UsageFilter,
        wanted: W,
    ) -> Result<Self, StoreError> {
        let map = store.block_map().await?;
        let blocks = block_cursors(store, &map, (&filter, Series::Resources), &wanted).await?;
        Ok(Self { wanted, filter, map, blocks: blocks.into(), after: None, is_last: false })
    }

    /// Some more rows, about `limit` of them, also none; `None` behind the last.
    ///
    /// # Errors
    /// `Unavailable` where something was replaced and deleted meanwhile; see [`StoreError`].
    pub async fn next<U: BlockStore>(
        &mut self,
        store: &U,
        limit: usize,
    ) -> Result<Option<Vec<UsageRow>>, StoreError> {
        while let Some(block) = self.blocks.front_mut() {
            if let Some(entries) = block.next(store, limit).await? {
                return block.rows(entries).map(Some);
            }
            self.blocks.pop_front();
        }
        if self.is_last {
            return Ok(None);
        }
        let mut rows = store.scan(&self.filter, self.after.as_ref(), limit).await?;
        self.is_last = rows.len() < limit;
        self.after = rows.last().map(|row| row.key.clone());
        rows.retain(|UsageRow { key: RowKey { segment, .. }, .. }| {
            (self.wanted)(segment) && !self.map.covers(segment)
        });
        if self.is_last {
            check_kept(store, &self.map).await?;
        }
        Ok(Some(rows))
    }

    /// All rows that are left.
    ///
    /// # Errors
    /// As [`UsageCursor::next`].
    pub async fn all<U: BlockStore>(mut self, store: &U) -> Result<Vec<UsageRow>, StoreError> {
        let mut rows = Vec::new();
        while let Some(more) = self.next(store, PAGES_MAX * PAGE_ROWS).await? {
            rows.extend(more);
        }
        Ok(rows)
    }

    /// Whether there is any row left.
    ///
    /// # Errors
    /// As [`UsageCursor::next`].
    pub async fn any<U: BlockStore>(mut self, store: &U) -> Result<bool, StoreError> {
        while let Some(some) = self.next(store, PAGE_ROWS).await? {
            if !some.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Start of the first window with usage of one tenant that passes a filter. Looks at totals of days first
/// and at hours of one day only.
///
/// # Errors
/// As [`UsageCursor::next`].
pub async fn first_window<U: BlockStore>(
    store: &U,
    filter: &UsageFilter,
    wanted: impl Fn(&SegmentId) -> bool,
) -> Result<Option<Timestamp>, StoreError> {
    let map = store.block_map().await?;
    let mut first = first_row(store, &map, filter, &wanted).await?;
    let day = WindowLength::DAY;
    let mut days = UsageFilter { from: day.start_of(filter.from), ..filter.clone() };
    loop {
        days.to = first.unwrap_or(filter.to);
        let series = (&days, Series::SkuDays);
        let Some(found) = first_cell(store, &map, series, &wanted).await? else { break };
        let after = day.window_of(found).end;
        let of_day =
            UsageFilter { from: found.max(filter.from), to: after.min(days.to), ..filter.clone() };
        let series = (&of_day, Series::Skus);
        if let Some(found) = first_cell(store, &map, series, &wanted).await? {
            first = Some(found);
            break;
        }
        // Its usage of that day is before the filter's time.
        days.from = after;
    }
    check_kept(store, &map).await?;
    Ok(first)
}

async fn first_row<U: BlockStore>(
    store: &U,
    map: &BlockMap,
    filter: &UsageFilter,
    wanted: &impl Fn(&SegmentId) -> bool,
) -> Result<Option<Timestamp>, StoreError> {
    let mut after = None;
    loop {
        let rows = store.scan(filter, after.as_ref(), PAGE_ROWS).await?;
        let is_last = rows.len() < PAGE_ROWS;
        after = rows.last().map(|row| row.key.clone());
        let counts = |row: &UsageRow| wanted(&row.key.segment) && !map.covers(&row.key.segment);
        let found = rows.into_iter().find(counts);
        if found.is_some() || is_last {
            return Ok(found.map(|row| row.key.window_start));
        }
    }
}

/// The least window of a series that passes. Blocks are asked by their first windows, so that mostly one
/// is read.
async fn first_cell<U: BlockStore>(
    store: &U,
    map: &BlockMap,
    (filter, series): (&UsageFilter, Series),
    wanted: &impl Fn(&SegmentId) -> bool,
) -> Result<Option<Timestamp>, StoreError> {
    let mut cursors = block_cursors(store, map, (filter, series), wanted).await?;
    cursors.sort_by_key(|cursor| cursor.least);
    let mut first: Option<Timestamp> = None;
    for mut cursor in cursors {
        if first.is_some_and(|first| first <= cursor.least) {
            break;
        }
        while let Some(entries) = cursor.next(store, PAGE_ROWS).await? {
            let cells = entries.iter().flat_map(|entry| &entry.cells);
            let found = cells.filter(|cell| cursor.counts(cell)).map(|cell| cell.window_start);
            first = first.into_iter().chain(found).min();
        }
    }
    Ok(first)
}

/// Fails where what a reader of this map was told to look for may be gone.
///
/// # Errors
/// `Unavailable`; see [`StoreError`].
pub async fn check_kept<U: BlockStore>(store: &U, map: &BlockMap) -> Result<(), StoreError> {
    if store.block_map().await?.kept_from > map.version {
        let why = "usage was merged into blocks while it was read, longer than what was there before is kept; read it again";
        return Err(StoreError::Unavailable(why.to_owned()));
    }
    Ok(())
}

/// The blocks of a map that have usage in the filter's time, each ready to be read at its first entry
/// that may pass; of the parts whose segments are wanted.
///
/// # Errors
/// See [`StoreError`].
pub async fn block_cursors<U: BlockStore>(
    store: &U,
    map: &BlockMap,
    (filter, series): (&UsageFilter, Series),
    wanted: impl Fn(&SegmentId) -> bool,
) -> Result<Vec<BlockCursor>, StoreError> {
    let mut cursors = Vec::new();
    for (log_id, epoch, blocks) in map.epochs() {
        for (place, block) in blocks.blocks.iter().enumerate() {
            let Some((least, greatest)) = block.windows else { continue };
            if least >= filter.to || greatest < filter.from {
                continue;
            }
            let stretch = stretch_of(store, (log_id, epoch), blocks, place).await?;
            let counts = |part: usize| {
                let first = stretch.first_segment(part);
                first.is_some_and(|segment| wanted(&segment))
            };
            let parts: Vec<bool> = (0..stretch.parts()).map(counts).collect();
            if parts.contains(&true) {
                let place = (block.number, least);
                cursors.push(BlockCursor::new(place, stretch, parts, (filter, series)));
            }
        }
    }
    Ok(cursors)
}

/// What the block at a place is of.
async fn stretch_of<U: BlockStore>(
    store: &U,
    (log_id, epoch): (LogId, Epoch),
    blocks: &EpochBlocks,
    place: usize,
) -> Result<BlockStretch, StoreError> {
    let block = &blocks.blocks[place];
    if block.has_edges {
        let manifest = store.block_manifest(block.number).await?;
        return Ok(manifest.ok_or_else(|| gone(block.number))?.stretch);
    }
    let (from, ends) = (blocks.from_of(place).to_vec(), block.ends.clone());
    Ok(BlockStretch { log_id, epoch, from, ends, edges: Vec::new() })
}

/// Every part of every block, as what it is of. A row of a part says its first segment, see
/// [`BlockStretch::first_segment`].
///
/// # Errors
/// See [`StoreError`].
pub async fn block_parts<U: BlockStore>(
    store: &U,
    map: &BlockMap,
) -> Result<Vec<BlockStretch>, StoreError> {
    let mut found = Vec::new();
    for (log_id, epoch, blocks) in map.epochs() {
        for place in 0..blocks.blocks.len() {
            let stretch = stretch_of(store, (log_id, epoch), blocks, place).await?;
            found.extend((0..stretch.parts()).map(|part| stretch.part(part)));
        }
    }
    Ok(found)
}

fn gone(block: BlockNumber) -> StoreError {
    StoreError::Unavailable(format!("block {block} was merged into another one; read again"))
}

/// Entries of one block, in the order of their keys.
#[derive(Debug)]
pub struct BlockCursor {
    number: BlockNumber,
    /// Start of the least window that the block has usage in.
    least: Timestamp,
    stretch: BlockStretch,
    /// Which parts count.
    parts: Vec<bool>,
    filter: UsageFilter,
    /// Key from which on entries are wanted, and the first that is past them.
    from: Vec<u8>,
    to: Vec<u8>,
    /// The next page, once it was looked for; behind the last there is none.
    page: Option<u32>,
    is_last: bool,
    last: Option<ResourceKey>,
}

impl BlockCursor {
    fn new(
        (number, least): (BlockNumber, Timestamp),
        stretch: BlockStretch,
        parts: Vec<bool>,
        (filter, series): (&UsageFilter, Series),
    ) -> Self {
        let names = [
            filter.tenant.as_ref().map(Tenant::as_str),
            filter.product_sku.as_ref().map(Sku::as_str),
            filter.use_unity.as_ref().map(Unit::as_str),
        ];
        let given: Vec<&str> = names.into_iter().map_while(|name| name).collect();
        let from = entry::prefix(series, &given);
        let to = entry::behind(&from);
        Self {
            number,
            least,
            stretch,
            parts,
            filter: filter.clone(),
            from,
            to,
            page: None,
            is_last: false,
            last: None,
        }
    }

    /// Passes over entries before a key.
    pub fn seek(&mut self, key: Vec<u8>) {
        if key > self.from {
            self.from = key;
        }
    }

    /// Some more entries that pass, about `limit` cells, also none; `None` behind the last.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn next<U: BlockStore>(
        &mut self,
        store: &U,
        limit: usize,
    ) -> Result<Option<Vec<Entry>>, StoreError> {
        if self.is_last {
            return Ok(None);
        }
        let page = match self.page {
            Some(page) => page,
            None => store.find_block_page(self.number, &self.from).await?,
        };
        let most = (limit / PAGE_ROWS).clamp(1, PAGES_MAX);
        let pages = store.block_pages(self.number, page, most).await?;
        if pages.first().is_none_or(|first| first.number != page) && page == 0 {
            return Err(gone(self.number));
        }
        self.is_last = pages.len() < most;
        let mut entries = Vec::new();
        for found in pages {
            self.page = Some(found.number + 1);
            if found.first.as_bytes() >= &self.to[..] {
                self.is_last = true;
                break;
            }
            self.take(&found.bytes, &mut entries).map_err(damaged)?;
        }
        Ok(Some(entries))
    }

    fn take(&mut self, page: &[u8], entries: &mut Vec<Entry>) -> Result<(), CodecError> {
        let (from, to, filter) = (&self.from, &self.to, &self.filter);
        let (start, end) = (filter.from.micros(), filter.to.micros());
        let is_wanted = |key: &EntryKey| {
            let bucket = key.bucket_start();
            (&from[..]..&to[..]).contains(&key.as_bytes())
                && bucket < end
                && start < bucket + entry::BUCKET
        };
        page::read(page, is_wanted, |entry| entries.push(entry))
    }

    /// The cells that count, as rows. A row says the first segment of its part and the last record of
    /// that. What is beyond one row is told by several.
    ///
    /// # Errors
    /// `Damaged` where a key is none.
    pub fn rows(&mut self, entries: Vec<Entry>) -> Result<Vec<UsageRow>, StoreError> {
        let mut rows = Vec::with_capacity(entries.iter().map(|entry| entry.cells.len()).sum());
        for Entry { key, cells } in entries {
            let Some(resource) = self.resource(&key)? else { continue };
            for cell in cells {
                if self.counts(&cell) {
                    self.push_rows(&resource, &cell, &mut rows);
                }
            }
        }
        Ok(rows)
    }

    /// The resource of an entry, if it passes.
    ///
    /// # Errors
    /// `Damaged` where the key is none.
    pub fn resource(&mut self, key: &EntryKey) -> Result<Option<ResourceKey>, StoreError> {
        let resource = key.resource(self.last.as_ref()).map_err(damaged)?;
        self.last = Some(resource.clone());
        let UsageFilter { tenant, product_sku, use_unity, .. } = &self.filter;
        let passes = tenant.as_ref().is_none_or(|tenant| *tenant == resource.tenant)
            && product_sku.as_ref().is_none_or(|sku| *sku == resource.product_sku)
            && use_unity.as_ref().is_none_or(|unit| *unit == resource.use_unity);
        Ok(passes.then_some(resource))
    }

    /// Whether a cell is in the filter's time and in a part that counts.
    #[must_use]
    pub fn counts(&self, cell: &BlockCell) -> bool {
        let time: std::ops::Range<Timestamp> = self.filter.from..self.filter.to;
        time.contains(&cell.window_start)
            && self.parts.get(cell.part as usize).copied().unwrap_or(false)
    }

    /// What the block is of.
    #[must_use]
    pub const fn stretch(&self) -> &BlockStretch {
        &self.stretch
    }

    fn push_rows(&self, resource: &ResourceKey, cell: &BlockCell, rows: &mut Vec<UsageRow>) {
        let part = cell.part as usize;
        let Some(segment) = self.stretch.first_segment(part) else { return };
        let end = self.stretch.part_ends(part)[usize::from(segment.partition.0)];
        let offset_last = Offset(end.0.saturating_sub(1));
        for aggregate in cell.total.aggregates() {
            let key =
                RowKey { resource: resource.clone(), window_start: cell.window_start, segment };
            rows.push(UsageRow { key, cell: Cell { offset_last, aggregate } });
        }
    }
}

fn damaged(error: CodecError) -> StoreError {
    StoreError::Damaged(format!("a page of a block: {error}"))
}
