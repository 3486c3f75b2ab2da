//! Ledger: all documents of one tenant, and how far each has come, as one journal.
//!
//! What is owed, which periods are invoiced and what is left of a credit follow from the entries and
//! from nothing else. Each entry is added behind all that were read, so whoever decides (this period
//! has no invoice yet, so much of the credit is left) knows that it still holds.

use std::collections::BTreeMap;

use domain::{BillingStore, Tenant, Timestamp, Window, billing::Appended, catalogue::Currency};
use serde::{Deserialize, Serialize};

use super::{BillingError, journal};
use pricing::Amount;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// A document was made. Its place in the ledger is its identity.
    Drafted(Draft),
    /// It got its number; from here on it is owed.
    Finalised {
        /// Place of the draft.
        document: u64,
        /// The invoice number, from 1.
        number: u64,
        /// When.
        #[serde(with = "journal::moment")]
        issued_at: Timestamp,
        /// What prepaid credits pay of it.
        payments: Vec<Payment>,
    },
    /// Its message stands in the outbox.
    Published {
        /// Place of the draft.
        document: u64,
        /// The message's number.
        message: u64,
    },
    /// A draft that will not be final: its run was cancelled.
    Discarded {
        /// Place of the draft.
        document: u64,
    },
    /// A final document that is not owed after all. Its number stays its own.
    Voided {
        /// Place of the draft.
        document: u64,
        /// Why, in somebody's words.
        reason: String,
        /// When.
        #[serde(with = "journal::moment")]
        at: Timestamp,
    },
}

/// A document as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// The run that made it.
    pub run: u64,
    /// What it is.
    pub kind: Kind,
    /// First moment of what is billed.
    #[serde(with = "journal::moment")]
    pub start: Timestamp,
    /// First moment after it.
    #[serde(with = "journal::moment")]
    pub end: Timestamp,
    /// Currency of the amounts.
    pub currency: String,
    /// What it comes to.
    #[serde(with = "journal::text")]
    pub total: Amount,
    /// Digest that its content stands under.
    pub content: String,
    /// The documents that it corrects, by place, oldest first; empty for invoices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corrects: Vec<u64>,
}

impl Draft {
    /// An amount of the document, with the digits of its currency.
    #[must_use]
    pub fn text(&self, amount: Amount) -> String {
        amount.text(Currency::from_code(&self.currency).map_or(0, Currency::minor_digits))
    }
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The bill of a period.
    Invoice,
    /// What changed about a period since.
    Delta,
    /// An amount that is given back, for a reason that is not in the usage.
    CreditNote,
    /// All that was billed for a period is given back, because there is no such period any more.
    Reversal,
}

impl Kind {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::Delta => "delta",
            Self::CreditNote => "credit_note",
            Self::Reversal => "reversal",
        }
    }
}

/// What a prepaid credit pays of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The credit.
    pub credit: String,
    /// How much.
    #[serde(with = "journal::text")]
    pub amount: Amount,
}

/// How far a document has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is made, and not owed yet.
    Draft,
    /// It has its number.
    Final,
    /// And its message is out.
    Published,
    /// It will never be final.
    Discarded,
    /// It is not owed after all.
    Void,
}

impl State {
    /// The stable word. A document that is final and one whose message is out are both `final`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Final | Self::Published => "final",
            Self::Discarded => "discarded",
            Self::Void => "void",
        }
    }
}

/// A document, as the entries say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its identity in the ledger.
    pub place: u64,
    /// As it was made.
    pub draft: Draft,
    /// How far it is.
    pub state: State,
    /// Its number, once it has one.
    pub number: Option<u64>,
    /// When it became final.
    pub issued_at: Option<Timestamp>,
    /// What credits pay of it.
    pub payments: Vec<Payment>,
    /// Why it is void.
    pub void_reason: Option<String>,
    /// When that was said.
    pub voided_at: Option<Timestamp>,
}

