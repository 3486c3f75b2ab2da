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

    /// Since the machine's start. `Instant` does not count while the machine sleeps, so that a
    /// laptop's night would look like a jump of the clock.
    fn elapsed(&self) -> Duration {
        let mut since = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it writes one `timespec` to where the pointer points, which is one of ours.
        let answer = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut since) };
        assert_eq!(answer, 0, "every Linux since 2.6.39 has this clock");
        let seconds = u64::try_from(since.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(since.tv_nsec).unwrap_or(0))
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
    fn time_passes_on_both_clocks_alike() {
        let clock = system();
        let (before, passed_before) = (clock.now(), clock.elapsed());
        std::thread::sleep(Duration::from_millis(20));
        let passed = clock.elapsed().checked_sub(passed_before).unwrap();
        assert!(passed >= Duration::from_millis(20), "{passed:?}");
        assert!(clock.now() > before);
    }

    #[test]
    fn a_clock_past_year_9999_reads_as_its_end() {
        let moment = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert_eq!(timestamp(moment), Timestamp::MAX);
    }
}
