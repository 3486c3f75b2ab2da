//! Rating: usage rows and a catalogue in, explained lines out. Pure: the same inputs give the same
//! lines, whatever the order of the rows and however they are split over partitions and segments.
//!
//! What is not priced is never lost: it comes back as [`Unpriced`] with its reason, and rates by
//! itself once the catalogue catches up.

use std::{borrow::Cow, collections::BTreeSet};

use domain::{
    Dimensions, Name, Offset, SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, Window,
    catalogue::{Catalogue, Currency, Meter, NegativePolicy, Price, Rounding, SkuDefinition},
};

use crate::{amount::Amount, moment::Calendar};
use bill::{Finish, Part};
use group::Resource;
use measured::Measured;
use tally::Tally;
use terms::Counting;

mod step;
mod terms;

pub(crate) mod events;

pub(crate) mod measured;
pub(crate) mod tally;

mod charge;

pub(crate) mod bill;

mod group;

pub use step::Step;
pub use terms::{RatingTerms, Share, Sources};

/// A rated period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// Version of the catalogue.
    pub catalogue: Name,
    /// Currency of every amount.
    pub currency: Currency,
    /// The rule that each line was rounded by.
    pub rounding: Rounding,
    /// The stretch that was rated.
    pub period: Window,
    /// Sorted by tenant, SKU, unit, price version, dimensions; a line that brings several others to
    /// a minimum or maximum follows them.
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
    /// The combination that a matrix line prices; none for other models, whose tiers, packages and
    /// free units act on the whole quantity.
    pub dimensions: Dimensions,
    /// The price model's word.
    pub model: &'static str,
    /// What the meter gave, before any conversion. Zero on a line that only meets a bound.
    pub quantity: Amount,
    /// The rounded amount.
    pub amount: Amount,
    /// The rule it was rounded by.
    pub rounding: Rounding,
    /// First moment of the price version.
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
    /// The last record in it that changed the hour.
    pub offset_last: Offset,
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
    /// The SKU refuses negative amounts, and there is one.
    NegativeRefused,
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
            Self::NegativeRefused => "negative_refused",
            Self::OutOfRange => "out_of_range",
        }
    }

    /// What to do about it, for a person.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::UnknownSku => "publish a catalogue with this SKU",
            Self::UnitMismatch => "publish the SKU with this unit, or mend the sender's unit",
            Self::Retired => "stop sending it, or publish a catalogue that prices it again",
            Self::NoPrice => "publish a price that is valid at these hours",
            Self::NoPriceInCurrency => "publish a price in the currency of the bill",
            Self::NoMatrixPrice => "publish a cell for these dimensions, or a default",
            Self::AmountsUnknown => {
                "let pulses repeat their amount in the price's amount_dimension; where that was \
                 declared too late, replay with it"
            }
            Self::NegativeRefused => "send adjustments under a SKU that accepts them",
            Self::OutOfRange => "check the quantity and the price: their product is not money",
        }
    }
}

/// Rates a whole period in UTC under a catalogue alone; see [`rate_under`].
#[must_use]
pub fn rate(catalogue: &Catalogue, usage: &[UsageRow], period: Window) -> Rated {
    rate_under(&RatingTerms::of(catalogue, period, &Calendar::UTC), usage)
}

