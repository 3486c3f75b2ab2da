//! Credit notes: a part of what was invoiced is given back, for a reason that is not in the usage.
//!
//! A note is a document of the tenant's ledger with a number and a message of its own. It is made of
//! nothing but the document that it corrects and the request, so the same request makes the same
//! bytes: that is how a repetition is known. A note of the kind `correction` counts as billed less in
//! later deltas; they leave out one of the kind `goodwill`.
//!
//! No more is given back than is left of a line and of its period. That is checked before the draft is
//! journalled, and so before a number is drawn: whoever drafts a document of a period first finishes
//! what is open there, so at most one is on its way, and what was checked still holds when it is final.

use std::{collections::HashMap, sync::Arc};

use domain::{
    BillingStore,
    billing::Appended,
    catalogue::{Currency, Rounding, RoundingMode},
};
use pricing::{
    Amount,
    document::{CreditNote, InvoiceDocument, NoteKind},
    invoice::document::{self, Credited},
};
use runtime::fault;

use crate::{
    BillingError, Refusal,
    books::{
        Books,
        document::{Document, Draft, Kind, State, number_text},
        documents::{Documents, Found},
        journal,
        ledger::{Entry, Group, Ledger},
    },
    issue::{self, Issuer},
};

/// What is to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreditRequest {
    /// At least one; each place once, in their order, the document as a whole last.
    pub(crate) credited: Vec<Credited>,
    /// Whether later deltas count it.
    pub(crate) kind: NoteKind,
    /// Why, for the customer.
    pub(crate) reason: String,
    /// Makes the request safe to repeat, and tells apart credits that read the same; may be empty.
    pub(crate) request_id: String,
}

/// A request beside what it is about.
struct Asked {
    /// The document that is corrected.
    of: Found,
    ledger: Ledger,
    /// The note as it would be.
    draft: Draft,
    note: InvoiceDocument,
}

impl Asked {
    fn group(&self) -> Group {
        let Draft { start, currency, .. } = &self.of.document.draft;
        self.ledger.group(*start, currency)
    }

    fn found(&self, document: &Document) -> Found {
        Found { tenant: self.of.tenant.clone(), document: document.clone() }
    }
}

/// Makes credit notes.
pub(crate) struct CreditNotes<B> {
    books: Arc<Books<B>>,
    issuer: Issuer<B>,
}

impl<B: BillingStore> CreditNotes<B> {
    /// Takes the books and what issues documents.
    pub(crate) const fn new(books: Arc<Books<B>>, issuer: Issuer<B>) -> Self {
        Self { books, issuer }
    }

    /// Gives back a part of a final document. The same request with its request id is answered with the
    /// note that there is.
    ///
    /// # Errors
    /// When there is no such document or line; when it is not owed, or more is asked for than is left
    /// of a line or of the period; when an equal note stands and the request has no id, or its id was
    /// used for another note; when the store fails.
    pub(crate) async fn credit(
        &self,
        number: &str,
        request: &CreditRequest,
    ) -> Result<Found, BillingError> {
        let mut ours = None;
        loop {
            let mut asked = self.asked(number, request).await?;
            let group = asked.group();
            if let Some(open) = group.open() {
                let (ledger, tenant) = (&mut asked.ledger, &asked.of.tenant);
                self.issuer.finish_open(ledger, tenant, open).await?;
                continue;
            }
            if let Some(note) = self.known(&asked, ours).await? {
                return Ok(note);
            }
            self.check(&asked, &group, request).await?;
            self.books.documents.put(&asked.note).await?;
            fault::point("billing.before_draft");
            let Asked { mut ledger, draft, .. } = asked;
            let appended = self.books.documents.append(&mut ledger, Entry::Drafted(draft)).await?;
            fault::point("billing.after_draft");
            if appended == Appended::Added {
                ours = ledger.documents().last().map(|note| note.place);
            }
        }
    }

    /// The note as it would be, not stored, with what would go back to which credit. It has no number,
    /// unless the same request has made it before.
    ///
    /// # Errors
    /// As [`Self::credit`].
    pub(crate) async fn preview(
        &self,
        number: &str,
        request: &CreditRequest,
    ) -> Result<(Found, InvoiceDocument), BillingError> {
        let asked = self.asked(number, request).await?;
        if let Some(known) = self.known(&asked, None).await? {
            let content = self.books.documents.content(&known.document).await?;
            return Ok((known, content));
        }
        self.check(&asked, &asked.group(), request).await?;
        let Asked { of, ledger, draft, note } = asked;
        let payments = issue::refunds(&ledger, (draft.start, &draft.currency), draft.total);
        let document = Document { payments, ..Document::drafted(u64::MAX, draft) };
        Ok((Found { tenant: of.tenant, document }, note))
    }

