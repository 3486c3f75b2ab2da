//! Time: instants to the microsecond, half-open windows, and the clock as a port.

mod rfc3339;

use std::{fmt, time::Duration};

pub use rfc3339::{TimeTextError, rfc3339_parts};

/// A moment in UTC, in microseconds since 1970-01-01, from year 1 to year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const MICROS_PER_SECOND: i64 = 1_000_000;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_135_596_800 * MICROS_PER_SECOND);
    /// 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(253_402_300_800 * MICROS_PER_SECOND - 1);

    /// 9999-01-01T00:00:00Z, where usage ends. The hour, day, month and billing period that hold a
    /// moment of usage, in any zone, then end at a moment too, so a range or a bill can hold them.
    pub const USAGE_END: Self = Self(253_370_764_800 * MICROS_PER_SECOND);

    /// Takes microseconds since 1970, or `None` outside year 1 to 9999.
    #[inline]
    #[must_use]
    pub const fn from_micros(micros: i64) -> Option<Self> {
        if micros < Self::MIN.0 || micros > Self::MAX.0 { None } else { Some(Self(micros)) }
    }

    /// Takes the parts of a protobuf `Timestamp`; digits below the microsecond are cut off.
    /// `None` when `nanos` is not 0 to 999,999,999 or the moment is outside year 1 to 9999.
    #[inline]
    #[must_use]
    pub const fn from_parts(seconds: i64, nanos: i32) -> Option<Self> {
        if nanos < 0 || nanos > 999_999_999 {
            return None;
        }
        match seconds.checked_mul(MICROS_PER_SECOND) {
            Some(micros) => Self::from_micros(micros.saturating_add((nanos / 1_000) as i64)),
            None => None,
        }
    }

    /// The moment, or `None` where it is too late for usage.
    #[inline]
    #[must_use]
    pub fn of_usage(self) -> Option<Self> {
        (self < Self::USAGE_END).then_some(self)
    }

    /// Microseconds since 1970.
    #[inline]
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970 (rounded down) and the nanoseconds above them.
    #[must_use]
    pub const fn parts(self) -> (i64, i32) {
        #[allow(clippy::cast_possible_truncation)] // Below 10^9 by construction.
        let nanos = (self.0.rem_euclid(MICROS_PER_SECOND) * 1_000) as i32;
        (self.0.div_euclid(MICROS_PER_SECOND), nanos)
    }

    /// Moves later, stopping at the end of year 9999.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros).min(Self::MAX.0))
    }

    /// Moves earlier, stopping at the start of year 1.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros).max(Self::MIN.0))
    }

    /// Number of the half-open interval of this length that holds the moment, counted from 1970.
    ///
    /// # Panics
    /// When `length` is below one microsecond.
    #[inline]
    #[must_use]
    pub const fn interval(self, length: Duration) -> i64 {
        self.0.div_euclid(length.as_micros() as i64)
    }
}

impl fmt::Display for Timestamp {
    /// Prints RFC 3339 in UTC: `2024-09-18T22:00:00Z`, with a fraction only where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = self.parts();
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let second = seconds.rem_euclid(86_400);
        let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}")?;
        if nanos != 0 {
            write!(f, ".{:06}", nanos / 1_000)?;
        }
        f.write_str("Z")
    }
}

/// Gives the date of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * mp + 2) / 5 + 1)
}

/// A half-open span of event time: `start` is in it, `end` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First moment inside.
    pub start: Timestamp,
    /// First moment after.
    pub end: Timestamp,
}

impl Window {
    /// Tells whether a moment lies in it.
    #[must_use]
    pub fn holds(self, moment: Timestamp) -> bool {
        self.start <= moment && moment < self.end
    }

    /// What it shares with another; empty, with its start as its end, where they share nothing.
    #[must_use]
    pub fn overlap(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self { start, end: self.end.min(other.end).max(start) }
    }
}

/// Length of the windows of a log generation's rows, fixed for its life. Divides a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowLength(Duration);

impl WindowLength {
    /// One hour, the default.
    pub const HOUR: Self = Self(Duration::from_secs(3_600));
    /// Half an hour.
    pub const HALF_HOUR: Self = Self(Duration::from_secs(1_800));
    /// A quarter of an hour. Every zone of today is a whole number of them off UTC.
    pub const QUARTER_HOUR: Self = Self(Duration::from_secs(900));
    /// A day in UTC.
    pub const DAY: Self = Self(Duration::from_secs(86_400));
    /// Those that a log may be made with, the longest first. Each divides an hour, so that usage by the
    /// hour can be asked for.
    pub const OF_LOGS: [Self; 3] = [Self::HOUR, Self::HALF_HOUR, Self::QUARTER_HOUR];

