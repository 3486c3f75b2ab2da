//! Rating: usage rows and a catalogue in, explained lines out. Pure: the same inputs give the same
//! lines, whatever the order of the rows and however they are split over partitions and segments.
//!
//! What is not priced is never lost: it comes back as [`Unpriced`] with its reason, and rates by
//! itself once the catalogue catches up.

use std::collections::BTreeSet;

use domain::{
    Dimensions, Name, Offset, SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, Window,
    catalogue::{Catalogue, Currency, Rounding},
};

use crate::{amount::Amount, moment::Calendar};
use group::Grouping;
use tally::Tally;

mod step;
mod terms;

pub(crate) mod cells;
mod pieces;

pub(crate) mod events;

pub(crate) mod measured;
pub(crate) mod tally;

mod levels;

mod detail;

pub(crate) mod charge;

pub(crate) mod bill;

mod index;

mod group;

mod resource;

pub use detail::{DETAIL_MAX, Detail};
pub use step::Step;
pub use terms::{Agreed, RatingTerms, Share, Sources};

/// A rated period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// Currency of every amount.
    pub currency: Currency,
    /// The rule that each line was rounded by.
    pub rounding: Rounding,
    /// The stretch that was rated.
    pub period: Window,
    /// Sorted by tenant, SKU, unit, time, dimensions; a line that brings several others to a minimum or
    /// maximum follows them.
    pub lines: Vec<Line>,
    /// Usage that no line prices, sorted by tenant, SKU, unit, reason, dimensions.
    pub unpriced: Vec<Unpriced>,
    /// Sum of the lines, exactly.
    pub total: Amount,
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who used it.
    pub tenant: Tenant,
    /// What was used.
    pub product_sku: Sku,
    /// What the quantity counts.
    pub use_unity: Unit,
    /// The dimensions of the cell that a matrix line prices, none for its default; none for other
    /// models, whose tiers, packages and free units act on the whole quantity.
    pub dimensions: Dimensions,
    /// The SKU's name for people; may be empty.
    pub name: String,
    /// The price model's word.
    pub model: &'static str,
    /// What the meter gave, before any conversion. Zero on a line that only meets a bound.
    pub quantity: Amount,
    /// The quantity by dimensions, where it is of several that a matrix or a level tells apart.
    pub by_dimensions: Detail,
    /// The rounded amount.
    pub amount: Amount,
    /// The rule it was rounded by.
    pub rounding: Rounding,
    /// Version of the catalogue in which the price begins to count.
    pub catalogue: Name,
    /// The contract in which it begins to count, where there is one.
    pub contract: Option<Name>,
    /// First moment of the price as it is written there.
    pub valid_from: Timestamp,
    /// The stretch of the period in which it counted.
    pub span: Window,
    /// How the amount came about; the steps' amounts add up to it.
    pub steps: Vec<Step>,
    /// The hours of usage behind it, in order.
    pub hours: Vec<Hour>,
}

/// One hour (one window of the store) of usage behind a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hour {
    /// Start of the window.
    pub window_start: Timestamp,
    /// How many pulses it came in.
    pub count: u128,
    /// Sum of their amounts.
    pub sum: Amount,
    /// The stretches of the log they came from, in order.
    pub segments: Vec<SegmentPart>,
}

/// A segment of the log that added to an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPart {
    /// The segment.
    pub segment: SegmentId,
    /// The dimensions of its rows.
    pub dimensions: BTreeSet<Dimensions>,
    /// The last record in it that changed the hour; `None` where that is only known to the log, because
    /// the hour is in a block.
    pub offset_last: Option<Offset>,
}

/// Usage that has no price yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpriced {
    /// Who used it.
    pub tenant: Tenant,
    /// What was used.
    pub product_sku: Sku,
    /// What the quantity counts.
    pub use_unity: Unit,
    /// Its dimensions, where they matter to the price.
    pub dimensions: Dimensions,
    /// Sum of the amounts.
    pub quantity: Amount,
    /// How many pulses it came in.
    pub count: u128,
    /// Why no line prices it.
    pub reason: UnpricedReason,
    /// Its hours, in order.
    pub hours: Vec<Hour>,
}

/// Why usage has no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnpricedReason {
    /// The catalogue has no such SKU.
    UnknownSku,
    /// The catalogue has the SKU, but not in this unit.
    UnitMismatch,
    /// The SKU had a price in this unit, and a later catalogue left it out.
    Retired,
    /// No price was valid at the hour.
    NoPrice,
    /// A price was valid at the hour, but in another currency.
    NoPriceInCurrency,
    /// No cell of the matrix fits the dimensions, and it has no default.
    NoMatrixPrice,
    /// The price needs the amount of each event, and the totals of this hour hold several in one.
    AmountsUnknown,
    /// The period's usage is below zero, and its price gives back no more than what it would have
    /// charged.
    BelowZero,
    /// The quantity or the amount is beyond what the arithmetic holds (10^30 of money a line).
    OutOfRange,
}

