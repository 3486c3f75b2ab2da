//! A place in the audit trail: a month, and how many entries of it lie before.

use std::{fmt, str::FromStr};

use domain::Timestamp;

/// A month of the years 1 to 9999, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month(u32);

impl Month {
    /// The month of a moment.
    pub(super) fn of(moment: Timestamp) -> Self {
        let text = moment.to_string();
        let number = |text: Option<&str>| text.and_then(|digits| digits.parse::<u32>().ok());
        let (year, month) = (number(text.get(..4)), number(text.get(5..7)));
        let (year, month) = year.zip(month).expect("a moment prints as year and month");
        Self(year * 12 + month - 1)
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Months from this one to another.
    pub(super) const fn until(self, other: Self) -> u32 {
        other.0.saturating_sub(self.0)
    }

    /// The journal of its entries.
    pub(super) fn journal(self) -> String {
        format!("audit-{self}")
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

/// A place in the trail, to read on from. As text: `2026-01/17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrailPlace {
    pub(super) month: Month,
    pub(super) place: u64,
}

impl TrailPlace {
    /// The start of a month.
    pub(super) const fn start_of(month: Month) -> Self {
        Self { month, place: 0 }
    }

    /// The journal of one entry that says how the call of the entry here ended.
    pub(super) fn end_journal(self) -> String {
        format!("audit-{self}")
    }
}

impl fmt::Display for TrailPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.month, self.place)
    }
}

/// A text that is no place in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the audit trail; one looks like 2026-01/17")]
pub struct NotAPlace;

impl FromStr for TrailPlace {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let (month, place) = text.split_once('/').ok_or(NotAPlace)?;
        let (year, number) = month.split_once('-').ok_or(NotAPlace)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_month = year.len() == 4 && number.len() == 2 && digits(year) && digits(number);
        let parsed = (year.parse::<u32>(), number.parse::<u32>(), place.parse::<u64>());
        match parsed {
            (Ok(year @ 1..=9_999), Ok(number @ 1..=12), Ok(place))
                if is_month && digits(text.get(8..).unwrap_or("")) =>
            {
                Ok(Self { month: Month(year * 12 + number - 1), place })
            }
            _ => Err(NotAPlace),
        }
    }
}
