//! The parts of a contract that name SKUs: subscriptions, overrides and scopes, and whether every
//! price can be brought into the contract's currency.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use domain::{
    Sku, Timestamp, Unit,
    catalogue::{Catalogue, Currency, Price, SkuDefinition},
    contract::{ExchangeRate, Override, Scope},
};

use super::{
    super::{
        ENTRIES_MAX,
        cursor::{Cursor, Fields},
        frame::Frame,
        sku::{PRICES_MAX, read_prices},
    },
    Setting,
};

/// Reads `subscriptions`, sorted.
pub(super) fn subscriptions(
    fields: &Fields<'_>,
    setting: &Setting<'_>,
) -> Option<Vec<(Sku, Unit)>> {
    let subscription = |entry: &Cursor<'_>| {
        let fields = entry.map(&["sku", "unit"])?;
        resource(&fields, setting).map(|resource| (resource.sku, resource.unit))
    };
    let mut list = different(fields, "subscriptions", subscription, |resource| resource.clone())?;
    list.sort();
    Some(list)
}

/// Reads `overrides`. Their prices are in the contract's currency where they name none.
pub(super) fn overrides(
    fields: &Fields<'_>,
    setting: &Setting<'_>,
    coverage: Option<&Coverage<'_>>,
) -> Option<Vec<Override>> {
    let read = |entry: &Cursor<'_>| {
        let fields = entry.map(&["sku", "unit", "prices"])?;
        let resource = resource(&fields, setting);
        let definition = resource.as_ref().and_then(|resource| resource.definition);
        let frame = definition.map_or(Frame::ANY, Frame::of);
        let cursor = fields.need("prices", "list its prices, each with valid_from and model")?;
        let prices = read_prices(&cursor, setting.currency(), &frame)?;
        if prices.is_empty() {
            return cursor.fail("no prices", "list at least one, or remove the override");
        }
        if let Some(coverage) = coverage {
            coverage.check_override(&cursor, &prices)?;
        }
        let Resource { sku, unit, .. } = resource?;
        Some(Override { sku, unit, prices })
    };
    different(fields, "overrides", read, |found| (found.sku.clone(), found.unit.clone()))
}

/// Reads the `skus` that something is about; all of them where the key is not given.
pub(super) fn scope(fields: &Fields<'_>, setting: &Setting<'_>) -> Option<Scope> {
    let Some(cursor) = fields.get("skus") else { return Some(Scope::All) };
    let entries = cursor.list(ENTRIES_MAX)?;
    if entries.is_empty() {
        return cursor.fail("no SKUs", "name at least one, or remove `skus` to mean all of them");
    }
    let mut skus = BTreeSet::new();
    let mut complete = true;
    for entry in entries {
        let sku = match &setting.known {
            Some(known) => known.sku(&entry).map(|definitions| definitions[0].sku.clone()),
            None => entry.name(Sku::new),
        };
        match sku {
            None => complete = false,
            Some(sku) if skus.contains(&sku) => {
                complete = false;
                entry.fail::<()>(format!("SKU `{sku}` stands in the list twice"), "remove one");
            }
            Some(sku) => {
                skus.insert(sku);
            }
        }
    }
    complete.then(|| Scope::Skus(skus.into_iter().collect()))
}

/// A SKU in a unit, with its definition where there is a catalogue at hand.
struct Resource<'s> {
    sku: Sku,
    unit: Unit,
    definition: Option<&'s SkuDefinition>,
}

fn resource<'s>(fields: &Fields<'_>, setting: &Setting<'s>) -> Option<Resource<'s>> {
    if let Some(known) = &setting.known {
        let definition = known.definition(fields)?;
        let (sku, unit) = (definition.sku.clone(), definition.unit.clone());
        return Some(Resource { sku, unit, definition: Some(definition) });
    }
    let sku = fields.need("sku", "name the SKU").and_then(|sku| sku.name(Sku::new));
    // Which unit is meant where none is given, only the catalogue knows.
    let unit = match fields.get("unit") {
        Some(unit) => unit.name(Unit::new),
        None => Unit::new("?").ok(),
    };
    Some(Resource { sku: sku?, unit: unit?, definition: None })
}

