//! Grouping: rows of usage find their prices, and those that are priced together are added up.

use std::{
    collections::{BTreeMap, HashMap as StdHashMap},
    rc::Rc,
};

use domain::{
    Dimensions, ResourceKey, Sku, Tenant, Timestamp, Unit, UsageRow, Window,
    catalogue::{PriceModel, SkuDefinition},
};
use foldhash::fast::RandomState;

use super::{
    RatingTerms, Sources, UnpricedReason, bill::BoundsHold, events::MixedAmounts, tally::Tally,
    terms::Counting,
};

/// Keys come out of stored rows, so a seeded hash that is not cryptographic is enough.
type HashMap<K, V> = StdHashMap<K, V, RandomState>;

/// All usage of one tenant, SKU and unit, by the stretch in which its price counts and, for a matrix,
/// dimensions.
pub(super) struct Resource<'c> {
    pub(super) definition: &'c SkuDefinition,
    /// At least one.
    pub(super) counting: Rc<[Counting<'c>]>,
    pub(super) bounds: BoundsHold,
    /// By first moment of the stretch.
    pub(super) parts: BTreeMap<(Timestamp, Dimensions), (Counting<'c>, Tally)>,
}

pub(super) type Bills<'c> = BTreeMap<(Tenant, Sku, Unit), Resource<'c>>;
pub(super) type Waiting = BTreeMap<(Tenant, Sku, Unit, UnpricedReason, Dimensions), Tally>;

/// What a row's price is: where it counts, or why there is none.
type Priced<'c> = Result<Counting<'c>, UnpricedReason>;

/// A tally of rows that stand under one resource and one price, or one reason for having none.
struct Stretch<'c> {
    priced: Priced<'c>,
    tally: Tally,
}

/// Adds up the rows of the span. A row costs one look-up of its resource, whatever the number of
/// prices, and nothing is copied for it.
pub(super) fn group<'c>(terms: &RatingTerms<'c>, usage: &[UsageRow]) -> (Bills<'c>, Waiting) {
    let index = Index::of(terms);
    let mixed = MixedAmounts::of(terms.catalogue, usage, |row| index.price_of(row));
    let mut stretches: HashMap<&ResourceKey, Vec<Stretch<'c>>> = HashMap::default();
    for (place, row) in usage.iter().enumerate() {
        let hour = row.key.window_start;
        if hour < terms.span.start || terms.span.end <= hour {
            continue;
        }
        let known = stretches.entry(&row.key.resource).or_default();
        let stretch = stretch_of(known, row, &index, &mixed);
        let aggregate = &row.cell.aggregate;
        stretch.tally.add(aggregate);
        if terms.sources == Sources::Listed {
            stretch.tally.note(u32::try_from(place).expect("below 2^32 rows a bill"));
        }
        if stretch.priced.is_ok_and(|found| found.price.model.per_event().is_some()) {
            stretch.tally.add_events(hour, aggregate.min, aggregate.count);
        }
    }
    let (mut bills, mut waiting) = (Bills::new(), Waiting::new());
    for (resource, stretches) in stretches {
        for stretch in stretches {
            place(&index, resource, stretch, (&mut bills, &mut waiting));
        }
    }
    subscribe(terms, &index, &mut bills);
    (bills, waiting)
}

/// The stretch of a resource that a row belongs to. The newest is looked at first: rows come by
/// time, and prices change seldom.
fn stretch_of<'s, 'c>(
    known: &'s mut Vec<Stretch<'c>>,
    row: &UsageRow,
    index: &Index<'c>,
    mixed: &MixedAmounts<'_>,
) -> &'s mut Stretch<'c> {
    let hour = row.key.window_start;
    let still = known.last().is_some_and(|newest| {
        newest.priced.is_ok_and(|found| {
            // Whether an hour of single events is told is looked up hour by hour.
            found.price.model.per_event().is_none() && holds(found.span, hour)
        })
    });
    if still {
        return known.last_mut().expect("looked at above");
    }
    let priced = index.price_of(row).and_then(|found| mixed.refuse(row).map_or(Ok(found), Err));
    let same = |stretch: &Stretch<'c>| match (stretch.priced, priced) {
        (Ok(one), Ok(other)) => one.span.start == other.span.start,
        (Err(one), Err(other)) => one == other,
        _ => false,
    };
    let at = known.iter().position(same).unwrap_or_else(|| {
        known.push(Stretch { priced, tally: Tally::default() });
        known.len() - 1
    });
    // Kept last, so that the next row finds it first.
    let newest = known.len() - 1;
    known.swap(at, newest);
    &mut known[newest]
}

