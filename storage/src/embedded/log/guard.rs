//! Guards the log against a clock that jumps: what would be appended at a wrong time is refused.
//!
//! An append time is never changed, and log time never falls, so one reading two days ahead would
//! decide on lateness for two days. So the clock is compared with one that nobody can set, from the
//! opening of the log on. What that cannot see is a clock that was wrong already then: after a long
//! stop, a first append long after the last record is right. What it appends is told by an operator
//! (`pulso log rebase`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::{Clock, Timestamp};

/// How far the clock may stand behind the last append. Beyond it one of the two is wrong, and what
/// is appended meanwhile would be judged at the time of the last one, so the log waits for a person.
const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(600);

/// Reads the clock for appends.
pub(super) struct ClockGuard {
    clock: Arc<dyn Clock>,
    jump_max: Duration,
    /// The greatest append time, in microseconds; see [`LastAppend`].
    appended_last: LastAppend,
    /// How far the clock is ahead of the monotonic one at the most, of all readings that were right.
    ahead: i64,
}

/// The greatest append time, shared with the handles of the log.
#[derive(Clone)]
pub(super) struct LastAppend(Arc<AtomicI64>);

impl LastAppend {
    pub(super) fn at(time: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(time.micros())))
    }

    /// Lets the next append be earlier.
    pub(super) fn forget(&self) {
        self.0.store(Timestamp::MIN.micros(), Ordering::Relaxed);
    }

    fn get(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).unwrap_or(Timestamp::MIN)
    }
}

/// A reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) now: Timestamp,
    /// How far `now` is ahead of the monotonic clock, in microseconds.
    ahead: i64,
}

impl ClockGuard {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        jump_max: Duration,
        appended_last: LastAppend,
    ) -> Self {
        let mut guard = Self { clock, jump_max, appended_last, ahead: 0 };
        guard.ahead = guard.reading().ahead;
        guard
    }

    /// The time of an append that is made now.
    ///
    /// # Errors
    /// What is wrong with the clock, and what to do.
    pub(super) fn read(&self) -> Result<Reading, String> {
        let reading = self.reading();
        let (now, appended_last) = (reading.now, self.appended_last.get());
        let ahead = reading.ahead.saturating_sub(self.ahead);
        if ahead > micros(self.jump_max) {
            let expected = now.minus(Duration::from_micros(ahead.unsigned_abs()));
            return Err(format!(
                "the clock jumped: it says {now}, and by the time that has passed it should be about {expected} (log.clock_jump_max is {:?}). Set it right and appends are taken again; if it is right now, start the server again",
                self.jump_max
            ));
        }
        if now.plus(CLOCK_BEHIND_MAX) < appended_last {
            return Err(format!(
                "the clock says {now}, more than 10 minutes before the last append at {appended_last}. If the clock is wrong, set it. If it is right, stop the server, run `pulso log rebase --reason TEXT`, and start it again"
            ));
        }
        Ok(reading)
    }

    /// What was read is in the log.
    pub(super) fn appended(&mut self, Reading { now, ahead }: Reading) {
        self.appended_last.0.fetch_max(now.micros(), Ordering::Relaxed);
        self.ahead = self.ahead.max(ahead);
    }

    fn reading(&self) -> Reading {
        let now = self.clock.now();
        let elapsed = micros(self.clock.elapsed());
        Reading { now, ahead: now.micros().saturating_sub(elapsed) }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const MINUTE: i64 = 60_000_000;
    const START: i64 = 1_700_000_000_000_000;

    /// A clock and a monotonic one, in minutes from a start.
    #[derive(Clone, Default)]
    struct Clocks(Arc<Mutex<(i64, u64)>>);

    impl Clocks {
        fn set(&self, wall: i64, passed: u64) {
            *self.0.lock().unwrap() = (wall, passed);
        }
    }

    impl Clock for Clocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(START + self.0.lock().unwrap().0 * MINUTE).unwrap()
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.0.lock().unwrap().1 * 60)
        }
    }

    #[test]
    fn a_jump_is_refused_until_the_clock_is_right_again() {
        const DAY: i64 = 24 * 60;
        let clocks = Clocks::default();
        let last = LastAppend::at(Timestamp::MIN);
        let ten_minutes = Duration::from_secs(600);
        let mut guard = ClockGuard::new(Arc::new(clocks.clone()), ten_minutes, last.clone());
        // Wall clock, what has passed, and whether that is taken.
        for (wall, passed, is_taken) in [
            (0, 0, true),
            (1, 1, true),
            (2 * DAY, 2, false),
            (3, 3, true),
            // A night without an append.
            (600, 600, true),
            // Ten minutes may be put down to what clocks do; more may not.
            (621, 610, false),
            (620, 610, true),
            (621, 611, true),
            // Set back, and right again.
            (613, 612, true),
            (623, 613, true),
            (610, 614, false),
            (635, 614, false),
        ] {
            clocks.set(wall, passed);
            let read = guard.read();
            assert_eq!(read.is_ok(), is_taken, "{wall} {passed}: {:?}", read.err());
            read.into_iter().for_each(|reading| guard.appended(reading));
        }
        // An operator has said that the last append time was wrong.
        clocks.set(500, 615);
        assert!(guard.read().unwrap_err().contains("pulso log rebase"));
        last.forget();
        assert!(guard.read().is_ok());
    }
}
