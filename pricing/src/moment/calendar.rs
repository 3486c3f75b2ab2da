//! Calendar: the local days of a zone, and the billing periods that begin on them.
//!
//! A day begins at the first moment at which the zone's clocks show that date or a later one. That
//! is midnight, nearly always; the end of the gap where clocks are put forward over midnight
//! (America/Sao_Paulo, 2018-11-04, 01:00); the first of two midnights where they are put back over
//! it. A day that never was (Pacific/Apia, 2011-12-30) begins where the next one does, so that a
//! contract or a period that is due on it still begins, and it counts as no day.
//!
//! Zones come with the program and not from the machine, so that every process cuts the same bill.

use std::{
    iter::{once, successors},
    time::Duration,
};

use domain::{Timestamp, Window, WindowLength};
use jiff::{
    ToSpan as _,
    civil::Date,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use super::from_jiff;

/// 2101-01-01T00:00:00Z.
const CHANGES_END: Timestamp =
    Timestamp::from_micros(4_133_980_800_000_000).expect("is before the year 9999");
/// A year's changes, all of them, whatever the day.
const TWO_YEARS: Duration = Duration::from_secs(2 * 366 * 86_400);

/// The days of a zone. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar(TimeZone);

impl Calendar {
    /// The calendar of UTC.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The calendar of a zone of the IANA database, such as `America/Sao_Paulo`, in letters of
    /// either case; `None` where there is no such zone.
    #[must_use]
    pub fn named(zone: &str) -> Option<Self> {
        TimeZoneDatabase::bundled().get(zone).ok().filter(|zone| !zone.is_unknown()).map(Self)
    }

    /// Every zone's name, about 600, in the database's order.
    #[must_use]
    pub fn zones() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|zone| zone.as_str().to_owned()).collect()
    }

    /// The zone's name as the IANA database spells it.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.0.iana_name().expect("comes from the database, where every zone has a name")
    }

    /// First moment of a local day, or `None` where there is no such date in the years 1 to 9999.
    /// The last two days of 9999 have none either, because the next one's is past the end.
    #[must_use]
    pub fn midnight(&self, year: i16, month: i8, day: i8) -> Option<Timestamp> {
        self.start_of(Date::new(year, month, day).ok()?)
    }

    /// Reads a date (`2026-01-31`, nothing more and nothing less) as the first moment of that day,
    /// or `None` as [`Calendar::midnight`].
    #[must_use]
    pub fn parse_date(&self, text: &str) -> Option<Timestamp> {
        // The digits are looked at first, because jiff would also read `20260131` and a date with a
        // time behind it.
        let fits = |(index, byte): (usize, u8)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        };
        let whole = text.len() == 10 && text.bytes().enumerate().all(fits);
        whole.then(|| text.parse().ok()).flatten().and_then(|date| self.start_of(date))
    }

    /// The local date of a moment, as `2026-01-31`.
    #[must_use]
    pub fn date_of(&self, moment: Timestamp) -> String {
        self.local(moment).to_string()
    }

    /// The local dates of a window's first and last moment.
    #[must_use]
    pub fn dates_of(&self, window: Window) -> (String, String) {
        let last = window.end.minus(std::time::Duration::from_micros(1));
        (self.date_of(window.start), self.date_of(last))
    }

    /// Where the first local day begins that begins at a moment or later; `None` at the end of 9999.
    #[must_use]
    pub fn day_from(&self, moment: Timestamp) -> Option<Timestamp> {
        let today = self.local(moment);
        let days = [Some(today), today.tomorrow().ok()].into_iter().flatten();
        days.filter_map(|date| self.start_of(date)).find(|start| *start >= moment)
    }

    /// The first day of a span, its end included, that begins inside a window of this length; `None`
    /// where all of them begin on edges.
    #[must_use]
    pub fn day_inside(&self, window: WindowLength, span: Window) -> Option<Timestamp> {
        self.kinds_of_days(span).find(|day| window.start_of(*day) != *day)
    }

    /// The first day of a span, its end included, from which on no day begins inside a window of this
    /// length; `None` where one does as long as the zone's clocks move.
    #[must_use]
    pub fn day_from_which_fit(&self, window: WindowLength, span: Window) -> Option<Timestamp> {
        let inside = self.kinds_of_days(span).filter(|day| window.start_of(*day) != *day).max();
        // What was so in the last two years that are looked at comes again for ever.
        let comes_again = changes_end(span).minus(TWO_YEARS);
        let behind = |day: &Timestamp| {
            inside.is_none_or(|inside| {
                *day > inside && (inside < comes_again || span.end < CHANGES_END)
            })
        };
        self.kinds_of_days(span).filter(behind).min()
    }

    /// Days of a span, its end included, that stand for all of them: where windows fit these, they fit
    /// every day.
    ///
    /// The span's first days, and those around each change of the zone's offset, because the midnights
    /// between two changes are whole days apart, and a window divides a day. Changes beyond the year 2100
    /// repeat those before: the database writes out single years up to 2087.
    fn kinds_of_days(&self, span: Window) -> impl Iterator<Item = Timestamp> {
        let changes_end = changes_end(span);
        let from = jiff::Timestamp::from_microsecond(span.start.micros());
        let changes = self.0.following(from.unwrap_or(jiff::Timestamp::MAX));
        let changes = changes.map_while(|change| from_jiff(change.timestamp()));
        let moments = once(span.start).chain(changes.take_while(move |at| *at <= changes_end));
        let dates = moments.flat_map(|moment| {
            let date = self.local(moment);
            [Some(date), date.tomorrow().ok()].into_iter().flatten()
        });
        let starts = dates.filter_map(|date| self.start_of(date));
        starts.filter(move |start| span.start <= *start && *start <= span.end)
    }

    /// Number of local days that begin in a half-open window, so the parts of a window have as many
    /// days together as the whole. Looks at each of these days once.
    #[must_use]
    pub fn days(&self, window: Window) -> u32 {
        let dates = successors(Some(self.local(window.start)), |date| date.tomorrow().ok());
        let mut days = 0;
        for date in dates {
            // Dates before year 1 and at the end of 9999 have no first moment.
            let Some(first) = self.start_of(date) else { continue };
            if first >= window.end {
                break;
            }
            let was = self.local(first) == date;
            days += u32::from(was && first >= window.start);
        }
        days
    }

    /// The billing periods that overlap the half-open span from `from` to `to`, in order, without
    /// gaps; none where the span is empty. The first and the last are whole and may reach beyond it.
    ///
    /// A period begins on day `anchor_day` of a month (1 to 31; what is outside counts as the
    /// nearer end), or on the month's last day where it has no such day. Each is counted from the
    /// anchor and not from the one before: 31 January, 28 February, 31 March. At the ends of the
    /// calendar the first and the last are cut.
    #[must_use]
    pub fn periods(&self, anchor_day: u8, from: Timestamp, to: Timestamp) -> Vec<Window> {
        let mut periods = Vec::new();
        if from >= to {
            return periods;
        }
        // A month back, because the period that holds `from` may have begun in the month before.
        let this_month = self.local(from).first_of_month();
        let mut month = this_month.checked_sub(1.month()).unwrap_or(this_month);
        let mut start = self.period_start(month, anchor_day);
        while start < to {
            let next = month.checked_add(1.month());
            let end = match next {
                Ok(next) => self.period_start(next, anchor_day),
                Err(_) => Timestamp::MAX,
            };
            if from < end {
                periods.push(Window { start, end });
            }
            let Ok(next) = next else { break };
            (month, start) = (next, end);
        }
        periods
    }

    /// Where a month's period begins; an end of the calendar where that is past it.
    fn period_start(&self, first_of_month: Date, anchor_day: u8) -> Timestamp {
        let anchor_day = i8::try_from(anchor_day).unwrap_or(i8::MAX);
        let day = anchor_day.clamp(1, first_of_month.days_in_month());
        let date = first_of_month.with().day(day).build();
        let date = date.expect("a day from 1 to the month's last is a date");
        let past = if date.year() <= 1 { Timestamp::MIN } else { Timestamp::MAX };
        self.start_of(date).unwrap_or(past)
    }

    fn start_of(&self, date: Date) -> Option<Timestamp> {
        let midnight = self.0.to_ambiguous_timestamp(date.at(0, 0, 0, 0));
        let AmbiguousOffset::Gap { after, .. } = midnight.offset() else {
            return from_jiff(midnight.compatible().ok()?);
        };
        // Not jiff's own answer, which goes as far past the gap as midnight is inside it: clocks
        // that go from 23:30 to 00:30 would begin the day at 01:00.
        let before_gap = after.to_timestamp(midnight.datetime()).ok()?;
        let mut changes = self.0.following(before_gap).map(|change| change.timestamp());
        from_jiff(changes.find(|change| self.0.to_datetime(*change).date() >= date)?)
    }

    fn local(&self, moment: Timestamp) -> Date {
        let moment = jiff::Timestamp::from_microsecond(moment.micros());
        // jiff's moments end a day before ours, so that every zone has a date for each of them.
        self.0.to_datetime(moment.unwrap_or(jiff::Timestamp::MAX)).date()
    }
}

/// Up to where the changes of a zone in a span are looked at.
fn changes_end(span: Window) -> Timestamp {
    CHANGES_END.max(span.start.plus(TWO_YEARS)).min(span.end)
}

#[cfg(test)]
mod tests;
