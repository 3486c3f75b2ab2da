//! Voids: final documents that are taken back.

use std::sync::Arc;

use domain::{BillingStore, Clock};
use pricing::{
    Amount,
    document::{DocumentLine, InvoiceDocument},
    invoice::credits,
};
use runtime::fault;

use crate::{
    BillingError, Refusal,
    books::{
        Books, contracts,
        document::{Document, Kind, Payment, State},
        documents::Found,
        ledger::{self, Entry, Ledger},
        message::{DocumentMessage, Event},
    },
    issue::Issuer,
};

/// Takes documents back.
pub(crate) struct Voids<B> {
    books: Arc<Books<B>>,
    issuer: Issuer<B>,
    clock: Arc<dyn Clock>,
}

impl<B: BillingStore> Voids<B> {
    /// Takes the books, what issues documents, and the clock.
    pub(crate) const fn new(
        books: Arc<Books<B>>,
        issuer: Issuer<B>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { books, issuer, clock }
    }

    /// Takes a final document back, once its message is out. Doing it again changes nothing.
    ///
    /// # Errors
    /// When there is none, when another document that stands corrects it, or bills days that it gave
    /// back; when without it more were given back than billed, or a credit had paid more than it holds;
    /// when the store fails.
    pub(crate) async fn void(&self, number: &str, reason: &str) -> Result<Found, BillingError> {
        loop {
            let mut found = self.books.documents.find(number).await?;
            let place = found.document.place;
            let mut ledger = self.books.documents.ledger(&found.tenant).await?;
            // What is decided is decided about this reading of the ledger.
            if let Some(document) = ledger.document(place) {
                found.document.clone_from(document);
            }
            let (of, tenant) = (&found.document, &found.tenant);
            match of.state {
                State::Void => {
                    self.publish_void(&found).await?;
                    return Ok(found);
                }
                State::Final => self.issuer.finish_open(&mut ledger, tenant, of).await?,
                State::Published | State::Draft | State::Discarded => {
                    self.check_corrected(of, &ledger).await?;
                    self.check_period(of, &ledger).await?;
                    self.check_credits(&found, &ledger).await?;
                    let (reason, at) = (reason.to_owned(), self.clock.now());
                    let entry = Entry::Voided { document: place, reason, at };
                    fault::point("invoice.before_void");
                    self.books.documents.append(&mut ledger, entry).await?;
                    fault::point("invoice.after_void");
                }
            }
        }
    }

    /// Refuses to take back what another document builds on.
    async fn check_corrected(&self, of: &Document, ledger: &Ledger) -> Result<(), BillingError> {
        let (number, place) = (of.named(), of.place);
        let mut standing = ledger.documents().iter().filter(|other| other.stands());
        let message =
            if let Some(other) = standing.find(|other| other.draft.corrects.contains(&place)) {
                format!("invoice {number} is corrected by {}: void that first", other.named())
            } else if let Some(other) = ledger.standing_on(place)
                && gives_back(&self.books.documents.content(of).await?)
            {
                let by = other.named();
                format!("{by} bills days that {number} gave back: void that first")
            } else {
                return Ok(());
            };
        Err(BillingError::refused(Refusal::InvoiceState, message))
    }

    /// Refuses to take back a bill of which notes gave back a part: nobody is to have got more back than
    /// what is left bills, nor from a credit or in cash what was not paid so.
    async fn check_period(&self, of: &Document, ledger: &Ledger) -> Result<(), BillingError> {
        let group = ledger.group(of.draft.start, &of.draft.currency);
        let Some(note) = group.notes().last().filter(|_| of.draft.kind != Kind::CreditNote) else {
            return Ok(());
        };
        let mut rest = group.counted();
        rest.retain(|other| other.place != of.place);
        let billed = self.books.documents.billed(&rest).await?;
        let content = self.books.documents.content(of).await?;
        let takes = |line: &&DocumentLine| line.amount.amount() > Amount::ZERO;
        let mut taken = content.lines().iter().filter(takes);
        let is_overdrawn = taken.any(|line| billed.is_overdrawn_at(&line.key))
            || (of.draft.total > Amount::ZERO && is_below_zero(billed.left()))
            || !was_paid_so(of, &rest);
        if is_overdrawn {
            let (number, note) = (of.named(), note.named());
            let message = format!(
                "without {number} notes would have given back more than is billed for its period, or more \
                 to a credit than it paid: void {note} first"
            );
            return Err(BillingError::refused(Refusal::InvoiceState, message));
        }
        Ok(())
    }

    /// Refuses to take back what went back to a credit that has paid with it since.
    async fn check_credits(&self, found: &Found, ledger: &Ledger) -> Result<(), BillingError> {
        let of = &found.document;
        let mut back: Vec<&Payment> = of.payments.iter().collect();
        back.retain(|paid| paid.amount < Amount::ZERO);
        if back.is_empty() {
            return Ok(());
        }
        let applied = self.books.contracts.of_tenant(&found.tenant, u64::MAX).await?;
        let contracts = contracts::agreed(&applied);
        for Payment { credit, amount } in back {
            let used = ledger.used(credit).and_then(|used| used.checked_sub(*amount));
            let Some(stated) = credits::stated(&contracts, credit) else { continue };
            if used.is_some_and(|used| used <= stated) {
                continue;
            }
            let paid_by = |other: &&Document| {
                let mut payments = other.payments.iter();
                other.is_owed()
                    && other.place > of.place
                    && payments.any(|paid| paid.credit == *credit && paid.amount > Amount::ZERO)
            };
            let other = ledger.documents().iter().rfind(paid_by);
            let number = of.named();
            let remedy = other.map_or_else(
                || "apply a contract that states the credit with more".to_owned(),
                |other| format!("void {} first", other.named()),
            );
            let message = format!(
                "{number} gave money back to the credit {credit:?}, which has paid with it since: {remedy}"
            );
            return Err(BillingError::refused(Refusal::InvoiceState, message));
        }
        Ok(())
    }

    /// Puts the message that a document is void into the outbox, once.
    async fn publish_void(&self, found: &Found) -> Result<(), BillingError> {
        let Found { tenant, document } = found;
        let stored = self.books.documents.stored(document).await?;
        let message = DocumentMessage::new(Event::Void, tenant, document, stored);
        self.books.outbox.draw(message.item(void_key(document))).await.map(drop)
    }
}

/// Tells whether what a document paid by credits and in cash is still paid by others of its period, as
/// far as it was given back.
fn was_paid_so(of: &Document, rest: &[Document]) -> bool {
    let owed = || rest.iter().filter(|other| other.is_owed());
    let Some(paid) = ledger::paid_of(owed()) else { return true };
    let by_credits = of.payments.iter().filter(|paid| paid.amount > Amount::ZERO).all(|payment| {
        let credit = paid.iter().find(|(credit, _)| *credit == payment.credit);
        credit.is_none_or(|(_, paid)| *paid >= Amount::ZERO)
    });
    let due = owed().map(Document::due).try_fold(Amount::ZERO, |sum, due| sum.checked_add(due?));
    let is_cash = of.due().is_some_and(|due| due > Amount::ZERO);
    by_credits && !(is_cash && is_below_zero(due))
}

fn is_below_zero(amount: Option<Amount>) -> bool {
    amount.is_some_and(|amount| amount < Amount::ZERO)
}

fn void_key(document: &Document) -> String {
    format!("void/{}", document.number.unwrap_or_default())
}

fn gives_back(document: &InvoiceDocument) -> bool {
    document.lines().iter().any(|line| line.amount.is_negative())
}
