//! The query engine: usage rows in, sorted totals per group and window out, a page at a time.
//!
//! It is the only reader of usage behind both doors. It promises that every number it gives is the
//! exact sum of all rows of its group in its window, and that pages joined are the whole answer.
//!
//! A page is the least `page_size` keys after the last page's. Rows stream through a map that holds
//! at most one key more than the page: a key that is pushed out, or is greater than all of a full
//! map, is greater than `page_size` other keys and can never come back into the page. So memory
//! is bounded by the page and not by the answer, at the price of reading the filter's rows
//! again for each page. Where tenants are kept apart, the store's order (tenant first) lets a page
//! start at its first tenant and stop after its last.

pub mod group;
pub mod request;
pub mod windows;

use std::{collections::BTreeMap, ops::ControlFlow};

use domain::{
    Aggregate, Dimensions, Epoch, LogId, Offset, Partition, ResourceKey, RowKey, SegmentId, Sku,
    Timestamp, Unit, UsageRow, UsageStore, View, Window, store::StoreError,
};
use thiserror::Error;

use self::{
    group::{GroupKey, Projection},
    request::UsageQuery,
    windows::Cursor,
};

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
    /// The group.
    pub key: GroupKey,
    /// The window, cut to the range asked for.
    pub window: Window,
    /// All usage of the group in the window.
    pub aggregate: Aggregate,
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
    /// A total is beyond an exact amount.
    #[error(
        "the total of {group} is beyond the range of an exact amount; ask for shorter windows or keep more apart"
    )]
    Overflow {
        /// The group and its window.
        group: String,
    },
    /// The question reads more rows than the server allows.
    #[error(
        "the question reads more than {rows_read_max} stored rows; ask for a shorter range, or name a tenant, a SKU or a unit"
    )]
    TooManyRows {
        /// The limit.
        rows_read_max: usize,
    },
}

/// Answers one page of a question.
///
/// # Errors
/// See [`UsageError`]. Nothing is changed.
pub async fn page<U: UsageStore>(
    store: &U,
    view: &View,
    limits: Limits,
    query: &UsageQuery,
) -> Result<UsagePage, UsageError> {
    let mut page = Page::new(query);
    let mut after = first_key(query);
    let mut rows_read = 0;
    loop {
        let rows = store.usage(view, &query.filter, after.as_ref(), limits.store_page_rows).await?;
        rows_read += rows.len();
        if rows_read > limits.rows_read_max {
            return Err(UsageError::TooManyRows { rows_read_max: limits.rows_read_max });
        }
        let is_last = rows.len() < limits.store_page_rows;
        after = rows.last().map(|row| row.key.clone());
        let flow = rows.into_iter().try_for_each(|row| page.take(row));
        if is_last || flow.is_break() {
            return page.finish(rows_read);
        }
    }
}

/// A place in the store's order just before the first row of the tenant at which the page starts.
fn first_key(query: &UsageQuery) -> Option<RowKey> {
    let tenant = query.after.as_ref()?.tenant.clone()?;
    let before = Timestamp::from_micros(query.filter.from.micros() - 1)?;
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

/// The least keys so far.
struct Page<'q> {
    query: &'q UsageQuery,
    projection: Projection<'q>,
    cursor: Cursor,
    keys_max: usize,
    totals: BTreeMap<GroupKey, Total>,
}

struct Total {
    window: Window,
    /// `None` once it left its range. It is an error only if its row is given out.
    aggregate: Option<Aggregate>,
}

impl<'q> Page<'q> {
    fn new(query: &'q UsageQuery) -> Self {
        Self {
            query,
            projection: Projection::new(&query.group_by),
            cursor: Cursor::default(),
            keys_max: query.page_size + 1,
            totals: BTreeMap::new(),
        }
    }

    /// Adds a row to its group; breaks when no later row can change the page.
    fn take(&mut self, row: UsageRow) -> ControlFlow<()> {
        let window = self.query.windows.holding(row.key.window_start, &mut self.cursor);
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
            return if is_past { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        let aggregate = row.cell.aggregate;
        self.totals
            .entry(key)
            .and_modify(|total| total.add(&aggregate))
            .or_insert(Total { window, aggregate: Some(aggregate) });
        if self.totals.len() > self.keys_max {
            self.totals.pop_last();
        }
        ControlFlow::Continue(())
    }

    fn finish(mut self, rows_read: usize) -> Result<UsagePage, UsageError> {
        let is_last = self.totals.len() < self.keys_max;
        if !is_last {
            self.totals.pop_last();
        }
        let rows: Vec<_> = self
            .totals
            .into_iter()
            .map(|(key, total)| total.give(key))
            .collect::<Result<_, _>>()?;
        let next = if is_last { None } else { rows.last().map(|row| row.key.clone()) };
        Ok(UsagePage { rows, next, rows_read })
    }
}

impl Total {
    fn add(&mut self, more: &Aggregate) {
        if let Some(aggregate) = &mut self.aggregate
            && aggregate.merge(more).is_err()
        {
            self.aggregate = None;
        }
    }

    fn give(self, key: GroupKey) -> Result<UsageTotal, UsageError> {
        match self.aggregate {
            Some(aggregate) => Ok(UsageTotal { key, window: self.window, aggregate }),
            None => Err(UsageError::Overflow { group: key.to_string() }),
        }
    }
}
