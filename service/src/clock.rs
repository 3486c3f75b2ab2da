//! The system's clock behind the [`Clock`] port: the only place that asks the system for the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::{Clock, Timestamp};

/// The system's clock. A system set before year 1 or after year 9999 reads as that bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Gives the system's clock.
#[must_use]
pub const fn system() -> SystemClock {
    SystemClock
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // This is what the lint sends everybody else to.
    fn now(&self) -> Timestamp {
        timestamp(SystemTime::now())
    }
}

fn timestamp(moment: SystemTime) -> Timestamp {
    match moment.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::EPOCH.plus(since),
        // Rounded down, as everywhere: a part of a microsecond before 1970 counts as a whole one.
        Err(before) => Timestamp::EPOCH.minus(before.duration() + Duration::from_nanos(999)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_round_down_to_the_microsecond_on_both_sides_of_1970() {
        for (nanos_before, nanos_after, micros) in
            [(0, 0, 0), (0, 999, 0), (0, 1_000, 1), (1, 0, -1), (1_000, 0, -1), (1_001, 0, -2)]
        {
            let moment =
                UNIX_EPOCH + Duration::from_nanos(nanos_after) - Duration::from_nanos(nanos_before);
            assert_eq!(timestamp(moment).micros(), micros, "-{nanos_before} +{nanos_after}");
        }
    }

    #[test]
    fn a_clock_past_year_9999_reads_as_its_end() {
        let moment = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert_eq!(timestamp(moment), Timestamp::MAX);
    }
}
