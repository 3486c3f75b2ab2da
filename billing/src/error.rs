//! Why billing did not go on.

use domain::{Partition, refold::RefoldError, store::StoreError};
use edge::Compute;
use pricing::{file::FileError, invoice::InvoiceError};
use thiserror::Error;

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
        /// Whose segment was to be closed.
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
        /// Name of the journal.
        journal: String,
        /// Its place in the journal.
        place: u64,
        /// What is wrong.
        message: String,
    },
    /// A stored catalogue, contract or document does not parse any more.
    #[error("{what} does not parse: {message}")]
    Unreadable {
        /// Which catalogue, contract or document.
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
    /// Nobody knows the tenant.
    TenantUnknown,
    /// There is no such run.
    RunNotFound,
    /// The run has ended.
    RunEnded,
    /// There is no such document.
    InvoiceNotFound,
    /// The document is not in a state for that.
    InvoiceState,
    /// An equal credit note stands, and the request has no id.
    CreditExists,
    /// The request id was used for something else.
    RequestIdUsed,
    /// There is no such message in the outbox.
    MessageNotFound,
    /// There is no such rejection.
    RejectionNotFound,
    /// It would take more memory than a request may.
    TooLarge,
    /// A day or a period begins or ends inside a window of the log.
    WindowsTooLong,
}

impl BillingError {
    pub(crate) fn refused(reason: Refusal, message: impl Into<String>) -> Self {
        Self::Refused { reason, message: message.into() }
    }

    /// No document has this number.
    pub(crate) fn no_invoice(number: &str) -> Self {
        Self::refused(Refusal::InvoiceNotFound, format!("there is no invoice {number:?}"))
    }
}

/// Runs arithmetic on a pool, where it holds nobody up.
pub(crate) async fn compute<T: Send + 'static>(
    pool: &Compute,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BillingError> {
    pool.run(work).await.map_err(|problem| BillingError::Task(problem.message))
}
