//! Levels: what there is of a resource, such as seats or gigabytes, measured over a period.

use domain::{Quantity, Timestamp, Window, catalogue::Meter};

use super::{UnpricedReason, tally::Tally};
use crate::amount::{self, Amount};

/// The level of one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// The newest pulse from before the bill, where it holds on.
    pub(super) before: Option<(Timestamp, Quantity)>,
    /// Pulses of the bill.
    pub(super) tally: Tally,
}

impl Level {
    /// Tells whether it is there only because nothing ended it.
    pub(super) fn holds_on(&self) -> bool {
        self.tally.count() == 0
    }

    /// Tells whether it was ended before the bill, and not set again.
    pub(super) fn is_over(&self) -> bool {
        self.holds_on() && self.before.is_none_or(|(_, level)| level == Quantity::ZERO)
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
            Meter::Latest if self.holds_on() => {
                Ok(self.before.map_or(Quantity::ZERO, |(_, level)| level))
            }
            meter => self.tally.metered(meter),
        }
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
            let added = Amount::of(level).times(time);
            sum = sum.and_then(|sum| sum.checked_add(added?));
        };
        let (mut since, mut level) = (from, self.before.map_or(Quantity::ZERO, |(_, level)| level));
        for (time, next) in self.tally.changes() {
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
