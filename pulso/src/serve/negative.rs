//! Which SKUs forbid negative amounts, as the newest active catalogue says.
//!
//! Ingest asks only about negative amounts. A new catalogue takes effect within seconds; it is a
//! guard for clients, not a law of the totals.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
    time::Duration,
};

use domain::{BillingStore, catalogue::NegativePolicy as Negative};
use ingestor_api::NegativePolicy;
use service::Shutdown;
use tracing::warn;

const REFRESH_EVERY: Duration = Duration::from_secs(2);

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
    pub(super) async fn follow<B: BillingStore>(self, billing: Arc<B>, shutdown: Shutdown) {
        let mut known = None;
        loop {
            match billing.catalogues().await {
                Ok(versions) => {
                    let newest = versions.into_iter().find(|version| version.active);
                    if let Some(newest) = newest.filter(|newest| known != Some(newest.sequence)) {
                        known = Some(newest.sequence);
                        self.take(&newest.text);
                    }
                }
                Err(error) => warn!(%error, "the rule for negative amounts may be out of date"),
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(REFRESH_EVERY) => {}
            }
        }
    }

    fn take(&self, text: &str) {
        let Ok(file) = pricing::file::parse("published", text.as_bytes()) else {
            warn!("a published catalogue does not parse; negative amounts stay as they were");
            return;
        };
        let refusing = file.catalogue.skus.iter().filter(|sku| sku.negative == Negative::Refuse);
        let refusing = refusing.map(|sku| sku.sku.to_string()).collect();
        *self.skus.write().unwrap_or_else(std::sync::PoisonError::into_inner) = refusing;
    }
}
