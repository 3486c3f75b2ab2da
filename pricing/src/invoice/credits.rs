//! Credits: what money paid ahead pays of a document, and what of a refund goes back to it.

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

/// What each credit gets back of a refund, in the order in which they get it: the credit that was used
/// last comes first, and each gets at most what it paid. What is left of the refund is owed in cash.
///
/// `paid` is what each credit paid for the period, less what went back before, in the order of first use.
#[must_use]
pub fn refunds(paid: &[(String, Amount)], refund: Amount) -> Vec<(String, Amount)> {
    let mut open = refund;
    let mut refunds = Vec::new();
    for (credit, paid) in paid.iter().rev() {
        let amount = (*paid).min(open);
        if amount > Amount::ZERO {
            open = open.checked_sub(amount).expect("no more than what is open");
            refunds.push((credit.clone(), amount));
        }
    }
    refunds
}

/// What a credit of this name holds by the newest contract that states it; `None` where none does.
#[must_use]
pub fn stated<'c>(
    contracts: impl IntoIterator<Item = &'c Contract>,
    credit: &str,
) -> Option<Amount> {
    let credits = contracts.into_iter().flat_map(|contract| &contract.credits);
    let newest = credits.filter(|stated| stated.name.as_str() == credit).last();
    newest.map(|stated| Amount::of(stated.amount))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refund_fills_credits_from_the_last_and_the_rest_is_cash() {
        let paid =
            [("bonus".to_owned(), Amount::whole(5)), ("prepaid".to_owned(), Amount::whole(45))];
        for (refund, expected) in [
            (0, vec![]),
            (1, vec![("prepaid", 1)]),
            (45, vec![("prepaid", 45)]),
            (46, vec![("prepaid", 45), ("bonus", 1)]),
            (50, vec![("prepaid", 45), ("bonus", 5)]),
            (51, vec![("prepaid", 45), ("bonus", 5)]),
        ] {
            let expected = expected.into_iter();
            let expected: Vec<_> =
                expected.map(|(name, amount)| (name.to_owned(), Amount::whole(amount))).collect();
            assert_eq!(refunds(&paid, Amount::whole(refund)), expected, "{refund}");
        }
        let all_back = [("prepaid".to_owned(), Amount::ZERO)];
        assert_eq!(refunds(&all_back, Amount::whole(1)), []);
    }
}