    async fn asked(&self, number: &str, request: &CreditRequest) -> Result<Asked, BillingError> {
        let of = self.books.documents.find(number).await?;
        let ledger = self.books.documents.ledger(&of.tenant).await?;
        // As the ledger has it by now.
        let document = ledger.document(of.document.place).cloned().unwrap_or(of.document);
        let of = Found { tenant: of.tenant, document };
        let note = self.content(&of, request).await?;
        let Draft { run, start, end, time_zone, currency, .. } = of.document.draft.clone();
        let draft = Draft {
            run,
            kind: Kind::CreditNote,
            start,
            end,
            time_zone,
            currency,
            total: note.total().amount(),
            content: journal::digest(&journal::bytes(&note)),
            corrects: vec![of.document.place],
            counts: Vec::new(),
            request_id: Some(request.request_id.clone()).filter(|id| !id.is_empty()),
        };
        Ok(Asked { of, ledger, draft, note })
    }

    async fn content(
        &self,
        of: &Found,
        request: &CreditRequest,
    ) -> Result<InvoiceDocument, BillingError> {
        let issued = self.books.documents.content(&of.document).await?;
        let number = number_text(of.document.number.unwrap_or_default());
        let why = (request.kind, request.reason.as_str(), request.request_id.as_str());
        document::credit_note((&number, &issued), &request.credited, why).map_err(|message| {
            BillingError::refused(Refusal::InvoiceNotFound, format!("invoice {number}: {message}"))
        })
    }

    /// The note that answers a request, if there is one: the one that has its request id, or the one at
    /// the place that this very call drafted.
    async fn known(&self, asked: &Asked, ours: Option<u64>) -> Result<Option<Found>, BillingError> {
        let is_note = |found: &&Document| found.draft.kind == Kind::CreditNote;
        let mut notes = asked.ledger.documents().iter().filter(is_note);
        if let Some(id) = &asked.draft.request_id {
            let has_id = |note: &&Document| {
                note.draft.request_id.as_ref() == Some(id) && note.state != State::Discarded
            };
            let Some(note) = notes.find(has_id) else { return Ok(None) };
            return match note.draft.content == asked.draft.content {
                true => Ok(Some(asked.found(note))),
                false => Err(id_used(id, note)),
            };
        }
        if let Some(note) = notes.clone().find(|note| ours == Some(note.place)) {
            return Ok(Some(asked.found(note)));
        }
        let is_alike = |note: &&Document| {
            let (theirs, ours) = (&note.draft, &asked.draft);
            note.stands() && theirs.corrects == ours.corrects && theirs.total == ours.total
        };
        for note in notes.filter(is_alike) {
            if gives_the_same(&self.books.documents.content(note).await?, &asked.note) {
                return Err(stands_already(note, asked));
            }
        }
        Ok(None)
    }

    /// Refuses what is not owed, and more than is left of a line or of the period.
    async fn check(
        &self,
        asked: &Asked,
        group: &Group,
        request: &CreditRequest,
    ) -> Result<(), BillingError> {
        let of = &asked.of.document;
        check_owed(of, request)?;
        let issued = self.books.documents.content(of).await?;
        let billed = self.books.documents.billed(&group.counted()).await?;
        let number = number_text(of.number.unwrap_or_default());
        let refuse = |message: String| Err(BillingError::refused(Refusal::InvoiceState, message));
        let given = self.given(group).await?;
        for ((place, amount), line) in request.credited.iter().zip(asked.note.lines()) {
            let Some(own) = place.and_then(|place| issued.lines().get(place)) else { continue };
            let of_document = match given.get(&line.key) {
                Some(given) => added(own.amount.amount(), *given)?,
                None => own.amount.amount(),
            };
            let of_period = billed.left_of(&own.key).ok_or_else(out_of_range)?;
            let rest = of_document.min(of_period).max(Amount::ZERO);
            if *amount > rest {
                let place = place.unwrap_or_default() + 1;
                let (rest, amount) = (of.draft.text(rest), of.draft.text(*amount));
                return refuse(format!("{rest} is left of line {place} of {number}, not {amount}"));
            }
        }
        let most = billed.left().ok_or_else(out_of_range)?;
        if added(most, asked.draft.total)? < Amount::ZERO {
            let (most, currency) = (of.draft.text(most.max(Amount::ZERO)), &of.draft.currency);
            return refuse(format!(
                "{most} {currency} is left of what was billed for the period of {number}"
            ));
        }
        Ok(())
    }

