//! Credits: what money paid ahead pays of a document.

use std::collections::HashMap;

use domain::{
    Timestamp, Window,
    contract::{Contract, Credit},
};

use crate::Amount;

/// What each credit pays of a document of this total, in the order of use: the lowest priority first,
/// then the one that expires first, then by name; each as far as it goes. Nothing of a document that
/// gives money back, and nothing where none is left.
///
/// `contracts` are the tenant's in the order of application; a credit of the same name in several is
/// the same credit, of which the newest statement that has begun counts. Those in another currency pay nothing. `used` says what earlier documents have
/// used of a credit.
#[must_use]
pub fn payments<'c>(
    contracts: impl IntoIterator<Item = &'c Contract>,
    (currency, period): (&str, Window),
    total: Amount,
    used: impl Fn(&str) -> Amount,
) -> Vec<(&'c Credit, Amount)> {
    let mut open = total;
    let mut payments = Vec::new();
    for credit in credits(contracts, currency, period) {
        let left = Amount::of(credit.amount).checked_sub(used(credit.name.as_str()));
        let amount = left.unwrap_or(Amount::ZERO).min(open);
        if amount > Amount::ZERO {
            open = open.checked_sub(amount).expect("no more than what is open");
            payments.push((credit, amount));
        }
    }
    payments
}

/// The credits that may pay for a period in a currency, in the order of their use.
fn credits<'c>(
    contracts: impl IntoIterator<Item = &'c Contract>,
    currency: &str,
    period: Window,
) -> Vec<&'c Credit> {
    // Of what the contracts say about a credit, the newest that has begun counts.
    let mut newest: HashMap<&str, (&str, &Credit)> = HashMap::new();
    for contract in contracts.into_iter().filter(|contract| contract.valid_from < period.end) {
        let own = contract.terms.currency.code();
        let credits = contract.credits.iter();
        newest.extend(credits.map(|credit| (credit.name.as_str(), (own, credit))));
    }
    let pays = |(own, credit): (&str, &'c Credit)| {
        (own == currency && credit.pays_for(period)).then_some(credit)
    };
    let mut credits: Vec<&Credit> = newest.into_values().filter_map(pays).collect();
    credits.sort_by_key(|credit| {
        (credit.priority, credit.expires.unwrap_or(Timestamp::MAX), credit.name.clone())
    });
    credits
}