/// Reads a list, empty where the key is not given, of which no two entries are for one SKU and
/// unit.
fn different<T>(
    fields: &Fields<'_>,
    key: &str,
    read: impl Fn(&Cursor<'_>) -> Option<T>,
    resource_of: impl Fn(&T) -> (Sku, Unit),
) -> Option<Vec<T>> {
    let Some(cursor) = fields.get(key) else { return Some(Vec::new()) };
    let entries = cursor.list(ENTRIES_MAX)?;
    let mut seen = BTreeSet::new();
    let mut list = Vec::new();
    let mut complete = true;
    for entry in &entries {
        let Some(value) = read(entry) else {
            complete = false;
            continue;
        };
        let (sku, unit) = resource_of(&value);
        if !seen.insert((sku.clone(), unit)) {
            complete = false;
            entry.fail::<()>(
                format!("SKU `{sku}` stands here a second time in the same unit"),
                "keep one entry for each SKU and unit",
            );
        }
        list.push(value);
    }
    complete.then_some(list)
}

/// What prices have to come to: the contract's currency, while the contract holds.
pub(super) struct Coverage<'r> {
    currency: Currency,
    from: Timestamp,
    to: Option<Timestamp>,
    rates: Cow<'r, [ExchangeRate]>,
}

impl<'r> Coverage<'r> {
    /// Takes what is known, or gives `None` where any of it has a mistake.
    pub(super) fn new(
        setting: &Setting<'_>,
        valid_to: Option<Option<Timestamp>>,
        rates: Option<&'r [ExchangeRate]>,
    ) -> Option<Self> {
        Self::of(setting, valid_to?, rates?)
    }

    /// Takes an end and rates that are known.
    pub(super) fn of(
        setting: &Setting<'_>,
        to: Option<Timestamp>,
        rates: impl Into<Cow<'r, [ExchangeRate]>>,
    ) -> Option<Self> {
        let (currency, from) = (setting.currency?, setting.valid_from?);
        Some(Self { currency, from, to, rates: rates.into() })
    }

    /// The first of a SKU's prices that can become no money of the contract, where the SKU has none
    /// in the contract's own currency.
    fn gap<'p>(&self, prices: &'p [Price]) -> Option<&'p Price> {
        if prices.iter().any(|price| price.currency == self.currency) {
            return None;
        }
        prices.iter().find(|price| {
            let used = price.valid_to.is_none_or(|end| end > self.from)
                && self.to.is_none_or(|end| price.valid_from < end);
            let start = price.valid_from.max(self.from);
            let covers =
                |rate: &ExchangeRate| rate.from == price.currency && rate.valid_from <= start;
            used && !self.rates.iter().any(covers)
        })
    }

    fn check_override(&self, cursor: &Cursor<'_>, prices: &[Price]) -> Option<()> {
        let Some(gap) = self.gap(prices) else { return Some(()) };
        let entries = cursor.list(PRICES_MAX)?;
        let mut currencies = entries.iter().filter_map(|entry| entry.any_map()?.get("currency"));
        let found = currencies.find(|currency| currency.text() == Some(gap.currency.code()));
        found.as_ref().unwrap_or(cursor).fail(
            format!(
                "a price in {}, and no rate in `exchange` from it begins at or before the price and \
                 the contract",
                gap.currency
            ),
            format!("add the rate to `exchange`, or give the price in {}", self.currency),
        )
    }

    /// Notes each other currency that only a missing rate keeps from the contract's.
    pub(super) fn check_catalogue(
        &self,
        fields: &Fields<'_>,
        catalogue: &Catalogue,
        overrides: &[Override],
    ) -> Option<()> {
        let overridden: BTreeSet<_> =
            overrides.iter().map(|found| (&found.sku, &found.unit)).collect();
        let mut gaps: BTreeMap<&str, Vec<&Sku>> = BTreeMap::new();
        for definition in &catalogue.skus {
            if overridden.contains(&(&definition.sku, &definition.unit)) {
                continue;
            }
            if let Some(gap) = self.gap(&definition.prices) {
                gaps.entry(gap.currency.code()).or_default().push(&definition.sku);
            }
        }
        let cursor = fields.get("currency")?;
        for (code, skus) in gaps {
            let more = match skus.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            cursor.fail::<()>(
                format!(
                    "catalogue `{}` prices `{}`{more} in {code}, not in {}, and no rate in \
                     `exchange` from {code} begins at or before valid_from",
                    catalogue.version, skus[0], self.currency
                ),
                format!(
                    "add the rate to `exchange`, or override these prices in {}",
                    self.currency
                ),
            );
        }
        Some(())
    }
}
