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

use std::{sync::Arc, time::Duration};

use domain::{
    BillingStore, Clock, Partition, PulseLog, Timestamp, UsageStore,
    catalogue::Catalogue,
    refold::{Refold, RefoldError},
    store::StoreError,
};
use edge::Compute;
use runtime::Backoff;
use std::collections::HashMap;
use thiserror::Error;
use tokio::sync::Mutex;

use pricing::{
    file::{self, FileError},
    invoice::InvoiceError,
};

pub mod contracts;
pub mod credit_notes;
pub mod cut;
pub mod evidence;
pub mod explain;
pub mod explanation;
pub mod journal;
pub mod ledger;
mod periods;
pub mod register;
pub mod rejections;
mod reversals;
pub mod run;
mod saga;
mod set_aside;
mod simulating;

use crate::outbox::Queue;
use contracts::ContractBook;
use register::Register;

/// How billing works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BillingConfig {
    /// How long after its end a period is billed at the earliest, so that usage may be late. Default
    /// 24 hours, the log's default lateness: what comes later is never counted. Shorter, and late
    /// usage makes deltas.
    pub grace: Duration,
    /// Tenants that are billed at once. Default 16, at least 1. Each holds one period's usage in
    /// memory.
    pub tenants_at_once: usize,
    /// Rows read from the store at once. Default 5,000, at least 1.
    pub page_rows: usize,
    /// Time between two looks at a partition that a cut waits for. Default 200 ms.
    pub poll_interval: Duration,
    /// Tries to append a boundary before a run fails. Default 20, at least 1.
    pub tries_max: u32,
    /// First and last ceiling of the back-off between tries. Default 50 ms and 2 s.
    pub backoff: (Duration, Duration),
}

impl Default for BillingConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(24 * 3_600),
            tenants_at_once: 16,
            page_rows: 5_000,
            poll_interval: Duration::from_millis(200),
            tries_max: 20,
            backoff: (Duration::from_millis(50), Duration::from_secs(2)),
        }
    }
}

impl BillingConfig {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.backoff.0, self.backoff.1)
    }
}

/// Billing over the ports. Clones share everything.
pub struct Billing<U, B, L> {
    pub(crate) usage: Arc<U>,
    pub(crate) billing: Arc<B>,
    pub(crate) log: Arc<L>,
    pub(crate) refold: Arc<dyn Refold>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: BillingConfig,
    /// Where calls compute.
    compute: Compute,
    /// Where runs compute: their bound is `tenants_at_once`, and no call waits behind them.
    background: Compute,
    pub(crate) shared: Arc<Shared>,
}

impl<U, B, L> Clone for Billing<U, B, L> {
    fn clone(&self) -> Self {
        Self {
            usage: Arc::clone(&self.usage),
            billing: Arc::clone(&self.billing),
            log: Arc::clone(&self.log),
            refold: Arc::clone(&self.refold),
            clock: Arc::clone(&self.clock),
            config: self.config,
            compute: self.compute.clone(),
            background: self.background.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

/// What this process knows of the journals so far. All of it can be read again.
pub(crate) struct Shared {
    contracts: ContractBook,
    numbers: Register,
    pub(crate) outbox: Register,
    pub(crate) rejections: Register,
    catalogues: Mutex<HashMap<String, Arc<Catalogue>>>,
    progress: run::Progresses,
}

/// Journal of the invoice numbers.
const NUMBERS: &str = "invoice-numbers";

/// Why billing did not go on. Nothing is half done: whatever is journalled is found again.
#[derive(Debug, Error)]
pub enum BillingError {
    /// The store failed; try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A partition of the log takes no boundary.
    #[error(
        "partition {partition} of the log takes no boundary: {message}; resume the run once it does"
    )]
    Log {
        /// The partition.
        partition: Partition,
        /// What the log said.
        message: String,
    },
    /// The log got a next generation, and this process does not yet know it, or the old one has not
    /// ended yet.
    #[error(
        "the log has grown, and its old partitions have not ended yet or this server is about to turn to the new ones; resume the run in a minute"
    )]
    Grown,
    /// A journal holds what this program does not understand.
    #[error(
        "entry {place} of journal {journal} is not understood: {message}; use the version that wrote it or a later one"
    )]
    Journal {
        /// The journal.
        journal: String,
        /// The place.
        place: u64,
        /// What is wrong.
        message: String,
    },
    /// A stored catalogue or contract is no longer one to this program.
    #[error("{what} does not parse: {message}")]
    Unreadable {
        /// Which.
        what: String,
        /// What is wrong.
        message: String,
    },
    /// The log was asked and could not say.
    #[error(transparent)]
    Refold(#[from] RefoldError),
    /// There is no catalogue in use.
    #[error("no catalogue is in use: publish one with `pulso catalog publish`")]
    NoCatalogue,
    /// There is no such catalogue in use.
    #[error("catalogue {0:?} is not published, or not in use yet")]
    UnknownCatalogue(String),
    /// A period cannot be invoiced.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// A contract file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// A refusal that is the caller's to mend.
    #[error("{message}")]
    Refused {
        /// The reason's code, for [`edge::problem::reasons`].
        reason: Refusal,
        /// What is wrong and what to do.
        message: String,
    },
    /// A task did not finish.
    #[error("a billing task did not finish: {0}")]
    Task(String),
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another contract has the name.
    ContractExists,
    /// A contract does not go with those before it.
    ContractConflicts,
    /// There is no such contract.
    ContractNotFound,
    /// The period is not over, or not long enough.
    NotDue,
    /// There is no such run.
    RunNotFound,
    /// The run has ended.
    RunEnded,
    /// There is no such document.
    InvoiceNotFound,
    /// The document is not in a state for that.
    InvoiceState,
    /// There is no such message in the outbox.
    MessageNotFound,
    /// There is no such rejection.
    RejectionNotFound,
    /// It would take more memory than a request may.
    TooLarge,
}

