//! Ledger: all documents of one tenant, and how far each has come, as one journal.
//!
//! What is owed, which periods are invoiced and what is left of a credit follow from the entries and
//! from nothing else. Each entry is added behind all that were read, so whoever decides (this period
//! has no invoice yet, so much of the credit is left) knows that it still holds.

use std::collections::BTreeMap;

use domain::{BillingStore, Tenant, Timestamp, billing::Appended};
use pricing::Amount;
use serde::{Deserialize, Serialize};

use super::{
    document::{Document, Draft, Kind, Payment, State},
    journal,
};
use crate::BillingError;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A document was made. Its place in the ledger is its identity.
    Drafted(Draft),
    /// It got its number; from here on it is owed.
    Finalised {
        /// Place of the draft.
        document: u64,
        /// The invoice number, from 1.
        number: u64,
        /// When it became final.
        #[serde(with = "journal::text")]
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
        /// When it was taken back.
        #[serde(with = "journal::text")]
        at: Timestamp,
    },
}

/// The documents of one period in one currency that stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Those that bill it, oldest first; at least one.
    bills: Vec<Document>,
    /// Credit notes about it, oldest first.
    notes: Vec<Document>,
}

impl Group {
    fn add(&mut self, found: &Document) {
        match found.draft.kind {
            Kind::CreditNote => self.notes.push(found.clone()),
            Kind::Invoice | Kind::Delta | Kind::Reversal => self.bills.push(found.clone()),
        }
    }

    /// Those that bill it.
    #[must_use]
    pub(crate) fn documents(&self) -> &[Document] {
        &self.bills
    }

    /// Credit notes about it.
    #[must_use]
    pub(crate) fn notes(&self) -> &[Document] {
        &self.notes
    }

    /// All of them, notes behind what they correct.
    #[must_use]
    pub(crate) fn counted(&self) -> Vec<Document> {
        self.bills.iter().chain(&self.notes).cloned().collect()
    }

    /// The document that says last what the period is.
    ///
    /// # Panics
    /// Never for a group of a ledger.
    #[must_use]
    pub(crate) fn newest(&self) -> &Document {
        self.bills.last().expect("a group has a document")
    }

    /// Tells whether it bills the period that begins at a moment in a currency.
    #[must_use]
    pub(crate) fn is_of(&self, start: Timestamp, currency: &str) -> bool {
        let Draft { start: own, currency: in_currency, .. } = &self.newest().draft;
        *own == start && in_currency == currency
    }

    /// Tells whether all of it was given back, because there was no such period any more.
    #[must_use]
    pub(crate) fn is_given_back(&self) -> bool {
        let newest = self.newest();
        newest.draft.kind == Kind::Reversal && newest.is_owed()
    }

    /// A document of it that is not out yet.
    #[must_use]
    pub(crate) fn open(&self) -> Option<&Document> {
        let mut all = self.bills.iter().chain(&self.notes);
        all.find(|found| found.state != State::Published)
    }
}

