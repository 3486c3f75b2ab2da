//! Events: the single pulses behind a quantity, for prices that look at each by itself.
//!
//! The store keeps totals, not pulses. Pulses that repeat their amount in a declared dimension are
//! kept apart by it, so that an hour of one combination of dimensions holds one amount a number of
//! times: the amount is sum / count, which its least and greatest amount confirm. The text of the
//! dimension is not read: what is billed is what was measured. An hour that holds several amounts
//! tells none of them, and waits.

use std::collections::{HashMap, HashSet};

use domain::{Quantity, ResourceKey, Timestamp, UsageRow, catalogue::Catalogue};

use super::{UnpricedReason, terms::Counting};

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
pub(super) struct MixedAmounts<'u>(HashSet<(&'u ResourceKey, Timestamp)>);

impl<'u> MixedAmounts<'u> {
    /// Looks at all rows before any is billed. One row alone tells nothing: the same hour's events
    /// may be spread over rows of several segments, and the spreading must not decide.
    pub(super) fn of<'c>(
        catalogue: &Catalogue,
        usage: &'u [UsageRow],
        price_of: impl Fn(&UsageRow) -> Result<Counting<'c>, UnpricedReason>,
    ) -> Self {
        let mut prices = catalogue.skus.iter().flat_map(|definition| &definition.prices);
        if !prices.any(|price| price.model.per_event().is_some()) {
            return Self(HashSet::new());
        }
        let needed = |row: &&UsageRow| {
            price_of(row).is_ok_and(|found| found.price.model.per_event().is_some())
        };
        let mut seen: HashMap<(&ResourceKey, Timestamp), Quantity> = HashMap::new();
        let mut mixed = HashSet::new();
        for row in usage.iter().filter(needed) {
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
