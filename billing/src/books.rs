//! Books: what billing decided, in journals of the billing store.
//!
//! **Ordering rule three: the run journals before it acts.** Journals grow by compare-and-set alone
//! (`journal.rs`), and all that this process knows of them can be read again. The contracts
//! (`contracts.rs`), the runs with their cuts (`runs.rs`), one ledger per tenant (`ledger.rs`) and the
//! periods without anything to bill (`settled.rs`) are journals; registers (`register.rs`) give numbers out: of invoices (`documents.rs`), of the messages
//! about them (`message.rs`), which topics follow (`queue.rs`), and of the messages that consumers
//! rejected (`rejections.rs`).

use std::sync::Arc;

use domain::{BillingStore, Clock};
use edge::Compute;

pub(crate) mod journal;
pub(crate) mod register;

pub(crate) mod catalogues;
pub(crate) mod contracts;

pub(crate) mod settled;

pub(crate) mod document;

pub(crate) mod ledger;

pub(crate) mod documents;

pub(crate) mod runs;

pub(crate) mod message;
pub(crate) mod queue;
pub(crate) mod rejections;

use catalogues::Catalogues;
use contracts::Contracts;
use documents::Documents;
use queue::Queue;
use register::Register;
use rejections::Rejections;
use runs::Runs;
use settled::Settled;

/// All books of one billing store, which is the only port that they need.
pub(crate) struct Books<B> {
    pub(crate) catalogues: Arc<Catalogues<B>>,
    pub(crate) contracts: Contracts<B>,
    pub(crate) runs: Runs<B>,
    pub(crate) settled: Settled<B>,
    pub(crate) documents: Documents<B>,
    pub(crate) outbox: Arc<Register<B>>,
    pub(crate) rejections: Rejections<B>,
}

impl<B: BillingStore> Books<B> {
    /// The books in a store. Calls compute on the first pool, runs on the second.
    pub(crate) fn new(store: &Arc<B>, clock: &Arc<dyn Clock>, pools: (&Compute, &Compute)) -> Self {
        let (compute, background) = (pools.0.clone(), pools.1.clone());
        let (store, clock) = (|| Arc::clone(store), || Arc::clone(clock));
        let catalogues = Arc::new(Catalogues::new(store()));
        let outbox = Arc::new(Register::new(store(), Queue::Outbox.name()));
        Self {
            contracts: Contracts::new(store(), Arc::clone(&catalogues), clock(), compute),
            runs: Runs::new(store(), clock()),
            settled: Settled::new(store()),
            documents: Documents::new(store(), background),
            rejections: Rejections::new(store(), Arc::clone(&outbox), clock()),
            catalogues,
            outbox,
        }
    }

    /// The register of a queue.
    pub(crate) fn queue(&self, queue: Queue) -> Arc<Register<B>> {
        match queue {
            Queue::Outbox => Arc::clone(&self.outbox),
            Queue::Rejections => Arc::clone(&self.rejections.register),
        }
    }
}
