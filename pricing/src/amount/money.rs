//! Money: an amount as documents write it, with the digits that it was written with.
//!
//! Documents hold decimals as strings, because most JSON readers keep 53 bits of a number. `1.00` is
//! read as one and written as `1.00` again: the same document has the same bytes.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, Type},
    },
};

use super::Amount;
use crate::words::{self, Word};

/// An amount and how many decimals it shows. Two are equal where they read the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    amount: Amount,
    decimals: u8,
}

impl Money {
    /// An amount with at least so many decimals, which are those of a currency or a rounding.
    #[must_use]
    pub fn new(amount: Amount, digits_min: u8) -> Self {
        Self { amount, decimals: decimals(&amount.text(digits_min)) }
    }

    /// The amount.
    #[must_use]
    pub const fn amount(self) -> Amount {
        self.amount
    }

    /// Tells whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.amount < Amount::ZERO
    }
}

impl fmt::Display for Money {
    /// Prints `50.00`, as [`Amount::text`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.amount.text(self.decimals))
    }
}

impl Word for Money {
    const EXPECTED: &'static str = "an amount such as \"50.00\"";

    fn shown(&self) -> impl fmt::Display {
        *self
    }

    fn read(text: &str) -> Option<Self> {
        Some(Self { amount: text.parse().ok()?, decimals: decimals(text) })
    }
}

/// Digits behind the point of decimal text, of which an amount has few.
fn decimals(text: &str) -> u8 {
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    u8::try_from(decimals).unwrap_or(u8::MAX)
}

impl Word for Amount {
    const EXPECTED: &'static str = "a decimal such as \"0.405\"";

    fn shown(&self) -> impl fmt::Display {
        *self
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        words::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        words::deserialize(from)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        words::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        words::deserialize(from)
    }
}

fn decimal(description: &str, example: &str) -> RefOr<Schema> {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .pattern(Some("^-?[0-9]+(\\.[0-9]+)?$"))
        .examples([example]);
    schema.into()
}

impl PartialSchema for Money {
    fn schema() -> RefOr<Schema> {
        decimal("An amount of money, exact, with the decimals of its rounding at least.", "50.00")
    }
}

impl ToSchema for Money {}

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        decimal(
            "A decimal, exact, with the digits that matter: at most 36 after the point.",
            "0.405",
        )
    }
}

impl ToSchema for Amount {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_with_the_digits_it_was_read_with() {
        for text in ["0", "0.00", "1.00", "-0.05", "1.58088", "1.580880", "12", "-3.10"] {
            let json = format!("{text:?}");
            let money: Money = serde_json::from_str(&json).unwrap();
            assert_eq!(money.amount(), text.parse().unwrap());
            assert_eq!(serde_json::to_string(&money).unwrap(), json);
        }
        assert_ne!(Money::new(Amount::whole(1), 2), Money::new(Amount::whole(1), 0));
        let finer: Amount = "1.234".parse().unwrap();
        assert_eq!(Money::new(finer, 2), Money::new(finer, 3), "both read 1.234");
    }

    #[test]
    fn what_is_no_amount_says_what_is_expected() {
        for wrong in ["\"\"", "\"1e3\"", "\"one\"", "1", "null"] {
            let error = serde_json::from_str::<Money>(wrong).unwrap_err().to_string();
            assert!(error.contains("expected an amount such as \"50.00\""), "{wrong}: {error}");
        }
    }
}
