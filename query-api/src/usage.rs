//! The query engine: usage in, sorted totals per group and window out, a page at a time.
//!
//! It is the only reader of usage behind both doors. It promises that every number it gives is the
//! exact sum of all usage of its group in its window, however much that is, and that pages joined are
//! the whole answer.
//!
//! A page is the least `page_size` keys after the last page's. Usage streams through a map that holds
//! at most one key more than the page: a key that is pushed out, or is greater than all of a full
//! map, is greater than `page_size` other keys and can never come back into the page. So memory
//! is bounded by the page and not by the answer.
//!
//! Blocks keep usage in the order of answers: tenant, SKU, unit, dimensions. As far as a question keeps
//! these apart, from the first on, a page begins in a block at its own first group and stops behind its
//! last, whatever the answer holds. The rows behind the last block are few, and are read for each page;
//! of these only the tenant's order helps. Where no dimensions are asked for, the totals that blocks
//! keep of SKUs are read instead of resources, and those of days where days are enough.

pub mod group;
pub mod windows;
pub mod request;

use std::{cmp::Ordering, collections::BTreeMap, ops::ControlFlow};

use domain::{
    BlockStore, Dimensions, Epoch, LogId, LogWindows, Offset, Partition, ResourceKey, RowKey,
    SegmentId, Sku, Tenant, Timestamp, Total, Unit, UsageRow, View, Window,
    blocks::{BlockMap, Entry, Series, entry},
    store::{StoreError, UsageFilter},
    usage_cursor::{BlockCursor, block_cursors, check_kept},
};
use edge::{Compute, Problem};
use thiserror::Error;

use self::{
    group::{GroupKey, KeptDimensions, Projection},
    request::UsageQuery,
    windows::Cursor,
};

/// Rows that are grouped where they arrive: fewer than this take less time than handing them over.
const GROUPED_HERE_MAX: usize = 256;

/// A row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageTotal {
    /// The values that its usage shares.
    pub key: GroupKey,
    /// The window, cut to the range asked for.
    pub window: Window,
    /// All usage of the group in the window.
    pub total: Total,
}

/// One page of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsagePage {
    /// Ascending by key, without repeats.
    pub rows: Vec<UsageTotal>,
    /// Key to go on after; absent on the last page.
    pub next: Option<GroupKey>,
    /// Rows and cells of blocks that were read for it.
    pub rows_read: usize,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UsageError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A computation did not finish.
    #[error(transparent)]
    Compute(#[from] Problem),
    /// An edge of the answer is inside a window of a row from before the log's windows became shorter.
    #[error(
        "the log counted {} to {} as one window, before its windows became shorter, and {edge} is inside it: ask for PT1H or total between whole hours, or for a time in which the log has its present windows",
        window.start, window.end
    )]
    Across {
        /// The row's window.
        window: Window,
        /// The edge inside it.
        edge: Timestamp,
    },
}

/// Answers one page of a question about usage with these windows. The store is asked for `page_rows` rows
/// at a time, at least 1.
///
/// # Errors
/// See [`UsageError`]. Nothing is changed.
pub async fn page<U: BlockStore>(
    store: &U,
    view: &View,
    (query, windows): (&UsageQuery, LogWindows),
    page_rows: usize,
    compute: &Compute,
) -> Result<UsagePage, UsageError> {
    let map = store.block_map().await?;
    let from = windows.reaching_into(query.windows.range()).start;
    let filter = UsageFilter { from, ..query.filter.clone() };
    let mut reading = Reading {
        store,
        view,
        map: &map,
        filter: &filter,
        page_rows,
        compute,
        page: Some(Page::new(query.clone(), windows)),
        rows_read: 0,
    };
    reading.blocks().await?;
    reading.rows().await?;
    check_kept(store, &map).await?;
    let rows_read = reading.rows_read;
    Ok(reading.into_page().finish(rows_read))
}

/// A page that is being read.
struct Reading<'a, U> {
    store: &'a U,
    view: &'a View,
    map: &'a BlockMap,
    filter: &'a UsageFilter,
    page_rows: usize,
    compute: &'a Compute,
    /// Away only while it is worked on elsewhere.
    page: Option<Page>,
    rows_read: usize,
}

