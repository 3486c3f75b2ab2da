//! Voids: final documents that are taken back.

use std::sync::Arc;

use domain::{BillingStore, Clock};
use pricing::document::InvoiceDocument;

use crate::{
    BillingError, Refusal,
    books::{
        Books,
        document::{Document, State},
        documents::Found,
        ledger::Entry,
        message::{DocumentMessage, Event},
    },
};

/// Takes documents back.
pub(crate) struct Voids<B> {
    books: Arc<Books<B>>,
    clock: Arc<dyn Clock>,
}

impl<B: BillingStore> Voids<B> {
    /// Takes the books and the clock.
    pub(crate) fn new(books: Arc<Books<B>>, clock: Arc<dyn Clock>) -> Self {
        Self { books, clock }
    }

    /// Takes a final document back. Doing it again changes nothing.
    ///
    /// # Errors
    /// When there is none, when another document that stands corrects it, or bills days that it gave
    /// back; when the store fails.
    pub(crate) async fn void(&self, number: &str, reason: &str) -> Result<Found, BillingError> {
        loop {
            let found = self.books.documents.find(number).await?;
            let (tenant, place) = (&found.tenant, found.document.place);
            let mut ledger = self.books.documents.ledger(tenant).await?;
            if found.document.state == State::Void && self.void_is_out(&found).await? {
                return Ok(found);
            }
            let corrected = ledger
                .documents()
                .iter()
                .find(|other| other.stands() && other.draft.corrects.contains(&place));
            if let Some(other) = corrected {
                let by = other.named();
                let message = format!("invoice {number} is corrected by {by}: void that first");
                return Err(BillingError::refused(Refusal::InvoiceState, message));
            }
            if let Some(other) = ledger.standing_on(place)
                && gives_back(&self.books.documents.content(&found.document).await?)
            {
                let by = other.named();
                let message = format!("{by} bills days that {number} gave back: void that first");
                return Err(BillingError::refused(Refusal::InvoiceState, message));
            }
            if found.document.state != State::Void {
                let (reason, at) = (reason.to_owned(), self.clock.now());
                let entry = Entry::Voided { document: place, reason, at };
                self.books.documents.append(&mut ledger, entry).await?;
                continue;
            }
            self.publish_void(&found).await?;
        }
    }

    /// Puts the message that a document is void into the outbox, once.
    async fn publish_void(&self, found: &Found) -> Result<(), BillingError> {
        let Found { tenant, document } = found;
        let stored = self.books.documents.stored(document).await?;
        let message = DocumentMessage::new(Event::Void, tenant, document, stored);
        self.books.outbox.draw(message.item(void_key(document))).await.map(drop)
    }

    /// Tells whether that message is in the outbox.
    async fn void_is_out(&self, found: &Found) -> Result<bool, BillingError> {
        let key = void_key(&found.document);
        Ok(self.books.outbox.find(&key).await?.is_some())
    }
}

fn void_key(document: &Document) -> String {
    format!("void/{}", document.number.unwrap_or_default())
}

fn gives_back(document: &InvoiceDocument) -> bool {
    document.lines().iter().any(|line| line.amount.is_negative())
}
