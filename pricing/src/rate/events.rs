//! Events: the single pulses behind a quantity, for prices that look at each by itself.
//!
//! The store keeps totals, not pulses. Pulses that repeat their amount in a declared dimension are
//! kept apart by it, so that an hour of one combination of dimensions holds one amount a number of
//! times: the amount is sum / count, which its least and greatest amount confirm. The text of the
//! dimension is not read: what is billed is what was measured. An hour that holds several amounts
//! tells none of them, and waits.

use std::collections::{HashMap, HashSet};

use domain::{Quantity, ResourceKey, Timestamp, UsageRow};

use super::UnpricedReason;

/// The events behind a quantity, as far as its price needs to know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    /// How many there are.
    pub(crate) count: u128,
    /// Amounts and how many events have each, in the order in which they use up a free allowance:
    /// by hour, then by amount. Empty unless the price has terms per event.
    pub(crate) amounts: Vec<(Quantity, u128)>,
}

/// The hours whose events' amounts are needed and cannot be told.
#[derive(Default)]
pub(super) struct MixedAmounts<'u>(HashSet<(&'u ResourceKey, Timestamp)>);

impl<'u> MixedAmounts<'u> {
    /// Looks at all rows whose events matter before any is billed. One row alone tells nothing: the same
    /// hour's events may be spread over rows of several segments, and the spreading must not decide.
    pub(super) fn of(rows: impl Iterator<Item = &'u UsageRow>) -> Self {
        let mut seen: HashMap<(&ResourceKey, Timestamp), Quantity> = HashMap::new();
        let mut mixed = HashSet::new();
        for row in rows {
            let (place, aggregate) =
                ((&row.key.resource, row.key.window_start), &row.cell.aggregate);
            let first = *seen.entry(place).or_insert(aggregate.min);
            if aggregate.min != first || aggregate.max != first {
                mixed.insert(place);
            }
        }
        Self(mixed)
    }

    /// Why a row cannot be billed, if its hour holds several amounts.
    pub(super) fn refuse(&self, row: &UsageRow) -> Option<UnpricedReason> {
        let place = (&row.key.resource, row.key.window_start);
        self.0.contains(&place).then_some(UnpricedReason::AmountsUnknown)
    }
}
