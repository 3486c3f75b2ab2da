//! Totals: the sums of several pages of invoices, added up by currency.

use std::collections::BTreeMap;

use billing::answers::invoice::TotalsAnswer;
use domain::catalogue::Currency;
use pricing::Amount;
use proto::v1::InvoiceTotals;

use crate::exit::Failure;

/// Adds up sums, by currency.
///
/// # Errors
/// When a server sends no amounts, or their sum is beyond what an amount holds.
pub(super) fn added(
    pages: impl Iterator<Item = InvoiceTotals>,
) -> Result<Vec<TotalsAnswer>, Failure> {
    let mut sums: BTreeMap<String, TotalsAnswer> = BTreeMap::new();
    for page in pages.map(TotalsAnswer::from) {
        let Some(sum) = sums.get_mut(&page.currency) else {
            sums.insert(page.currency.clone(), page);
            continue;
        };
        sum.documents += page.documents;
        let digits = Currency::from_code(&page.currency).map_or(0, Currency::minor_digits);
        for (sum, more) in [
            (&mut sum.total, &page.total),
            (&mut sum.paid, &page.paid),
            (&mut sum.due, &page.due),
            (&mut sum.void, &page.void),
        ] {
            let both = amount(sum)?.checked_add(amount(more)?);
            let both = both.ok_or_else(|| Failure::internal("the totals are out of range"))?;
            *sum = both.text(digits);
        }
    }
    Ok(sums.into_values().collect())
}

fn amount(text: &str) -> Result<Amount, Failure> {
    text.parse().map_err(|_| Failure::internal(format_args!("{text:?} is no amount")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_added_up_by_currency_with_its_digits() {
        let page = |currency: &str, total: &str, due: &str| InvoiceTotals {
            currency: currency.to_owned(),
            documents: 2,
            total: total.to_owned(),
            paid: "0".to_owned(),
            due: due.to_owned(),
            void: "0".to_owned(),
        };
        let pages =
            [page("BRL", "1.50", "-0.75"), page("JPY", "7", "7"), page("BRL", "2.50", "0.70")];
        let sums = added(pages.into_iter()).unwrap();
        let shown: Vec<_> = sums
            .iter()
            .map(|sum| (sum.currency.as_str(), sum.documents, sum.total.as_str(), sum.due.as_str()))
            .collect();
        assert_eq!(shown, [("BRL", 4, "4.00", "-0.05"), ("JPY", 2, "7", "7")]);
        assert!(added([page("BRL", "1", "1"), page("BRL", "one", "1")].into_iter()).is_err());
    }
}
