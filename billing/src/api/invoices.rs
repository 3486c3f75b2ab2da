//! Invoices: listed, shown, computed again; taken back, in whole or in part.

use std::collections::HashSet;

use domain::{BillingStore, BlockStore, PulseLog, Tenant};
use edge::{
    Problem,
    access::{Change, Principal},
    problem::reasons,
};
use pricing::{
    Amount,
    document::{InvoiceDocument, NoteKind},
    invoice::document::Credited,
};
use proto::v1;

use super::{
    BillingApi,
    filter::Filter,
    messages, problems,
    requests::{REASON_BYTES_MAX, check_request_id, check_words, page_of, token_of},
    totals,
};
use crate::{
    BillingError,
    answers::{
        invoice::{InvoiceAnswer, LeftOut},
        verification::{DifferenceAnswer, VerificationAnswer},
    },
    books::documents::Found,
    credit_notes::CreditRequest,
    derive::Origin,
    lines::Difference,
    wire,
};

/// An invoice as it is shown: what its ledger holds of it, and what the document says, with empty lists
/// where these are left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) head: v1::Invoice,
    pub(crate) document: InvoiceDocument,
    pub(crate) left_out: Option<LeftOut>,
}

impl Shown {
    /// As gRPC sends it.
    pub(crate) fn message(self) -> v1::Invoice {
        v1::Invoice {
            document: Some(wire::document(self.document)),
            left_out: self.left_out.map(wire::left_out),
            ..self.head
        }
    }

    /// As HTTP and the commands print it.
    pub(crate) fn answer(self) -> InvoiceAnswer {
        InvoiceAnswer::new(self.head, Some(self.document), self.left_out)
    }
}

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// A page of final documents by number, or all documents of one tenant, drafts too; of them those
    /// that pass the filter. A page looks at as many numbers as it may have documents, whatever of them
    /// passes, so it costs the same with a filter.
    pub(crate) async fn invoices(
        &self,
        request: &v1::ListInvoicesRequest,
        principal: &Principal,
    ) -> Result<v1::ListInvoicesResponse, Problem> {
        let books = &self.parts.books;
        let named = (!request.tenant.is_empty()).then(|| Tenant::new(&request.tenant));
        let named = named.transpose().map_err(|error| problems::of_name("tenant", error))?;
        let filter = Filter::read(request)?;
        if let Some(tenant) = principal.one_or_all(named)? {
            let found = books.documents.of_tenant(&tenant).await.map_err(problems::of_billing)?;
            return Ok(listed(found.iter().filter(|found| filter.passes(found)), String::new()));
        }
        filter.check_numbered()?;
        let fingerprint = filter.fingerprint();
        let (from, size) = page_of(request.page_size, &request.page_token, fingerprint)?;
        let (found, next) = books.documents.page(from, size).await.map_err(problems::of_billing)?;
        let passing = found.iter().filter(|found| filter.passes(found));
        Ok(listed(passing, token_of(next, fingerprint)))
    }

    /// Refuses a document of a tenant that the credential is not for, in the words for one that does not
    /// exist.
    pub(crate) async fn check_tenant(
        &self,
        number: &str,
        principal: &Principal,
    ) -> Result<(), Problem> {
        if principal.tenants.is_all() {
            return Ok(());
        }
        let documents = &self.parts.books.documents;
        let found = documents.find(number).await.map_err(problems::of_billing)?;
        match principal.tenants.allows(found.tenant.as_str()) {
            true => Ok(()),
            false => Err(problems::of_billing(BillingError::no_invoice(number))),
        }
    }

    /// The invoice with a number, in a form that takes arithmetic to make. Keys of its document that
    /// this program does not know are left out.
    pub(crate) async fn invoice_as<T: Send + 'static>(
        &self,
        number: &str,
        made: impl FnOnce(Shown) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _call = self.compute.admit_period().await?;
        let books = &self.parts.books;
        let found = books.documents.find(number).await.map_err(problems::of_billing)?;
        let shown = self.shown(&found).await?;
        self.compute.run(move || made(shown)).await
    }

    async fn shown(&self, found: &Found) -> Result<Shown, Problem> {
        let shown = self.parts.books.documents.shown(&self.compute, &found.document).await;
        let (document, left_out) = shown.map_err(problems::of_billing)?;
        Ok(Shown { head: messages::invoice(found), document, left_out })
    }

    /// Computes a document again and compares every line.
    pub(crate) async fn verify(
        &self,
        request: &v1::VerifyInvoiceRequest,
    ) -> Result<VerificationAnswer, Problem> {
        let _call = self.compute.admit_period().await?;
        let origin = if request.from_log { Origin::Log } else { Origin::Store };
        let verified = self.parts.explainer.verify(&request.number, origin).await;
        let verified = verified.map_err(problems::of_billing)?;
        let (segments_folded, segments_missing) =
            verified.from_log.map_or((0, 0), |log| (log.segments, log.missing));
        let difference = |Difference { key, invoiced, computed }| DifferenceAnswer {
            line: key,
            invoiced,
            computed,
        };
        Ok(VerificationAnswer {
            invoice: request.number.clone(),
            matches: verified.differences.is_empty(),
            differences_left_out: verified.differences_left_out,
            lines: u32::try_from(verified.lines).unwrap_or(u32::MAX),
            segments_folded,
            segments_missing,
            differences: verified.differences.into_iter().map(difference).collect(),
        })
    }

    /// Takes a final document back.
    pub(crate) async fn void(
        &self,
        number: &str,
        reason: &str,
        change: &Change,
    ) -> Result<v1::Invoice, Problem> {
        change.about(number);
        check_words("reason", reason, REASON_BYTES_MAX)?;
        let found = self.parts.voids.void(number, reason).await.map_err(problems::of_billing)?;
        Ok(messages::invoice(&found))
    }

    /// Gives back a part of a final document, or only checks.
    pub(crate) async fn credit(
        &self,
        request: v1::CreditInvoiceRequest,
        change: &Change,
    ) -> Result<Shown, Problem> {
        let v1::CreditInvoiceRequest { number, lines, reason, request_id, validate_only, kind } =
            request;
        change.about(&number);
        check_words("reason", &reason, REASON_BYTES_MAX)?;
        check_request_id(&request_id)?;
        let (credited, kind) = (credited(&lines)?, note_kind(&kind)?);
        let request = CreditRequest { credited, kind, reason, request_id };
        if validate_only {
            change.only_checked();
            let checked = self.parts.credit_notes.preview(&number, &request).await;
            let (found, document) = checked.map_err(problems::of_billing)?;
            let (document, left_out) = self.parts.books.documents.shown_unstored(document);
            // Nothing is owed yet; what would be is what was asked.
            let due = found.document.left().map(|due| found.document.draft.text(due));
            let head = v1::Invoice { due: due.unwrap_or_default(), ..messages::invoice(&found) };
            return Ok(Shown { head, document, left_out });
        }
        let found = self
            .parts
            .credit_notes
            .credit(&number, &request)
            .await
            .map_err(problems::of_billing)?;
        self.shown(&found).await
    }
}

