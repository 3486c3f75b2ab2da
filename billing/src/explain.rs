//! Explain and verify: a document is derived again and compared with what was issued.
//!
//! What a document leaves out, because it is as large as the usage (hours, and the stretches of the log
//! behind them), comes back here and is given part by part (`explanation.rs`).

use std::sync::Arc;

use domain::{BillingStore, BlockStore};
use edge::Compute;
use pricing::{document::DocumentLine, rate::Sources};

use crate::{
    BillingError, Refusal,
    books::{Books, documents::Found},
    derive::{Deriver, Origin},
    error::compute,
    evidence::{FromLog, PulsesWanted},
    lines::{Difference, compare},
};

pub(crate) mod explanation;

use explanation::Explanation;

/// Most differences that a verification lists; the others are counted only. A line is about a kilobyte,
/// and each stands there twice.
const DIFFERENCES_MAX: usize = 1_000;

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verification {
    /// Lines that were computed again.
    pub(crate) lines: usize,
    /// Those that differ, in the order of the document; then those that it does not have. At most
    /// [`DIFFERENCES_MAX`].
    pub(crate) differences: Vec<Difference>,
    /// How many more differ.
    pub(crate) differences_left_out: u64,
    /// How much of the log it was made from; `None` where it was made from the stored totals.
    pub(crate) from_log: Option<FromLog>,
}

/// Explains and verifies documents.
pub(crate) struct Explainer<U, B> {
    books: Arc<Books<B>>,
    deriver: Deriver<U, B>,
    compute: Compute,
}

impl<U: BlockStore, B: BillingStore> Explainer<U, B> {
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
        Ok(self.books.documents.content(&found.document).await?.into_lines())
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
        let derived = self.deriver.derive(&found, origin, Sources::LeftOut);
        let (invoiced, mut derived) = tokio::try_join!(self.lines_of(&found), derived)?;
        let from_log = derived.from_log;
        let comparing = move || (derived.count(), compare(&invoiced, derived.lines()));
        let (lines, differences) = compute(&self.compute, comparing).await?;
        let (differences, differences_left_out) = listed(differences);
        Ok(Verification { lines, differences, differences_left_out, from_log })
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
        let (_, head) = self.books.documents.head(&self.compute, &found.document).await?;
        if line as u64 > head.lines {
            let message = format!("invoice {number} has {} lines", head.lines);
            return Err(BillingError::refused(Refusal::InvoiceNotFound, message));
        }
        let derived = self.deriver.derive(&found, Origin::Store, Sources::Listed);
        let (invoiced, mut derived) = tokio::try_join!(self.lines_of(&found), derived)?;
        let verifying = move || {
            let differences = compare(&invoiced, derived.lines());
            let first = differences.into_iter().next().map(|difference| difference.key);
            (first, Explanation::new(found, derived.invoice, invoiced, line))
        };
        let (differs, mut explanation) = compute(&self.compute, verifying).await?;
        if let Some(key) = differs {
            let message = format!(
                "line {key:?} no longer comes out as it was invoiced: `pulso bill verify {number}` shows how"
            );
            return Err(explanation.found.unreadable(&message));
        }
        if explanation.has_usage() {
            let (found, hours) = explanation.told();
            self.deriver.tell_segments(found, hours).await?;
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

/// The differences that are listed, and how many are not.
fn listed(mut differences: Vec<Difference>) -> (Vec<Difference>, u64) {
    let left_out = differences.len().saturating_sub(DIFFERENCES_MAX) as u64;
    differences.truncate(DIFFERENCES_MAX);
    (differences, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_lists_differences_up_to_its_bound_and_counts_the_others() {
        let difference =
            |place: usize| Difference { key: place.to_string(), invoiced: None, computed: None };
        for (found, left_out) in [(0, 0), (DIFFERENCES_MAX, 0), (DIFFERENCES_MAX + 1, 1)] {
            let (listed, more) = listed((0..found).map(difference).collect());
            assert_eq!((listed.len() + left_out, more), (found, left_out as u64));
        }
    }
}
