//! Credit notes: a part of what was invoiced is given back, for a reason that is not in the usage.
//!
//! A note is a document of the tenant's ledger with a number and a message of its own. It is made of
//! nothing but the document that it corrects and the request, so the same request makes the same
//! bytes: that is how a repetition is known. What a period costs is not touched by it; deltas leave
//! notes out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use domain::{
    BillingStore,
    catalogue::{Currency, Rounding, RoundingMode},
};
use pricing::{
    Amount,
    document::{CreditNote, InvoiceDocument},
    invoice::document::{self, Credited},
};

use crate::{
    BillingError, Refusal,
    account::Account,
    books::{
        Books,
        document::{Document, Draft, Kind, State, number_text},
        documents::{Documents, Found},
        journal,
        ledger::{Entry, Ledger},
    },
    issue::Issuer,
};

/// What is to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreditRequest {
    /// At least one; each place once.
    pub(crate) credited: Vec<Credited>,
    /// Why, for the customer.
    pub(crate) reason: String,
    /// Tells apart credits that read the same; may be empty.
    pub(crate) request_id: String,
}

/// What may still be given back.
struct Left {
    period: Amount,
    lines: BTreeMap<String, Amount>,
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

    /// Gives back a part of a final document. Repeating a credit returns the
    /// existing note.
    ///
    /// # Errors
    /// When there is no such document or line; when it is not owed, or more is asked for than is left
    /// of a line or of the period; when the store fails.
    pub(crate) async fn credit(
        &self,
        number: &str,
        request: &CreditRequest,
    ) -> Result<Found, BillingError> {
        loop {
            let (found, mut ledger, draft, content) = self.credit_draft(number, request).await?;
            let Found { tenant, document } = &found;
            let same = ledger.documents().iter().find(|other| {
                other.draft.kind == Kind::CreditNote
                    && other.draft.content == draft.content
                    && other.state != State::Discarded
            });
            match same.cloned() {
                Some(note) if matches!(note.state, State::Published | State::Void) => {
                    return Ok(Found { tenant: tenant.clone(), document: note });
                }
                Some(note) => {
                    let run = self.books.runs.get(document.draft.run).await?;
                    let account = Account::of_run(&self.books, &run, tenant).await?;
                    self.issuer.advance(&mut ledger, &account, &note).await?;
                }
                None => {
                    self.check_credit(&found, &ledger, (request, &content)).await?;
                    self.books.documents.put(&content).await?;
                    self.books.documents.append(&mut ledger, Entry::Drafted(draft)).await?;
                }
            }
        }
    }

    /// The note as it would be, not stored. It has no number.
    ///
    /// # Errors
    /// As [`Self::credit`].
    pub(crate) async fn preview(
        &self,
        number: &str,
        request: &CreditRequest,
    ) -> Result<(Found, InvoiceDocument), BillingError> {
        let (found, ledger, draft, content) = self.credit_draft(number, request).await?;
        self.check_credit(&found, &ledger, (request, &content)).await?;
        let document = Document::drafted(u64::MAX, draft);
        Ok((Found { tenant: found.tenant, document }, content))
    }

    /// The document that is corrected, its ledger, and the note's draft and content.
    async fn credit_draft(
        &self,
        number: &str,
        request: &CreditRequest,
    ) -> Result<(Found, Ledger, Draft, InvoiceDocument), BillingError> {
        let found = self.books.documents.find(number).await?;
        let ledger = self.books.documents.ledger(&found.tenant).await?;
        let content = self.credit_content(&found, request).await?;
        let of = &found.document;
        let draft = Draft {
            run: of.draft.run,
            kind: Kind::CreditNote,
            start: of.draft.start,
            end: of.draft.end,
            time_zone: of.draft.time_zone.clone(),
            currency: of.draft.currency.clone(),
            total: content.total().amount(),
            content: journal::digest(&journal::bytes(&content)),
            corrects: vec![of.place],
        };
        Ok((found, ledger, draft, content))
    }

    async fn credit_content(
        &self,
        found: &Found,
        request: &CreditRequest,
    ) -> Result<InvoiceDocument, BillingError> {
        let issued = self.books.documents.content(&found.document).await?;
        let number = number_text(found.document.number.unwrap_or_default());
        let why = (request.reason.as_str(), request.request_id.as_str());
        document::credit_note((&number, &issued), &request.credited, why).map_err(|message| {
            BillingError::refused(Refusal::InvoiceNotFound, format!("invoice {number}: {message}"))
        })
    }

    /// Refuses what is not owed, and more than is left of a line or of the period.
    async fn check_credit(
        &self,
        found: &Found,
        ledger: &Ledger,
        (request, note): (&CreditRequest, &InvoiceDocument),
    ) -> Result<(), BillingError> {
        let of = &found.document;
        check_owed(of, request)?;
        let issued = self.books.documents.content(of).await?;
        let Left { mut period, lines } = self.left(ledger, of).await?;
        let number = number_text(of.number.unwrap_or_default());
        let refuse = |message: String| Err(BillingError::refused(Refusal::InvoiceState, message));
        for ((place, amount), line) in request.credited.iter().zip(note.lines()) {
            let Some(place) = place else { continue };
            let given = lines.get(&line.key).copied();
            let billed = issued.lines().get(*place);
            let billed = billed.map_or(Amount::ZERO, |line| line.amount.amount());
            let rest = added(billed, given.unwrap_or(Amount::ZERO))?;
            if *amount > rest {
                let (place, rest, amount) =
                    (place + 1, of.draft.text(rest), of.draft.text(*amount));
                return refuse(format!("{rest} is left of line {place} of {number}, not {amount}"));
            }
        }
        let most = period;
        for (_, amount) in &request.credited {
            period = period.checked_sub(*amount).ok_or_else(out_of_range)?;
        }
        if period < Amount::ZERO {
            let (most, currency) = (of.draft.text(most), &of.draft.currency);
            return refuse(format!(
                "{most} {currency} is left of what was billed for the period of {number}"
            ));
        }
        Ok(())
    }

    /// What was billed of a document's period, less the notes that stand; and of each line of a note
    /// what was given back, below zero.
    async fn left(&self, ledger: &Ledger, of: &Document) -> Result<Left, BillingError> {
        let mut left = Left { period: Amount::ZERO, lines: BTreeMap::new() };
        for billed in ledger.billing(of.draft.start, &of.draft.currency) {
            left.period = added(left.period, billed.draft.total)?;
        }
        for note in ledger.credit_notes(of.draft.start, &of.draft.currency) {
            left.period = added(left.period, note.draft.total)?;
            for line in self.books.documents.content(note).await?.into_lines() {
                let before = left.lines.entry(line.key).or_insert(Amount::ZERO);
                *before = added(*before, line.amount.amount())?;
            }
        }
        Ok(left)
    }
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
    let why = (note.reason.as_str(), note.request_id.as_deref().unwrap_or_default());
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