/// Documents as they are listed.
fn listed<'f>(
    found: impl Iterator<Item = &'f Found> + Clone,
    next_page_token: String,
) -> v1::ListInvoicesResponse {
    let invoices = found.clone().map(messages::invoice).collect();
    let totals = totals::of(found.map(|found| &found.document));
    v1::ListInvoicesResponse { invoices, next_page_token, totals }
}

/// The kind that a request names, goodwill where it names none.
fn note_kind(word: &str) -> Result<NoteKind, Problem> {
    let kind = if word.is_empty() { Some(NoteKind::default()) } else { NoteKind::from_word(word) };
    kind.ok_or_else(|| {
        let message = format!("{word:?} is neither \"correction\" nor \"goodwill\"");
        Problem::invalid("kind", reasons::PARAMETER_INVALID, message)
    })
}

/// What is to be given back: amounts above zero, of each line once, in the order of the lines.
fn credited(lines: &[v1::CreditLine]) -> Result<Vec<Credited>, Problem> {
    let wrong = |field: String, message: &str| {
        Problem::invalid(&field, reasons::PARAMETER_INVALID, message.to_owned())
    };
    if lines.is_empty() {
        return Err(wrong("lines".to_owned(), "is empty: say how much is given back"));
    }
    let mut credited: Vec<Credited> = Vec::with_capacity(lines.len());
    let mut places = HashSet::new();
    for (index, line) in lines.iter().enumerate() {
        let field = format!("lines[{index}]");
        let place = usize::try_from(line.line).unwrap_or(usize::MAX).checked_sub(1);
        if !places.insert(place) {
            return Err(wrong(format!("{field}.line"), "is given twice"));
        }
        let amount = line.amount.parse::<Amount>().ok().filter(|amount| *amount > Amount::ZERO);
        let amount =
            amount.ok_or_else(|| wrong(format!("{field}.amount"), "is no amount above zero"))?;
        credited.push((place, amount));
    }
    // The same request is the same in any order.
    credited.sort_by_key(|(place, _)| place.unwrap_or(usize::MAX));
    Ok(credited)
}
