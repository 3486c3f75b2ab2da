//! Derive: a document as it comes out now, from the stored totals or the log below its run's cut, under
//! the contracts and catalogues of then.
//!
//! Invariant I9: an invoice re-derives to the same bytes for ever.

use std::sync::Arc;

use domain::{BillingStore, BlockStore};
use edge::Compute;
use pricing::{
    document::{DocumentLine, InvoiceDocument},
    invoice::{Invoice, document},
    rate::Sources,
};

use crate::{
    BillingError,
    account::Account,
    books::{
        Books,
        document::{Document, Kind},
        documents::Found,
        runs::Run,
    },
    credit_notes,
    error::compute,
    evidence::{FromLog, LogReader},
    held::{only_held, since_ever},
    rater::Rater,
    sources::Hours,
    usage::Below,
};

/// Where a verification takes the usage from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The stored totals.
    Store,
    /// The log, folded again.
    Log,
}

/// A document that was derived again.
pub(crate) struct Derived {
    /// Its lines, unless they are those of the invoice.
    made: Option<Vec<DocumentLine>>,
    /// What it is made of; `None` for those that are made of other documents.
    pub(crate) invoice: Option<Invoice>,
    /// How much of the log it was made from, where it was.
    pub(crate) from_log: Option<FromLog>,
}

impl Derived {
    /// What is made of other documents.
    fn of(document: Option<InvoiceDocument>) -> Self {
        Self { made: Some(lines_of(document)), invoice: None, from_log: None }
    }

    /// How many lines it has.
    pub(crate) fn count(&self) -> usize {
        let of_invoice = || self.invoice.as_ref().map_or(0, |invoice| invoice.lines.len());
        self.made.as_ref().map_or_else(of_invoice, Vec::len)
    }

    /// Its lines, in order. Those of an invoice are made when they are taken.
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = DocumentLine> {
        let made = self.made.take();
        let of_invoice = self.invoice.as_ref().filter(|_| made.is_none());
        made.into_iter().flatten().chain(of_invoice.into_iter().flat_map(document::lines))
    }
}

/// The lines of a document, none where none is needed.
fn lines_of(document: Option<InvoiceDocument>) -> Vec<DocumentLine> {
    document.map_or_else(Vec::new, InvoiceDocument::into_lines)
}

/// Derives documents again.
pub(crate) struct Deriver<U, B> {
    books: Arc<Books<B>>,
    rater: Rater<U>,
    log: LogReader<U>,
    compute: Compute,
}

impl<U: BlockStore, B: BillingStore> Deriver<U, B> {
    /// Takes the books, what rates usage, what asks the log, and the pool of calls.
    pub(crate) const fn new(
        books: Arc<Books<B>>,
        rater: Rater<U>,
        log: LogReader<U>,
        compute: Compute,
    ) -> Self {
        Self { books, rater, log, compute }
    }

    /// The log, for questions about pulses.
    pub(crate) const fn log(&self) -> &LogReader<U> {
        &self.log
    }

    /// A document as it comes out now: of other documents, or of the usage below the cut of the run that
    /// made it.
    pub(crate) async fn derive(
        &self,
        found: &Found,
        origin: Origin,
        sources: Sources,
    ) -> Result<Derived, BillingError> {
        let ledger = self.books.documents.ledger(&found.tenant).await?;
        let named = |places: &[u64]| {
            let named = places.iter().map(|place| ledger.document(*place).cloned());
            let named = named.collect::<Option<Vec<Document>>>();
            named.ok_or_else(|| found.unreadable("names no document"))
        };
        let corrects = named(&found.document.draft.corrects)?;
        let counted = || -> Result<Vec<Document>, BillingError> {
            Ok([corrects.clone(), named(&found.document.draft.counts)?].concat())
        };
        let newest = || corrects.last().ok_or_else(|| found.unreadable("corrects nothing"));
        match found.document.draft.kind {
            Kind::CreditNote => {
                let of = Found { tenant: found.tenant.clone(), document: newest()?.clone() };
                let documents = &self.books.documents;
                let note = documents.content(&found.document).await?;
                let note = note.credit_note().ok_or_else(|| found.unreadable("is no note"))?;
                let note = credit_notes::derive(documents, &of, note).await?;
                Ok(Derived::of(Some(note)))
            }
            Kind::Reversal => {
                let billed = self.books.documents.billed(&counted()?).await?;
                let issued = self.books.documents.content(newest()?).await?;
                Ok(Derived::of(document::reversal(&issued, &billed)))
            }
            Kind::Invoice | Kind::Delta => {
                let rated = self.rate_again(found, origin, sources).await?;
                self.derive_bill(rated, &counted()?).await
            }
        }
    }

    /// The bill of a period beside the documents that it corrects.
    async fn derive_bill(
        &self,
        (invoice, from_log): (Invoice, Option<FromLog>),
        corrects: &[Document],
    ) -> Result<Derived, BillingError> {
        let is_first = corrects.is_empty();
        let billed = self.books.documents.billed(corrects).await?;
        let deriving = move || {
            let made = (!is_first).then(|| lines_of(document::delta(&invoice, &billed)));
            Derived { made, invoice: Some(invoice), from_log }
        };
        compute(&self.compute, deriving).await
    }

    /// Writes down the segments behind hours of a document that are in blocks.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn tell_segments(
        &self,
        found: &Found,
        hours: impl Iterator<Item = Hours<'_>>,
    ) -> Result<(), BillingError> {
        let run = self.books.runs.get(found.document.draft.run).await?;
        let below = self.below(&run).await?;
        self.rater.usage().tell_segments(&below, &found.tenant, hours).await
    }

    /// What is below a run's cut.
    async fn below(&self, run: &Run) -> Result<Below, BillingError> {
        let cut = run.cut.as_ref().ok_or_else(|| BillingError::Journal {
            journal: format!("run/{}", run.number),
            place: 0,
            message: "has documents and no cut".to_owned(),
        })?;
        self.rater.usage().below(cut).await
    }

    /// The invoice of a document's period as it comes out of the usage below the cut of the run that
    /// made the document.
    async fn rate_again(
        &self,
        found: &Found,
        origin: Origin,
        sources: Sources,
    ) -> Result<(Invoice, Option<FromLog>), BillingError> {
        let Found { tenant, document } = found;
        let run = self.books.runs.get(document.draft.run).await?;
        let below = self.below(&run).await?;
        let (account, window) =
            (Account::of_run(&self.books, &run, tenant).await?, document.window());
        let period = (run.request.month, window);
        if (origin, sources) == (Origin::Store, Sources::LeftOut) {
            let rating = self.rater.rate_window(&self.compute, &below, &account, period);
            return Ok((rating.await?, None));
        }
        let reach = self.rater.reach(window).await?;
        let (usage, from_log) = match origin {
            Origin::Store => {
                (self.rater.usage_of(&below, &account, window, usize::MAX).await?, None)
            }
            Origin::Log => {
                let held = account.held();
                let read = if held.is_empty() { reach } else { since_ever(reach) };
                let (usage, from_log) = self.log.usage(&below, tenant, read).await?;
                (only_held(usage, reach, &held), Some(from_log))
            }
        };
        let invoice = self.rater.rate(&self.compute, usage, &account, period, sources).await?;
        Ok((invoice, from_log))
    }
}
