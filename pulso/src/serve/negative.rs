//! Which SKUs forbid negative amounts, as the newest active catalogue says.
//!
//! Ingest asks only about negative amounts. A new catalogue takes effect within seconds; it is a
//! guard for clients, not a law of the totals.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
    time::Duration,
};

use domain::{BillingStore, catalogue::NegativePolicy as Negative, store::StoreError};
use ingestor_api::NegativePolicy;
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
    pub(super) async fn follow<B: BillingStore>(self, billing: Arc<B>, shutdown: Shutdown) {
        let mut known = None;
        loop {
            match newest_active(&*billing).await {
                Ok(newest) if newest == known => {}
                Ok(newest) => match self.take_version(&*billing, newest.as_deref()).await {
                    Ok(()) => known = newest,
                    Err(error) => warn_of(&error),
                },
                Err(error) => warn_of(&error),
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(REFRESH_EVERY) => {}
            }
        }
    }

    async fn take_version<B: BillingStore>(
        &self,
        billing: &B,
        version: Option<&str>,
    ) -> Result<(), StoreError> {
        let Some(version) = version else { return Ok(()) };
        if let Some(found) = billing.catalogue(version).await? {
            self.take(&found.text);
        }
        Ok(())
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

/// The version of the newest catalogue in use. Its text is not read for that.
async fn newest_active<B: BillingStore>(billing: &B) -> Result<Option<String>, StoreError> {
    let heads = billing.catalogues().await?;
    Ok(heads.into_iter().find(|head| head.active).map(|head| head.version))
}

fn warn_of(error: &StoreError) {
    warn!(%error, "the rule for negative amounts may be out of date");
}
