//! Rating: usage rows and a catalogue in, explained lines out. Pure: the same inputs give the same
//! lines, whatever the order of the rows and however they are split over partitions and segments.
//!
//! What is not priced is never lost: it comes back as [`Unpriced`] with its reason, and rates by
//! itself once the catalogue catches up.

use std::collections::{BTreeMap, HashMap};

use domain::{
    Dimensions, Name, Offset, SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, Window,
    catalogue::{
        Catalogue, Currency, Meter, NegativePolicy, Price, PriceModel, Rounding, SkuDefinition,
    },
};

use crate::amount::Amount;
use bill::{Measured, Part};
use events::MixedAmounts;
use tally::Tally;

pub(crate) mod bill;
mod charge;
pub(crate) mod events;
mod step;
pub(crate) mod tally;

pub use step::Step;

/// A rated period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// Version of the catalogue.
    pub catalogue: Name,
    /// Currency of every amount.
    pub currency: Currency,
    /// The rule that each line was rounded by.
    pub rounding: Rounding,
    /// The period.
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
    /// Pulses.
    pub count: u128,
    /// Sum of their amounts.
    pub sum: Amount,
    /// The stretches of the log they came from, in order.
    pub segments: Vec<SegmentPart>,
}

/// A segment of the log that added to an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPart {
    /// The segment.
    pub segment: SegmentId,
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
    /// Pulses.
    pub count: u128,
    /// Why.
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

/// Rates the rows whose window starts in `period`; others are no part of it.
///
/// - An hour belongs to the price version that is valid at its start. A price that changes inside
///   the period splits the usage there, and **each version prices its own part as a period of its
///   own**: tiers, packages, free units and flat fees start again.
/// - Minimum and maximum hold once for the whole period and SKU, whatever the number of versions:
///   those of the newest version that is valid in the period count. They hold only for SKUs of
///   which the tenant has usage that is priced, be it a quantity of zero.
/// - The meter acts on the whole period and group: sum of sums, sum of counts, least, greatest,
///   average, or the amount with the greatest (time, amount).
/// - A percentage with terms per event needs each event's amount. An hour of one combination of
///   dimensions tells it where its least and greatest amount are the same: each event's is then
///   sum / count. Other hours wait by themselves.
/// - A matrix gives one line for each combination of dimensions; its free units are taken by the
///   combinations in the order of their text. Other models price all combinations together.
/// - Each line is rounded once, by the catalogue's rule, which it states.
///
/// Costs a pass over the rows and a sort of their groups.
#[must_use]
pub fn rate(catalogue: &Catalogue, usage: &[UsageRow], period: Window) -> Rated {
    let (bills, waiting) = group(catalogue, usage, period);
    let mut rated = Rated {
        catalogue: catalogue.version.clone(),
        currency: catalogue.currency,
        rounding: catalogue.rounding,
        period,
        lines: Vec::new(),
        unpriced: Vec::new(),
        total: Amount::ZERO,
    };
    for (key, tally) in waiting {
        let (tenant, product_sku, use_unity, reason, dimensions) = key;
        rated.unpriced.push(unpriced(tenant, product_sku, use_unity, dimensions, reason, tally));
    }
    for ((tenant, _, _), resource) in bills {
        rate_resource(&mut rated, tenant, resource);
    }
    rated.unpriced.sort_by(|one, other| one.order().cmp(&other.order()));
    rated.total = bill::sum(rated.lines.iter().map(|line| line.amount));
    rated
}

/// All usage of one tenant, SKU and unit, by price version and, for a matrix, dimensions.
struct Resource<'c> {
    definition: &'c SkuDefinition,
    parts: BTreeMap<(Timestamp, Dimensions), (&'c Price, Tally)>,
}

type Bills<'c> = BTreeMap<(Tenant, Sku, Unit), Resource<'c>>;
type Waiting = BTreeMap<(Tenant, Sku, Unit, UnpricedReason, Dimensions), Tally>;

fn group<'c>(catalogue: &'c Catalogue, usage: &[UsageRow], period: Window) -> (Bills<'c>, Waiting) {
    let index = Index::of(catalogue);
    let mixed = MixedAmounts::of(catalogue, usage, |row| index.price_of(row));
    let (mut bills, mut waiting) = (Bills::new(), Waiting::new());
    for row in usage {
        let (resource, hour) = (&row.key.resource, row.key.window_start);
        if hour < period.start || period.end <= hour {
            continue;
        }
        let key =
            (resource.tenant.clone(), resource.product_sku.clone(), resource.use_unity.clone());
        match index.price_of(row).and_then(|found| mixed.refuse(row).map_or(Ok(found), Err)) {
            Ok((definition, price)) => {
                let dimensions = match price.model {
                    PriceModel::Matrix(_) => resource.dimensions.clone(),
                    _ => Dimensions::none(),
                };
                let bill = bills
                    .entry(key)
                    .or_insert_with(|| Resource { definition, parts: BTreeMap::new() });
                let part = (price.valid_from, dimensions);
                let (_, tally) =
                    bill.parts.entry(part).or_insert_with(|| (price, Tally::default()));
                tally.add(row);
                if price.model.per_event().is_some() {
                    let aggregate = &row.cell.aggregate;
                    tally.add_events(hour, aggregate.min, aggregate.count);
                }
            }
            Err(reason) => {
                let (tenant, sku, unit) = key;
                let key = (tenant, sku, unit, reason, resource.dimensions.clone());
                waiting.entry(key).or_default().add(row);
            }
        }
    }
    (bills, waiting)
}

