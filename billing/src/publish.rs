//! Publish: a catalogue is stored, its dimensions are declared to the log, and then it rates usage.
//!
//! A saga of three steps, each safe to repeat: the text is stored under its version (once, for ever),
//! the dimensions of its SKUs are declared to every partition of the log, and the version becomes
//! active. From the declaration on, totals keep those properties apart. A process that dies between the
//! steps leaves a version that is published but not active; the next start finishes it, and so does
//! publishing the same text again.

use std::sync::Arc;

use domain::{
    BillingStore, BlockStore, Partition, PulseLog, billing::CatalogueVersion, catalogue::Catalogue,
    epochs::Declared, log::AppendError, store::StoreError,
};
use edge::Compute;
use pricing::{CatalogueFile, file};
use proto::v1;
use runtime::{Backoff, fault};
use thiserror::Error;

use crate::config::BillingConfig;

/// Declarations appended at once: about 100 KB.
const RECORDS_AT_ONCE: usize = 500;

/// Why a version is not active yet. It stays published; activation may be tried again at any time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ActivationError {
    /// A partition did not take the declarations, however often they were sent.
    #[error(
        "partition {partition} did not take the dimension declarations in {tries} tries: {last}; the catalogue is published and becomes active once it is published again or the server restarts"
    )]
    Log {
        /// Where the declarations were to go.
        partition: Partition,
        /// How often it was tried.
        tries: u32,
        /// What the last try said.
        last: String,
    },
    /// The log got a next generation, and this process does not yet append to it.
    #[error(
        "the log has grown and this server is about to turn to its next generation; the catalogue is published and becomes active then"
    )]
    Grown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored text is no longer a catalogue to this program.
    #[error("catalogue {version:?} does not parse: {message}")]
    Unreadable {
        /// Name of the catalogue's version.
        version: String,
        /// What is wrong.
        message: String,
    },
}

/// Publishes catalogues.
pub(crate) struct Publisher<U, B, L> {
    usage: Arc<U>,
    store: Arc<B>,
    log: Arc<L>,
    compute: Compute,
    config: BillingConfig,
}

impl<U: BlockStore, B: BillingStore, L: PulseLog> Publisher<U, B, L> {
    /// Takes the ports, the pool of calls, and how long to try.
    pub(crate) fn new(
        (usage, store, log): (Arc<U>, Arc<B>, Arc<L>),
        compute: Compute,
        config: BillingConfig,
    ) -> Self {
        Self { usage, store, log, compute, config }
    }

    /// Stores a version, unless one of its name is stored, and gives the one that is.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn store(
        &self,
        offered: &CatalogueVersion,
    ) -> Result<CatalogueVersion, ActivationError> {
        let stored = self.store.publish_catalogue(offered).await?;
        fault::point("catalogue.after_stored");
        Ok(stored)
    }

    /// Activates every version that is published but not active, oldest first, and gives their
    /// names. Waits for the log.
    ///
    /// # Errors
    /// See [`ActivationError`]; versions before the one that failed are active.
    pub(crate) async fn resume(&self) -> Result<Vec<String>, ActivationError> {
        let mut versions = self.store.catalogues().await?;
        versions.sort_by_key(|version| version.sequence);
        let mut activated = Vec::new();
        for head in versions.into_iter().filter(|version| !version.active) {
            let Some(version) = self.store.catalogue(&head.version).await? else {
                continue;
            };
            let file = self.parse(&version).await?;
            self.activate(&version, &file.catalogue).await?;
            activated.push(version.version);
        }
        Ok(activated)
    }

    async fn parse(&self, version: &CatalogueVersion) -> Result<CatalogueFile, ActivationError> {
        let CatalogueVersion { version, text, .. } = version.clone();
        let unreadable =
            |message| ActivationError::Unreadable { version: version.clone(), message };
        let name = version.clone();
        let parsed = self.compute.run(move || file::parse(&name, text.as_bytes())).await;
        let parsed = parsed.map_err(|problem| unreadable(problem.message))?;
        parsed.map_err(|error| unreadable(error.to_string()))
    }

    /// Declares a version's dimensions in every partition, then marks it active. Repeating it is
    /// harmless: a partition applies a declaration only if its version is newer than what it has.
    pub(crate) async fn activate(
        &self,
        version: &CatalogueVersion,
        catalogue: &Catalogue,
    ) -> Result<(), ActivationError> {
        let generation = self.log.generation();
        let declared = catalogue.declared(version.sequence).into_iter();
        let records: Vec<Vec<u8>> = declared
            .map(|declared| proto::record::encode_control(generation, &control(declared)))
            .collect();
        for partition in generation.partitions() {
            for chunk in records.chunks(RECORDS_AT_ONCE) {
                self.append(partition, chunk).await?;
            }
        }
        // If the log grew meanwhile, its old partitions may have ended before they took these. The
        // end comes well after the registration, so what was appended before that is inherited.
        let newest = self.usage.generations().await?.pop();
        if newest.is_some_and(|newest| newest.log_id != generation.log_id) {
            return Err(ActivationError::Grown);
        }
        fault::point("catalogue.after_declared");
        self.store.activate_catalogue(&version.version).await?;
        tracing::info!(
            version = version.version,
            sequence = version.sequence,
            declarations = records.len(),
            "the catalogue is active"
        );
        Ok(())
    }

    async fn append(
        &self,
        partition: Partition,
        records: &[Vec<u8>],
    ) -> Result<(), ActivationError> {
        let config = &self.config;
        let mut backoff = Backoff::new(config.declare_backoff_first, config.declare_backoff_max);
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.log.append(partition, records.to_vec()).await {
                Ok(_) => return Ok(()),
                // An unknown outcome is tried again too: declarations may stand in the log twice.
                Err(
                    error @ (AppendError::Overloaded { .. }
                    | AppendError::Unavailable(_)
                    | AppendError::Unknown(_)),
                ) => error,
                Err(error @ AppendError::Replaced(_)) => {
                    return Err(ActivationError::Log { partition, tries, last: error.to_string() });
                }
            };
            tracing::warn!(%partition, tries, %error, "dimension declarations were not appended");
            if tries >= config.declare_tries_max {
                return Err(ActivationError::Log { partition, tries, last: error.to_string() });
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

fn control(Declared { product_sku, version, dimensions }: Declared) -> v1::Control {
    let declare = v1::DeclareDimensions { product_sku, dimensions, version };
    v1::Control { kind: Some(v1::control::Kind::DeclareDimensions(declare)) }
}