    /// What the notes of a period gave back of each line of a document, by the line's key in notes,
    /// below zero.
    async fn given(&self, group: &Group) -> Result<HashMap<String, Amount>, BillingError> {
        let mut given: HashMap<String, Amount> = HashMap::new();
        for note in group.notes() {
            for line in self.books.documents.content(note).await?.into_lines() {
                let before = given.entry(line.key).or_insert(Amount::ZERO);
                *before = added(*before, line.amount.amount())?;
            }
        }
        Ok(given)
    }
}

/// Tells whether two notes give back the same of the same document for the same reason, whatever they
/// were asked for with.
fn gives_the_same(one: &InvoiceDocument, other: &InvoiceDocument) -> bool {
    let (Some(one), Some(other)) = (one.credit_note(), other.credit_note()) else { return false };
    (&one.corrects, &one.lines, &one.reason) == (&other.corrects, &other.lines, &other.reason)
}

fn stands_already(note: &Document, asked: &Asked) -> BillingError {
    let (by, of) = (note.named(), asked.of.document.named());
    let message = format!(
        "{by} already gives back the same of {of} for the same reason: if the answer to that credit was \
         lost, {by} is it; another one needs a request id of its own (--request-id)"
    );
    BillingError::refused(Refusal::CreditExists, message)
}

fn id_used(id: &str, note: &Document) -> BillingError {
    let by = note.named();
    let message = format!(
        "request id {id:?} was used for {by}, which gives back something else: send what it was used for, \
         or another id"
    );
    BillingError::refused(Refusal::RequestIdUsed, message)
}

/// A note as it comes out of the document that it corrects, with the amounts that it has.
///
/// # Errors
/// When the store fails, or the document has no such lines.
pub(crate) async fn derive<B: BillingStore>(
    documents: &Documents<B>,
    of: &Found,
    note: &CreditNote,
) -> Result<InvoiceDocument, BillingError> {
    let issued = documents.content(&of.document).await?;
    let number = number_text(of.document.number.unwrap_or_default());
    let places: HashMap<String, usize> = issued
        .lines()
        .iter()
        .enumerate()
        .map(|(place, line)| (document::credit_key(line, &number), place))
        .collect();
    let credited = note.lines.iter().map(|line| {
        let amount = line.amount.amount().checked_neg().ok_or_else(out_of_range)?;
        Ok((places.get(&line.key).copied(), amount))
    });
    let credited = credited.collect::<Result<Vec<Credited>, BillingError>>()?;
    let why = (note.kind(), note.reason.as_str(), note.request_id.as_deref().unwrap_or_default());
    document::credit_note((&number, &issued), &credited, why).map_err(|message| {
        BillingError::Unreadable { what: format!("a credit note of {number}"), message }
    })
}

/// Refuses what is not owed, and amounts that nobody can pay.
fn check_owed(of: &Document, request: &CreditRequest) -> Result<(), BillingError> {
    let number = number_text(of.number.unwrap_or_default());
    let refuse = |message: String| Err(BillingError::refused(Refusal::InvoiceState, message));
    if of.draft.kind == Kind::CreditNote {
        return refuse(format!("{number} is a credit note: void it, where it should not be"));
    }
    if !of.is_owed() {
        return refuse(format!("{number} is {}: nothing of it is owed", of.state.as_str()));
    }
    let digits = Currency::from_code(&of.draft.currency).map_or(2, Currency::minor_digits);
    let coins = Rounding::To { digits, mode: RoundingMode::Down };
    let in_coins = |amount: Amount| amount.rounded(coins) == Some(amount);
    match request.credited.iter().find(|(_, amount)| !in_coins(*amount)) {
        Some((_, amount)) => {
            let currency = &of.draft.currency;
            refuse(format!("{amount} has more than the {digits} decimals of {currency}"))
        }
        None => Ok(()),
    }
}

fn added(one: Amount, other: Amount) -> Result<Amount, BillingError> {
    one.checked_add(other).ok_or_else(out_of_range)
}

fn out_of_range() -> BillingError {
    BillingError::Unreadable {
        what: "a ledger".to_owned(),
        message: "its amounts add up to more than an amount of money holds".to_owned(),
    }
}
