//! The query engine: usage rows in, sorted totals per group and window out, a page at a time.
//!
//! It is the only reader of usage behind both doors. It promises that every number it gives is the
//! exact sum of all rows of its group in its window, however much that is, and that pages joined are
//! the whole answer.
//!
//! A page is the least `page_size` keys after the last page's. Rows stream through a map that holds
//! at most one key more than the page: a key that is pushed out, or is greater than all of a full
//! map, is greater than `page_size` other keys and can never come back into the page. So memory
//! is bounded by the page and not by the answer, at the price of reading the filter's rows
//! again for each page. Where tenants are kept apart, the store's order (tenant first) lets a page
//! start at its first tenant and stop after its last.

pub mod group;
pub mod windows;
pub mod request;

use std::{collections::BTreeMap, ops::ControlFlow};

use domain::{
    Dimensions, Epoch, LogId, LogWindows, Offset, Partition, ResourceKey, RowKey, SegmentId, Sku,
    Timestamp, Total, Unit, UsageRow, UsageStore, View, Window,
    store::{StoreError, UsageFilter},
};
use edge::{Compute, Problem};
use thiserror::Error;

use self::{
    group::{GroupKey, Projection},
    request::UsageQuery,
    windows::Cursor,
};

/// Rows that are grouped where they arrive: fewer than this take less time than handing them over.
const GROUPED_HERE_MAX: usize = 256;

/// How much one question may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows asked of the store at a time, at least 1.
    pub store_page_rows: usize,
    /// Rows read in all.
    pub rows_read_max: usize,
}

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
    /// Store rows that were read for it.
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
    /// The question reads more rows than the server allows.
    #[error(
        "the question reads more than {rows_read_max} stored rows; ask for a shorter range, or name a tenant, a SKU or a unit"
    )]
    TooManyRows {
        /// Rows that one question may read.
        rows_read_max: usize,
    },
}

/// Answers one page of a question about rows with these windows.
///
/// # Errors
/// See [`UsageError`]. Nothing is changed.
pub async fn page<U: UsageStore>(
    store: &U,
    view: &View,
    (query, windows): (&UsageQuery, LogWindows),
    limits: Limits,
    compute: &Compute,
) -> Result<UsagePage, UsageError> {
    let from = windows.reaching_into(query.windows.range()).start;
    let filter = UsageFilter { from, ..query.filter.clone() };
    let mut page = Page::new(query.clone(), windows);
    let mut after = first_key(query, from);
    let mut rows_read = 0;
    loop {
        let rows = store.usage(view, &filter, after.as_ref(), limits.store_page_rows).await?;
        rows_read += rows.len();
        if rows_read > limits.rows_read_max {
            return Err(UsageError::TooManyRows { rows_read_max: limits.rows_read_max });
        }
        let is_last = rows.len() < limits.store_page_rows;
        after = rows.last().map(|row| row.key.clone());
        let few = rows.len() <= GROUPED_HERE_MAX;
        let grouping = move || (rows.into_iter().try_for_each(|row| page.take(row)), page);
        let (flow, grouped) = if few { grouping() } else { compute.run(grouping).await? };
        page = grouped;
        match flow {
            ControlFlow::Break(Stop::Across(window, edge)) => {
                return Err(UsageError::Across { window, edge });
            }
            ControlFlow::Continue(()) if !is_last => {}
            _ => return Ok(page.finish(rows_read)),
        }
    }
}

/// A place in the store's order just before the first row of the tenant at which the page starts.
fn first_key(query: &UsageQuery, from: Timestamp) -> Option<RowKey> {
    let tenant = query.after.as_ref()?.tenant.clone()?;
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
    totals: BTreeMap<GroupKey, (Window, Total)>,
}

impl Page {
    fn new(query: UsageQuery, log_windows: LogWindows) -> Self {
        Self {
            log_windows,
            projection: Projection::new(query.group_by.clone()),
            cursor: Cursor::default(),
            keys_max: query.page_size + 1,
            query,
            totals: BTreeMap::new(),
        }
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
        let key = self.projection.key_of(row.key.resource, window.start);
        if self.query.after.as_ref().is_some_and(|after| key <= *after) {
            return ControlFlow::Continue(());
        }
        if self.totals.len() == self.keys_max
            && let Some((greatest, _)) = self.totals.last_key_value()
            && key > *greatest
        {
            // Rows come tenant by tenant, so if this one's is past the page's, all others' are.
            let is_past = key.tenant > greatest.tenant;
            return if is_past {
                ControlFlow::Break(Stop::Past)
            } else {
                ControlFlow::Continue(())
            };
        }
        let aggregate = row.cell.aggregate;
        self.totals
            .entry(key)
            .and_modify(|(_, total)| total.add(&aggregate))
            .or_insert_with(|| (window, Total::from(&aggregate)));
        if self.totals.len() > self.keys_max {
            self.totals.pop_last();
        }
        ControlFlow::Continue(())
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