impl Document {
    /// As it is once it is made.
    #[must_use]
    pub const fn drafted(place: u64, draft: Draft) -> Self {
        Self {
            place,
            draft,
            state: State::Draft,
            number: None,
            issued_at: None,
            payments: Vec::new(),
            void_reason: None,
            voided_at: None,
        }
    }

    /// What is billed.
    #[must_use]
    pub const fn window(&self) -> Window {
        Window { start: self.draft.start, end: self.draft.end }
    }

    /// Tells whether it bills a part of a window.
    #[must_use]
    pub fn overlaps(&self, window: Window) -> bool {
        self.draft.start < window.end && window.start < self.draft.end
    }

    /// Tells whether it counts: a draft, or one that is owed.
    #[must_use]
    pub const fn stands(&self) -> bool {
        !matches!(self.state, State::Discarded | State::Void)
    }

    /// Tells whether it is owed.
    #[must_use]
    pub const fn is_owed(&self) -> bool {
        matches!(self.state, State::Final | State::Published)
    }

    /// What is left to pay after the credits.
    #[must_use]
    pub fn due(&self) -> Option<Amount> {
        let paid = self.payments.iter().map(|payment| payment.amount);
        let paid = paid.into_iter().try_fold(Amount::ZERO, Amount::checked_add)?;
        self.draft.total.checked_sub(paid)
    }
}

/// The documents that bill one period in one currency and stand, oldest first; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group(Vec<Document>);

impl Group {
    /// All of them.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        &self.0
    }

    /// The document that says last what the period is.
    ///
    /// # Panics
    /// Never for a group of a ledger.
    #[must_use]
    pub fn newest(&self) -> &Document {
        self.0.last().expect("a group has a document")
    }

    /// Tells whether it bills the period that begins at a moment in a currency.
    #[must_use]
    pub fn is_of(&self, start: Timestamp, currency: &str) -> bool {
        let Draft { start: own, currency: in_currency, .. } = &self.newest().draft;
        *own == start && in_currency == currency
    }

    /// Tells whether all of it was given back, because there was no such period any more.
    #[must_use]
    pub fn is_given_back(&self) -> bool {
        let newest = self.newest();
        newest.draft.kind == Kind::Reversal && newest.is_owed()
    }

    /// A document of it that is not out yet.
    #[must_use]
    pub fn open(&self) -> Option<&Document> {
        self.0.iter().find(|found| found.state != State::Published)
    }
}

/// A tenant's ledger, read to its end.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    journal: String,
    /// Entries there are.
    entries: u64,
    documents: Vec<Document>,
}

impl Ledger {
    /// Reads a tenant's.
    ///
    /// # Errors
    /// When the store fails or an entry is unknown.
    pub async fn read(store: &impl BillingStore, tenant: &Tenant) -> Result<Self, BillingError> {
        let journal = format!("ledger/{tenant}");
        let entries: Vec<Entry> = journal::read(store, &journal, 0).await?;
        let mut ledger = Self { journal, ..Self::default() };
        entries.into_iter().for_each(|entry| ledger.take(entry));
        Ok(ledger)
    }

    fn take(&mut self, entry: Entry) {
        let place = self.entries;
        self.entries += 1;
        match entry {
            Entry::Drafted(draft) => self.documents.push(Document::drafted(place, draft)),
            Entry::Finalised { document, number, issued_at, payments } => {
                self.change(document, |found| {
                    found.state = State::Final;
                    (found.number, found.issued_at) = (Some(number), Some(issued_at));
                    found.payments = payments;
                });
            }
            Entry::Published { document, .. } => {
                // A document that was voided meanwhile stays so.
                self.change(document, |found| {
                    if found.state == State::Final {
                        found.state = State::Published;
                    }
                });
            }
            Entry::Discarded { document } => {
                self.change(document, |found| found.state = State::Discarded);
            }
            Entry::Voided { document, reason, at } => self.change(document, |found| {
                found.state = State::Void;
                (found.void_reason, found.voided_at) = (Some(reason), Some(at));
            }),
        }
    }

    fn change(&mut self, place: u64, change: impl FnOnce(&mut Document)) {
        if let Some(found) = self.documents.iter_mut().find(|found| found.place == place) {
            change(found);
        }
    }

