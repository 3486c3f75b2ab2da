//! Tally: what the usage rows of one part of a bill add up to, and where they came from.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Aggregate, Quantity, Timestamp, UsageRow, catalogue::Meter};

use super::{Hour, SegmentPart, UnpricedReason, events::Events};
use crate::amount::{self, Amount};

/// Sums as wide as an amount, so that neither the order nor the splitting of rows can decide
/// whether they fit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    total: Option<Total>,
    /// Places of the rows behind it, where sources are listed.
    rows: Vec<u32>,
    /// How many events of each amount an hour holds, where the price needs to know.
    amounts: BTreeMap<(Timestamp, Quantity), u128>,
    /// The newest amount of each hour with its time, where the meter needs to know.
    changes: BTreeMap<Timestamp, (Timestamp, Quantity)>,
}

#[derive(Clone, Copy, Debug)]
struct Total {
    count: u128,
    sum: Amount,
    min: Quantity,
    max: Quantity,
    last: (Timestamp, Quantity),
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

impl Tally {
    /// Takes what one row holds, wherever it came from.
    pub(crate) fn add(&mut self, aggregate: &Aggregate) {
        let other = Total::of(aggregate);
        self.total = Some(self.total.map_or(other, |total| total.merged(other)));
    }

    /// Takes all that another holds.
    pub(crate) fn merge(&mut self, other: Self) {
        self.total = match (self.total, other.total) {
            (Some(one), Some(other)) => Some(one.merged(other)),
            (one, other) => one.or(other),
        };
        self.rows.extend(other.rows);
        for ((hour, amount), count) in other.amounts {
            *self.amounts.entry((hour, amount)).or_default() += count;
        }
        for (hour, change) in other.changes {
            self.change(hour, change);
        }
    }

    /// Keeps the events of a row, which have one amount.
    pub(super) fn keep_events(&mut self, row: &UsageRow) {
        let aggregate = &row.cell.aggregate;
        self.add_events(row.key.window_start, aggregate.min, aggregate.count);
    }

    /// Keeps when a row left which level.
    pub(super) fn keep_change(&mut self, row: &UsageRow) {
        let aggregate = &row.cell.aggregate;
        self.change(row.key.window_start, (aggregate.time_last, aggregate.last));
    }

    /// Takes places of rows beside what was added up.
    pub(super) fn with_rows(mut self, rows: Vec<u32>) -> Self {
        self.rows = rows;
        self
    }

    /// Places of the rows that were noted.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Of what one hour holds the newest counts, however the hour is split over segments.
    fn change(&mut self, hour: Timestamp, change: (Timestamp, Quantity)) {
        let newest = self.changes.entry(hour).or_insert(change);
        *newest = change.max(*newest);
    }

    /// When the level became what, by hours.
    pub(super) fn changes(&self) -> impl Iterator<Item = (Timestamp, Quantity)> {
        self.changes.values().copied()
    }

    /// The newest amount.
    pub(super) fn last(&self) -> Option<(Timestamp, Quantity)> {
        self.total.map(|total| total.last)
    }

    /// Notes the place of the row that was taken.
    pub(super) fn note(&mut self, row: u32) {
        self.rows.push(row);
    }

    /// Notes that events of an hour have this amount each.
    pub(crate) fn add_events(&mut self, hour: Timestamp, amount: Quantity, count: u64) {
        *self.amounts.entry((hour, amount)).or_default() += u128::from(count);
    }

    /// The single events, as far as they were noted.
    pub(crate) fn events(&self) -> Events {
        let amounts = self.amounts.iter().map(|((_, amount), count)| (*amount, *count));
        Events { count: self.count(), amounts: amounts.collect() }
    }

    /// What the meter gives of all that was taken.
    pub(crate) fn metered(&self, meter: Meter) -> Result<Quantity, UnpricedReason> {
        let Some(total) = &self.total else { return Ok(Quantity::ZERO) };
        match meter {
            Meter::Sum => total.sum.to_quantity().ok_or(UnpricedReason::OutOfRange),
            Meter::Count => whole(total.count).ok_or(UnpricedReason::OutOfRange),
            Meter::Min => Ok(total.min),
            Meter::Max => Ok(total.max),
            Meter::Avg => amount::mean(total.sum, total.count).ok_or(UnpricedReason::OutOfRange),
            // Of one moment, the level itself.
            Meter::Latest | Meter::TimeWeighted => Ok(total.last.1),
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

    /// The hours of the rows that were noted, in order, each with its stretches of the log in order.
    pub(super) fn hours(&self, usage: &[UsageRow]) -> Vec<Hour> {
        let mut rows: Vec<&UsageRow> =
            self.rows.iter().map(|place| &usage[*place as usize]).collect();
        rows.sort_by_key(|row| (row.key.window_start, row.key.segment));
        let same_hour =
            |one: &&UsageRow, other: &&UsageRow| one.key.window_start == other.key.window_start;
        rows.chunk_by(same_hour).map(hour).collect()
    }
}

/// One hour of rows, sorted by segment.
fn hour(rows: &[&UsageRow]) -> Hour {
    let mut segments: Vec<SegmentPart> = Vec::new();
    let (mut count, mut sum) = (0, Amount::ZERO);
    for UsageRow { key, cell } in rows {
        count += u128::from(cell.aggregate.count);
        let added = sum.checked_add(Amount::of(cell.aggregate.sum));
        sum = added.expect("2^68 rows are within an amount");
        // Rows of several dimensions may come from one segment.
        match segments.last_mut().filter(|part| part.segment == key.segment) {
            Some(part) => {
                part.offset_last = part.offset_last.max(Some(cell.offset_last));
                part.dimensions.insert(key.resource.dimensions.clone());
            }
            None => segments.push(SegmentPart {
                segment: key.segment,
                dimensions: BTreeSet::from([key.resource.dimensions.clone()]),
                offset_last: Some(cell.offset_last),
            }),
        }
    }
    Hour { window_start: rows[0].key.window_start, count, sum, segments }
}

fn whole(count: u128) -> Option<Quantity> {
    let raw = i128::try_from(count).ok()?.checked_mul(Quantity::ONE.raw())?;
    Some(Quantity::from_raw(raw))
}
