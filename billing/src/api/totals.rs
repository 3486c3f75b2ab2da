//! Totals: sums over documents by currency, with what is owed, paid and void told apart.

use std::collections::BTreeMap;

use domain::catalogue::Currency;
use pricing::Amount;
use proto::v1;

use crate::books::document::{Document, State};

/// Sums over documents of one currency.
struct Totals {
    documents: u64,
    total: Amount,
    paid: Amount,
    due: Amount,
    void: Amount,
}

/// The sums over documents, by currency. A sum beyond what an amount holds is left out.
pub(super) fn of<'d>(documents: impl Iterator<Item = &'d Document>) -> Vec<v1::InvoiceTotals> {
    let mut sums: BTreeMap<&str, Option<Totals>> = BTreeMap::new();
    for document in documents {
        let none = Totals {
            documents: 0,
            total: Amount::ZERO,
            paid: Amount::ZERO,
            due: Amount::ZERO,
            void: Amount::ZERO,
        };
        let sum = sums.entry(&document.draft.currency).or_insert(Some(none));
        *sum = sum.take().and_then(|sum| with(sum, document));
    }
    let shown = |(currency, sum): (&str, Option<Totals>)| Some(message(currency, &sum?));
    sums.into_iter().filter_map(shown).collect()
}

fn with(mut sum: Totals, document: &Document) -> Option<Totals> {
    if document.is_owed() {
        sum.documents += 1;
        sum.total = sum.total.checked_add(document.draft.total)?;
        sum.paid = sum.paid.checked_add(document.paid()?)?;
        sum.due = sum.due.checked_add(document.due()?)?;
    } else if document.state == State::Void {
        sum.void = sum.void.checked_add(document.draft.total)?;
    }
    Some(sum)
}

fn message(currency: &str, sum: &Totals) -> v1::InvoiceTotals {
    let digits = Currency::from_code(currency).map_or(0, Currency::minor_digits);
    v1::InvoiceTotals {
        currency: currency.to_owned(),
        documents: sum.documents,
        total: sum.total.text(digits),
        paid: sum.paid.text(digits),
        due: sum.due.text(digits),
        void: sum.void.text(digits),
    }
}
