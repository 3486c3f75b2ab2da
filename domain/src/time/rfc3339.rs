//! RFC 3339: the one reader of moments as text, for every door, file and journal.
//!
//! Takes a date, a time and a zone as `Z` or an offset. A [`Timestamp`] has no digits below the
//! microsecond; where they matter, take [`rfc3339_parts`]. A text without a zone is refused: each
//! place that knows one (a day in a billing zone, a column that means UTC) completes the text first.

use std::str::FromStr;

use jiff::{
    civil::{DateTime, date},
    fmt::temporal::{Pieces, PiecesOffset},
};

use super::Timestamp;

/// A text that is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeTextError {
    /// It does not read as date, time and zone.
    #[error("not RFC 3339 with a zone, such as 2024-09-18T22:00:00Z")]
    Malformed,
    /// It reads well and lies outside what a [`Timestamp`] can hold.
    #[error("outside the years 1 to 9999")]
    OutOfRange,
}

/// Reads a text into the parts of a protobuf `Timestamp`: seconds since 1970, of any year, and the
/// nanoseconds above them.
///
/// # Errors
/// `Malformed`, for a text without a zone too.
pub fn rfc3339_parts(text: &str) -> Result<(i64, i32), TimeTextError> {
    let pieces = Pieces::parse(text).map_err(|_| TimeTextError::Malformed)?;
    let offset_seconds = match pieces.offset() {
        Some(PiecesOffset::Zulu) => 0,
        Some(PiecesOffset::Numeric(offset)) => offset.offset().seconds(),
        _ => return Err(TimeTextError::Malformed),
    };
    if pieces.time_zone_annotation().is_some() {
        return Err(TimeTextError::Malformed);
    }
    // Not a `jiff::Timestamp`, which ends a day before its civil dates do: the end of year 9999 would
    // be malformed.
    let time = pieces.time().ok_or(TimeTextError::Malformed)?;
    let civil = DateTime::from_parts(pieces.date(), time);
    let since = civil.duration_since(date(1970, 1, 1).at(0, 0, 0, 0));
    let (seconds, nanos) = (since.as_secs() - i64::from(offset_seconds), since.subsec_nanos());
    // jiff counts the parts of a moment before 1970 down from it, protobuf always up.
    Ok(if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) })
}

impl FromStr for Timestamp {
    type Err = TimeTextError;

    fn from_str(text: &str) -> Result<Self, TimeTextError> {
        let (seconds, nanos) = rfc3339_parts(text)?;
        Self::from_parts(seconds, nanos).ok_or(TimeTextError::OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_any_offset_and_cut_to_the_microsecond() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T02:00:00.5+02:00", 500_000),
            ("1969-12-31T23:59:59.75Z", -250_000),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("1970-01-01T00:00:00.0000019Z", 1),
            ("2024-09-18T19:00:00-03:00", 1_726_696_800_000_000),
            ("2024-09-18t22:00:00z", 1_726_696_800_000_000),
            ("2024-09-18 22:00:00Z", 1_726_696_800_000_000),
            ("0001-01-01T00:00:00Z", Timestamp::MIN.micros()),
            ("9999-12-31T23:59:59.999999Z", Timestamp::MAX.micros()),
            ("9999-12-31T22:59:59.999999-01:00", Timestamp::MAX.micros()),
        ] {
            assert_eq!(text.parse().map(Timestamp::micros), Ok(micros), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_says_whether_it_is_malformed_or_out_of_range() {
        for text in [
            "",
            "2024-09-18",
            "2024-09-18T22:00:00",
            "2024-09-18 22:00:00",
            "2024-13-01T00:00:00Z",
            "2024-09-18T22:00:00Z[UTC]",
            "2024-09-18T22:00:00[America/Sao_Paulo]",
            "10000-01-01T00:00:00Z",
            "1726696800",
            "yesterday",
            "NULL",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(TimeTextError::Malformed), "{text}");
        }
        for text in [
            "0000-12-31T23:59:59Z",
            "-000001-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(TimeTextError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for micros in [Timestamp::MIN.micros(), -1, 0, 1, 1_726_696_800_123_456] {
            let moment = Timestamp::from_micros(micros).unwrap();
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
    }
}
