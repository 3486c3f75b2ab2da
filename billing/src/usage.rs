//! Usage: the rows of the usage store that are below a cut.
//!
//! Everything that a run reads is below its cut, so a run that comes back, an explanation and a
//! verification years later read the same rows.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use domain::{
    LogId, Offset, Partition, RowKey, SegmentId, Sku, Tenant, Timestamp, UsageRow, UsageStore,
    View, Window,
    epochs::{Journal, Stretch},
    store::{PartitionKey, UsageFilter},
};

use crate::{
    BillingError, Refusal,
    books::runs::{Cut, CutEnd},
    held::Newest,
    set_aside::{self, SetAside},
};

/// A cut, ready to tell what is below it.
#[derive(Clone, Debug)]
pub(crate) struct Below {
    view: View,
    /// `None` has no end.
    ends: Option<HashMap<(LogId, Partition), Offset>>,
    /// Of each epoch that counts, the offsets where its segments start.
    stretches: Vec<(PartitionKey, Range<Offset>)>,
}

impl Below {
    /// Everything that counts in some epochs, which no cut ends.
    #[must_use]
    pub(crate) const fn everything(view: View) -> Self {
        Self { view, ends: None, stretches: Vec::new() }
    }

    /// The epochs that are meant.
    #[must_use]
    pub(crate) const fn view(&self) -> &View {
        &self.view
    }

    /// The stretches of the log that are below the cut; none where there is no cut.
    pub(crate) fn stretches(&self) -> &[(PartitionKey, Range<Offset>)] {
        &self.stretches
    }

    /// Tells whether a segment is below the cut.
    #[must_use]
    pub(crate) fn holds(&self, segment: &SegmentId) -> bool {
        let Some(ends) = &self.ends else { return true };
        let end = ends.get(&(segment.log_id, segment.partition));
        end.is_some_and(|end| segment.start < *end)
    }
}

/// Reads usage, a page at a time.
pub(crate) struct UsageReader<U> {
    store: Arc<U>,
    page_rows: usize,
}

impl<U> Clone for UsageReader<U> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), page_rows: self.page_rows }
    }
}

impl<U: UsageStore> UsageReader<U> {
    /// Takes the store and how many rows are read at once, at least 1.
    pub(crate) fn new(store: Arc<U>, page_rows: usize) -> Self {
        Self { store, page_rows: page_rows.max(1) }
    }