impl BillingError {
    fn refused(reason: Refusal, message: impl Into<String>) -> Self {
        Self::Refused { reason, message: message.into() }
    }
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// Takes the ports.
    #[must_use]
    pub fn new(
        usage: Arc<U>,
        billing: Arc<B>,
        log: Arc<L>,
        refold: Arc<dyn Refold>,
        clock: Arc<dyn Clock>,
        config: BillingConfig,
        compute: Compute,
    ) -> Self {
        let shared = Shared {
            contracts: ContractBook::default(),
            numbers: Register::new(NUMBERS),
            outbox: Register::new(Queue::Outbox.name()),
            rejections: Register::new(Queue::Rejections.name()),
            catalogues: Mutex::default(),
            progress: run::Progresses::default(),
        };
        let (background, shared) = (Compute::background(), Arc::new(shared));
        Self { usage, billing, log, refold, clock, config, compute, background, shared }
    }

    /// Messages of the outbox from a number on, at most `limit`, in order. Numbers rise by one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn messages(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, serde_json::Value)>, BillingError> {
        let items = self.shared.outbox.items(&*self.billing, from.max(1), limit).await?;
        Ok(items.into_iter().map(|(number, item)| (number, item.body)).collect())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Runs arithmetic where it holds nobody up.
    async fn on<T: Send + 'static>(
        &self,
        pool: &Compute,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BillingError> {
        pool.run(work).await.map_err(|problem| BillingError::Task(problem.message))
    }

    /// The version of the newest catalogue in use.
    pub(crate) async fn latest_catalogue(&self) -> Result<Option<String>, BillingError> {
        let mut versions = self.billing.catalogues().await?.into_iter();
        Ok(versions.find(|version| version.active).map(|version| version.version))
    }

    /// A catalogue in use, parsed once a process.
    pub(crate) async fn catalogue(&self, version: &str) -> Result<Arc<Catalogue>, BillingError> {
        let mut known = self.shared.catalogues.lock().await;
        if let Some(found) = known.get(version) {
            return Ok(Arc::clone(found));
        }
        let found = self.billing.catalogue(version).await?.filter(|found| found.active);
        let found = found.ok_or_else(|| BillingError::UnknownCatalogue(version.to_owned()))?;
        let parsed = file::parse(version, found.text.as_bytes());
        let parsed = parsed.map_err(|error| BillingError::Unreadable {
            what: format!("catalogue {version:?}"),
            message: error.to_string(),
        })?;
        let catalogue = Arc::new(parsed.catalogue);
        known.insert(version.to_owned(), Arc::clone(&catalogue));
        Ok(catalogue)
    }
}
