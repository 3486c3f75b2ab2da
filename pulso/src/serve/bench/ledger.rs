//! The ledger: what was sent, to be compared with what is stored.

use std::collections::HashMap;

use domain::{BlockStore, Quantity, SegmentId, Timestamp, UsageCursor, store::UsageFilter};

use crate::exit::Failure;

/// Count and sum by SKU, over all time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger(HashMap<String, (u64, Quantity)>);

impl Ledger {
    /// Adds pulses of one SKU.
    pub(super) fn add(&mut self, sku: &str, count: u64, sum: Quantity) {
        // Looked for first: `entry` alone takes a name of its own for every row that comes.
        let entry = match self.0.get_mut(sku) {
            Some(entry) => entry,
            None => self.0.entry(sku.to_owned()).or_default(),
        };
        entry.0 += count;
        entry.1 = entry.1.checked_add(sum).expect("a bench's amounts are small");
    }

    /// Adds all of another.
    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(sku, (count, sum))| self.add(sku, *count, *sum));
    }

    /// The first SKUs that the two do not agree on, with what each has of them.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        const LISTED_MAX: usize = 10;
        let entry = |ledger: &Self, sku: &str| ledger.0.get(sku).copied().unwrap_or_default();
        let mut skus: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        skus.sort();
        skus.dedup();
        let differs = skus.into_iter().filter(|sku| entry(self, sku) != entry(other, sku));
        differs
            .take(LISTED_MAX)
            .map(|sku| format!("{sku}: {:?} against {:?}", entry(self, sku), entry(other, sku)))
            .collect()
    }

    /// Count and sum over all.
    pub(super) fn total(&self) -> (u64, Quantity) {
        let mut total = Self::default();
        self.0.values().for_each(|(count, sum)| total.add("", *count, *sum));
        total.0.get("").copied().unwrap_or_default()
    }

    /// The ledger that a store's rows make.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn of_store(store: &impl BlockStore) -> Result<Self, Failure> {
        const PAGE: usize = 10_000;
        let filter = UsageFilter {
            tenant: None,
            product_sku: None,
            use_unity: None,
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        };
        let view = store.active_view().await.map_err(Failure::internal)?;
        let mut ledger = Self::default();
        let wanted = |segment: &SegmentId| view.counts(segment);
        let cursor = UsageCursor::open(store, filter, wanted).await;
        let mut cursor = cursor.map_err(Failure::internal)?;
        while let Some(rows) = cursor.next(store, PAGE).await.map_err(Failure::internal)? {
            for row in &rows {
                let aggregate = &row.cell.aggregate;
                ledger.add(row.key.resource.product_sku.as_str(), aggregate.count, aggregate.sum);
            }
        }
        Ok(ledger)
    }
}
