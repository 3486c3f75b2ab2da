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
use serde_json::value::RawValue;

use super::{
    document::{Document, Kind, parse_number},
    journal,
    ledger::{Entry, Ledger},
    register::{Item, Register},
};
use crate::{BillingError, error::compute};

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

/// Reads a document to reckon with it or to write a part of it again: all of it has to be known here,
/// because what is not would be lost while the digest is that of the whole.
///
/// # Errors
/// Says where it is damaged, or that a later version wrote it.
pub(crate) fn understood(bytes: &[u8]) -> Result<InvoiceDocument, String> {
    let document: InvoiceDocument =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let written = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
    match written == bytes {
        true => Ok(document),
        false => {
            Err("it holds more than this program knows of documents, or writes it otherwise; \
                      use the version that wrote it or a later one"
                .to_owned())
        }
    }
}

/// The documents of all tenants.
pub(crate) struct Documents<B> {
    store: Arc<B>,
    numbers: Register<B>,
    /// A large document takes a tenth of a second to parse.
    background: Compute,
}

impl<B: BillingStore> Documents<B> {
    pub(super) fn new(store: Arc<B>, background: Compute) -> Self {
        let numbers = Register::new(Arc::clone(&store), NUMBERS);
        Self { store, numbers, background }
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

    /// What a document says, as the text that is stored.
    ///
    /// # Errors
    /// As [`Self::content`].
    pub(crate) async fn text(&self, document: &Document) -> Result<String, BillingError> {
        let bytes = self.bytes(document).await?;
        String::from_utf8(bytes).map_err(|error| unreadable(document, error.to_string()))
    }

    /// What a document says, as the JSON text that is stored, to be passed on as it is.
    ///
    /// # Errors
    /// When the store fails or has other content under its digest.
    pub(crate) async fn stored(&self, document: &Document) -> Result<Box<RawValue>, BillingError> {
        let text = self.text(document).await?;
        let checked = compute(&self.background, move || RawValue::from_string(text)).await?;
        checked.map_err(|error| unreadable(document, error.to_string()))
    }

    /// What a document says, as the bytes that are stored.
    ///
    /// # Errors
    /// When the store fails or has other content under its digest.
    pub(crate) async fn bytes(&self, document: &Document) -> Result<Vec<u8>, BillingError> {
        journal::content(&*self.store, &document.draft.content).await
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
        let bytes = self.bytes(document).await?;
        let parsed = compute(&self.background, move || understood(&bytes)).await?;
        parsed.map_err(|message| unreadable(document, message))
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
    /// When the store fails, or holds other content under that digest.
    pub(crate) async fn put(&self, content: &InvoiceDocument) -> Result<String, BillingError> {
        journal::put_content(&*self.store, &journal::bytes(content)).await
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

fn unreadable(document: &Document, message: String) -> BillingError {
    BillingError::Unreadable { what: format!("document {}", document.draft.content), message }
}

/// What a document's number is drawn for.
fn number_key(tenant: &Tenant, place: u64) -> String {
    format!("{tenant}#{place}")
}

#[cfg(test)]
mod tests;
