//! Threshold: how much a delta has to come to, for each currency, to be worth a document.

use std::{collections::BTreeMap, fmt, str::FromStr};

use domain::catalogue::Currency;
use pricing::Amount;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

/// Amounts by currency: a delta that comes to less than its currency's, owed or given back, is not made.
/// One that comes to just as much is. A currency that is not among them has no threshold: every delta in
/// it is made. As text: `BRL 5.00, USD 1.00`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threshold(BTreeMap<&'static str, Amount>);

/// Why a text is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ThresholdError {
    /// A part is not a currency and an amount.
    #[error("{0:?} is not a currency of ISO 4217 and an amount, such as `USD 1.00`")]
    NotAPair(String),
    /// An amount is not above zero.
    #[error("{0:?} is not above zero: leave out a currency whose deltas are all to be made")]
    NotAbove(String),
    /// A currency comes twice.
    #[error("{0} comes twice")]
    Twice(&'static str),
}

impl Threshold {
    /// Tells whether every delta is made.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether a delta of this total is not worth a document.
    #[must_use]
    pub(crate) fn holds_back(&self, currency: Currency, total: Amount) -> bool {
        let least = self.0.get(currency.code());
        // An amount without an absolute value is the greatest there is.
        least.is_some_and(|least| total.checked_abs().is_some_and(|total| total < *least))
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let mut amounts = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let not_a_pair = || ThresholdError::NotAPair(part.to_owned());
            let (code, amount) = part.split_once(' ').ok_or_else(not_a_pair)?;
            let currency = Currency::from_code(code).ok_or_else(not_a_pair)?;
            let amount: Amount = amount.trim().parse().map_err(|_| not_a_pair())?;
            if amount <= Amount::ZERO {
                return Err(ThresholdError::NotAbove(part.to_owned()));
            }
            if amounts.insert(currency.code(), amount).is_some() {
                return Err(ThresholdError::Twice(currency.code()));
            }
        }
        Ok(Self(amounts))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (code, amount)) in self.0.iter().enumerate() {
            let digits = Currency::from_code(code).map_or(0, Currency::minor_digits);
            let between = if place == 0 { "" } else { ", " };
            write!(f, "{between}{code} {}", amount.text(digits))?;
        }
        Ok(())
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_back(threshold: &Threshold, currency: &str, total: &str) -> bool {
        let currency = Currency::from_code(currency).unwrap();
        threshold.holds_back(currency, total.parse().unwrap())
    }

    #[test]
    fn a_delta_of_just_the_threshold_is_made_and_one_below_it_is_not() {
        let threshold: Threshold = "USD 1.00, JPY 100".parse().unwrap();
        for (currency, total, expected) in [
            ("USD", "0.99", true),
            ("USD", "1.00", false),
            ("USD", "-0.99", true),
            ("USD", "-1.00", false),
            ("USD", "0", true),
            ("JPY", "99", true),
            ("JPY", "100", false),
            ("BRL", "0.01", false),
            ("BRL", "0", false),
        ] {
            assert_eq!(held_back(&threshold, currency, total), expected, "{currency} {total}");
        }
        assert!(!held_back(&Threshold::default(), "USD", "0.01"));
    }

    #[test]
    fn a_threshold_reads_as_it_is_written_and_mistakes_are_named() {
        for text in ["", "BRL 5.00", "BRL 5.00, JPY 100, USD 0.005"] {
            let threshold: Threshold = text.parse().unwrap();
            assert_eq!(threshold.to_string(), text);
            let stored = serde_json::to_string(&threshold).unwrap();
            assert_eq!(serde_json::from_str::<Threshold>(&stored).unwrap(), threshold);
        }
        for (text, words) in [
            ("5.00", "not a currency"),
            ("USD", "not a currency"),
            ("XYZ 1", "not a currency"),
            ("USD one", "not a currency"),
            ("USD 1,", "not a currency"),
            ("USD 0", "not above zero"),
            ("USD -1", "not above zero"),
            ("USD 1, USD 2", "USD comes twice"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
