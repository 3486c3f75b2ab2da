//! Times: tells, before a row is sent, whether the server will count it by its time.
//!
//! An ack cannot say it, because a pulse is judged when the log has it. The server's bounds as of the
//! start of a transfer are enough where the log has the server's clock: log time only rises, so what is
//! too old then stays too old. On Kafka the brokers' clock decides, so this is as good as the clocks agree.

use std::time::{Duration, Instant};

use domain::Timestamp;

use super::row::Row;

/// Which times a server counted when a transfer began.
#[derive(Clone, Copy, Debug)]
pub struct TimeBounds {
    /// Rows before this are too late.
    pub earliest: Timestamp,
    /// How far ahead of the earliest a time may be, at that moment.
    reach: Duration,
    asked_at: Instant,
}

impl TimeBounds {
    /// Those of a server that answers now.
    #[must_use]
    pub fn new(server_time: Timestamp, lateness: Duration, future_tolerance: Duration) -> Self {
        let (earliest, reach) = (server_time.minus(lateness), lateness + future_tolerance);
        Self { earliest, reach, asked_at: Instant::now() }
    }

    fn latest(&self) -> Timestamp {
        self.earliest.plus(self.reach + self.asked_at.elapsed())
    }
}

/// What is to be told about a row's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It will be a dead letter: too old.
    TooLate,
    /// It will be a dead letter: too far ahead.
    InTheFuture,
    /// It is part of a backfill and young enough to have been counted without one.
    Recent,
}

/// The first row of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What was found.
    pub finding: Finding,
    /// Its number in the file.
    pub row: u64,
    /// Its time.
    pub time: Timestamp,
}

/// Rows by what their times mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeCounts {
    /// Too old to be counted.
    pub too_late: u64,
    /// Too far ahead to be counted.
    pub in_the_future: u64,
    /// Of a backfill, and young enough to have been counted without one.
    pub recent: u64,
    /// Not sent, because `--before` leaves them out.
    pub left_out: u64,
}

/// Looks at the time of each row.
#[derive(Clone, Debug)]
pub struct TimeCheck {
    bounds: Option<TimeBounds>,
    rule: TimeRule,
    counts: TimeCounts,
}

/// How rows are sent, as far as their times matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeRule {
    /// Each row is judged by its time.
    Judged,
    /// As a backfill, in which every time counts.
    Backfill,
    /// As a backfill of the rows before this.
    BackfillBefore(Timestamp),
}

impl TimeCheck {
    /// Compares with a server's bounds, where it told them.
    #[must_use]
    pub fn new(bounds: Option<TimeBounds>, rule: TimeRule) -> Self {
        Self { bounds, rule, counts: TimeCounts::default() }
    }

    /// Tells whether a row is to be sent, and what is to be said before.
    pub fn look(&mut self, row: &Row) -> (bool, Option<Notice>) {
        let Some(time) = row.pulse.time.as_ref().and_then(proto::convert::timestamp) else {
            // The server refuses it with its reason.
            return (true, None);
        };
        if let TimeRule::BackfillBefore(end) = self.rule {
            self.counts.left_out += u64::from(time >= end);
            return (time < end, None);
        }
        let Some(finding) = self.bounds.as_ref().and_then(|bounds| self.find(bounds, time)) else {
            return (true, None);
        };
        let count = match finding {
            Finding::TooLate => &mut self.counts.too_late,
            Finding::InTheFuture => &mut self.counts.in_the_future,
            Finding::Recent => &mut self.counts.recent,
        };
        *count += 1;
        (true, (*count == 1).then_some(Notice { finding, row: row.number, time }))
    }

    /// Rows so far.
    #[must_use]
    pub const fn counts(&self) -> TimeCounts {
        self.counts
    }

    fn find(&self, bounds: &TimeBounds, time: Timestamp) -> Option<Finding> {
        let is_late = time < bounds.earliest;
        match self.rule {
            TimeRule::Judged if is_late => Some(Finding::TooLate),
            TimeRule::Judged => (time > bounds.latest()).then_some(Finding::InTheFuture),
            TimeRule::Backfill => (!is_late).then_some(Finding::Recent),
            TimeRule::BackfillBefore(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::{convert::wire_time, v1::Pulse};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + micros).unwrap()
    }

    fn findings(rule: TimeRule, micros: &[i64]) -> (Vec<Option<Finding>>, TimeCounts) {
        let bounds = TimeBounds::new(at(0).plus(24 * HOUR), 24 * HOUR, HOUR);
        let mut check = TimeCheck::new(Some(bounds), rule);
        let rows = micros.iter().map(|micros| {
            let pulse = Pulse { time: Some(wire_time(at(*micros))), ..Pulse::default() };
            let (is_sent, notice) = check.look(&Row { number: 1, pulse });
            notice.map(|notice| notice.finding).filter(|_| is_sent)
        });
        (rows.collect(), check.counts())
    }

    #[test]
    fn the_first_row_at_each_edge_is_told_and_all_are_counted() {
        // Far enough behind the edge that the clock of the test does not reach it.
        let future = 25 * 3_600_000_000 + 600_000_000;
        let times = [0, -1, -2, 25 * 3_600_000_000, future];
        let (found, counts) = findings(TimeRule::Judged, &times);
        let late = Some(Finding::TooLate);
        assert_eq!(found, [None, late, None, None, Some(Finding::InTheFuture)]);
        assert_eq!((counts.too_late, counts.in_the_future), (2, 1));
        let (found, counts) = findings(TimeRule::Backfill, &[-1, 0, future]);
        assert_eq!(found, [None, Some(Finding::Recent), None]);
        assert_eq!(counts, TimeCounts { recent: 2, ..TimeCounts::default() });
    }

    #[test]
    fn rows_from_the_end_on_are_left_out_of_a_backfill() {
        let (found, counts) = findings(TimeRule::BackfillBefore(at(5)), &[4, 5, 6]);
        assert_eq!(found, [None, None, None]);
        assert_eq!(counts, TimeCounts { left_out: 2, ..TimeCounts::default() });
    }

    #[test]
    fn without_bounds_nothing_is_said() {
        let mut check = TimeCheck::new(None, TimeRule::Judged);
        let pulse = Pulse { time: Some(wire_time(Timestamp::MIN)), ..Pulse::default() };
        assert_eq!(check.look(&Row { number: 1, pulse }), (true, None));
        assert_eq!(check.counts(), TimeCounts::default());
    }
}
