//! The operations of billing, whichever door they are asked at: each takes a request of the wire, does
//! it with the parts of the stage, and answers with a message of the wire or a problem.

use std::sync::Arc;

use domain::{BillingStore, BlockStore, Clock, PulseLog, refold::Refold};
use edge::Compute;
use runtime::Shutdown;

use crate::{
    BillingError,
    config::BillingConfig,
    outbox::{Forwarder, Queue},
    parts::{Parts, Ports},
    publish::ActivationError,
};

mod messages;
mod problems;
mod requests;
mod filter;
mod totals;

mod catalogues;
mod contracts;
pub(crate) mod explaining;
pub(crate) mod invoices;
mod preview;
mod reading;
mod rejections;
mod runs;
mod watching;

/// `CatalogService` and `BillingService` over the ports, for every door. Clones share everything.
pub struct BillingApi<U, B, L> {
    pub(crate) parts: Arc<Parts<U, B, L>>,
    clock: Arc<dyn Clock>,
    config: BillingConfig,
    pub(crate) compute: Compute,
    described: Arc<catalogues::Described>,
}

impl<U, B, L> Clone for BillingApi<U, B, L> {
    fn clone(&self) -> Self {
        Self {
            parts: Arc::clone(&self.parts),
            clock: Arc::clone(&self.clock),
            config: self.config.clone(),
            compute: self.compute.clone(),
            described: Arc::clone(&self.described),
        }
    }
}

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
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
        let ports = Ports { usage, store, log, refold, clock: Arc::clone(&clock) };
        let parts = Arc::new(Parts::new(ports, config.clone(), &compute));
        Self { parts, clock, config, compute, described: Arc::default() }
    }

    /// Activates every version that is published but not active, oldest first, and gives their names.
    /// Call it at start, beside serving: it waits for the log.
    ///
    /// # Errors
    /// See [`ActivationError`]; versions before the one that failed are active.
    pub async fn resume_activation(&self) -> Result<Vec<String>, ActivationError> {
        self.parts.publisher.resume().await
    }

    /// Continues every run that is open, now and every half minute, until shutdown; then ends the
    /// tasks. The next start finds what they had in hand.
    pub async fn keep_billing(&self, shutdown: &Shutdown) {
        self.parts.tasks.keep(shutdown).await;
    }

    /// Opens the runs of a tick of the schedule and works on them, one after the other, until shutdown:
    /// for each month with periods that are due, and for deltas where the schedule bills them. Gives
    /// the runs' numbers.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bill_what_is_due(&self, shutdown: &Shutdown) -> Result<Vec<u64>, BillingError> {
        self.parts.tasks.bill_what_is_due(shutdown).await
    }

    /// What forwards a queue to its topic.
    #[must_use]
    pub fn forwarder(&self, queue: Queue) -> Forwarder<B> {
        let backoff = self.config.runs.backoff();
        Forwarder::new(queue, self.parts.books.queue(queue), backoff)
    }
}

#[cfg(test)]
mod tests;
