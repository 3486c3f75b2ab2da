//! Explain and verify: a document is derived again and compared with what was issued.
//!
//! What a document leaves out, because it is as large as the usage (hours, and the stretches of the log
//! behind them), comes back here and is given part by part (`explanation.rs`).

use std::sync::Arc;

use domain::{BillingStore, UsageStore};
use edge::Compute;
use pricing::{
    document::{DocumentLine, InvoiceDocument},
    rate::Sources,
};

use crate::{
    BillingError, Refusal,
    books::{
        Books,
        documents::{Found, understood},
    },
    derive::{Derived, Deriver, Origin},
    error::compute,
    evidence::{FromLog, PulsesWanted},
    lines::{Difference, compare},
};

pub(crate) mod explanation;

use explanation::Explanation;

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verification {
    /// Lines that were computed again.
    pub(crate) lines: usize,
    /// Those that differ, in the order of the document; then those that it does not have.
    pub(crate) differences: Vec<Difference>,
    /// How much of the log it was made from; `None` where it was made from the stored totals.
    pub(crate) from_log: Option<FromLog>,
}

/// Explains and verifies documents.
pub(crate) struct Explainer<U, B> {
    books: Arc<Books<B>>,
    deriver: Deriver<U, B>,
    compute: Compute,
}

impl<U: UsageStore, B: BillingStore> Explainer<U, B> {
    /// Takes the books, what derives documents, and the pool of calls.
    pub(crate) const fn new(
        books: Arc<Books<B>>,
        deriver: Deriver<U, B>,
        compute: Compute,
    ) -> Self {
        Self { books, deriver, compute }
    }

    /// The lines of a document as it was issued.
    async fn lines_of(&self, found: &Found) -> Result<Vec<DocumentLine>, BillingError> {
        let bytes = self.books.documents.bytes(&found.document).await?;
        let parsed = compute(&self.compute, move || understood(&bytes)).await?;
        parsed.map(InvoiceDocument::into_lines).map_err(|message| found.unreadable(&message))
    }

    /// Computes a document again and compares every line.
    ///
    /// # Errors
    /// When there is no such invoice, or the store fails. Differences are no error.
    pub(crate) async fn verify(
        &self,
        number: &str,
        origin: Origin,
    ) -> Result<Verification, BillingError> {
        let found = self.books.documents.find(number).await?;
        let invoiced = self.lines_of(&found).await?;
        let derived = self.deriver.derive(&found, origin, Sources::LeftOut).await?;
        let Derived { lines, from_log, .. } = derived;
        let comparing = move || (lines.len(), compare(&invoiced, lines));
        let (lines, differences) = compute(&self.compute, comparing).await?;
        Ok(Verification { lines, differences, from_log })
    }

    /// Says why a document's lines come to what they do. `line` is a place from 1, or 0 for all;
    /// `pulses` goes on to the pulses behind the hours. Costs a look at each line and each hour, and
    /// all of it is checked before the first part is given.
    ///
    /// # Errors
    /// When there is no such invoice, line or hour; when a line does not come out as it was invoiced,
    /// or its hours do not add up to it, or the pulses in the log to them.
    pub(crate) async fn explain(
        &self,
        number: &str,
        line: usize,
        pulses: Option<PulsesWanted>,
    ) -> Result<Explanation, BillingError> {
        let found = self.books.documents.find(number).await?;
        let invoiced = self.lines_of(&found).await?;
        if line > invoiced.len() {
            let message = format!("invoice {number} has {} lines", invoiced.len());
            return Err(BillingError::refused(Refusal::InvoiceNotFound, message));
        }
        let Derived { lines, invoice, .. } =
            self.deriver.derive(&found, Origin::Store, Sources::Listed).await?;
        let verifying = move || {
            let differences = compare(&invoiced, lines);
            let first = differences.into_iter().next().map(|difference| difference.key);
            (first, Explanation::new(found, invoice, invoiced, line))
        };
        let (differs, mut explanation) = compute(&self.compute, verifying).await?;
        if let Some(key) = differs {
            let message = format!(
                "line {key:?} no longer comes out as it was invoiced: `pulso bill verify {number}` shows how"
            );
            return Err(explanation.found.unreadable(&message));
        }
        if let Some(wanted) = pulses {
            let asking = move || (explanation.question(wanted), explanation);
            let (question, explained) = compute(&self.compute, asking).await?;
            explanation = explained;
            explanation.evidence = Some(self.deriver.log().evidence(question?, wanted).await?);
        }
        let checking = move || explanation.check().map(|()| explanation);
        compute(&self.compute, checking).await?
    }
}