    /// Takes a length of whole seconds that divides a day, or `None`.
    #[must_use]
    pub fn new(length: Duration) -> Option<Self> {
        let seconds = length.as_secs();
        let whole = length.subsec_nanos() == 0 && seconds > 0 && 86_400 % seconds == 0;
        whole.then_some(Self(length))
    }

    /// How long a window lasts, a divisor of a day.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// The same in microseconds.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0.as_micros() as i64
    }

    /// Tells whether each window of the other length is made of whole windows of this one.
    #[must_use]
    pub fn divides(self, other: Self) -> bool {
        other.0.as_secs().is_multiple_of(self.0.as_secs())
    }

    /// Start of the window that holds a moment.
    #[inline]
    #[must_use]
    pub const fn start_of(self, moment: Timestamp) -> Timestamp {
        let length = self.0.as_micros() as i64;
        // Rounding down from year 1 stays in year 1, because windows divide a day.
        Timestamp(moment.0 - moment.0.rem_euclid(length))
    }

    /// The window that holds a moment.
    #[must_use]
    pub fn window_of(self, moment: Timestamp) -> Window {
        let start = self.start_of(moment);
        Window { start, end: Timestamp(start.0 + self.0.as_micros() as i64) }
    }
}

impl fmt::Display for WindowLength {
    /// Prints it in the greatest unit that keeps it whole, as settings are written: `1h`, `15m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (size, unit) = match seconds {
            _ if seconds.is_multiple_of(3_600) => (3_600, "h"),
            _ if seconds.is_multiple_of(60) => (60, "m"),
            _ => (1, "s"),
        };
        write!(f, "{}{unit}", seconds / size)
    }
}

/// Where the present moment comes from. The pipeline never asks the system itself, so that tests
/// and simulations set the time.
pub trait Clock: Send + Sync + 'static {
    /// The present moment. May jump either way: nothing is decided by it alone.
    fn now(&self) -> Timestamp;

    /// Time since a moment that stays the same while the process lives. Never falls, is not touched
    /// when somebody sets the clock, and counts while the machine sleeps. By default that of the
    /// clock itself, with which no jump can be seen.
    fn elapsed(&self) -> Duration {
        let micros = self.now().micros().saturating_sub(Timestamp::MIN.micros());
        Duration::from_micros(micros.unsigned_abs())
    }
}

impl<F: Fn() -> Timestamp + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Timestamp {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_as_rfc_3339() {
        for (micros, text) in [
            (Timestamp::MIN.0, "0001-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (1_726_696_800_000_000, "2024-09-18T22:00:00Z"),
            (Timestamp::MAX.0, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp(micros).to_string(), text);
        }
    }

    #[test]
    fn years_0_and_10000_are_outside() {
        assert_eq!(Timestamp::from_parts(-62_135_596_801, 0), None);
        assert_eq!(Timestamp::from_parts(253_402_300_800, 0), None);
        assert_eq!(Timestamp::from_parts(i64::MIN, 0), None);
        assert_eq!(Timestamp::from_parts(0, -1), None);
        assert_eq!(Timestamp::from_parts(0, 1_000_000_000), None);
        assert_eq!(Timestamp::from_parts(253_402_300_799, 999_999_999), Some(Timestamp::MAX));
    }

    #[test]
    fn windows_are_half_open_before_1970_too() {
        let hour = WindowLength::HOUR;
        for (micros, start) in
            [(0, 0), (3_599_999_999, 0), (3_600_000_000, 3_600_000_000), (-1, -3_600_000_000)]
        {
            assert_eq!(hour.start_of(Timestamp(micros)), Timestamp(start));
        }
        assert_eq!(WindowLength::new(Duration::from_secs(7)), None);
        for (seconds, text) in
            [(86_400, "24h"), (3_600, "1h"), (5_400, "90m"), (900, "15m"), (1, "1s")]
        {
            let length = WindowLength::new(Duration::from_secs(seconds)).unwrap();
            assert_eq!(length.to_string(), text);
        }
    }
}
