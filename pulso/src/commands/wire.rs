//! Wire values as JSON: 64-bit integers as strings, moments as RFC 3339 in UTC, absent ones null.

use domain::{TimeTextError, Timestamp};
use pricing::moment::Calendar;
use serde_json::Value;

use crate::exit::{Exit, Failure};

/// A moment, or null for an absent or impossible one.
pub(super) fn moment(time: Option<&prost_types::Timestamp>) -> Value {
    time.and_then(proto::convert::timestamp).map_or(Value::Null, |time| time.to_string().into())
}

/// A 64-bit integer.
pub(super) fn integer(number: u64) -> Value {
    number.to_string().into()
}

/// Reads a moment from a flag: RFC 3339, a day (`2024-09-01`), or a month (`2024-09`); the latter
/// two mean their first moment in UTC.
pub(super) fn parse_moment(text: &str) -> Result<Timestamp, String> {
    let whole = match text.len() {
        7 => format!("{text}-01T00:00:00Z"),
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    whole.parse().map_err(|error| match error {
        TimeTextError::Malformed => {
            "needs RFC 3339 such as 2024-09-18T22:00:00Z, a day such as 2024-09-18, or a month such as 2024-09"
                .to_owned()
        }
        TimeTextError::OutOfRange => error.to_string(),
    })
}

/// A moment that a flag names, where a day and a month begin in a zone that another flag names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// This moment.
    Moment(Timestamp),
    /// The first moment of this date.
    Day(String),
}

/// Reads a moment from a flag: as [`parse_moment`], but days and months are those of a zone.
pub(super) fn parse_asked(text: &str) -> Result<Asked, String> {
    let moment = parse_moment(text)?;
    Ok(match text.len() {
        7 => Asked::Day(format!("{text}-01")),
        10 => Asked::Day(text.to_owned()),
        _ => Asked::Moment(moment),
    })
}

impl Asked {
    /// The moment; `None` for a date that a zone has no first moment of.
    pub(super) fn in_zone(&self, calendar: &Calendar) -> Option<Timestamp> {
        match self {
            Self::Moment(moment) => Some(*moment),
            Self::Day(date) => calendar.parse_date(date),
        }
    }
}

/// Bytes in hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Most pages that are fetched for one answer, so that a server that never ends does not fill the
/// memory.
const PAGES_MAX: usize = 10_000;

/// Fetches page after page and returns all entries.
///
/// # Errors
/// Those of `fetch`, which is given a token and returns entries and the next token.
pub(super) async fn all_pages<T, F>(mut fetch: impl FnMut(String) -> F) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<(Vec<T>, String), Failure>>,
{
    let mut all = Vec::new();
    let mut token = String::new();
    for _ in 0..PAGES_MAX {
        let (entries, next) = fetch(token).await?;
        all.extend(entries);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
    let message = format!(
        "the answer has more than {PAGES_MAX} pages; narrow it, or take pages with --page-size and --page-token"
    );
    Err(Failure::new(Exit::Data, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_mean_their_first_moment() {
        for (text, moment) in [
            ("2024-09", "2024-09-01T00:00:00Z"),
            ("2024-09-18", "2024-09-18T00:00:00Z"),
            ("2024-09-18T22:00:00-03:00", "2024-09-19T01:00:00Z"),
        ] {
            assert_eq!(parse_moment(text).unwrap().to_string(), moment);
        }
        let kolkata = Calendar::named("Asia/Kolkata").unwrap();
        for (text, moment) in [
            ("2024-09", "2024-08-31T18:30:00Z"),
            ("2024-09-18", "2024-09-17T18:30:00Z"),
            ("2024-09-18T22:00:00Z", "2024-09-18T22:00:00Z"),
        ] {
            let asked = parse_asked(text).unwrap().in_zone(&kolkata).unwrap();
            assert_eq!(asked.to_string(), moment);
        }
        for text in ["", "2024", "yesterday", "2024-13", "2024-09-18T22:00:00", "0000-01-01"] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }
}
