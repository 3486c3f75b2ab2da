//! The operations of billing, whichever door they are asked at: catalogues are published, bills
//! previewed, periods billed.
//!
//! Publishing is a saga of three steps, each safe to repeat: the text is stored under its version
//! (once, for ever), the dimensions of its SKUs are declared to every partition of the log, and the
//! version becomes active. A process that dies between them leaves a version that is published but
//! not active; [`BillingApi::resume_activation`] finishes it, and so does publishing the same
//! text again.

use std::{sync::Arc, time::Duration};

use domain::{
    BillingStore, Clock, PulseLog, UsageStore,
    billing::{CatalogueHead, CatalogueVersion},
    refold::Refold,
};
use edge::{Compute, Problem, problem::reasons};

use crate::billing::{Billing, BillingConfig};
use pricing::file::{self, CatalogueFile};

mod activate;
mod catalogues;
mod explaining;
mod messages;
mod operations;
mod preview;
pub(crate) mod problems;
mod runner;

pub use activate::ActivationError;

/// What the service may use and how long it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricingConfig {
    /// First ceiling of the back-off between tries to append declarations. Default 50 ms. Too short
    /// presses on a log that is already full.
    pub declare_backoff_first: Duration,
    /// Last ceiling of that back-off. Default 2 s. Too long keeps publishers waiting after the log
    /// has recovered.
    pub declare_backoff_max: Duration,
    /// Tries to append the declarations to one partition before publishing answers UNAVAILABLE.
    /// Default 20 (about half a minute), at least 1.
    pub declare_tries_max: u32,
    /// Most usage rows of a period that one preview reads. Default 1,000,000 (about half a gigabyte
    /// while it rates). Beyond it the answer is RESULT_TOO_LARGE.
    pub preview_rows_max: usize,
    /// Stretches of the log that one preview lists as sources. Default 10,000, about 1.5 MB of JSON;
    /// gRPC clients take 4 MiB unless told otherwise.
    pub preview_sources_max: usize,
    /// Pulses that one explanation lists; the others are counted only. Default 20,000, about 4 MB of
    /// JSON.
    pub explained_pulses_max: usize,
    /// How runs work.
    pub billing: BillingConfig,
}

impl Default for PricingConfig {
    fn default() -> Self {
        Self {
            declare_backoff_first: Duration::from_millis(50),
            declare_backoff_max: Duration::from_secs(2),
            declare_tries_max: 20,
            preview_rows_max: 1_000_000,
            preview_sources_max: 10_000,
            explained_pulses_max: 20_000,
            billing: BillingConfig::default(),
        }
    }
}

/// `CatalogService` and `BillingService` over the three ports. Clones share everything.
pub struct BillingApi<U, B, L> {
    inner: Arc<Inner<U, B, L>>,
}

struct Inner<U, B, L> {
    usage: Arc<U>,
    billing: Arc<B>,
    log: Arc<L>,
    clock: Arc<dyn Clock>,
    config: PricingConfig,
    compute: Compute,
    books: Billing<U, B, L>,
    runner: runner::Runner,
    described: catalogues::Described,
}

impl<U, B, L> Clone for BillingApi<U, B, L> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Takes the ports, and the pool on which its calls compute.
    #[must_use]
    pub fn new(
        usage: Arc<U>,
        billing: Arc<B>,
        log: Arc<L>,
        refold: Arc<dyn Refold>,
        clock: Arc<dyn Clock>,
        config: PricingConfig,
        compute: Compute,
    ) -> Self {
        let books = Billing::new(
            Arc::clone(&usage),
            Arc::clone(&billing),
            Arc::clone(&log),
            refold,
            Arc::clone(&clock),
            config.billing,
            compute.clone(),
        );
        let runner = runner::Runner::default();
        let described = catalogues::Described::default();
        let inner = Inner { usage, billing, log, clock, config, compute, books, runner, described };
        Self { inner: Arc::new(inner) }
    }

    /// Billing itself: contracts, runs, invoices.
    #[must_use]
    pub fn books(&self) -> &Billing<U, B, L> {
        &self.inner.books
    }
}

/// Parses off the runtime's threads: a file may take a tenth of a second.
async fn parse(compute: &Compute, name: &str, text: String) -> Result<CatalogueFile, Problem> {
    let name = name.to_owned();
    let parsed = compute.run(move || file::parse(&name, text.as_bytes())).await?;
    parsed.map_err(|error| problems::of_file(&error))
}

/// The version with this name, or with `None` the newest that passes `wanted`.
async fn find_version<B: BillingStore>(
    billing: &B,
    version: Option<&str>,
    wanted: fn(&CatalogueHead) -> bool,
) -> Result<CatalogueVersion, Problem> {
    let found = match version {
        Some(version) => billing.catalogue(version).await?,
        None => {
            let heads = billing.catalogues().await?;
            match heads.into_iter().find(wanted) {
                Some(head) => billing.catalogue(&head.version).await?,
                None => None,
            }
        }
    };
    found.ok_or_else(|| {
        Problem::not_found(
            reasons::CATALOGUE_NOT_FOUND,
            match version {
                Some(version) => format!("no catalogue is published under {version:?}"),
                None => {
                    "no catalogue is published: publish one with `pulso catalog publish`".into()
                }
            },
        )
    })
}