impl UnpricedReason {
    /// The stable word that answers use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSku => "unknown_sku",
            Self::UnitMismatch => "unit_mismatch",
            Self::Retired => "retired",
            Self::NoPrice => "no_price",
            Self::NoPriceInCurrency => "no_price_in_currency",
            Self::NoMatrixPrice => "no_matrix_price",
            Self::AmountsUnknown => "amounts_unknown",
            Self::BelowZero => "below_zero",
            Self::OutOfRange => "out_of_range",
        }
    }

    /// What to do about it, for a person.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::UnknownSku => {
                "publish a catalogue with this SKU that is in effect at these hours (effective_from)"
            }
            Self::UnitMismatch => "publish the SKU with this unit, or mend the sender's unit",
            Self::Retired => "stop sending it, or publish a catalogue that prices it again",
            Self::NoPrice => "publish a price that is valid at these hours",
            Self::NoPriceInCurrency => "publish a price in the currency of the bill",
            Self::NoMatrixPrice => "publish a cell for these dimensions, or a default",
            Self::AmountsUnknown => {
                "let pulses repeat their amount in the price's amount_dimension; where that was \
                 declared too late, replay with it"
            }
            Self::BelowZero => {
                "correct the period that the usage belongs to: send the adjustment with its time"
            }
            Self::OutOfRange => "check the quantity and the price: their product is not money",
        }
    }
}

/// Rates a whole period in UTC under a catalogue alone; see [`rate_under`].
#[must_use]
pub fn rate(catalogue: &Catalogue, usage: &[UsageRow], period: Window) -> Rated {
    rate_under(&RatingTerms::of(catalogue, period, &Calendar::UTC), usage)
}

/// Rates the rows whose window starts in the span of the terms. Those from before it are no part of the
/// bill, but levels may hold on from them.
///
/// - An hour belongs to the price that counts at its start. A price that changes inside the period
///   splits the usage there, and **each price bills its own part as a shorter period of its own**:
///   packages start again, and what a price says of a period (flat amounts, free units, free events,
///   fees and edges of tiers) is its share by calendar days. A level is measured over the whole bill
///   and costs, under each price, its share of the days. Prices that ask for the same are one.
/// - Shares of one amount are rounded so that they add up to it.
/// - A flat price is due for the days of its version once the SKU is used at all.
/// - A matrix has a line for each of its prices, in the order of the text of what they name. Free units
///   are taken by them in that order.
/// - A minimum or maximum holds its SKU for the days on which it counts, and not each part.
#[must_use]
pub fn rate_under(terms: &RatingTerms<'_>, usage: &[UsageRow]) -> Rated {
    let mut grouping = Grouping::new(terms);
    grouping.add(usage);
    finish(terms, grouping, usage)
}

/// The same of rows that come page by page, of which none stays in memory, but for those that a price
/// for each event asks about. Lines list no sources, whatever the terms say.
#[must_use]
pub fn rate_pages(terms: &RatingTerms<'_>, pages: impl Iterator<Item = Vec<UsageRow>>) -> Rated {
    let terms = RatingTerms { sources: Sources::LeftOut, ..terms.clone() };
    let mut grouping = Grouping::new(&terms);
    pages.for_each(|page| grouping.add(&page));
    finish(&terms, grouping, &[])
}

fn finish(terms: &RatingTerms<'_>, grouping: Grouping<'_, '_>, usage: &[UsageRow]) -> Rated {
    let (bills, waiting) = grouping.finish();
    let mut rated = Rated {
        currency: terms.currency,
        rounding: terms.rounding,
        period: terms.span,
        lines: Vec::new(),
        unpriced: Vec::new(),
        total: Amount::ZERO,
    };
    for ((tenant, product_sku, use_unity, reason, dimensions), tally) in waiting {
        let what = (tenant, product_sku, use_unity, dimensions);
        rated.unpriced.push(Unpriced::of(what, reason, &tally, usage));
    }
    for ((tenant, _, _), resource) in bills {
        resource::rate(&mut rated, (terms, usage), &tenant, resource);
    }
    rated.unpriced.sort_by(|one, other| one.order().cmp(&other.order()));
    rated.total = bill::sum(rated.lines.iter().map(|line| line.amount));
    rated
}

impl Line {
    /// Sum of the steps' amounts, which is the line's amount.
    #[must_use]
    pub fn steps_total(&self) -> Amount {
        let add = |sum: Amount, step: &Step| sum.checked_add(step.amount());
        self.steps.iter().try_fold(Amount::ZERO, add).expect("steps were summed within the range")
    }
}

impl Unpriced {
    fn of(
        (tenant, product_sku, use_unity, dimensions): (Tenant, Sku, Unit, Dimensions),
        reason: UnpricedReason,
        tally: &Tally,
        usage: &[UsageRow],
    ) -> Self {
        let (quantity, count, hours) = (tally.sum(), tally.count(), tally.hours(usage));
        Self { tenant, product_sku, use_unity, dimensions, quantity, count, reason, hours }
    }

    fn order(&self) -> impl Ord + '_ {
        let first = self.hours.first().map(|hour| hour.window_start);
        (&self.tenant, &self.product_sku, &self.use_unity, self.reason, &self.dimensions, first)
    }
}

#[cfg(test)]
mod tests;
