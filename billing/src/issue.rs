//! Issue: a document's way from a draft to its number and its message, each step journalled before the
//! next.

use std::sync::Arc;

use domain::{BillingStore, Clock, Quantity, Tenant, Timestamp, Window, contract::Credit};
use pricing::{Amount, document::InvoiceDocument, invoice::credits};
use runtime::fault;

use crate::{
    BillingError,
    account::Account,
    books::{
        Books,
        document::{Document, Draft, Kind, Payment, State},
        ledger::{Entry, Group, Ledger},
        message::{DocumentMessage, Event},
        runs::Run,
    },
};

/// Issues documents. Each step can be repeated, by this process or by another at the same time.
pub(crate) struct Issuer<B> {
    books: Arc<Books<B>>,
    clock: Arc<dyn Clock>,
}

impl<B: BillingStore> Issuer<B> {
    /// Takes the books and the clock.
    pub(crate) fn new(books: Arc<Books<B>>, clock: Arc<dyn Clock>) -> Self {
        Self { books, clock }
    }

    /// Makes a document of the run about a period of which these documents stand.
    pub(crate) async fn draft(
        &self,
        run: &Run,
        ledger: &mut Ledger,
        (kind, document): (Kind, &InvoiceDocument),
        window: Window,
        group: &Group,
    ) -> Result<(), BillingError> {
        let content = self.books.documents.put(document).await?;
        let draft = Draft {
            run: run.number,
            kind,
            start: window.start,
            end: window.end,
            time_zone: document.period().time_zone.clone(),
            currency: document.currency().code().to_owned(),
            total: document.total().amount(),
            content,
            corrects: group.documents().iter().map(|before| before.place).collect(),
            counts: group.notes().iter().map(|note| note.place).collect(),
            request_id: None,
        };
        fault::point("billing.before_draft");
        self.books.documents.append(ledger, Entry::Drafted(draft)).await?;
        fault::point("billing.after_draft");
        Ok(())
    }

    /// The next step of a document that is not out yet.
    pub(crate) async fn advance(
        &self,
        ledger: &mut Ledger,
        account: &Account,
        document: &Document,
    ) -> Result<(), BillingError> {
        if document.state == State::Draft {
            let entry = self.finalise(ledger, account, document).await?;
            fault::point("billing.before_finalise");
            self.books.documents.append(ledger, entry).await?;
            fault::point("billing.after_finalise");
        } else {
            let entry = self.publish(&account.tenant, document).await?;
            fault::point("billing.before_published");
            self.books.documents.append(ledger, entry).await?;
        }
        Ok(())
    }

    /// Draws the number and reckons what credits pay, as of this ledger.
    async fn finalise(
        &self,
        ledger: &Ledger,
        account: &Account,
        document: &Document,
    ) -> Result<Entry, BillingError> {
        fault::point("billing.before_number");
        let number = self.books.documents.draw_number(&account.tenant, document.place).await?;
        fault::point("billing.after_number");
        let payments = payments(ledger, account, document);
        Ok(Entry::Finalised {
            document: document.place,
            number,
            issued_at: self.clock.now(),
            payments,
        })
    }

    /// Puts the message into the outbox.
    async fn publish(&self, tenant: &Tenant, document: &Document) -> Result<Entry, BillingError> {
        let stored = self.books.documents.stored(document).await?;
        let number = document.number.expect("a final document has a number");
        let message = DocumentMessage::new(Event::Final, tenant, document, stored);
        fault::point("billing.before_outbox");
        let message = self.books.outbox.draw(message.item(format!("final/{number}"))).await?;
        fault::point("billing.after_outbox");
        Ok(Entry::Published { document: document.place, message })
    }

    /// The next step of a document that is not out yet, whichever run made it.
    pub(crate) async fn finish(
        &self,
        run: &Run,
        ledger: &mut Ledger,
        account: &Account,
        open: &Document,
    ) -> Result<(), BillingError> {
        let is_of_another = open.draft.run != run.number && open.draft.kind != Kind::CreditNote;
        if is_of_another && self.books.runs.is_cancelled(open.draft.run).await? {
            let cancelled = self.books.runs.get(open.draft.run).await?;
            return self.settle_drafts(&cancelled, &account.tenant).await;
        }
        self.advance(ledger, account, open).await
    }

    /// The next step of a document that is not out yet, under the contracts of the run that made it.
    pub(crate) async fn finish_open(
        &self,
        ledger: &mut Ledger,
        tenant: &Tenant,
        open: &Document,
    ) -> Result<(), BillingError> {
        let run = self.books.runs.get(open.draft.run).await?;
        let is_note = open.draft.kind == Kind::CreditNote;
        if !is_note && self.books.runs.is_cancelled(run.number).await? {
            return self.settle_drafts(&run, tenant).await;
        }
        let account = Account::of_run(&self.books, &run, tenant).await?;
        self.advance(ledger, &account, open).await
    }

    /// Discards the drafts of a cancelled run, but for those whose number was drawn: numbers have no
    /// gaps, so these become final. Credit notes are nothing that a run makes.
    pub(crate) async fn settle_drafts(
        &self,
        run: &Run,
        tenant: &Tenant,
    ) -> Result<(), BillingError> {
        loop {
            let mut ledger = self.books.documents.ledger(tenant).await?;
            let open = ledger.documents().iter().find(|found| {
                found.draft.run == run.number
                    && found.draft.kind != Kind::CreditNote
                    && matches!(found.state, State::Draft | State::Final)
            });
            let Some(open) = open.cloned() else { return Ok(()) };
            let has_number = open.state == State::Final
                || self.books.documents.has_number(tenant, open.place).await?;
            if has_number {
                let account = Account::of_run(&self.books, run, tenant).await?;
                self.advance(&mut ledger, &account, &open).await?;
            } else {
                self.books
                    .documents
                    .append(&mut ledger, Entry::Discarded { document: open.place })
                    .await?;
            }
        }
    }
}

/// What credits pay of a document, as of this ledger; of one that gives money back, what of it goes back
/// to those that paid for its period.
pub(crate) fn payments(ledger: &Ledger, account: &Account, document: &Document) -> Vec<Payment> {
    let Draft { start, currency, total, .. } = &document.draft;
    if *total < Amount::ZERO {
        return refunds(ledger, (*start, currency), *total);
    }
    // Sums out of range are those of another program: then nothing is left.
    let used = |credit: &str| ledger.used(credit).unwrap_or_else(|| Amount::of(Quantity::MAX));
    let period = (currency.as_str(), document.window());
    let payments = credits::payments(account.contracts.iter(), period, *total, used).into_iter();
    let payment = |(credit, amount): (&Credit, Amount)| Payment {
        credit: credit.name.as_str().to_owned(),
        amount,
    };
    payments.map(payment).collect()
}

/// What of a total below zero goes back to credits, below zero too. Sums out of range are those of
/// another program: then nothing does.
pub(crate) fn refunds(
    ledger: &Ledger,
    (start, currency): (Timestamp, &str),
    total: Amount,
) -> Vec<Payment> {
    let paid = ledger.paid(start, currency).unwrap_or_default();
    let refund = total.checked_neg().unwrap_or(Amount::ZERO);
    let refunds = credits::refunds(&paid, refund).into_iter();
    let payment = |(credit, amount): (String, Amount)| {
        Some(Payment { credit, amount: amount.checked_neg()? })
    };
    refunds.filter_map(payment).collect()
}
