//! Moments, months and the days of a zone: the only use of the calendar in pricing.

use domain::{Timestamp, Window};
use jiff::{civil::DateTime, tz::TimeZone};

pub use calendar::Calendar;

mod calendar;

/// Reads a date and time that name no zone and mean UTC, as FOCUS files write them
/// (`2024-09-18 22:00:00`); a zone that is named counts.
#[must_use]
pub fn parse_utc(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| text.parse::<DateTime>().ok().and_then(utc))
}

/// Reads a month (`2024-09`) as the half-open span from its first moment in UTC to the next
/// month's.
#[must_use]
pub fn month(text: &str) -> Option<Window> {
    let (year, month) = text.split_once('-')?;
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) {
        return None;
    }
    let first = DateTime::new(year.parse().ok()?, month.parse().ok()?, 1, 0, 0, 0, 0).ok()?;
    let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
    Some(Window { start: utc(first)?, end: utc(next)? })
}

fn utc(civil: DateTime) -> Option<Timestamp> {
    from_jiff(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn from_jiff(moment: jiff::Timestamp) -> Option<Timestamp> {
    Timestamp::from_micros(moment.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_need_a_zone_unless_utc_is_meant() {
        let moment = Timestamp::from_micros(1_726_696_800_000_000);
        assert_eq!(parse_utc("2024-09-18T19:00:00-03:00"), moment);
        assert_eq!(parse_utc("2024-09-18 22:00:00"), moment);
        assert_eq!(parse_utc("2024-09-18T22:00:00"), moment);
        for wrong in ["", "2024-13-01 00:00:00", "2024-13-01T00:00:00Z", "NULL"] {
            assert_eq!(parse_utc(wrong), None, "{wrong}");
        }
        assert_eq!(parse_utc("-000001-01-01T00:00:00Z"), None);
    }

    #[test]
    fn months_are_half_open_and_know_leap_years() {
        let text = |text| month(text).map(|month| (month.start.to_string(), month.end.to_string()));
        let span = |start: &str, end: &str| Some((start.to_owned(), end.to_owned()));
        assert_eq!(text("2024-02"), span("2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"));
        assert_eq!(text("2024-12"), span("2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z"));
        for wrong in ["2024", "2024-13", "2024-00", "2024-9", "24-09", "2024-09-01", "+024-09", ""]
        {
            assert_eq!(month(wrong), None, "{wrong}");
        }
    }
}
