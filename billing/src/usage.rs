//! Usage: the rows of the usage store that are below a cut.
//!
//! Everything that a run reads is below its cut, so a run that comes back, an explanation and a
//! verification years later read the same rows.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use domain::{
    BlockStore, LogId, Offset, Partition, SegmentId, Sku, Tenant, Timestamp, UsageCursor, UsageRow,
    View, Window,
    blocks::BlockStretch,
    epochs::{Journal, Stretch},
    store::{PartitionKey, UsageFilter},
    usage_cursor::{block_parts, first_window},
};

use crate::{
    BillingError, Refusal,
    books::runs::{Cut, CutEnd},
    held::Newest,
    set_aside::{self, SetAside},
    sources,
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
    fn holds(&self, segment: &SegmentId) -> bool {
        let Some(ends) = &self.ends else { return true };
        let end = ends.get(&(segment.log_id, segment.partition));
        end.is_some_and(|end| segment.start < *end)
    }

    /// Tells whether a segment's usage is in the totals below the cut.
    #[must_use]
    pub(crate) fn counts(&self, segment: &SegmentId) -> bool {
        self.view.counts(segment) && self.holds(segment)
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

impl<U: BlockStore> UsageReader<U> {
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
        let mut pages = self.pages(below, of_tenant(tenant, window)).await?;
        while let Some(page) = pages.next().await? {
            rows.extend(page);
            if rows.len() > rows_max {
                return Err(too_many(rows_max));
            }
        }
        Ok(rows)
    }

    /// Rows below a cut, page by page, in no order.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn pages<'r>(
        &'r self,
        below: &'r Below,
        filter: UsageFilter,
    ) -> Result<Pages<'r, U, impl Fn(&SegmentId) -> bool + Send + 'r>, BillingError> {
        let wanted = |segment: &SegmentId| below.counts(segment);
        let cursor = UsageCursor::open(&*self.store, filter, wanted).await?;
        Ok(Pages { reader: self, cursor })
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
            let mut pages = self.pages(below, filter).await?;
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
        let (filter, now) = (of_tenant(tenant, window), self.now().await?);
        let cursor = UsageCursor::open(&*self.store, filter, |segment| now.counts(segment)).await?;
        Ok(cursor.any(&*self.store).await?)
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
        let wanted = |segment: &SegmentId| below.view.counts(segment);
        Ok(first_window(&*self.store, &of_tenant(tenant, window), wanted).await?)
    }

    /// Tells whether a tenant has usage in a window that is not below a cut.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn has_newer(
        &self,
        (now, below): (&Below, &Below),
        tenant: &Tenant,
        window: Window,
    ) -> Result<bool, BillingError> {
        let wanted = |segment: &SegmentId| now.counts(segment) && !below.holds(segment);
        let cursor = UsageCursor::open(&*self.store, of_tenant(tenant, window), wanted).await?;
        Ok(cursor.any(&*self.store).await?)
    }

    /// Usage that only the store has, where the log no longer has these segments. What is in a block with
    /// one of them cannot be told apart in the store, so all of that part of the block counts as lost.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn lost(&self, segments: Vec<SegmentId>) -> Result<Lost, BillingError> {
        let map = self.store.block_map().await?;
        let (in_blocks, segments): (Vec<_>, Vec<_>) =
            segments.into_iter().partition(|segment| map.covers(segment));
        let mut parts = match in_blocks.is_empty() {
            true => Vec::new(),
            false => block_parts(&*self.store, &map).await?,
        };
        parts.retain(|part| in_blocks.iter().any(|segment| part.holds(segment)));
        Ok(Lost { parts, segments: segments.into_iter().collect() })
    }

    /// Changes when usage goes into a block: what was read before and after does not fit together.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn blocks_version(&self) -> Result<u64, BillingError> {
        Ok(self.store.block_map().await?.swapped_in)
    }

    /// Writes down the segments of hours that are in blocks, and not only that they are.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn tell_segments(
        &self,
        below: &Below,
        tenant: &Tenant,
        hours: impl Iterator<Item = sources::Hours<'_>>,
    ) -> Result<(), BillingError> {
        sources::tell(&*self.store, |segment| below.counts(segment), tenant, hours).await
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

/// What of the log is lost, as the store keeps it.
pub(crate) struct Lost {
    parts: Vec<BlockStretch>,
    segments: HashSet<SegmentId>,
}

impl Lost {
    /// Whether usage of a segment has to come from the store.
    pub(crate) fn holds(&self, segment: &SegmentId) -> bool {
        self.segments.contains(segment) || self.parts.iter().any(|part| part.holds(segment))
    }
}

/// Rows below a cut, read page by page.
pub(crate) struct Pages<'r, U, W> {
    reader: &'r UsageReader<U>,
    cursor: UsageCursor<W>,
}

impl<U: BlockStore, W: Fn(&SegmentId) -> bool> Pages<'_, U, W> {
    /// The next page, which may have no rows; `None` behind the last.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<UsageRow>>, BillingError> {
        let UsageReader { store, page_rows } = self.reader;
        Ok(self.cursor.next(&**store, *page_rows).await?)
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
