//! Which SKUs forbid negative amounts, as the catalogue that is in effect says.
//!
//! Ingest asks only about negative amounts. A new catalogue takes effect within seconds of its date;
//! it is a guard for clients, not a law of the totals.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
    time::Duration,
};

use domain::{
    BillingStore, Clock, billing::CatalogueHead, catalogue::NegativePolicy as Negative,
    store::StoreError,
};
use ingestor_api::NegativePolicy;
use pricing::editions::{Editions, Published};
use runtime::Shutdown;
use tracing::warn;

const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// The SKUs; clones share them.
#[derive(Clone, Default)]
pub(super) struct RefusingSkus {
    skus: Arc<RwLock<HashSet<String>>>,
}

impl NegativePolicy for RefusingSkus {
    fn refuses(&self, product_sku: &str) -> bool {
        // A poisoned lock holds a whole set all the same: it is replaced in one piece.
        self.skus.read().unwrap_or_else(std::sync::PoisonError::into_inner).contains(product_sku)
    }
}

impl RefusingSkus {
    /// Follows the billing store until shutdown.
    pub(super) async fn follow<B: BillingStore>(
        self,
        billing: Arc<B>,
        clock: Arc<dyn Clock>,
        shutdown: Shutdown,
    ) {
        let mut known = Known::default();
        loop {
            match known.refresh(&*billing).await {
                Ok(()) => self.take(known.refused_at(clock.now())),
                Err(error) => warn_of(&error),
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(REFRESH_EVERY) => {}
            }
        }
    }

    fn take(&self, refusing: HashSet<String>) {
        *self.skus.write().unwrap_or_else(std::sync::PoisonError::into_inner) = refusing;
    }
}

/// The active versions, of each no more than the SKUs that refuse negative amounts.
#[derive(Default)]
struct Known {
    published: Vec<Published>,
    /// Versions that do not parse, which are told once.
    unreadable: HashSet<String>,
}

impl Known {
    /// Reads the versions that became active since.
    async fn refresh(&mut self, billing: &impl BillingStore) -> Result<(), StoreError> {
        let heads = billing.catalogues().await?;
        for head in heads.into_iter().filter(|head| head.active) {
            let is_known = self.published.iter().any(|known| known.sequence == head.sequence);
            if is_known || self.unreadable.contains(&head.version) {
                continue;
            }
            if let Some(found) = billing.catalogue(&head.version).await? {
                self.take(head, &found.text);
            }
        }
        Ok(())
    }

    fn take(&mut self, head: CatalogueHead, text: &str) {
        let Ok(file) = pricing::file::parse("published", text.as_bytes()) else {
            warn!(
                head.version,
                "a published catalogue does not parse; negative amounts go by others"
            );
            self.unreadable.insert(head.version);
            return;
        };
        let mut catalogue = file.catalogue;
        catalogue.skus.retain(|sku| sku.negative == Negative::Refuse);
        catalogue.skus.iter_mut().for_each(|sku| sku.prices = Vec::new());
        self.published.push(Published {
            catalogue: Arc::new(catalogue),
            sequence: head.sequence,
            published_at: head.published_at,
        });
    }

    fn refused_at(&self, moment: domain::Timestamp) -> HashSet<String> {
        let Some(editions) = Editions::of(&self.published) else { return HashSet::new() };
        editions.at(moment).skus.iter().map(|sku| sku.sku.to_string()).collect()
    }
}

fn warn_of(error: &StoreError) {
    warn!(%error, "the rule for negative amounts may be out of date");
}