/// Rates the rows whose window starts in the span of the terms; others are no part of it.
///
/// - An hour belongs to the price version that is valid at its start. A price that changes inside
///   the period splits the usage there, and **each version prices its own part as a shorter period of
///   its own**: packages start again, and what a price says of a period (flat amounts, free units,
///   free events, fees and edges of tiers) is its share by calendar days, rounded so that equal
///   parts add up to the whole.
/// - A flat price is due for the days of its version once the SKU is used at all.
/// - Discounts come off what the model gives. Minimum and maximum hold after them, once for the
///   whole span and SKU, whatever the number of versions: those of the newest version count, by the
///   share of the days on which the SKU has a price. They hold only for SKUs that are subscribed to,
///   or of which the tenant has usage that is priced, be it a quantity of zero.
/// - The meter acts on the whole span and group: sum of sums, sum of counts, least, greatest,
///   average, or the amount with the greatest (time, amount).
/// - A percentage with terms per event needs each event's amount. An hour of one combination of
///   dimensions tells it where its least and greatest amount are the same: each event's is then
///   sum / count. Other hours wait by themselves.
/// - A matrix gives one line for each combination of dimensions; its free units are taken by the
///   combinations in the order of their text. Other models price all combinations together.
/// - A price in another currency goes over into the bill's last of all, by the rate of the terms.
/// - Each line is rounded once, by the rule of the terms, which it states.
///
/// Costs a look-up a row, and a sort of the groups.
#[must_use]
pub fn rate_under(terms: &RatingTerms<'_>, usage: &[UsageRow]) -> Rated {
    let (bills, waiting) = group::group(terms, usage);
    let mut rated = Rated {
        catalogue: terms.catalogue.version.clone(),
        currency: terms.currency,
        rounding: terms.rounding,
        period: terms.span,
        lines: Vec::new(),
        unpriced: Vec::new(),
        total: Amount::ZERO,
    };
    for ((tenant, product_sku, use_unity, reason, dimensions), tally) in waiting {
        let what = (tenant, product_sku, use_unity, dimensions);
        rated.unpriced.push(unpriced(what, reason, &tally, usage));
    }
    for ((tenant, _, _), resource) in bills {
        rate_resource(&mut rated, terms, usage, (tenant, resource));
    }
    rated.unpriced.sort_by(|one, other| one.order().cmp(&other.order()));
    rated.total = bill::sum(rated.lines.iter().map(|line| line.amount));
    rated
}

fn rate_resource(
    rated: &mut Rated,
    terms: &RatingTerms<'_>,
    usage: &[UsageRow],
    (tenant, resource): (Tenant, Resource<'_>),
) {
    let definition = resource.definition;
    let newest = resource.counting.last().expect("a resource has a price that counts");
    let shares = resource.counting.iter().map(|found| terms.share(found.span));
    let (bounds, is_written) = bounds_of(newest.price, shares);
    let exchange = terms.exchange_from(bounds.currency);
    let rules = Finish {
        bounds: &bounds,
        exchange,
        discounts: terms.discounts_on(&definition.sku),
        bounds_hold: resource.bounds,
        bound_rounding: match exchange {
            None if is_written => Rounding::Exact,
            _ => terms.rounding,
        },
        rounding: terms.rounding,
    };
    let parts = resource.parts.values();
    let parts = parts.map(|(found, _)| (found.price, terms.share(found.span)));
    let prices: Vec<_> = parts.map(|(price, share)| (share.of_price(price), share)).collect();
    let measured = measured_of(terms, &resource, &prices);
    let bill = bill::bill(&measured, &rules);
    for ((found, tally), (measured, part)) in
        resource.parts.values().zip(measured.into_iter().zip(bill.parts))
    {
        let place = LinePlace { tenant: &tenant, definition, found, terms };
        place.add_to(rated, usage, (tally, measured, part));
    }
    if let Some(part) = bill.bound {
        let place = LinePlace { tenant: &tenant, definition, found: newest, terms };
        let line = place.line(Dimensions::none(), Amount::ZERO, part, Vec::new());
        rated.lines.push(Line { rounding: rules.bound_rounding, span: terms.span, ..line });
    }
}

/// What each part of a resource is priced for, under its price for its share of the period.
fn measured_of<'p>(
    terms: &RatingTerms<'_>,
    resource: &Resource<'_>,
    prices: &'p [(Cow<'_, Price>, Share)],
) -> Vec<Measured<'p>> {
    let meter = (resource.definition.meter, resource.definition.negative);
    let parts = resource.parts.iter().zip(prices);
    parts
        .map(|(((since, dimensions), (_, tally)), (price, share))| {
            let exchange = terms.exchange_from(price.currency);
            let mut measured = measure(price, dimensions, tally, meter);
            let prorated = Step::Prorated { days: share.days, of: share.of };
            measured.origin.extend((!share.is_whole()).then_some(prorated));
            Measured { exchange, since: *since, ..measured }
        })
        .collect()
}

