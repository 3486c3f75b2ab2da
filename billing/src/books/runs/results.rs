//! Results: what came of a run's tenants and periods. The entry that closes a run keeps them, so that
//! every process knows them for ever.

use std::collections::BTreeMap;

use domain::Tenant;
use pricing::Amount;
use serde::{Deserialize, Serialize};

use crate::books::{
    document::{Document, Draft, Kind},
    journal,
};

/// Tenants that are listed with words, of those that failed and of those that are blocked. Others are
/// only counted.
pub(crate) const LISTED_MAX: usize = 100;
/// Bytes of one tenant's words. With [`LISTED_MAX`] an entry stays far below what a store takes, even if
/// every byte of them has to be escaped.
pub(crate) const WORDS_BYTES_MAX: usize = 1_000;

/// What came of a run, or has so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Tenants that are through, those that failed too.
    #[serde(default)]
    pub(crate) tenants_done: u64,
    /// How many periods came to what.
    pub(crate) outcomes: Outcomes,
    /// What the documents come to, by currency.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) totals: BTreeMap<String, Totals>,
    /// Tenants that could not be billed, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) failures: Vec<Words>,
    /// Tenants with periods that are blocked, and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) blocked: Vec<Words>,
}

/// What is said about a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Words {
    pub(crate) tenant: String,
    /// For a person.
    pub(crate) message: String,
}

/// What documents of one currency come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// All new invoices.
    #[serde(with = "journal::text")]
    pub(crate) invoices: Amount,
    /// All new deltas and reversals.
    #[serde(with = "journal::text")]
    pub(crate) deltas: Amount,
}

/// How many periods came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    /// New invoices.
    pub(crate) invoices: u64,
    /// New deltas and reversals.
    pub(crate) deltas: u64,
    /// Periods that had an invoice, and nothing to add.
    pub(crate) unchanged: u64,
    /// Periods without anything to bill.
    pub(crate) empty: u64,
    /// Periods that are not over yet, with the grace.
    pub(crate) not_due: u64,
    /// Resources of usage that wait for a price, over all periods that were billed.
    pub(crate) unpriced: u64,
    /// Periods that wait for a run for deltas: documents of other periods bill a part of them, or their
    /// own do not bill all of it.
    #[serde(default)]
    pub(crate) blocked: u64,
    /// Resources that were used in the month behind a contract that ended, or between two.
    #[serde(default)]
    pub(crate) uncovered: u64,
    /// Tenants that could not be billed.
    #[serde(default)]
    pub(crate) failed: u64,
    /// Periods whose delta is below the run's threshold, and was not made.
    #[serde(default)]
    pub(crate) below_threshold: u64,
}

/// What came of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Invoice,
    Delta,
    Unchanged,
    Empty,
    NotDue,
    Blocked,
    BelowThreshold,
}

impl Results {
    /// Counts a period.
    pub(crate) const fn count(&mut self, outcome: Outcome) {
        self.outcomes.count(outcome);
    }

    /// Counts a document that the run made.
    pub(crate) fn made(&mut self, document: &Document) {
        let Draft { kind, currency, total, .. } = &document.draft;
        let nothing = Totals { invoices: Amount::ZERO, deltas: Amount::ZERO };
        let totals = self.totals.entry(currency.clone()).or_insert(nothing);
        let (outcome, sum) = match kind {
            Kind::Invoice => (Outcome::Invoice, &mut totals.invoices),
            Kind::Delta | Kind::CreditNote | Kind::Reversal => (Outcome::Delta, &mut totals.deltas),
        };
        add(sum, *total);
        self.count(outcome);
    }

    /// Notes that a tenant could not be billed. Tells whether it is listed.
    pub(crate) fn fail(&mut self, tenant: &Tenant, why: &str) -> bool {
        self.outcomes.failed += 1;
        list(&mut self.failures, tenant, why)
    }

    /// Notes what a period waits for. Tells whether it is listed.
    pub(crate) fn block(&mut self, tenant: &Tenant, why: &str) -> bool {
        self.count(Outcome::Blocked);
        list(&mut self.blocked, tenant, why)
    }

