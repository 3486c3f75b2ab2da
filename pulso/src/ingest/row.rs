//! Rows: one measurement of a file, or why it is none.

use std::fmt;

use domain::{Quantity, Timestamp, quantity::QuantityError, time::rfc3339_parts};
use edge::problem::reasons;
pub use edge::problem::reasons::{
    AMOUNT_NOT_A_NUMBER, FIELD_REPEATED, FIELD_TYPE, FIELD_UNKNOWN, ROW_CELLS, ROW_MALFORMED,
    ROW_TOO_LONG, TIME_INVALID,
};
use proto::v1;

/// Greatest row. A pulse with every field at its limit is about 22 KiB.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// What a reader makes of one row.
pub type RowResult = Result<Row, Rejection>;

/// One measurement, with its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// From 1: the line of a jsonl file, the row below the header, the place in a JSON list.
    pub number: u64,
    /// The measurement. Names and limits are the server's to check.
    pub pulse: v1::Pulse,
}

/// A row that was not taken, by this program or by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// As [`Row::number`].
    pub row: u64,
    /// A canonical code, `INVALID_ARGUMENT` for what the file's owner has to mend.
    pub code: &'static str,
    /// A stable word of the table of reasons.
    pub reason: String,
    /// The field, empty when it is about the whole row.
    pub field: String,
    /// What was wrong and what to do.
    pub message: String,
}

/// What is wrong with a row, before its number is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    reason: &'static str,
    field: String,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Fault {
    /// A fault of one field.
    pub fn new(reason: &'static str, field: impl fmt::Display, message: impl fmt::Display) -> Self {
        // A name may be as long as a row, and ten thousand of these are kept.
        Self { reason, field: shorten(&field.to_string()), message: message.to_string() }
    }

    /// A fault of the whole row.
    pub fn row(reason: &'static str, message: impl fmt::Display) -> Self {
        Self::new(reason, "", message)
    }

    /// The same as the rejection of a row.
    #[must_use]
    pub fn at(self, row: u64) -> Rejection {
        let Self { reason, field, message } = self;
        Rejection { row, code: "INVALID_ARGUMENT", reason: reason.to_owned(), field, message }
    }
}

/// The fields of a pulse that a file may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Who used it.
    Tenant,
    /// What was used.
    ProductSku,
    /// `use_unity`.
    UseUnity,
    /// How much.
    UsedAmount,
    /// When.
    Time,
    /// Idempotency id.
    Id,
    /// Producer of the id.
    Source,
}

/// Every name of every field; the first of each is its own.
const NAMES: &[(Field, &[&str])] = &[
    (Field::Tenant, &["tenant", "subject", "customer_id"]),
    (Field::ProductSku, &["product_sku", "code", "event_name", "type"]),
    (Field::UseUnity, &["use_unity", "unit"]),
    (Field::UsedAmount, &["used_amount"]),
    (Field::Time, &["time", "timestamp"]),
    (Field::Id, &["id", "transaction_id", "idempotency_key", "event_id", "identifier"]),
    (Field::Source, &["source"]),
];

impl Field {
    /// The field of a name, its own or another's word for it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(field, _)| *field)
    }

    /// Its names; the first is its own.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        NAMES.iter().find(|(field, _)| *field == self).map_or(&[], |(_, names)| names)
    }

    /// Its own name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.names().first().copied().unwrap_or_default()
    }

    /// The name nearest to one that is no field's.
    #[must_use]
    pub fn suggest(name: &str) -> Option<&'static str> {
        let all = NAMES.iter().flat_map(|(_, names)| names.iter().copied());
        crate::config::error::suggest(name, all.chain(["properties"]))
    }
}

/// A pulse that is being put together from text.
#[derive(Debug, Default)]
pub struct Draft {
    pulse: v1::Pulse,
    seen: Vec<Field>,
}

