//! Compare: two epochs' totals, resource by resource and window by window, below one cut.
//!
//! The cut is, in each partition, the end of the last segment that is closed in both, so a consumer
//! that goes on meanwhile changes nothing of the answer.

use domain::{
    Aggregate, Conservation, Epoch, LogId, Offset, Partition, PulseLog, ResourceKey, RowKey,
    Timestamp, Total, UsageRow, UsageStore, View,
    epochs::LogHistory,
    store::{PartitionKey, StoreError, UsageFilter},
};

use super::{ReplayError, closed_to};
use crate::restart;

/// Rows asked of the store at a time.
const PAGE_ROWS: usize = 10_000;

/// What a comparison saw.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// By partition, the offset below which was compared.
    pub cut: Vec<Offset>,
    /// Resources and windows that either epoch has.
    pub compared: u64,
    /// Of these, how many differ.
    pub different: u64,
    /// Partitions in which other things became of the pulses, with both accounts.
    pub accounts: Vec<(Partition, Conservation, Conservation)>,
}

impl Comparison {
    /// Whether the two epochs say the same.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.different == 0 && self.accounts.is_empty()
    }
}

/// A resource's window in which the totals differ. `None`: an epoch has none there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Tenant, SKU, unit and dimensions.
    pub resource: ResourceKey,
    /// Start of the window.
    pub window_start: Timestamp,
    /// The total of the first epoch.
    pub before: Option<Total>,
    /// The total of the second.
    pub after: Option<Total>,
}

/// Compares the totals of two epochs and gives each difference to `visit`, in the order of tenant,
/// window, SKU, unit, dimensions.
///
/// # Errors
/// See [`ReplayError`]; differences that were given stand.
pub async fn compare<L: PulseLog, U: UsageStore>(
    log: &L,
    store: &U,
    epochs: [Epoch; 2],
    visit: impl FnMut(Difference) + Send,
) -> Result<Comparison, ReplayError> {
    let (journal, log_id) = (store.journal().await?, log.generation().log_id);
    let history = journal.log(log_id);
    for epoch in epochs {
        if epoch != Epoch(0) && history.opened(epoch).is_none() {
            return Err(ReplayError::Unknown(epoch));
        }
    }
    let mut comparison = Comparison::default();
    for partition in log.generation().partitions() {
        let [before, after] = epochs.map(|epoch| PartitionKey { log_id, partition, epoch });
        let (one, other) =
            (closed_to(store, history, before).await?, closed_to(store, history, after).await?);
        let cut = one.min(other);
        comparison.cut.push(cut);
        let one = account_at(store, history, before, cut).await?;
        let other = account_at(store, history, after, cut).await?;
        if one != other {
            comparison.accounts.push((partition, one, other));
        }
    }
    let views = epochs.map(|epoch| View::of_epoch(journal.clone(), log_id, epoch));
    Rows { log_id, views, comparison, open: None, visit }.compare(store).await
}

/// A pass over all rows. Those of one resource and window follow one another.
struct Rows<V> {
    log_id: LogId,
    views: [View; 2],
    comparison: Comparison,
    /// The resource and window that rows come of now.
    open: Option<Difference>,
    visit: V,
}

impl<V: FnMut(Difference) + Send> Rows<V> {
    async fn compare<U: UsageStore>(mut self, store: &U) -> Result<Comparison, ReplayError> {
        let everything = UsageFilter {
            tenant: None,
            product_sku: None,
            use_unity: None,
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        };
        let mut last: Option<RowKey> = None;
        loop {
            let rows = store.scan(&everything, last.as_ref(), PAGE_ROWS).await?;
            let is_last = rows.len() < PAGE_ROWS;
            last = rows.last().map(|row| row.key.clone());
            rows.into_iter().try_for_each(|row| self.take(row))?;
            if is_last {
                self.close();
                return Ok(self.comparison);
            }
        }
    }

    fn take(&mut self, row: UsageRow) -> Result<(), StoreError> {
        let segment = &row.key.segment;
        let cut = self.comparison.cut.get(usize::from(segment.partition.0));
        let is_below = segment.log_id == self.log_id && cut.is_some_and(|cut| segment.start < *cut);
        let is_in = [&self.views[0], &self.views[1]].map(|view| view.counts(segment));
        if !is_below || is_in == [false, false] {
            return Ok(());
        }
        let RowKey { resource, window_start, .. } = row.key;
        let same =
            |open: &Difference| open.window_start == window_start && open.resource == resource;
        if !self.open.as_ref().is_some_and(same) {
            self.close();
        }
        let new = || Difference { resource, window_start, before: None, after: None };
        let totals = self.open.get_or_insert_with(new);
        if is_in[0] {
            add(&mut totals.before, &row.cell.aggregate);
        }
        if is_in[1] {
            add(&mut totals.after, &row.cell.aggregate);
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some(totals) = self.open.take() else { return };
        self.comparison.compared += 1;
        if totals.before != totals.after {
            self.comparison.different += 1;
            (self.visit)(totals);
        }
    }
}

fn add(total: &mut Option<Total>, more: &Aggregate) {
    match total {
        None => *total = Some(more.into()),
        Some(total) => total.add(more),
    }
}

/// What became of a partition's pulses below the cut, in the totals of an epoch.
async fn account_at<U: UsageStore>(
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
    cut: Offset,
) -> Result<Conservation, StoreError> {
    if cut == Offset(0) {
        return Ok(Conservation::default());
    }
    let epoch = history.holding(key.epoch, key.partition, Offset(cut.0 - 1));
    let key = PartitionKey { epoch, ..key };
    let from = history.start_of(epoch, key.partition);
    let start = restart::first_from(store, key, from, cut, |last| last.end >= cut).await?;
    let found = store.manifests(key, start, 1).await?.into_iter().next();
    Ok(found.map_or_else(Conservation::default, |manifest| manifest.counts_to_end))
}
