//! Index: finds a SKU's prices in every part of a period without walking the catalogues for each row.

use std::{collections::HashMap as StdHashMap, ptr, rc::Rc};

use domain::{
    ResourceKey, Sku, Timestamp, Unit, UsageRow,
    catalogue::{Catalogue, Price, SkuDefinition},
    contract::Contract,
};
use foldhash::fast::RandomState;

use super::{
    UnpricedReason,
    pieces::{Found, Pieces},
    terms::RatingTerms,
};

/// Keys come out of stored rows, so a seeded hash that is not cryptographic is enough.
pub(super) type HashMap<K, V> = StdHashMap<K, V, RandomState>;

type Skus<'c> = HashMap<&'c Sku, Vec<&'c SkuDefinition>>;

/// Where everything stands in the parts of a period.
pub(super) struct Index<'t, 'c> {
    terms: &'t RatingTerms<'c>,
    /// For each part its catalogue's SKUs. Parts under one catalogue share them.
    skus: Vec<Rc<Skus<'c>>>,
    /// For each part its contract's own prices.
    overrides: Vec<HashMap<(&'c Sku, &'c Unit), &'c [Price]>>,
}

impl<'t, 'c> Index<'t, 'c> {
    pub(super) fn of(terms: &'t RatingTerms<'c>) -> Self {
        let mut skus: Vec<Rc<Skus<'c>>> = Vec::new();
        for (place, part) in terms.parts.iter().enumerate() {
            let same = |other: &usize| ptr::eq(terms.parts[*other].catalogue, part.catalogue);
            skus.push(match (0..place).find(same) {
                Some(other) => Rc::clone(&skus[other]),
                None => Rc::new(by_sku(part.catalogue)),
            });
        }
        let overrides =
            terms.parts.iter().map(|part| part.contract.map_or_else(HashMap::default, own));
        Self { terms, skus, overrides: overrides.collect() }
    }

    /// The prices of a SKU in a unit.
    pub(super) fn pieces(&self, sku: &Sku, unit: &Unit) -> Pieces<'c> {
        let found = (0..self.skus.len()).map(|part| self.find(part, sku, unit));
        Pieces::of(self.terms, (sku, unit), found)
    }

    fn find(&self, part: usize, sku: &Sku, unit: &Unit) -> Option<Found<'c>> {
        let units = self.skus[part].get(sku)?;
        let definition = units.iter().find(|known| known.unit == *unit)?;
        let own = self.overrides[part].get(&(sku, unit)).copied();
        Some(Found { definition, prices: own.unwrap_or(&definition.prices) })
    }

    /// Why nothing prices a row that is in no piece.
    pub(super) fn why_unpriced(&self, row: &UsageRow) -> UnpricedReason {
        let (resource, hour) = (&row.key.resource, row.key.window_start);
        let part = self.terms.parts.iter().position(|part| part.window.holds(hour));
        part.map_or(UnpricedReason::NoPrice, |part| self.why_unpriced_in(part, resource, hour))
    }

    fn why_unpriced_in(
        &self,
        part: usize,
        resource: &ResourceKey,
        hour: Timestamp,
    ) -> UnpricedReason {
        let (sku, unit) = (&resource.product_sku, &resource.use_unity);
        match self.find(part, sku, unit) {
            Some(found) if found.prices.iter().any(|price| price.is_valid_at(hour)) => {
                UnpricedReason::NoPriceInCurrency
            }
            Some(_) => UnpricedReason::NoPrice,
            None if self.skus[part].contains_key(sku) => UnpricedReason::UnitMismatch,
            None => UnpricedReason::UnknownSku,
        }
    }

    /// Tells whether any price may need the amount of each event.
    pub(super) fn has_prices_per_event(&self) -> bool {
        let catalogues = self.terms.parts.iter().flat_map(|part| &part.catalogue.skus);
        let prices = catalogues.flat_map(|definition| &definition.prices);
        let own = self.overrides.iter().flat_map(|own| own.values().copied().flatten());
        prices.chain(own).any(|price| price.model.per_event().is_some())
    }
}

fn by_sku(catalogue: &Catalogue) -> Skus<'_> {
    let mut skus = Skus::default();
    for definition in &catalogue.skus {
        skus.entry(&definition.sku).or_default().push(definition);
    }
    skus
}

fn own(contract: &Contract) -> HashMap<(&Sku, &Unit), &[Price]> {
    let own = contract.overrides.iter();
    own.map(|own| ((&own.sku, &own.unit), own.prices.as_slice())).collect()
}