impl Draft {
    /// Sets a field from text. Empty text is an absent field.
    ///
    /// # Errors
    /// When the field is set already, or its text is not what it should be.
    pub fn set(&mut self, field: Field, text: &str) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        if self.seen.contains(&field) {
            let names = field.names().join("`, `");
            let message = format!("given twice: `{names}` mean the same; keep one of them");
            return Err(Fault::new(FIELD_REPEATED, field.name(), message));
        }
        self.seen.push(field);
        let pulse = &mut self.pulse;
        match field {
            Field::Tenant => text.clone_into(&mut pulse.tenant),
            Field::ProductSku => text.clone_into(&mut pulse.product_sku),
            Field::UseUnity => text.clone_into(&mut pulse.use_unity),
            Field::UsedAmount => pulse.used_amount = Some(amount(text)?),
            Field::Time => pulse.time = Some(time(text)?),
            Field::Id => text.clone_into(&mut pulse.id),
            Field::Source => text.clone_into(&mut pulse.source),
        }
        Ok(())
    }

    /// Adds a property. Empty text is an absent one.
    ///
    /// # Errors
    /// When the pulse has it already.
    pub fn set_property(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        match self.pulse.properties.insert(name.to_owned(), text.to_owned()) {
            None => Ok(()),
            Some(_) => {
                Err(Fault::new(FIELD_REPEATED, format_args!("properties.{name}"), "given twice"))
            }
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When there is no amount: the one field without which there is nothing to send.
    pub fn finish(self) -> Result<v1::Pulse, Fault> {
        if self.pulse.used_amount.is_none() {
            let message = "missing: every row needs an amount";
            return Err(Fault::new(reasons::AMOUNT_MISSING, Field::UsedAmount.name(), message));
        }
        Ok(self.pulse)
    }
}

/// Reads an amount by its digits.
///
/// # Errors
/// When it is no number, or cannot be carried exactly.
pub fn amount(text: &str) -> Result<v1::Decimal, Fault> {
    let refuse = |reason, why: &dyn fmt::Display| {
        Fault::new(reason, Field::UsedAmount.name(), format_args!("`{}`: {why}", shorten(text)))
    };
    let quantity: Quantity = text.parse().map_err(|error: QuantityError| {
        let reason = match error {
            QuantityError::TooPrecise | QuantityError::Scale(_) => reasons::AMOUNT_SCALE,
            QuantityError::OutOfRange => reasons::AMOUNT_OUT_OF_RANGE,
            QuantityError::NotANumber => AMOUNT_NOT_A_NUMBER,
        };
        refuse(reason, &error)
    })?;
    proto::convert::decimal(quantity).ok_or_else(|| {
        refuse(
            reasons::AMOUNT_OUT_OF_RANGE,
            &"its digits need more than 64 bits; split the amount over several pulses",
        )
    })
}

/// Reads a moment.
///
/// # Errors
/// When it is not RFC 3339, or outside the years 1 to 9998.
pub fn time(text: &str) -> Result<prost_types::Timestamp, Fault> {
    let refuse = |reason, why: &str| {
        Fault::new(reason, Field::Time.name(), format_args!("`{}`: {why}", shorten(text)))
    };
    let (seconds, nanos) =
        rfc3339_parts(text).map_err(|error| refuse(TIME_INVALID, &error.to_string()))?;
    match Timestamp::from_parts(seconds, nanos).and_then(Timestamp::of_usage) {
        Some(_) => Ok(prost_types::Timestamp { seconds, nanos }),
        None => Err(refuse(reasons::TIME_OUT_OF_RANGE, "outside the years 1 to 9998")),
    }
}

/// The start of a text that may be very long.
#[must_use]
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_taken_by_their_digits() {
        for (text, unscaled, scale) in [
            ("2.0E-7", 2, 7),
            ("12.50", 125, 1),
            ("-3", -3, 0),
            ("1e3", 1000, 0),
            ("0", 0, 0),
            ("0.000000000000000001", 1, 18),
            ("9223372036854775807", i64::MAX, 0),
        ] {
            assert_eq!(amount(text), Ok(v1::Decimal { unscaled, scale }), "{text}");
        }
        for (text, reason) in [
            ("NaN", AMOUNT_NOT_A_NUMBER),
            ("1,5", AMOUNT_NOT_A_NUMBER),
            ("0x10", AMOUNT_NOT_A_NUMBER),
            ("1e-19", reasons::AMOUNT_SCALE),
            ("1e30", reasons::AMOUNT_OUT_OF_RANGE),
            ("9223372036854775808", reasons::AMOUNT_OUT_OF_RANGE),
        ] {
            assert_eq!(amount(text).unwrap_err().reason, reason, "{text}");
        }
    }

    #[test]
    fn times_are_rfc_3339_of_the_years_1_to_9999() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1970-01-01T02:00:00.5+02:00", 0, 500_000_000),
            ("1969-12-31T23:59:59.75Z", -1, 750_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
            ("1969-12-31T23:59:59.75+00:00", -1, 750_000_000),
            ("9998-12-31T23:59:59.999999Z", 253_370_764_799, 999_999_000),
        ] {
            assert_eq!(time(text), Ok(prost_types::Timestamp { seconds, nanos }), "{text}");
        }
        for (text, reason) in [
            ("0000-12-31T23:59:59Z", reasons::TIME_OUT_OF_RANGE),
            ("9999-01-01T00:00:00Z", reasons::TIME_OUT_OF_RANGE),
            ("9999-12-31T23:59:59.999999Z", reasons::TIME_OUT_OF_RANGE),
            ("9999-12-31T23:59:59-01:00", reasons::TIME_OUT_OF_RANGE),
            ("0001-01-01T00:00:00+01:00", reasons::TIME_OUT_OF_RANGE),
            ("10000-01-01T00:00:00Z", TIME_INVALID),
            ("2024-09-18", TIME_INVALID),
            ("2024-09-18T22:00:00", TIME_INVALID),
            ("1726696800", TIME_INVALID),
        ] {
            assert_eq!(time(text).unwrap_err().reason, reason, "{text}");
        }
    }

    #[test]
    fn two_names_of_one_field_are_refused() {
        let mut draft = Draft::default();
        draft.set(Field::named("tenant").unwrap(), "a").unwrap();
        let fault = draft.set(Field::named("customer_id").unwrap(), "b").unwrap_err();
        assert_eq!((fault.reason, fault.field.as_str()), (FIELD_REPEATED, "tenant"));
    }
}
