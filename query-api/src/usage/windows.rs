//! Windows of an answer: hours, days, months or the whole, laid over the store's own windows.
//!
//! All calendar work is done here, once, when a question is read: what the engine gets is a sorted
//! list of edges in UTC, each of them on an edge of the store's windows, so that no stored total
//! ever has to be split. A day has 23, 24 or 25 hours, or none at all where a zone skipped it.

use std::time::Duration;

use domain::{Timestamp, Window, WindowLength};
use jiff::{ToSpan as _, civil::Date, tz::TimeZone};
use thiserror::Error;

/// Most days or months that one question may span: 270 years of days.
pub const CALENDAR_WINDOWS_MAX: usize = 100_000;

const HOUR: Duration = Duration::from_secs(3_600);

/// What an answer's rows are per.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// An hour of UTC, whatever the zone.
    Hour,
    /// A day of the zone.
    Day,
    /// A month of the zone.
    Month,
    /// The whole range as one.
    Total,
}

impl WindowKind {
    /// Every kind with the word that asks for it.
    pub const WORDS: [(&'static str, Self); 4] =
        [("PT1H", Self::Hour), ("P1D", Self::Day), ("P1M", Self::Month), ("total", Self::Total)];

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
    }
}

/// Why a range cannot be cut into these windows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WindowsError {
    /// The store's windows are longer than an hour or do not divide it.
    #[error(
        "the store keeps windows of {} s, which do not make up hours; ask for P1D, P1M or total",
        .0.as_secs()
    )]
    NoHours(Duration),
    /// A day or month of the zone starts inside a window of the store.
    #[error(
        "in {zone} a {unit} starts at {edge}, inside one of the store's windows of {} s, so its usage cannot be told apart exactly; ask for PT1H or total, or for a zone that is a whole number of windows off UTC, or let the log have shorter windows (log.window)",
        store.as_secs()
    )]
    NotAligned {
        /// The zone's name.
        zone: String,
        /// `day` or `month`.
        unit: &'static str,
        /// The first such start.
        edge: Timestamp,
        /// Length of the store's windows.
        store: Duration,
    },
    /// More than [`CALENDAR_WINDOWS_MAX`] windows.
    #[error("the range holds more than {CALENDAR_WINDOWS_MAX} windows; ask for a shorter range")]
    TooMany,
    /// Too near to the end of year 9999 for the calendar.
    #[error("the range ends beyond what the calendar reaches, 9999-12-30T22:00:00Z")]
    OutOfCalendar,
}

/// The windows of one answer, half-open, without gaps, covering exactly the range asked for: the
/// first and last are cut to it, so each says exactly what was summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    range: Window,
    cut: Cut,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cut {
    Whole,
    Hours,
    /// Ascending from the range's start to its end, both included. A day that a zone skipped gives
    /// one edge twice: an empty window, which holds no moment.
    Edges(Vec<Timestamp>),
}

/// Where the last lookup ended. Rows come in the order of time, so the next is there or one on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor(usize);

impl Windows {
    /// Cuts a range whose ends are on edges of the store's windows, the start before the end.
    ///
    /// # Errors
    /// See [`WindowsError`].
    pub fn cut(
        range: Window,
        kind: WindowKind,
        zone: &TimeZone,
        store: WindowLength,
    ) -> Result<Self, WindowsError> {
        let cut = match kind {
            WindowKind::Total => Cut::Whole,
            WindowKind::Hour => {
                let length = store.duration();
                if !HOUR.as_secs().is_multiple_of(length.as_secs()) {
                    return Err(WindowsError::NoHours(length));
                }
                Cut::Hours
            }
            WindowKind::Day => Cut::Edges(edges(range, Calendar::DAY, zone, store)?),
            WindowKind::Month => Cut::Edges(edges(range, Calendar::MONTH, zone, store)?),
        };
        Ok(Self { range, cut })
    }

    /// The whole range.
    #[must_use]
    pub const fn range(&self) -> Window {
        self.range
    }

    /// Whether all of them begin and end with days in UTC.
    #[must_use]
    pub fn are_of_days(&self) -> bool {
        let is_day = |edge: &Timestamp| WindowLength::DAY.start_of(*edge) == *edge;
        let range = is_day(&self.range.start) && is_day(&self.range.end);
        range
            && match &self.cut {
                Cut::Whole => true,
                Cut::Hours => false,
                Cut::Edges(edges) => edges.iter().all(is_day),
            }
    }

    /// The window that holds a moment of the range. Constant time when moments rise.
    ///
    /// # Panics
    /// When the moment is outside the range.
    #[must_use]
    pub fn holding(&self, moment: Timestamp, cursor: &mut Cursor) -> Window {
        let Window { start, end } = self.range;
        assert!(start <= moment && moment < end, "the store gave a row outside the range");
        match &self.cut {
            Cut::Whole => self.range,
            Cut::Hours => {
                let hour = WindowLength::HOUR.window_of(moment);
                Window { start: hour.start.max(start), end: hour.end.min(end) }
            }
            Cut::Edges(edges) => {
                let at = (cursor.0..=cursor.0 + 1)
                    .find(|at| {
                        edges.get(*at..at + 2).is_some_and(|w| w[0] <= moment && moment < w[1])
                    })
                    .unwrap_or_else(|| edges.partition_point(|edge| *edge <= moment) - 1);
                cursor.0 = at;
                Window { start: edges[at], end: edges[at + 1] }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Calendar {
    unit: &'static str,
    first: fn(Date) -> Date,
    next: fn(Date) -> Result<Date, jiff::Error>,
}

impl Calendar {
    const DAY: Self = Self { unit: "day", first: |date| date, next: Date::tomorrow };
    const MONTH: Self = Self {
        unit: "month",
        first: Date::first_of_month,
        next: |first| first.checked_add(1.month()),
    };
}

fn edges(
    range: Window,
    calendar: Calendar,
    zone: &TimeZone,
    store: WindowLength,
) -> Result<Vec<Timestamp>, WindowsError> {
    let start = to_jiff(range.start)?.to_zoned(zone.clone());
    // The end is read too, so that a range past the calendar is refused and not cut short.
    to_jiff(range.end)?;
    let mut date = (calendar.first)(start.date());
    let mut edges = vec![range.start];
    loop {
        date = (calendar.next)(date).map_err(|_| WindowsError::OutOfCalendar)?;
        let edge = start_of(date, zone).ok_or(WindowsError::OutOfCalendar)?;
        if edge >= range.end {
            edges.push(range.end);
            return Ok(edges);
        }
        if store.start_of(edge) != edge {
            let zone = zone.iana_name().unwrap_or("this zone").to_owned();
            let (unit, store) = (calendar.unit, store.duration());
            return Err(WindowsError::NotAligned { zone, unit, edge, store });
        }
        if edges.len() >= CALENDAR_WINDOWS_MAX {
            return Err(WindowsError::TooMany);
        }
        edges.push(edge);
    }
}

/// First moment of a date in a zone: midnight, or where the clocks skip midnight the moment they
/// skip it, or where they show midnight twice the first of them.
#[must_use]
pub fn start_of(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    from_jiff(date.to_zoned(zone.clone()).ok()?.timestamp())
}

fn from_jiff(moment: jiff::Timestamp) -> Option<Timestamp> {
    Timestamp::from_micros(moment.as_microsecond())
}

fn to_jiff(moment: Timestamp) -> Result<jiff::Timestamp, WindowsError> {
    jiff::Timestamp::from_microsecond(moment.micros()).map_err(|_| WindowsError::OutOfCalendar)
}

#[cfg(test)]
mod tests;