/// The newest price's minimum and maximum for the days on which the SKU has a price, and whether they
/// are as they were written.
fn bounds_of(newest: &Price, shares: impl Iterator<Item = Share> + Clone) -> (Price, bool) {
    let covered: u32 = shares.clone().map(|share| share.days).sum();
    let is_written = shares.clone().next().is_some_and(|share| covered == share.of);
    if is_written {
        return (newest.clone(), true);
    }
    let of = |bound: Option<domain::Quantity>| {
        bound.map(|bound| {
            let parts = shares.clone().map(|share| share.of(bound));
            let add = |sum: domain::Quantity, part| sum.checked_add(part);
            let sum = parts.into_iter().try_fold(domain::Quantity::ZERO, add);
            sum.expect("parts of a bound are no more than it")
        })
    };
    (Price { minimum: of(newest.minimum), maximum: of(newest.maximum), ..newest.clone() }, false)
}

/// What the meter gives of a tally, for its price.
pub(crate) fn measure<'c>(
    price: &'c Price,
    dimensions: &Dimensions,
    tally: &Tally,
    (meter, negative): (Meter, NegativePolicy),
) -> Measured<'c> {
    let quantity = tally.metered(meter, negative);
    let origin = quantity.ok().map(|quantity| Step::Metered { meter, quantity });
    let (origin, events) = (origin.into_iter().collect(), tally.events());
    let dimensions = dimensions.clone();
    let since = price.valid_from;
    Measured { price, since, exchange: None, dimensions, quantity, events, origin }
}

/// Where a line stands.
struct LinePlace<'a> {
    tenant: &'a Tenant,
    definition: &'a SkuDefinition,
    found: &'a Counting<'a>,
    terms: &'a RatingTerms<'a>,
}

impl LinePlace<'_> {
    /// Adds the line of a part, or its usage to what waits.
    fn add_to(
        &self,
        rated: &mut Rated,
        usage: &[UsageRow],
        (tally, measured, part): (&Tally, Measured<'_>, Result<Part, UnpricedReason>),
    ) {
        match part {
            Ok(part) => {
                let quantity = measured.quantity.map_or(Amount::ZERO, Amount::of);
                let line = self.line(measured.dimensions, quantity, part, tally.hours(usage));
                rated.lines.push(line);
            }
            Err(reason) => {
                let (sku, unit) = (self.definition.sku.clone(), self.definition.unit.clone());
                let what = (self.tenant.clone(), sku, unit, measured.dimensions);
                rated.unpriced.push(unpriced(what, reason, tally, usage));
            }
        }
    }

    fn line(&self, dimensions: Dimensions, quantity: Amount, part: Part, hours: Vec<Hour>) -> Line {
        let line = Line {
            tenant: self.tenant.clone(),
            product_sku: self.definition.sku.clone(),
            use_unity: self.definition.unit.clone(),
            dimensions,
            model: self.found.price.model.as_str(),
            quantity,
            amount: part.amount,
            rounding: self.terms.rounding,
            valid_from: self.found.price.valid_from,
            span: self.found.span,
            steps: part.steps,
            hours,
        };
        debug_assert_eq!(line.steps_total(), line.amount, "the steps add up to the line");
        line
    }
}

impl Line {
    /// Sum of the steps' amounts, which is the line's amount.
    #[must_use]
    pub fn steps_total(&self) -> Amount {
        let add = |sum: Amount, step: &Step| sum.checked_add(step.amount());
        self.steps.iter().try_fold(Amount::ZERO, add).expect("steps were summed within the range")
    }
}

fn unpriced(
    (tenant, product_sku, use_unity, dimensions): (Tenant, Sku, Unit, Dimensions),
    reason: UnpricedReason,
    tally: &Tally,
    usage: &[UsageRow],
) -> Unpriced {
    let (quantity, count, hours) = (tally.sum(), tally.count(), tally.hours(usage));
    Unpriced { tenant, product_sku, use_unity, dimensions, quantity, count, reason, hours }
}

impl Unpriced {
    fn order(&self) -> impl Ord + '_ {
        let first = self.hours.first().map(|hour| hour.window_start);
        (&self.tenant, &self.product_sku, &self.use_unity, self.reason, &self.dimensions, first)
    }
}

#[cfg(test)]
mod tests;
