//! How answers write values that are strings in JSON, because most readers keep 53 bits of a number.

use std::fmt::Display;

use serde::Serializer;

/// Writes a value as it prints.
pub(super) fn text<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Writes a value as it prints, or null.
pub(super) fn text_or_null<S: Serializer>(
    value: &Option<impl Display>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}