    /// What counts now, below no cut.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn now(&self) -> Result<Below, BillingError> {
        Ok(Below::everything(self.store.active_view().await?))
    }

    /// A journalled cut, ready for reading.
    ///
    /// # Errors
    /// When the store fails, or the cut is not one.
    pub(crate) async fn below(&self, cut: &Cut) -> Result<Below, BillingError> {
        let mut events = self.store.log_events().await?;
        events.truncate(usize::try_from(cut.log_events).unwrap_or(usize::MAX));
        let epochs = Journal::of(events);
        let (mut ends, mut stretches) = (HashMap::new(), Vec::new());
        for CutEnd { log_id, partition, end } in &cut.ends {
            let bytes = u128::from_str_radix(log_id, 16).map_err(|_| BillingError::Journal {
                journal: "run".to_owned(),
                place: 0,
                message: format!("{log_id:?} is no log"),
            })?;
            let (log_id, partition) = (LogId(bytes.to_be_bytes()), Partition(*partition));
            ends.insert((log_id, partition), Offset(*end));
            let history = epochs.log(log_id);
            for Stretch { epoch, from, to } in history.stretches(history.active(), partition) {
                let to = to.map_or(Offset(*end), |to| to.min(Offset(*end)));
                stretches.push((PartitionKey { log_id, partition, epoch }, from..to));
            }
        }
        Ok(Below { view: View::active(epochs), ends: Some(ends), stretches })
    }

    /// A tenant's rows of a period, below a cut.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn of_tenant(
        &self,
        below: &Below,
        tenant: &Tenant,
        window: Window,
    ) -> Result<Vec<UsageRow>, BillingError> {
        self.at_most(usize::MAX, below, tenant, window).await
    }

    /// The same, refused where there are more rows than this.
    ///
    /// # Errors
    /// When there are more; when the store fails.
    pub(crate) async fn at_most(
        &self,
        rows_max: usize,
        below: &Below,
        tenant: &Tenant,
        window: Window,
    ) -> Result<Vec<UsageRow>, BillingError> {
        let mut rows: Vec<UsageRow> = Vec::new();
        let mut pages = self.pages(below, of_tenant(tenant, window));
        while let Some(page) = pages.next().await? {
            rows.extend(page);
            if rows.len() > rows_max {
                return Err(too_many(rows_max));
            }
        }
        Ok(rows)
    }

    /// Rows below a cut, page by page, from the first.
    pub(crate) const fn pages<'r>(&'r self, below: &'r Below, filter: UsageFilter) -> Pages<'r, U> {
        Pages { reader: self, below, filter, after: None, is_last: false }
    }

    /// The newest row of each of a tenant's resources from before a period, below a cut, of SKUs whose
    /// level may hold on; refused where there are more than this.
    ///
    /// # Errors
    /// When there are more; when the store fails.
    pub(crate) async fn held(
        &self,
        rows_max: usize,
        below: &Below,
        (tenant, skus): (&Tenant, &BTreeSet<Sku>),
        window: Window,
    ) -> Result<Vec<UsageRow>, BillingError> {
        let mut newest = Newest::default();
        let before = Window { start: Timestamp::MIN, end: window.start };
        for sku in skus {
            let filter =
                UsageFilter { product_sku: Some(sku.clone()), ..of_tenant(tenant, before) };
            let mut pages = self.pages(below, filter);
            while let Some(page) = pages.next().await? {
                page.into_iter().for_each(|row| newest.take(row));
                if newest.len() > rows_max {
                    return Err(too_many(rows_max));
                }
            }
        }
        Ok(newest.into_rows().collect())
    }

    /// Fails where the store does not answer.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn check(&self) -> Result<(), BillingError> {
        self.store.log_events().await?;
        Ok(())
    }

    /// Tells whether a tenant has usage, whenever.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn has_any(&self, tenant: &Tenant) -> Result<bool, BillingError> {
        let window = Window { start: Timestamp::MIN, end: Timestamp::MAX };
        Ok(!self.store.scan(&of_tenant(tenant, window), None, 1).await?.is_empty())
    }

    /// When a tenant's first windows of usage in a window begin, if it has any.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn first(
        &self,
        below: &Below,
        tenant: &Tenant,
        window: Window,
    ) -> Result<Option<Timestamp>, BillingError> {
        let filter = of_tenant(tenant, window);
        let rows = self.store.usage(below.view(), &filter, None, 1).await?;
        Ok(rows.first().map(|row| row.key.window_start))
    }

    /// Tells whether a tenant has usage in a window that is not below a cut. Where there are more rows
    /// than this, nobody looks through them, and it has.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn has_newer(
        &self,
        (now, below): (&Below, &Below),
        tenant: &Tenant,
        window: Window,
        rows_max: usize,
    ) -> Result<bool, BillingError> {
        let (mut seen, mut pages) = (0, self.pages(now, of_tenant(tenant, window)));
        while let Some(page) = pages.next().await? {
            seen += page.len();
            if seen > rows_max || page.iter().any(|row| !below.holds(&row.key.segment)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All tenants that have usage.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn tenants(&self) -> Result<BTreeSet<Tenant>, BillingError> {
        let mut tenants = BTreeSet::new();
        let mut after: Option<Tenant> = None;
        loop {
            let page = self.store.tenants(after.as_ref(), self.page_rows).await?;
            let Some(last) = page.last().cloned() else { return Ok(tenants) };
            after = Some(last);
            tenants.extend(page);
        }
    }

    /// What of a tenant's pulses was set aside in these windows.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn set_aside(
        &self,
        below: &Below,
        tenant: &Tenant,
        windows: &[Window],
    ) -> Result<SetAside, BillingError> {
        Ok(set_aside::find(&*self.store, below.view(), tenant, windows).await?)
    }
}

/// Rows below a cut, read page by page.
pub(crate) struct Pages<'r, U> {
    reader: &'r UsageReader<U>,
    below: &'r Below,
    filter: UsageFilter,
    after: Option<RowKey>,
    is_last: bool,
}

impl<U: UsageStore> Pages<'_, U> {
    /// The next page, which may have no rows; `None` behind the last.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<UsageRow>>, BillingError> {
        if self.is_last {
            return Ok(None);
        }
        let (reader, below) = (self.reader, self.below);
        let (after, most) = (self.after.as_ref(), reader.page_rows);
        let mut page = reader.store.usage(below.view(), &self.filter, after, most).await?;
        self.is_last = page.len() < most;
        self.after = page.last().map(|row| row.key.clone());
        page.retain(|row| below.holds(&row.key.segment));
        Ok(Some(page))
    }
}

fn too_many(rows_max: usize) -> BillingError {
    let message = format!(
        "a period has more than {rows_max} usage rows: too many for a preview; a billing run has no \
         such bound"
    );
    BillingError::refused(Refusal::TooLarge, message)
}

/// All of a tenant's rows of a window.
pub(crate) fn of_tenant(tenant: &Tenant, window: Window) -> UsageFilter {
    UsageFilter {
        tenant: Some(tenant.clone()),
        product_sku: None,
        use_unity: None,
        from: window.start,
        to: window.end,
    }
}