    /// Adds what came of a tenant.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { tenants_done, outcomes, totals, failures, blocked } = other;
        self.tenants_done += tenants_done;
        self.outcomes.add(outcomes);
        for (currency, Totals { invoices, deltas }) in totals {
            let nothing = Totals { invoices: Amount::ZERO, deltas: Amount::ZERO };
            let sums = self.totals.entry(currency).or_insert(nothing);
            add(&mut sums.invoices, invoices);
            add(&mut sums.deltas, deltas);
        }
        for (all, more) in [(&mut self.failures, failures), (&mut self.blocked, blocked)] {
            all.extend(more);
            all.truncate(LISTED_MAX);
        }
    }
}

/// Adds to a sum for people. It stays as it is beyond what an amount holds.
fn add(sum: &mut Amount, more: Amount) {
    *sum = sum.checked_add(more).unwrap_or(*sum);
}

fn list(all: &mut Vec<Words>, tenant: &Tenant, why: &str) -> bool {
    let has_room = all.len() < LISTED_MAX;
    if has_room {
        all.push(Words { tenant: tenant.to_string(), message: shortened(why) });
    }
    has_room
}

/// The words, cut where they are too long.
fn shortened(words: &str) -> String {
    const CUT: &str = "...";
    if words.len() <= WORDS_BYTES_MAX {
        return words.to_owned();
    }
    let end = words.floor_char_boundary(WORDS_BYTES_MAX - CUT.len());
    format!("{}{CUT}", &words[..end])
}

impl Outcomes {
    const fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Invoice => &mut self.invoices,
            Outcome::Delta => &mut self.deltas,
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::Empty => &mut self.empty,
            Outcome::NotDue => &mut self.not_due,
            Outcome::Blocked => &mut self.blocked,
            Outcome::BelowThreshold => &mut self.below_threshold,
        } += 1;
    }

    const fn add(&mut self, other: Self) {
        self.invoices += other.invoices;
        self.deltas += other.deltas;
        self.unchanged += other.unchanged;
        self.empty += other.empty;
        self.not_due += other.not_due;
        self.unpriced += other.unpriced;
        self.blocked += other.blocked;
        self.uncovered += other.uncovered;
        self.failed += other.failed;
        self.below_threshold += other.below_threshold;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> Tenant {
        Tenant::new(&format!("t{number}")).unwrap()
    }

    #[test]
    fn beyond_the_bound_tenants_are_counted_and_not_listed() {
        let mut results = Results::default();
        for number in 0..LISTED_MAX {
            assert!(results.fail(&tenant(number), "no") && results.block(&tenant(number), "wait"));
        }
        assert!(!results.fail(&tenant(LISTED_MAX), "no"));
        assert!(!results.block(&tenant(LISTED_MAX), "wait"));
        let counted = LISTED_MAX as u64 + 1;
        assert_eq!((results.outcomes.failed, results.outcomes.blocked), (counted, counted));
        assert_eq!((results.failures.len(), results.blocked.len()), (LISTED_MAX, LISTED_MAX));
        let mut twice = results.clone();
        twice.add(results);
        assert_eq!((twice.failures.len(), twice.blocked.len()), (LISTED_MAX, LISTED_MAX));
        assert_eq!((twice.outcomes.failed, twice.outcomes.blocked), (2 * counted, 2 * counted));
    }

    #[test]
    fn words_are_kept_whole_up_to_the_bound_and_cut_between_characters_beyond() {
        let said = |words: &str| {
            let mut results = Results::default();
            results.fail(&tenant(0), words);
            results.failures.remove(0).message
        };
        let longest = "w".repeat(WORDS_BYTES_MAX);
        assert_eq!(said(&longest), longest);
        let cut = said(&format!("{longest}w"));
        assert_eq!((cut.len(), cut.ends_with("ww...")), (WORDS_BYTES_MAX, true));
        // A character of two bytes lies across the place of the cut.
        let cut = said(&format!("{}éé{longest}", "w".repeat(WORDS_BYTES_MAX - 4)));
        assert_eq!((cut.len(), cut.ends_with("ww...")), (WORDS_BYTES_MAX - 1, true));
    }

    #[test]
    fn the_longest_list_of_the_longest_words_fits_an_entry() {
        let mut results = Results::default();
        let name = "n".repeat(128);
        let words = "\u{1}".repeat(WORDS_BYTES_MAX);
        for _ in 0..LISTED_MAX {
            results.fail(&Tenant::new(&name).unwrap(), &words);
            results.block(&Tenant::new(&name).unwrap(), &words);
        }
        assert!(journal::bytes(&results).len() < domain::billing::ENTRY_BYTES_MAX / 2);
    }
}
