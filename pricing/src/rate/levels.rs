//! Levels: what there is of a resource, such as seats or gigabytes, measured over a period.

use std::collections::BTreeMap;

use domain::{Quantity, Timestamp, UsageRow, Window, catalogue::Meter};

use super::{UnpricedReason, tally::Tally};
use crate::amount::{self, Amount};

/// The level of one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// The newest pulse from before the bill, or from before all that measures it, where it holds on.
    pub(super) before: Option<(Timestamp, Quantity)>,
    /// Places of the rows behind that pulse, where sources are listed.
    before_rows: Vec<u32>,
    /// Pulses of the bill under what measures it.
    pub(super) tally: Tally,
    /// Pulses of the bill under another measure, or under no price, between those: a level that holds on
    /// is what was sent last, whoever prices it.
    elsewhere: BTreeMap<Timestamp, Quantity>,
}

impl Level {
    /// Notes a pulse from before all that measures the level, if it is the newest.
    pub(super) fn hold_on(&mut self, pulse: Option<(Timestamp, Quantity)>, rows: &[u32]) {
        if pulse > self.before {
            (self.before, self.before_rows) = (pulse, rows.to_vec());
        }
    }

    /// Notes a pulse between those that are measured.
    pub(super) fn change_elsewhere(&mut self, (time, level): (Timestamp, Quantity)) {
        let known = self.elsewhere.entry(time).or_insert(level);
        *known = level.max(*known);
    }

    /// Tells whether it is there only because nothing ended it.
    fn holds_on(&self) -> bool {
        self.tally.count() == 0
    }

    /// Tells whether it, or a part of an integral over it, is from before what measures it.
    pub(super) fn is_carried(&self, meter: Meter) -> bool {
        let is_held = self.before.is_some_and(|(_, level)| level > Quantity::ZERO);
        self.holds_on() || (meter == Meter::TimeWeighted && is_held)
    }

    /// Tells whether it was ended before the bill, and not set again. There is no level below zero.
    pub(super) fn is_over(&self) -> bool {
        let held = self.before.map(|(_, level)| level);
        let mut levels = held.into_iter().chain(self.elsewhere.values().copied());
        self.holds_on() && levels.all(|level| level <= Quantity::ZERO)
    }

    /// What a meter gives of it. `span` is the piece, of a bill that begins at `from`, of a period
    /// `whole`; only an integral looks at them.
    pub(super) fn measured(
        &self,
        meter: Meter,
        span: Window,
        (from, whole): (Timestamp, Window),
    ) -> Result<Quantity, UnpricedReason> {
        match meter {
            Meter::TimeWeighted => {
                let to = |end: Timestamp| self.integral(from, end, whole);
                let (end, start) = (to(span.end)?, to(span.start)?);
                end.checked_sub(start).ok_or(UnpricedReason::OutOfRange)
            }
            Meter::Latest => {
                let elsewhere =
                    self.elsewhere.last_key_value().map(|(time, level)| (*time, *level));
                let newest = self.before.max(elsewhere).max(self.tally.last());
                Ok(newest.map_or(Quantity::ZERO, |(_, level)| level))
            }
            meter => self.tally.metered(meter),
        }
    }

    /// Places of the rows behind what a meter gives of it for a piece: those from before it where it is
    /// carried; of an integral those of the piece, with the newest before it.
    pub(super) fn rows(&self, meter: Meter, span: Window, usage: &[UsageRow]) -> Vec<u32> {
        let mut rows = self.tally.rows().to_vec();
        if meter != Meter::TimeWeighted {
            return if self.holds_on() { self.before_rows.clone() } else { rows };
        }
        let hour = |place: &u32| usage[*place as usize].key.window_start;
        rows.retain(|place| hour(place) < span.end);
        match rows.iter().map(hour).filter(|hour| *hour <= span.start).max() {
            Some(newest) => rows.retain(|place| hour(place) >= newest),
            None => rows.extend(&self.before_rows),
        }
        rows
    }

    /// The integral from one moment to another, divided by the length of the whole period, rounded half
    /// up at 18 decimals.
    fn integral(
        &self,
        from: Timestamp,
        to: Timestamp,
        whole: Window,
    ) -> Result<Quantity, UnpricedReason> {
        let mut sum = Some(Amount::ZERO);
        let mut add = |level: Quantity, start: Timestamp, end: Timestamp| {
            let time = u128::from(micros(start.min(to), end.min(to)));
            let added = Amount::of(level.max(Quantity::ZERO)).times(time);
            sum = sum.and_then(|sum| sum.checked_add(added?));
        };
        let (mut since, mut level) = (from, self.before.map_or(Quantity::ZERO, |(_, level)| level));
        let elsewhere = self.elsewhere.iter().map(|(time, level)| (*time, *level));
        let mut changes: Vec<(Timestamp, Quantity)> =
            self.tally.changes().chain(elsewhere).collect();
        // Of two at one time the greater is what remains.
        changes.sort_unstable();
        for (time, next) in changes {
            add(level, since, time);
            (since, level) = (time, next);
        }
        add(level, since, to);
        let mean = sum.and_then(|sum| amount::mean(sum, micros(whole.start, whole.end).into()));
        mean.ok_or(UnpricedReason::OutOfRange)
    }
}

/// The time from one moment to a later one.
fn micros(start: Timestamp, end: Timestamp) -> u64 {
    end.micros().saturating_sub(start.micros()).max(0).unsigned_abs()
}
