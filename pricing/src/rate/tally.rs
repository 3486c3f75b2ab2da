//! Tally: what the usage rows of one part of a bill add up to, and where they came from.

use std::collections::BTreeMap;

use domain::{
    Aggregate, Quantity, SegmentId, Timestamp, UsageRow,
    catalogue::{Meter, NegativePolicy},
};

use super::{Hour, SegmentPart, UnpricedReason, events::Events};
use crate::amount::{self, Amount};

/// Sums as wide as an amount, so that neither the order nor the splitting of rows can decide
/// whether they fit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    total: Option<Total>,
    hours: BTreeMap<Timestamp, HourTally>,
    /// How many events of each amount an hour holds, where the price needs to know.
    amounts: BTreeMap<(Timestamp, Quantity), u128>,
}

#[derive(Clone, Copy, Debug)]
struct Total {
    count: u128,
    sum: Amount,
    min: Quantity,
    max: Quantity,
    last: (Timestamp, Quantity),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct HourTally {
    total: Option<Total>,
    segments: BTreeMap<SegmentId, domain::Offset>,
}

impl Total {
    fn of(aggregate: &Aggregate) -> Self {
        Self {
            count: aggregate.count.into(),
            sum: Amount::of(aggregate.sum),
            min: aggregate.min,
            max: aggregate.max,
            last: (aggregate.time_last, aggregate.last),
        }
    }

    fn merged(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum.checked_add(other.sum).expect("2^68 rows are within an amount"),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            last: self.last.max(other.last),
        }
    }
}

fn merge(into: &mut Option<Total>, other: Total) {
    *into = Some(into.map_or(other, |total| total.merged(other)));
}

impl Tally {
    /// Takes a row.
    pub(super) fn add(&mut self, row: &UsageRow) {
        let hour = self.add_aggregate(row.key.window_start, &row.cell.aggregate);
        let offset_last = hour.segments.entry(row.key.segment).or_default();
        *offset_last = (*offset_last).max(row.cell.offset_last);
    }

    /// Takes what an hour holds, wherever it came from.
    pub(crate) fn add_aggregate(
        &mut self,
        hour: Timestamp,
        aggregate: &Aggregate,
    ) -> &mut HourTally {
        let total = Total::of(aggregate);
        merge(&mut self.total, total);
        let hour = self.hours.entry(hour).or_default();
        merge(&mut hour.total, total);
        hour
    }

    /// Notes that events of an hour have this amount each.
    pub(crate) fn add_events(&mut self, hour: Timestamp, amount: Quantity, count: u64) {
        *self.amounts.entry((hour, amount)).or_default() += u128::from(count);
    }

    /// The single events, as far as they were noted.
    pub(super) fn events(&self) -> Events {
        let amounts = self.amounts.iter().map(|((_, amount), count)| (*amount, *count));
        Events { count: self.count(), amounts: amounts.collect() }
    }

    /// What the meter gives for the whole period.
    pub(super) fn metered(
        &self,
        meter: Meter,
        negative: NegativePolicy,
    ) -> Result<Quantity, UnpricedReason> {
        let Some(total) = &self.total else { return Ok(Quantity::ZERO) };
        if negative == NegativePolicy::Refuse && total.min.is_negative() {
            return Err(UnpricedReason::NegativeRefused);
        }
        match meter {
            Meter::Sum => total.sum.to_quantity().ok_or(UnpricedReason::OutOfRange),
            Meter::Count => whole(total.count).ok_or(UnpricedReason::OutOfRange),
            Meter::Min => Ok(total.min),
            Meter::Max => Ok(total.max),
            Meter::Avg => amount::mean(total.sum, total.count).ok_or(UnpricedReason::OutOfRange),
            Meter::Latest => Ok(total.last.1),
        }
    }

    /// Sum of the amounts.
    pub(super) fn sum(&self) -> Amount {
        self.total.map_or(Amount::ZERO, |total| total.sum)
    }

    /// Number of pulses.
    pub(super) fn count(&self) -> u128 {
        self.total.map_or(0, |total| total.count)
    }

    /// Its hours, in order.
    pub(super) fn into_hours(self) -> Vec<Hour> {
        self.hours.into_iter().map(|(window_start, hour)| hour.into_hour(window_start)).collect()
    }
}

impl HourTally {
    fn into_hour(self, window_start: Timestamp) -> Hour {
        let segments = self
            .segments
            .into_iter()
            .map(|(segment, offset_last)| SegmentPart { segment, offset_last })
            .collect();
        Hour {
            window_start,
            count: self.total.map_or(0, |total| total.count),
            sum: self.total.map_or(Amount::ZERO, |total| total.sum),
            segments,
        }
    }
}

fn whole(count: u128) -> Option<Quantity> {
    let raw = i128::try_from(count).ok()?.checked_mul(Quantity::ONE.raw())?;
    Some(Quantity::from_raw(raw))
}
