//! Words: values that documents write as strings, and objects whose keys keep their order.
//!
//! A value is written as it prints, and what does not read as one is refused where it is read, with
//! what was expected. Nothing is normalised here: `billing` compares what it wrote with what it read.

use std::{fmt, marker::PhantomData};

use domain::{
    LogId, Name, Quantity, Timestamp,
    catalogue::{Currency, Meter, Rounding, RoundingMode},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Unexpected, Visitor},
    ser::SerializeMap as _,
};
use utoipa::ToSchema;

/// A value that is written as a string.
pub trait Word: Sized {
    /// What a string has to be, for the error of one that is not.
    const EXPECTED: &'static str;

    /// What is written.
    fn shown(&self) -> impl fmt::Display;

    /// The value that a string writes, or `None` where it writes none.
    fn read(text: &str) -> Option<Self>;
}

/// Writes a word.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn serialize<T: Word, S: Serializer>(word: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&word.shown())
}

/// Reads a word.
///
/// # Errors
/// When it is no string, or not of such a value.
pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_str(WordVisitor(PhantomData))
}

struct WordVisitor<T>(PhantomData<T>);

impl<T: Word> Visitor<'_> for WordVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::read(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Words that may be absent.
pub(crate) mod optional {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Word;

    /// Writes it, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub(crate) fn serialize<T: Word, S: Serializer>(
        word: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match word {
            Some(word) => super::serialize(word, to),
            None => to.serialize_none(),
        }
    }

    /// Reads it, or null.
    ///
    /// # Errors
    /// When it is neither null nor such a word.
    pub(crate) fn deserialize<'de, T: Word, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound = "T: Word")]
        struct Wrapped<T>(#[serde(with = "super")] T);

        Ok(Option::<Wrapped<T>>::deserialize(from)?.map(|Wrapped(word)| word))
    }
}

/// Names and values as an object, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, ToSchema)]
#[schema(value_type = std::collections::BTreeMap<String, String>)]
pub struct Pairs(pub Vec<(String, String)>);

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        from.deserialize_map(PairsVisitor)
    }
}

impl Word for Quantity {
    const EXPECTED: &'static str = "a decimal such as \"0.5\"";

    fn shown(&self) -> impl fmt::Display {
        *self
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Word for Timestamp {
    const EXPECTED: &'static str = "a moment such as \"2024-09-01T00:00:00Z\"";

    fn shown(&self) -> impl fmt::Display {
        *self
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Word for Currency {
    const EXPECTED: &'static str = "a currency of ISO 4217 such as \"BRL\"";

    fn shown(&self) -> impl fmt::Display {
        self.code()
    }

    fn read(text: &str) -> Option<Self> {
        Self::from_code(text)
    }
}

impl Word for Meter {
    const EXPECTED: &'static str = "a meter such as \"sum\"";

    fn shown(&self) -> impl fmt::Display {
        self.as_str()
    }

    fn read(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|meter| meter.as_str() == text).copied()
    }
}

impl Word for Rounding {
    const EXPECTED: &'static str = "a rounding such as \"half_up to 2 digits\" or \"none\"";

    fn shown(&self) -> impl fmt::Display {
        *self
    }

    fn read(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::Exact);
        }
        let (mode, digits) = text.strip_suffix(" digits")?.split_once(" to ")?;
        let mode = RoundingMode::ALL.iter().find(|known| known.as_str() == mode).copied()?;
        Some(Self::To { digits: digits.parse().ok().filter(|digits| *digits <= 18)?, mode })
    }
}

impl Word for Name {
    const EXPECTED: &'static str = "a name";

    fn shown(&self) -> impl fmt::Display {
        self.as_str()
    }

    fn read(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }
}

/// Whole numbers that are written as strings.
macro_rules! integers {
    ($($number:ty)*) => {$(
        impl Word for $number {
            const EXPECTED: &'static str = "a whole number in quotes such as \"12\"";

            fn shown(&self) -> impl fmt::Display {
                *self
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

integers!(u64 u128 i128);

impl Word for LogId {
    const EXPECTED: &'static str = "32 hexadecimal digits";

    fn shown(&self) -> impl fmt::Display {
        *self
    }

    fn read(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
        Some(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rounding_is_read_as_it_is_written() {
        let modes = RoundingMode::ALL.iter().copied();
        let rounded =
            modes.flat_map(|mode| (0..=18).map(move |digits| Rounding::To { digits, mode }));
        for rounding in rounded.chain([Rounding::Exact]) {
            assert_eq!(Rounding::read(&rounding.to_string()), Some(rounding));
        }
        for wrong in ["", "half_up", "half_up to 19 digits", "near to 2 digits", "half_up to 2"] {
            assert_eq!(Rounding::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pairs_keep_their_order() {
        let text = r#"{"zone":"b","area":"a"}"#;
        let pairs: Pairs = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&pairs).unwrap(), text);
        assert!(serde_json::from_str::<Pairs>(r#"{"zone":1}"#).is_err());
    }
}
