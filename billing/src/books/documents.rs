//! Documents: what was made for all tenants, what each says, and the numbers of those that are final.

use std::sync::Arc;

use domain::{BillingStore, Tenant, billing::Appended};
use edge::Compute;
use pricing::{
    document::InvoiceDocument,
    invoice::{
        Invoice,
        document::{self, Billed},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::{
    document::{Document, Kind, parse_number},
    entries::{self, Page},
    journal,
    kept::{self, Kept, List, without_lists},
    ledger::{Entry, Ledger},
    left_out::{self, LeftOut},
    register::{Item, Register},
    understood,
};
use crate::{BillingError, Refusal, config::DocumentLimits, error::compute};

/// Journal of the invoice numbers.
const NUMBERS: &str = "invoice-numbers";

/// A document of the ledger with its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Tenant of the document.
    pub(crate) tenant: Tenant,
    /// What its ledger holds of it.
    pub(crate) document: Document,
}

impl Found {
    /// The error that what is stored of the document is not as it was written.
    pub(crate) fn unreadable(&self, message: &str) -> BillingError {
        let what = format!("invoice {}", self.document.named());
        BillingError::Unreadable { what, message: message.to_owned() }
    }
}

/// What a number was drawn for.
#[derive(Debug, Serialize, Deserialize)]
struct Numbered {
    tenant: String,
    place: u64,
}

/// A document as a message has it.
pub(crate) struct Announced {
    /// Its text, or that of all but its lists.
    pub(crate) document: Box<RawValue>,
    /// What it lacks, where it is too long.
    pub(crate) left_out: Option<LeftOut>,
}

/// The documents of all tenants.
pub(crate) struct Documents<B> {
    store: Arc<B>,
    numbers: Register<B>,
    /// A large document takes a tenth of a second to parse.
    background: Compute,
    limits: DocumentLimits,
}

impl<B: BillingStore> Documents<B> {
    pub(super) fn new(store: Arc<B>, background: Compute, limits: DocumentLimits) -> Self {
        let numbers = Register::new(Arc::clone(&store), NUMBERS);
        Self { store, numbers, background, limits }
    }

    /// A tenant's ledger, read to its end.
    ///
    /// # Errors
    /// When the store fails or an entry is unknown.
    pub(crate) async fn ledger(&self, tenant: &Tenant) -> Result<Ledger, BillingError> {
        Ledger::read(&*self.store, tenant).await
    }

    /// Adds an entry behind all of a ledger that were read. `Taken` says to read the ledger again and
    /// to decide anew.
    ///
    /// # Errors
    /// When the store fails; the entry may have been added all the same.
    pub(crate) async fn append(
        &self,
        ledger: &mut Ledger,
        entry: Entry,
    ) -> Result<Appended, BillingError> {
        ledger.append(&*self.store, entry).await
    }

    /// The document with an invoice number (`INV-000042`, or the digits).
    ///
    /// # Errors
    /// When there is none; when the store fails.
    pub(crate) async fn find(&self, number: &str) -> Result<Found, BillingError> {
        let missing = || BillingError::no_invoice(number);
        let parsed = parse_number(number).ok_or_else(missing)?;
        let item = self.numbers.item(parsed).await?.ok_or_else(missing)?;
        self.found(&item, parsed).await?.ok_or_else(missing)
    }

    /// The document that a number was drawn for. `None` while it is not final.
    async fn found(&self, item: &Item, number: u64) -> Result<Option<Found>, BillingError> {
        let damaged = |message| {
            let journal = NUMBERS.to_owned();
            BillingError::Journal { journal, place: number, message }
        };
        let read = item.read().map_err(|error| damaged(error.to_string()));
        let Numbered { tenant, place } = read?;
        let tenant = Tenant::new(&tenant).map_err(|error| damaged(error.to_string()))?;
        let ledger = self.ledger(&tenant).await?;
        let document = ledger.document(place).filter(|found| found.number.is_some()).cloned();
        Ok(document.map(|document| Found { tenant, document }))
    }

    /// Final documents in the order of their numbers, from a number on, at most `limit` numbers.
    /// Gives the number to go on with, where there may be more.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn page(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<Found>, Option<u64>), BillingError> {
        let items = self.numbers.items(from.max(1), limit).await?;
        let next = items.last().map(|(number, _)| number + 1).filter(|_| items.len() == limit);
        let mut invoices = Vec::with_capacity(items.len());
        for (number, item) in items {
            invoices.extend(self.found(&item, number).await?);
        }
        Ok((invoices, next))
    }

    /// All documents of a tenant, drafts too, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn of_tenant(&self, tenant: &Tenant) -> Result<Vec<Found>, BillingError> {
        let ledger = self.ledger(tenant).await?;
        let found =
            |document: &Document| Found { tenant: tenant.clone(), document: document.clone() };
        Ok(ledger.documents().iter().map(found).collect())
    }

    /// What a document says, as a message has it: the text that is stored, to be passed on as it is, or
    /// all but its lists where that is too long.
    ///
    /// # Errors
    /// When the store fails or has other content under its digest.
    pub(crate) async fn stored(&self, document: &Document) -> Result<Announced, BillingError> {
        let kept = kept::find(&*self.store, &document.draft.content).await?;
        let announced = if self.is_inline(&kept) {
            let text = kept::text(&*self.store, &document.draft.content, kept).await?;
            let checked = compute(&self.background, move || raw(text)).await?;
            checked.map(|document| Announced { document, left_out: None })
        } else {
            let number = document.number;
            let framed = compute(&self.background, move || {
                let (frame, left_out) = head(&kept, number)?;
                Ok(Announced { document: without_keys(&frame)?, left_out: Some(left_out) })
            });
            framed.await?
        };
        announced.map_err(|message| unreadable(document, message))
    }

    /// Tells whether answers and messages have the whole of a document.
    fn is_inline(&self, kept: &Kept) -> bool {
        kept.bytes() <= self.limits.inline_bytes_max as u64
    }

    /// A document as an answer shows it: with its lists, or with empty ones and what they hold where it
    /// is too long. Keys that this program does not know are left out.
    ///
    /// # Errors
    /// When the store fails or has other content under its digest.
    pub(crate) async fn shown(
        &self,
        pool: &Compute,
        document: &Document,
    ) -> Result<(InvoiceDocument, Option<LeftOut>), BillingError> {
        let kept = kept::find(&*self.store, &document.draft.content).await?;
        if !self.is_inline(&kept) {
            let (document, left_out) = self.head_of(pool, document, kept).await?;
            return Ok((document, Some(left_out)));
        }
        Ok((self.whole_of(pool, document, kept).await?, None))
    }

    /// A document with its lists, in memory as a whole. Keys that this program does not know are left
    /// out.
    ///
    /// # Errors
    /// When the store fails or has other content under its digest.
    pub(crate) async fn whole(
        &self,
        pool: &Compute,
        document: &Document,
    ) -> Result<InvoiceDocument, BillingError> {
        let kept = kept::find(&*self.store, &document.draft.content).await?;
        self.whole_of(pool, document, kept).await
    }

    async fn whole_of(
        &self,
        pool: &Compute,
        document: &Document,
        kept: Kept,
    ) -> Result<InvoiceDocument, BillingError> {
        let text = kept::text(&*self.store, &document.draft.content, kept).await?;
        let parsed = compute(pool, move || serde_json::from_slice(&text)).await?;
        parsed.map_err(|error| unreadable(document, error.to_string()))
    }

    /// A document with empty lists, and what they hold. Keys that this program does not know are left
    /// out.
    ///
    /// # Errors
    /// When the store fails or has other content under its digest.
    pub(crate) async fn head(
        &self,
        pool: &Compute,
        document: &Document,
    ) -> Result<(InvoiceDocument, LeftOut), BillingError> {
        let kept = kept::find(&*self.store, &document.draft.content).await?;
        self.head_of(pool, document, kept).await
    }

    async fn head_of(
        &self,
        pool: &Compute,
        document: &Document,
        kept: Kept,
    ) -> Result<(InvoiceDocument, LeftOut), BillingError> {
        let number = document.number;
        let parsed = compute(pool, move || {
            let (frame, left_out) = head(&kept, number)?;
            let document = serde_json::from_str(&frame).map_err(|error| error.to_string())?;
            Ok((document, left_out))
        });
        parsed.await?.map_err(|message: String| unreadable(document, message))
    }

    /// A page of a document from an entry on: its lines, then its resources without a price.
    ///
    /// # Errors
    /// When the store fails or has other content under its digest.
    pub(crate) async fn entries(
        &self,
        pool: &Compute,
        document: &Document,
        from: u64,
        limit: usize,
    ) -> Result<Page, BillingError> {
        let kept = kept::find(&*self.store, &document.draft.content).await?;
        let page = entries::page((&*self.store, pool), kept, from, limit).await?;
        page.map_err(|message| unreadable(document, message))
    }

    /// The same of a document that is not stored.
    #[must_use]
    pub(crate) fn shown_unstored(
        &self,
        document: InvoiceDocument,
    ) -> (InvoiceDocument, Option<LeftOut>) {
        let bytes = journal::bytes(&document).len();
        if bytes <= self.limits.inline_bytes_max {
            return (document, None);
        }
        let left_out = LeftOut {
            lines: document.lines().len() as u64,
            unpriced: document.unpriced().len() as u64,
            bytes: bytes as u64,
            at: None,
        };
        (without_lists(&document), Some(left_out))
    }

    /// What documents have billed together.
    pub(crate) async fn billed(&self, documents: &[Document]) -> Result<Billed, BillingError> {
        let mut billed = Billed::default();
        for before in documents {
            let content = self.content(before).await?;
            billed.add(&content).map_err(|message| unreadable(before, message))?;
        }
        Ok(billed)
    }

    /// What a document says, all of it understood.
    ///
    /// # Errors
    /// When the store fails or has other content under its digest; when this program does not know
    /// all of it.
    pub(crate) async fn content(
        &self,
        document: &Document,
    ) -> Result<InvoiceDocument, BillingError> {
        let digest = &document.draft.content;
        let read = understood::document(&*self.store, &self.background, digest).await?;
        read.map_err(|message| unreadable(document, message))
    }

    /// The document that an invoice needs beside those that bill its period; `None` where it needs
    /// none.
    ///
    /// # Errors
    /// As [`Self::billed`].
    pub(crate) async fn needed_for(
        &self,
        now: &Invoice,
        billing: &[Document],
    ) -> Result<Option<(Kind, InvoiceDocument)>, BillingError> {
        if billing.is_empty() {
            let document = (!now.lines.is_empty()).then(|| document::invoice(now));
            return Ok(document.map(|document| (Kind::Invoice, document)));
        }
        let billed = self.billed(billing).await?;
        Ok(document::delta(now, &billed).map(|document| (Kind::Delta, document)))
    }

    /// Stores what a document says and gives the digest that it is found under.
    ///
    /// # Errors
    /// When it has more entries than a document may; when the store fails, or holds other content under
    /// that digest.
    pub(crate) async fn put(&self, content: &InvoiceDocument) -> Result<String, BillingError> {
        let entries = content.lines().len() + content.unpriced().len();
        let most = self.limits.lines_max;
        if entries > most {
            let message = format!(
                "a document for {} from {} to {} would have {entries} lines, and {most} are the most \
                 (billing.document_lines_max); nothing was issued: price by fewer dimensions, or let \
                 the servers that price have more",
                content.tenant(),
                content.period().first_day,
                content.period().last_day,
            );
            return Err(BillingError::refused(Refusal::TooLarge, message));
        }
        kept::put(&*self.store, content).await
    }

    /// The invoice number of a tenant's document: the one that it has, or the next.
    ///
    /// # Errors
    /// When the store fails. The number may have been drawn all the same; asking again finds it.
    pub(crate) async fn draw_number(
        &self,
        tenant: &Tenant,
        place: u64,
    ) -> Result<u64, BillingError> {
        let body = Numbered { tenant: tenant.as_str().to_owned(), place };
        self.numbers.draw(Item::new(number_key(tenant, place), &body)).await
    }

    /// Tells whether a number was drawn for a tenant's document.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn has_number(
        &self,
        tenant: &Tenant,
        place: u64,
    ) -> Result<bool, BillingError> {
        Ok(self.numbers.find(&number_key(tenant, place)).await?.is_some())
    }
}

/// The text of a document with empty lists, and what these hold.
fn head(kept: &Kept, number: Option<u64>) -> Result<(String, LeftOut), String> {
    let (frame, [lines, unpriced]) = kept.frame()?;
    let at = number.map(left_out::route);
    Ok((frame, LeftOut { lines, unpriced, bytes: kept.bytes(), at }))
}

fn raw(text: Vec<u8>) -> Result<Box<RawValue>, String> {
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    RawValue::from_string(text).map_err(|error| error.to_string())
}

/// A document's text without its lists, which nobody is to take for empty ones.
fn without_keys(frame: &str) -> Result<Box<RawValue>, String> {
    let mut frame: Map<String, Value> =
        serde_json::from_str(frame).map_err(|error| error.to_string())?;
    for list in List::ALL {
        frame.shift_remove(list.key());
    }
    to_raw_value(&frame).map_err(|error| error.to_string())
}

fn unreadable(document: &Document, message: String) -> BillingError {
    BillingError::Unreadable { what: format!("document {}", document.draft.content), message }
}

/// What a document's number is drawn for.
fn number_key(tenant: &Tenant, place: u64) -> String {
    format!("{tenant}#{place}")
}

#[cfg(test)]
mod tests;