/// Finds prices without walking the catalogue for each row.
struct Index<'c> {
    currency: Currency,
    definitions: HashMap<(&'c Sku, &'c Unit), &'c SkuDefinition>,
    skus: std::collections::HashSet<&'c Sku>,
}

impl<'c> Index<'c> {
    fn of(catalogue: &'c Catalogue) -> Self {
        let definitions = catalogue.skus.iter();
        Self {
            currency: catalogue.currency,
            definitions: definitions.map(|found| ((&found.sku, &found.unit), found)).collect(),
            skus: catalogue.skus.iter().map(|definition| &definition.sku).collect(),
        }
    }

    fn price_of(&self, row: &UsageRow) -> Result<(&'c SkuDefinition, &'c Price), UnpricedReason> {
        let (resource, hour) = (&row.key.resource, row.key.window_start);
        let (sku, unit) = (&resource.product_sku, &resource.use_unity);
        let Some(definition) = self.definitions.get(&(sku, unit)) else {
            let known = self.skus.contains(sku);
            return Err(if known {
                UnpricedReason::UnitMismatch
            } else {
                UnpricedReason::UnknownSku
            });
        };
        match definition.price_at(self.currency, hour) {
            Some(price) => Ok((definition, price)),
            None if definition.prices.iter().any(|price| price.is_valid_at(hour)) => {
                Err(UnpricedReason::NoPriceInCurrency)
            }
            None => Err(UnpricedReason::NoPrice),
        }
    }
}

fn rate_resource(rated: &mut Rated, tenant: Tenant, resource: Resource<'_>) {
    let definition = resource.definition;
    let Some(bounds) = newest_price(definition, rated.currency, rated.period) else {
        unreachable!("a part exists only under a price that is valid in the period")
    };
    let measured: Vec<Measured<'_>> = resource
        .parts
        .iter()
        .map(|((_, dimensions), (price, tally))| {
            measure(price, dimensions, tally, (definition.meter, definition.negative))
        })
        .collect();
    let bill = bill::bill(&measured, bounds, rated.rounding);
    for (((_, (price, tally)), measured), part) in
        resource.parts.into_iter().zip(measured).zip(bill.parts)
    {
        match part {
            Ok(part) => {
                let quantity = measured.quantity.map_or(Amount::ZERO, Amount::of);
                let place = LinePlace { tenant: &tenant, definition, price };
                let hours = tally.into_hours();
                rated.lines.push(place.line(
                    measured.dimensions,
                    quantity,
                    part,
                    rated.rounding,
                    hours,
                ));
            }
            Err(reason) => rated.unpriced.push(unpriced(
                tenant.clone(),
                definition.sku.clone(),
                definition.unit.clone(),
                measured.dimensions,
                reason,
                tally,
            )),
        }
    }
    if let Some(part) = bill.bound {
        let place = LinePlace { tenant: &tenant, definition, price: bounds };
        let line = place.line(Dimensions::none(), Amount::ZERO, part, Rounding::Exact, Vec::new());
        rated.lines.push(line);
    }
}

/// The newest price that is valid at any moment of the period.
pub(crate) fn newest_price(
    definition: &SkuDefinition,
    currency: Currency,
    period: Window,
) -> Option<&Price> {
    let inside = |price: &&Price| {
        price.currency == currency
            && price.valid_from < period.end
            && price.valid_to.is_none_or(|end| period.start < end)
    };
    definition.prices.iter().rev().find(inside)
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
    let events = tally.events();
    Measured { price, dimensions: dimensions.clone(), quantity, events, origin }
}

/// Where a line stands.
struct LinePlace<'a> {
    tenant: &'a Tenant,
    definition: &'a SkuDefinition,
    price: &'a Price,
}

impl LinePlace<'_> {
    fn line(
        &self,
        dimensions: Dimensions,
        quantity: Amount,
        part: Part,
        rounding: Rounding,
        hours: Vec<Hour>,
    ) -> Line {
        let line = Line {
            tenant: self.tenant.clone(),
            product_sku: self.definition.sku.clone(),
            use_unity: self.definition.unit.clone(),
            dimensions,
            model: self.price.model.as_str(),
            quantity,
            amount: part.amount,
            rounding,
            valid_from: self.price.valid_from,
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
    tenant: Tenant,
    product_sku: Sku,
    use_unity: Unit,
    dimensions: Dimensions,
    reason: UnpricedReason,
    tally: Tally,
) -> Unpriced {
    let (quantity, count) = (tally.sum(), tally.count());
    let hours = tally.into_hours();
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
