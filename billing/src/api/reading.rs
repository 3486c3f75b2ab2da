//! Reading: an invoice of any length, a page of its lines at a time.

use domain::{BillingStore, BlockStore, PulseLog, hash};
use edge::{
    Problem,
    paging::{self, TokenKey},
};
use futures_util::{Stream, stream};
use pricing::document::InvoiceDocument;
use proto::v1;

use super::{BillingApi, messages, problems, requests::page_size};
use crate::{
    answers::invoice::{InvoiceAnswer, InvoiceLinesAnswer, LeftOut},
    books::documents::Found,
    print,
};

/// Seals places in a document, which never changes: another process goes on with the next page. It only
/// tells a token from that of another document or list.
const PLACES: TokenKey = TokenKey::new(*b"place of a line.");

/// Lines that are printed at once.
const PRINTED_AT_ONCE: usize = 1_000;

/// What is printed next.
enum Printing {
    Opening,
    Entries(u64),
    Closing,
    End,
}

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// A page of an invoice's lines, then of its usage without a price. Costs the parts of the document
    /// that it is in, wherever that is.
    pub(crate) async fn lines(
        &self,
        request: &v1::ListInvoiceLinesRequest,
    ) -> Result<InvoiceLinesAnswer, Problem> {
        let size = page_size(request.page_size)?;
        let _call = self.compute.admit()?;
        let documents = &self.parts.books.documents;
        let found = documents.find(&request.number).await.map_err(problems::of_billing)?;
        let question = hash::bytes128(0, found.document.draft.content.as_bytes());
        let place = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
        let from = paging::position(&PLACES, question, &request.page_token, place)?.unwrap_or(0);
        let page = documents.entries(&self.compute, &found.document, from, size).await;
        let page = page.map_err(problems::of_billing)?;
        let next = page.next.map(|next| PLACES.seal(question, &next.to_be_bytes()));
        Ok(InvoiceLinesAnswer {
            lines: page.lines,
            unpriced: page.unpriced,
            next_page_token: next.unwrap_or_default(),
        })
    }

    /// An invoice with empty lists, and what they hold.
    async fn head(&self, number: &str) -> Result<(Found, InvoiceDocument, LeftOut), Problem> {
        let documents = &self.parts.books.documents;
        let found = documents.find(number).await.map_err(problems::of_billing)?;
        let head = documents.head(&self.compute, &found.document).await;
        let (document, left_out) = head.map_err(problems::of_billing)?;
        Ok((found, document, left_out))
    }

    /// An invoice as an HTML page, in pieces. What can be refused is refused before the first.
    pub(crate) async fn html(
        &self,
        number: &str,
    ) -> Result<impl Stream<Item = Result<String, Problem>> + Send + use<U, B, L>, Problem> {
        let call = self.compute.admit()?;
        let (found, document, left_out) = self.head(number).await?;
        drop(call);
        let invoice = InvoiceAnswer::new(messages::invoice(&found), Some(document), Some(left_out));
        let start = (self.clone(), found, invoice, Printing::Opening);
        Ok(stream::try_unfold(start, |(api, found, invoice, printing)| async move {
            let (piece, next) = match printing {
                Printing::Opening => (print::opening(&invoice), Printing::Entries(0)),
                Printing::Entries(from) => api.printed(&found, from).await?,
                Printing::Closing => (print::closing(&invoice), Printing::End),
                Printing::End => return Ok(None),
            };
            Ok(Some((piece, (api, found, invoice, next))))
        }))
    }

    /// Lines from a place on as rows, and what is printed next.
    async fn printed(&self, found: &Found, from: u64) -> Result<(String, Printing), Problem> {
        let documents = &self.parts.books.documents;
        let page = documents.entries(&self.compute, &found.document, from, PRINTED_AT_ONCE).await;
        let page = page.map_err(problems::of_billing)?;
        let next = page.next.filter(|_| page.unpriced.is_empty());
        let rows = self.compute.run(move || print::rows(&page.lines)).await?;
        Ok((rows, next.map_or(Printing::Closing, Printing::Entries)))
    }

    /// An invoice as PDF.
    pub(crate) async fn pdf(
        &self,
        number: &str,
    ) -> Result<Result<Vec<u8>, print::PdfError>, Problem> {
        let _call = self.compute.admit_period().await?;
        let (found, _, left_out) = self.head(number).await?;
        if let Err(error) = print::check_pdf(left_out.lines) {
            return Ok(Err(error));
        }
        let document = self.parts.books.documents.whole(&self.compute, &found.document).await;
        let document = document.map_err(problems::of_billing)?;
        let invoice = InvoiceAnswer::new(messages::invoice(&found), Some(document), None);
        self.compute.run(move || print::pdf(&invoice)).await
    }
}

#[cfg(test)]
mod tests;