    /// Adds an entry behind all that were read. `Taken` says to read the ledger again and to decide
    /// anew.
    ///
    /// # Errors
    /// When the store fails; the entry may have been added all the same.
    pub async fn append(
        &mut self,
        store: &impl BillingStore,
        entry: Entry,
    ) -> Result<Appended, BillingError> {
        let appended = journal::append(store, &self.journal, self.entries, &entry).await?;
        if appended == Appended::Added {
            self.take(entry);
        }
        Ok(appended)
    }

    /// All documents, oldest first.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The document with this identity.
    #[must_use]
    pub fn document(&self, place: u64) -> Option<&Document> {
        self.documents.iter().find(|found| found.place == place)
    }

    /// What bills periods and stands, drafts and what is owed, by the period's start and currency.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: BTreeMap<(Timestamp, &str), Vec<Document>> = BTreeMap::new();
        for found in self.documents.iter().filter(|found| found.stands()) {
            if found.draft.kind != Kind::CreditNote {
                let key = (found.draft.start, found.draft.currency.as_str());
                groups.entry(key).or_default().push(found.clone());
            }
        }
        groups.into_values().map(Group).collect()
    }

    /// What bills the period that begins at a moment in a currency, and stands, oldest first.
    pub fn billing(&self, start: Timestamp, currency: &str) -> impl Iterator<Item = &Document> {
        let of_period = self.of_period(start, currency);
        of_period.filter(|found| found.draft.kind != Kind::CreditNote)
    }

    /// Credit notes about it that stand, oldest first.
    pub fn credit_notes(
        &self,
        start: Timestamp,
        currency: &str,
    ) -> impl Iterator<Item = &Document> {
        let of_period = self.of_period(start, currency);
        of_period.filter(|found| found.draft.kind == Kind::CreditNote)
    }

    fn of_period(&self, start: Timestamp, currency: &str) -> impl Iterator<Item = &Document> {
        let is_of = move |draft: &Draft| draft.start == start && draft.currency == currency;
        self.documents.iter().filter(move |found| found.stands() && is_of(&found.draft))
    }

    /// Tells whether a document of the period that begins at a moment was taken back after another
    /// moment.
    #[must_use]
    pub fn is_voided_since(&self, start: Timestamp, since: Timestamp) -> bool {
        let mut of_period = self.documents.iter().filter(|found| found.draft.start == start);
        of_period.any(|found| found.voided_at.is_some_and(|at| at > since))
    }

    /// A document of another period that bills days which this one's period would have without it.
    #[must_use]
    pub fn standing_on(&self, place: u64) -> Option<Document> {
        let groups = self.groups();
        let is_its = |group: &&Group| group.0.iter().any(|found| found.place == place);
        let own = groups.iter().find(is_its)?;
        let left = own.0.iter().rfind(|found| found.place != place)?;
        if left.draft.kind == Kind::Reversal {
            return None;
        }
        let others = groups.iter().filter(|other| *other != own && !other.is_given_back());
        let mut newest = others.map(Group::newest);
        newest.find(|other| other.overlaps(left.window())).cloned()
    }

    /// What documents that are owed have used of a credit.
    #[must_use]
    pub fn used(&self, credit: &str) -> Option<Amount> {
        let owed = self.documents.iter().filter(|found| found.is_owed());
        let payments = owed.flat_map(|found| &found.payments);
        let of_credit = payments.filter(|payment| payment.credit == credit);
        of_credit.map(|payment| payment.amount).try_fold(Amount::ZERO, Amount::checked_add)
    }
}

/// An invoice number as it is printed: `INV-000042`.
#[must_use]
pub fn number_text(number: u64) -> String {
    format!("{NUMBER_PREFIX}{number:06}")
}

/// Reads an invoice number, with its prefix or without.
#[must_use]
pub fn parse_number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix(NUMBER_PREFIX).unwrap_or(text);
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_plain && *number > 0)
}

const NUMBER_PREFIX: &str = "INV-";
