//! Billing: usage below a cut becomes documents, each once, whatever happens in between.
//!
//! **Ordering rule three: the run journals before it acts.** What was decided stands in journals of
//! the billing store (`journal.rs`), which grow by compare-and-set alone: the contracts
//! (`contracts.rs`), the runs with their cuts (`run.rs`, `cut.rs`), one ledger a tenant (`ledger.rs`),
//! and registers that give numbers out (`register.rs`): of invoices, of the messages about them, which
//! topics follow (`forward.rs`), and of what consumers rejected (`rejections.rs`). A tenant's
//! period goes through `saga.rs`, which looks at the ledger, does the one next step, and looks again;
//! `periods.rs` sees to it that no day is on the bills of two periods, and `reversals.rs` gives back
//! what is for none. So a run that was killed goes on where it was, and two at once end with one
//! invoice, one number and one message.

use std::sync::Arc;

use crate::{books::Books, config::RunConfig};
use domain::{BillingStore, Clock, PulseLog, UsageStore, refold::Refold};
use edge::Compute;

pub(crate) mod credit_notes;
pub(crate) mod cut;
pub(crate) mod evidence;
pub(crate) mod explain;
pub(crate) mod explanation;
mod periods;
mod reversals;
pub(crate) mod run;
mod saga;
mod set_aside;
mod simulating;

/// Billing over the ports. Clones share everything.
pub(crate) struct Billing<U, B, L> {
    pub(crate) usage: Arc<U>,
    pub(crate) books: Arc<Books<B>>,
    pub(crate) log: Arc<L>,
    pub(crate) refold: Arc<dyn Refold>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: RunConfig,
    /// Where calls compute.
    compute: Compute,
    /// Where runs compute: their bound is `tenants_at_once`, and no call waits behind them.
    background: Compute,
    progress: Arc<run::Progresses>,
}

impl<U, B, L> Clone for Billing<U, B, L> {
    fn clone(&self) -> Self {
        Self {
            usage: Arc::clone(&self.usage),
            books: Arc::clone(&self.books),
            log: Arc::clone(&self.log),
            refold: Arc::clone(&self.refold),
            clock: Arc::clone(&self.clock),
            config: self.config,
            compute: self.compute.clone(),
            background: self.background.clone(),
            progress: Arc::clone(&self.progress),
        }
    }
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// Takes the ports.
    #[must_use]
    pub(crate) fn new(
        usage: Arc<U>,
        billing: Arc<B>,
        log: Arc<L>,
        refold: Arc<dyn Refold>,
        clock: Arc<dyn Clock>,
        config: RunConfig,
        compute: Compute,
    ) -> Self {
        let background = Compute::background();
        let books = Arc::new(Books::new(&billing, &clock, (&compute, &background)));
        let progress = Arc::default();
        Self { usage, books, log, refold, clock, config, compute, background, progress }
    }
}