fn holds(window: Window, moment: Timestamp) -> bool {
    window.start <= moment && moment < window.end
}

fn place<'c>(
    index: &Index<'c>,
    resource: &ResourceKey,
    stretch: Stretch<'c>,
    (bills, waiting): (&mut Bills<'c>, &mut Waiting),
) {
    let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource.clone();
    match stretch.priced {
        Ok(found) => {
            let known = index.find(&product_sku, &use_unity).expect("has a price");
            let dimensions = match found.price.model {
                PriceModel::Matrix(_) => dimensions,
                _ => Dimensions::none(),
            };
            let bill =
                bills.entry((tenant, product_sku, use_unity)).or_insert_with(|| known.bill());
            let part = (found.span.start, dimensions);
            let (_, tally) = bill.parts.entry(part).or_insert_with(|| (found, Tally::default()));
            tally.merge(stretch.tally);
        }
        Err(reason) => {
            let key = (tenant, product_sku, use_unity, reason, dimensions);
            waiting.entry(key).or_default().merge(stretch.tally);
        }
    }
}

/// Adds parts without usage: those of SKUs that are subscribed to, and, of a SKU that is billed at
/// all, those of its flat prices, because a flat amount is for the days of its price whenever the
/// usage came.
fn subscribe<'c>(terms: &RatingTerms<'c>, index: &Index<'c>, bills: &mut Bills<'c>) {
    let (tenant, skus) = terms.subscriptions.unzip();
    for (sku, unit) in skus.into_iter().flatten() {
        let known = index.find(sku, unit).ok().filter(|known| !known.counting.is_empty());
        let (Some(tenant), Some(known)) = (tenant, known) else { continue };
        let bill = bills
            .entry((tenant.clone(), sku.clone(), unit.clone()))
            .or_insert_with(|| known.bill());
        bill.bounds = BoundsHold::Always;
        // A matrix prices combinations, and there is none without usage.
        add_parts(bill, |model| !matches!(model, PriceModel::Matrix(_)));
    }
    for bill in bills.values_mut() {
        add_parts(bill, |model| matches!(model, PriceModel::Flat { .. }));
    }
}

fn add_parts(bill: &mut Resource<'_>, wanted: fn(&PriceModel) -> bool) {
    for found in bill.counting.iter().filter(|found| wanted(&found.price.model)) {
        let part = (found.span.start, Dimensions::none());
        bill.parts.entry(part).or_insert_with(|| (*found, Tally::default()));
    }
}

/// Finds prices without walking the catalogue for each row: by SKU, then by unit, of which there are
/// few.
struct Index<'c>(HashMap<&'c Sku, Vec<Known<'c>>>);

/// A SKU in a unit, with when which of its prices counts.
struct Known<'c> {
    definition: &'c SkuDefinition,
    counting: Rc<[Counting<'c>]>,
}

impl<'c> Known<'c> {
    fn bill(&self) -> Resource<'c> {
        Resource {
            definition: self.definition,
            counting: Rc::clone(&self.counting),
            bounds: BoundsHold::WherePriced,
            parts: BTreeMap::new(),
        }
    }
}

impl<'c> Index<'c> {
    fn of(terms: &RatingTerms<'c>) -> Self {
        let mut skus: HashMap<&'c Sku, Vec<Known<'c>>> = HashMap::default();
        for definition in &terms.catalogue.skus {
            let counting = terms.counting(definition).into();
            skus.entry(&definition.sku).or_default().push(Known { definition, counting });
        }
        Self(skus)
    }

    fn find(&self, sku: &Sku, unit: &Unit) -> Result<&Known<'c>, UnpricedReason> {
        let units = self.0.get(sku).ok_or(UnpricedReason::UnknownSku)?;
        let found = units.iter().find(|known| known.definition.unit == *unit);
        found.ok_or(UnpricedReason::UnitMismatch)
    }

    fn price_of(&self, row: &UsageRow) -> Priced<'c> {
        let (resource, hour) = (&row.key.resource, row.key.window_start);
        let known = self.find(&resource.product_sku, &resource.use_unity)?;
        match known.counting.iter().find(|found| holds(found.span, hour)) {
            Some(found) => Ok(*found),
            None if known.definition.prices.iter().any(|price| price.is_valid_at(hour)) => {
                Err(UnpricedReason::NoPriceInCurrency)
            }
            None => Err(UnpricedReason::NoPrice),
        }
    }
}
