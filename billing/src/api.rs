//! The operations of billing, whichever door they are asked at: catalogues are published, bills
//! previewed, periods billed.
//!
//! Publishing is a saga of three steps, each safe to repeat: the text is stored under its version
//! (once, for ever), the dimensions of its SKUs are declared to every partition of the log, and the
//! version becomes active. A process that dies between them leaves a version that is published but
//! not active; [`BillingApi::resume_activation`] finishes it, and so does publishing the same
//! text again.

use std::sync::Arc;

use domain::{
    BillingStore, Clock, PulseLog, UsageStore,
    billing::{CatalogueHead, CatalogueVersion},
    refold::Refold,
};
use edge::{Compute, Problem, problem::reasons};
use serde_json::Value;

use crate::{
    billing::Billing,
    books::Books,
    config::BillingConfig,
    outbox::{Forwarder, Queue},
};
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

/// `CatalogService` and `BillingService` over the three ports. Clones share everything.
pub struct BillingApi<U, B, L> {
    pub(crate) inner: Arc<Inner<U, B, L>>,
}

pub(crate) struct Inner<U, B, L> {
    usage: Arc<U>,
    store: Arc<B>,
    log: Arc<L>,
    clock: Arc<dyn Clock>,
    config: BillingConfig,
    compute: Compute,
    pub(crate) books: Arc<Books<B>>,
    pub(crate) billing: Billing<U, B, L>,
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
        store: Arc<B>,
        log: Arc<L>,
        refold: Arc<dyn Refold>,
        clock: Arc<dyn Clock>,
        config: BillingConfig,
        compute: Compute,
    ) -> Self {
        let billing = Billing::new(
            Arc::clone(&usage),
            Arc::clone(&store),
            Arc::clone(&log),
            refold,
            Arc::clone(&clock),
            config.runs,
            compute.clone(),
        );
        let runner = runner::Runner::default();
        let described = catalogues::Described::default();
        let books = Arc::clone(&billing.books);
        let inner =
            Inner { usage, store, log, clock, config, compute, books, billing, runner, described };
        Self { inner: Arc::new(inner) }
    }

    /// What forwards a queue to its topic.
    #[must_use]
    pub fn forwarder(&self, queue: Queue) -> Forwarder<B> {
        let backoff = self.inner.config.runs.backoff();
        Forwarder::new(queue, self.inner.books.queue(queue), backoff)
    }

    /// Messages of the outbox from a number on, at most `limit`, in order. Numbers rise by one.
    pub(crate) async fn messages(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Value)>, Problem> {
        let items = self.inner.books.outbox.items(from.max(1), limit).await;
        let items = items.map_err(problems::of_billing)?.into_iter();
        Ok(items.map(|(number, item)| (number, item.body)).collect())
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