impl<U: BlockStore> Reading<'_, U> {
    /// What blocks hold.
    async fn blocks(&mut self) -> Result<(), UsageError> {
        let series = self.page().series();
        let wanted = |segment: &SegmentId| self.view.counts(segment);
        let cursors = block_cursors(self.store, self.map, (self.filter, series), wanted).await?;
        for mut cursor in cursors {
            if let Some(key) = self.page().first_key(series) {
                cursor.seek(key);
            }
            while let Some(entries) = cursor.next(self.store, self.page_rows).await? {
                let cells: usize = entries.iter().map(|entry| entry.cells.len()).sum();
                self.rows_read += cells;
                let take = move |page: &mut Page| (page.take_entries(&mut cursor, entries), cursor);
                let flow;
                (flow, cursor) = self.work(cells, take).await?;
                if stopped(flow?)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The rows of segments behind the blocks.
    async fn rows(&mut self) -> Result<(), UsageError> {
        let mut after = self.page().first_row(self.filter.from);
        loop {
            let mut rows = self.store.scan(self.filter, after.as_ref(), self.page_rows).await?;
            self.rows_read += rows.len();
            let is_last = rows.len() < self.page_rows;
            after = rows.last().map(|row| row.key.clone());
            rows.retain(|row| {
                self.view.counts(&row.key.segment) && !self.map.covers(&row.key.segment)
            });
            let count = rows.len();
            let take = |page: &mut Page| rows.into_iter().try_for_each(|row| page.take(row));
            let flow = self.work(count, take).await?;
            if stopped(flow)? || is_last {
                return Ok(());
            }
        }
    }

    /// Works on the page, here or where computing is done.
    async fn work<T: Send + 'static>(
        &mut self,
        rows: usize,
        work: impl FnOnce(&mut Page) -> T + Send + 'static,
    ) -> Result<T, UsageError> {
        let mut page = self.page.take().expect("it came back");
        let working = move || (work(&mut page), page);
        let (done, page) = match rows <= GROUPED_HERE_MAX {
            true => working(),
            false => self.compute.run(working).await?,
        };
        self.page = Some(page);
        Ok(done)
    }

    const fn page(&self) -> &Page {
        self.page.as_ref().expect("it came back")
    }

    fn into_page(self) -> Page {
        self.page.expect("it came back")
    }
}

/// Whether no more is to be read of where it was.
fn stopped(flow: ControlFlow<Stop>) -> Result<bool, UsageError> {
    match flow {
        ControlFlow::Continue(()) => Ok(false),
        ControlFlow::Break(Stop::Past) => Ok(true),
        ControlFlow::Break(Stop::Across(window, edge)) => Err(UsageError::Across { window, edge }),
    }
}

/// Why no more rows are taken.
enum Stop {
    /// None that follows can change the page.
    Past,
    /// An edge of the answer's windows is inside the window of a row.
    Across(Window, Timestamp),
}

/// The least keys so far.
struct Page {
    query: UsageQuery,
    log_windows: LogWindows,
    projection: Projection,
    cursor: Cursor,
    keys_max: usize,
    /// How many of tenant, SKU, unit and dimensions, from the first on, an answer keeps apart or has one of.
    ordered: usize,
    totals: BTreeMap<GroupKey, (Window, Total)>,
}

impl Page {
    fn new(query: UsageQuery, log_windows: LogWindows) -> Self {
        let (group_by, filter) = (&query.group_by, &query.filter);
        let all_dimensions = group_by.dimensions == KeptDimensions::All;
        let apart = [
            group_by.tenant || filter.tenant.is_some(),
            group_by.product_sku || filter.product_sku.is_some(),
            group_by.use_unity || filter.use_unity.is_some(),
            all_dimensions,
        ];
        Self {
            log_windows,
            projection: Projection::new(query.group_by.clone()),
            cursor: Cursor::default(),
            keys_max: query.page_size + 1,
            ordered: apart.into_iter().take_while(|apart| *apart).count(),
            query,
            totals: BTreeMap::new(),
        }
    }

    /// What of blocks tells enough.
    fn series(&self) -> Series {
        let no_dimensions = KeptDimensions::Named(Vec::new());
        if !self.log_windows.are_alike() || self.query.group_by.dimensions != no_dimensions {
            Series::Resources
        } else if self.query.windows.are_of_days() {
            Series::SkuDays
        } else {
            Series::Skus
        }
    }

    /// The first key in a block at which the page may begin.
    fn first_key(&self, series: Series) -> Option<Vec<u8>> {
        let (after, filter) = (self.query.after.as_ref()?, &self.query.filter);
        let texts = [
            after.tenant.as_ref().or(filter.tenant.as_ref()).map(Tenant::as_str),
            after.product_sku.as_ref().or(filter.product_sku.as_ref()).map(Sku::as_str),
            after.use_unity.as_ref().or(filter.use_unity.as_ref()).map(Unit::as_str),
            Some(after.dimensions.as_str()),
        ];
        let texts: Vec<&str> =
            texts.into_iter().take(self.ordered).map_while(|text| text).collect();
        Some(entry::prefix(series, &texts))
    }

    /// A place in the order of rows just before the first row of the tenant at which the page starts.
    fn first_row(&self, from: Timestamp) -> Option<RowKey> {
        let tenant = self.query.after.as_ref()?.tenant.clone()?;
        let before = Timestamp::from_micros(from.micros() - 1)?;
        let resource = ResourceKey {
            tenant,
            product_sku: Sku::new("-").expect("a name"),
            use_unity: Unit::new("-").expect("a name"),
            dimensions: Dimensions::none(),
        };
        let segment = SegmentId {
            log_id: LogId([0; 16]),
            partition: Partition(0),
            epoch: Epoch(0),
            start: Offset(0),
        };
        // No row that passes the filter has this window start, so the rest of the key is never looked at.
        Some(RowKey { resource, window_start: before, segment })
    }

    /// Adds cells of a block to their groups; breaks when no later ones of it can change the page.
    fn take_entries(
        &mut self,
        cursor: &mut BlockCursor,
        entries: Vec<Entry>,
    ) -> Result<ControlFlow<Stop>, StoreError> {
        if !self.log_windows.are_alike() {
            let flow = cursor.rows(entries)?.into_iter().try_for_each(|row| match self.take(row) {
                // Rows of a block are in another order.
                ControlFlow::Break(Stop::Past) => ControlFlow::Continue(()),
                flow => flow,
            });
            return Ok(flow);
        }
        for Entry { key, cells } in entries {
            let Some(resource) = cursor.resource(&key)? else { continue };
            if self.is_past(&resource) {
                return Ok(ControlFlow::Break(Stop::Past));
            }
            let mut open: Option<(Window, Total)> = None;
            for cell in cells.iter().filter(|cell| cursor.counts(cell)) {
                let window = self.query.windows.holding(cell.window_start, &mut self.cursor);
                match &mut open {
                    Some((same, total)) if *same == window => total.merge(&cell.total),
                    _ => {
                        if let Some((window, total)) = open.replace((window, cell.total)) {
                            self.add(resource.clone(), window, &total);
                        }
                    }
                }
            }
            if let Some((window, total)) = open {
                self.add(resource, window, &total);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether this resource and all behind it in a block are past the page.
    fn is_past(&self, resource: &ResourceKey) -> bool {
        let greatest = self.totals.last_key_value().filter(|_| self.totals.len() == self.keys_max);
        let Some((greatest, _)) = greatest else { return false };
        let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
        let compared = [
            greatest.tenant.as_ref().map(|greatest| tenant.cmp(greatest)),
            greatest.product_sku.as_ref().map(|greatest| product_sku.cmp(greatest)),
            greatest.use_unity.as_ref().map(|greatest| use_unity.cmp(greatest)),
            Some(dimensions.cmp(&greatest.dimensions)),
        ];
        // What a group does not name is the same in all of them.
        let compared = compared.into_iter().take(self.ordered).flatten();
        compared.reduce(Ordering::then) == Some(Ordering::Greater)
    }

    /// Adds a row to its group; breaks when no later row can change the page.
    fn take(&mut self, row: UsageRow) -> ControlFlow<Stop> {
        let range = self.query.windows.range();
        if row.key.window_start < range.start {
            // Read only because it may reach into the range.
            return self.whole(&row.key, range.start);
        }
        let window = self.query.windows.holding(row.key.window_start, &mut self.cursor);
        if !self.log_windows.are_alike() {
            self.whole(&row.key, window.end)?;
        }
        let total = Total::from(&row.cell.aggregate);
        // Rows come tenant by tenant, so if this one's is past the page's, all others' are.
        match self.add(row.key.resource, window, &total) {
            Some(tenant) if tenant > self.greatest_tenant() => ControlFlow::Break(Stop::Past),
            _ => ControlFlow::Continue(()),
        }
    }

    fn greatest_tenant(&self) -> Option<Tenant> {
        self.totals.last_key_value().and_then(|(greatest, _)| greatest.tenant.clone())
    }

    /// Adds usage to its group. Gives the group's tenant where the group is past the page.
    fn add(
        &mut self,
        resource: ResourceKey,
        window: Window,
        usage: &Total,
    ) -> Option<Option<Tenant>> {
        let key = self.projection.key_of(resource, window.start);
        if self.query.after.as_ref().is_some_and(|after| key <= *after) {
            return None;
        }
        if self.totals.len() == self.keys_max
            && let Some((greatest, _)) = self.totals.last_key_value()
            && key > *greatest
        {
            return Some(key.tenant);
        }
        self.totals
            .entry(key)
            .and_modify(|(_, total)| total.merge(usage))
            .or_insert_with(|| (window, *usage));
        if self.totals.len() > self.keys_max {
            self.totals.pop_last();
        }
        None
    }

    /// Breaks where an edge is inside the row's window.
    fn whole(&self, row: &RowKey, edge: Timestamp) -> ControlFlow<Stop> {
        match self.log_windows.is_across(row, edge) {
            true => ControlFlow::Break(Stop::Across(self.log_windows.window_of(row), edge)),
            false => ControlFlow::Continue(()),
        }
    }

    fn finish(mut self, rows_read: usize) -> UsagePage {
        let is_last = self.totals.len() < self.keys_max;
        if !is_last {
            self.totals.pop_last();
        }
        let totals = self.totals.into_iter();
        let rows: Vec<_> =
            totals.map(|(key, (window, total))| UsageTotal { key, window, total }).collect();
        let next = if is_last { None } else { rows.last().map(|row| row.key.clone()) };
        UsagePage { rows, next, rows_read }
    }
}