/// A tenant's ledger, read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
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
    pub(crate) async fn read(
        store: &impl BillingStore,
        tenant: &Tenant,
    ) -> Result<Self, BillingError> {
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
    pub(crate) async fn append(
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
    pub(crate) fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The document with this identity.
    #[must_use]
    pub(crate) fn document(&self, place: u64) -> Option<&Document> {
        self.documents.iter().find(|found| found.place == place)
    }

    /// What is about periods and stands, drafts and what is owed, by the period's start and currency.
    #[must_use]
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut groups: BTreeMap<(Timestamp, &str), Group> = BTreeMap::new();
        for found in self.documents.iter().filter(|found| found.stands()) {
            let key = (found.draft.start, found.draft.currency.as_str());
            groups.entry(key).or_default().add(found);
        }
        // A note stands only while the document that it corrects does.
        groups.into_values().filter(|group| !group.bills.is_empty()).collect()
    }

    /// What is about the period that begins at a moment in a currency, and stands; empty where nothing
    /// does.
    #[must_use]
    pub(crate) fn group(&self, start: Timestamp, currency: &str) -> Group {
        let is_of = |draft: &Draft| draft.start == start && draft.currency == currency;
        let mut group = Group::default();
        let standing = self.documents.iter().filter(|found| found.stands());
        standing.filter(|found| is_of(&found.draft)).for_each(|found| group.add(found));
        group
    }

    /// Tells whether documents bill a period to its end, and have not given all of it back.
    #[must_use]
    pub(crate) fn bills_all(&self, start: Timestamp, currency: &str, end: Timestamp) -> bool {
        let group = self.group(start, currency);
        let newest = group.documents().last();
        newest.is_some_and(|newest| newest.draft.kind != Kind::Reversal && newest.draft.end >= end)
    }

    /// Tells whether a document of a run after this one bills what ends at a moment.
    #[must_use]
    pub(crate) fn bills_until(&self, end: Timestamp, run: u64) -> bool {
        let mut billing = self.documents.iter().filter(|found| found.stands());
        billing.any(|Document { draft, .. }| {
            draft.kind != Kind::CreditNote && draft.end == end && draft.run > run
        })
    }

    /// Tells whether a document of the period that begins at a moment was taken back after another
    /// moment.
    #[must_use]
    pub(crate) fn is_voided_since(&self, start: Timestamp, since: Timestamp) -> bool {
        let mut of_period = self.documents.iter().filter(|found| found.draft.start == start);
        of_period.any(|found| found.voided_at.is_some_and(|at| at > since))
    }

    /// A document of another period that bills days which this one's period would have without it.
    #[must_use]
    pub(crate) fn standing_on(&self, place: u64) -> Option<Document> {
        let groups = self.groups();
        let is_its = |group: &&Group| group.bills.iter().any(|found| found.place == place);
        let own = groups.iter().find(is_its)?;
        let left = own.bills.iter().rfind(|found| found.place != place)?;
        if left.draft.kind == Kind::Reversal {
            return None;
        }
        let others = groups.iter().filter(|other| *other != own && !other.is_given_back());
        let mut newest = others.map(Group::newest);
        newest.find(|other| other.overlaps(left.window())).cloned()
    }

    /// What documents that are owed have used of a credit, less what went back to it.
    #[must_use]
    pub(crate) fn used(&self, credit: &str) -> Option<Amount> {
        self.used_where(credit, |_| true)
    }

    /// The same, of some of the documents only.
    #[must_use]
    pub(crate) fn used_where(
        &self,
        credit: &str,
        counts: impl Fn(&Draft) -> bool,
    ) -> Option<Amount> {
        let owed = self.documents.iter().filter(|found| found.is_owed() && counts(&found.draft));
        let payments = owed.flat_map(|found| &found.payments);
        let of_credit = payments.filter(|payment| payment.credit == credit);
        of_credit.map(|payment| payment.amount).try_fold(Amount::ZERO, Amount::checked_add)
    }

    /// What each credit has paid for a period, less what went back to it, in the order of first use.
    #[must_use]
    pub(crate) fn paid(&self, start: Timestamp, currency: &str) -> Option<Vec<(String, Amount)>> {
        let is_of = |draft: &Draft| draft.start == start && draft.currency == currency;
        let owed = self.documents.iter().filter(|found| found.is_owed() && is_of(&found.draft));
        paid_of(owed)
    }
}

/// What each credit has paid of documents, less what went back to it, in the order of first use.
/// `None` past the range of an amount.
pub(crate) fn paid_of<'d>(
    documents: impl Iterator<Item = &'d Document>,
) -> Option<Vec<(String, Amount)>> {
    let mut paid: Vec<(String, Amount)> = Vec::new();
    for Payment { credit, amount } in documents.flat_map(|found| &found.payments) {
        match paid.iter_mut().find(|(known, _)| known == credit) {
            Some((_, sum)) => *sum = sum.checked_add(*amount)?,
            None => paid.push((credit.clone(), *amount)),
        }
    }
    Some(paid)
}
