//! Editions: which version of the catalogue is in effect when, and by which each part of a billing
//! period is priced.
//!
//! A version is in effect from its date until the next one's. So publishing leaves what lies before
//! the version's date as it is. A SKU that a version leaves out is retired from then on: a contract
//! that subscribes to it, or has prices of its own for it, keeps it as it was until the contract's
//! end, or until a version names it as retired. Other usage of it waits.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use domain::{
    Name, Sku, Tenant, Timestamp, Unit, Window,
    catalogue::{Catalogue, Currency, SkuDefinition},
    contract::{CatalogueChoice, Contract},
};

use crate::{
    invoice::{Invoice, standard_contract},
    moment::Calendar,
    rate::{Unpriced, UnpricedReason},
    timeline::{BillingPeriod, Month, Stretch},
};

/// A version of the catalogue as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What it says.
    pub catalogue: Arc<Catalogue>,
    /// Place in the order of publishing.
    pub sequence: u64,
    /// When it was published.
    pub published_at: Timestamp,
}

/// A SKU in a unit.
pub type Priced<'c> = (&'c Sku, &'c Unit);

/// Versions with retired SKUs, by place and what is kept.
type Made = HashMap<(usize, Vec<(Sku, Unit)>), Arc<Catalogue>>;

/// The versions of the catalogue, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Editions(Vec<Edition>);

/// A version while it is in effect: until the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edition {
    from: Timestamp,
    catalogue: Arc<Catalogue>,
}

impl Editions {
    /// Puts versions in the order of their dates; `None` where there are none. Of two with one date the
    /// one that was published last is in effect. The first that was published reaches back without
    /// bound, unless its file has a date; before the first date nothing has a price.
    #[must_use]
    pub fn of(published: &[Published]) -> Option<Self> {
        let first = published.iter().map(|version| version.sequence).min()?;
        let date = |version: &Published| match version.catalogue.effective_from {
            Some(from) => from,
            None if version.sequence == first => Timestamp::MIN,
            None => version.published_at,
        };
        let mut ordered: Vec<&Published> = published.iter().collect();
        ordered.sort_by_key(|version| (date(version), version.sequence));
        let mut editions = Self(Vec::with_capacity(ordered.len() + 1));
        for version in ordered {
            editions.add(date(version), Arc::clone(&version.catalogue));
        }
        let earliest = editions.0.first()?;
        if earliest.from > Timestamp::MIN {
            let before = Edition { from: Timestamp::MIN, catalogue: unpriced(&earliest.catalogue) };
            editions.0.insert(0, before);
        }
        Some(editions)
    }

    /// One version that is always in effect.
    #[must_use]
    pub fn only(catalogue: Arc<Catalogue>) -> Self {
        Self(vec![Edition { from: Timestamp::MIN, catalogue }])
    }

    /// The same with one more, which is published last.
    #[must_use]
    pub fn with(&self, catalogue: Arc<Catalogue>, from: Timestamp) -> Self {
        let mut editions = self.clone();
        editions.add(from, catalogue);
        editions
    }

    /// Adds one that takes the place of those with its date.
    fn add(&mut self, from: Timestamp, catalogue: Arc<Catalogue>) {
        let place = self.0.partition_point(|edition| edition.from < from);
        let edition = Edition { from, catalogue };
        match self.0.get_mut(place).filter(|same| same.from == from) {
            Some(same) => *same = edition,
            None => self.0.insert(place, edition),
        }
    }

    /// The versions, in the order of their dates.
    pub fn catalogues(&self) -> impl Iterator<Item = &Arc<Catalogue>> {
        self.0.iter().map(|edition| &edition.catalogue)
    }

    /// The names of the versions that are in effect in a window, in order.
    #[must_use]
    pub fn names_in(&self, window: Window) -> Vec<&Name> {
        let inside = self.0.iter().skip(self.place_at(window.start));
        let inside = inside.take_while(|edition| edition.from < window.end);
        inside.map(|edition| &edition.catalogue.version).collect()
    }

    fn place_at(&self, moment: Timestamp) -> usize {
        self.0.partition_point(|edition| edition.from <= moment).saturating_sub(1)
    }

    /// The version that is in effect at a moment.
    #[must_use]
    pub fn at(&self, moment: Timestamp) -> &Arc<Catalogue> {
        &self.0[self.place_at(moment)].catalogue
    }

    /// The version that is in effect right before a moment.
    #[must_use]
    pub fn before(&self, moment: Timestamp) -> Option<&Catalogue> {
        let place = self.0.partition_point(|edition| edition.from < moment).checked_sub(1)?;
        Some(&self.0[place].catalogue)
    }

    /// Where the currency of standard terms changes inside a month in UTC: the moment, the currency
    /// before, the currency after. Standard terms take it up with the next month, and until then have
    /// no price in their own.
    #[must_use]
    pub fn currency_changes_inside_months(&self) -> Vec<(Timestamp, Currency, Currency)> {
        let pairs = self.0.windows(2);
        let changes = pairs.map(|pair| {
            let (before, after) = (pair[0].catalogue.currency, pair[1].catalogue.currency);
            (pair[1].from, before, after)
        });
        let is_inside = |(from, before, after): &(Timestamp, Currency, Currency)| {
            before != after && next_month(*from) != Some(*from)
        };
        changes.filter(is_inside).collect()
    }

    /// The terms that a tenant begins with: those of the version that is in effect when a month begins
    /// in UTC. They change with a month only, so that its periods stay whole.
    #[must_use]
    pub fn standard_contracts(&self, tenant: &Tenant) -> Vec<Contract> {
        let mut contracts: Vec<Contract> = Vec::new();
        for Edition { from, catalogue } in &self.0 {
            let Some(valid_from) = next_month(*from) else { continue };
            contracts.pop_if(|last| last.valid_from == valid_from);
            let stated = Contract { valid_from, ..standard_contract(tenant, catalogue) };
            if contracts.last().is_some_and(|last| last.terms == stated.terms) {
                continue;
            }
            contracts.push(stated);
        }
        let starts: Vec<Timestamp> = contracts.iter().map(|contract| contract.valid_from).collect();
        for (contract, next) in contracts.iter_mut().zip(starts.iter().skip(1)) {
            contract.valid_to = Some(*next);
        }
        contracts
    }

    /// The parts of a period, each with the catalogue that it is priced by: where a contract goes by
    /// what is in effect, a part ends where the next version begins. `pinned` gives the version that a
    /// contract names.
    #[must_use]
    pub fn parts<'c>(
        &self,
        period: &BillingPeriod<'c>,
        pinned: impl Fn(&Name) -> Arc<Catalogue>,
    ) -> Vec<(Stretch<'c>, Arc<Catalogue>)> {
        let (mut parts, mut made) = (Vec::new(), Made::new());
        for part in &period.parts {
            match &part.contract.catalogue {
                CatalogueChoice::Version(version) => parts.push((*part, pinned(version))),
                CatalogueChoice::Latest => parts.extend(self.cut(part, &mut made)),
            }
        }
        parts
    }

    fn cut<'c>(&self, part: &Stretch<'c>, made: &mut Made) -> Vec<(Stretch<'c>, Arc<Catalogue>)> {
        let Stretch { contract, window } = *part;
        let first = self.place_at(window.start);
        let inside = self.0.iter().enumerate().skip(first);
        let inside = inside.take_while(|(_, edition)| edition.from < window.end);
        let cut = |(place, edition): (usize, &Edition)| {
            let start = edition.from.max(window.start);
            let end = self.0.get(place + 1).map_or(window.end, |next| next.from.min(window.end));
            let catalogue = self.priced(place, contract, made);
            (Stretch { contract, window: Window { start, end } }, catalogue)
        };
        inside.map(cut).collect()
    }

    /// A version with the retired SKUs that a contract keeps. Contracts that keep the same share it.
    fn priced(&self, place: usize, contract: &Contract, made: &mut Made) -> Arc<Catalogue> {
        let catalogue = &self.0[place].catalogue;
        let subscribed = contract.subscriptions.iter().map(|(sku, unit)| (sku, unit));
        let overridden = contract.overrides.iter().map(|own| (&own.sku, &own.unit));
        let mut wanted: HashSet<Priced<'_>> = subscribed.chain(overridden).collect();
        if wanted.is_empty() || place == 0 {
            return Arc::clone(catalogue);
        }
        for priced in resources(catalogue) {
            wanted.remove(&priced);
        }
        let mut kept: Vec<&SkuDefinition> =
            wanted.into_iter().filter_map(|resource| self.kept(place, resource)).collect();
        if kept.is_empty() {
            return Arc::clone(catalogue);
        }
        kept.sort_by(|one, other| (&one.sku, &one.unit).cmp(&(&other.sku, &other.unit)));
        let names = kept.iter().map(|definition| (definition.sku.clone(), definition.unit.clone()));
        let make = || {
            let mut catalogue = Catalogue::clone(catalogue);
            catalogue.skus.extend(kept.iter().copied().cloned());
            Arc::new(catalogue)
        };
        Arc::clone(made.entry((place, names.collect())).or_insert_with(make))
    }

    /// A SKU as it was before it was left out, unless it was named as retired since.
    fn kept(&self, place: usize, (sku, unit): Priced<'_>) -> Option<&SkuDefinition> {
        for edition in self.0[..=place].iter().rev() {
            if edition.catalogue.retires(sku, unit) {
                return None;
            }
            if let Some(definition) = edition.catalogue.find(sku, unit) {
                return Some(definition);
            }
        }
        None
    }

    /// Says of usage that waits for a price where its SKU is retired in the invoice's time.
    pub fn name_retired(&self, invoice: &mut Invoice) {
        let is_unknown = |waiting: &Unpriced| {
            matches!(waiting.reason, UnpricedReason::UnknownSku | UnpricedReason::UnitMismatch)
        };
        if !invoice.unpriced.iter().any(is_unknown) {
            return;
        }
        let is_retired = self.retired_in(invoice.window);
        for waiting in invoice.unpriced.iter_mut().filter(|waiting| is_unknown(waiting)) {
            if is_retired((&waiting.product_sku, &waiting.use_unity)) {
                waiting.reason = UnpricedReason::Retired;
            }
        }
    }

    /// Tells which resources are retired in a window. Prepared once for all of them: whoever sends pulses
    /// decides how many unknown SKUs there are.
    fn retired_in(&self, window: Window) -> impl Fn(Priced<'_>) -> bool {
        let last = self.0.partition_point(|edition| edition.from < window.end);
        let editions = || self.0[..last].iter().map(|edition| &*edition.catalogue);
        let priced = |found| resources(found).collect::<HashSet<_>>();
        let known: Vec<_> = editions().map(|found| (priced(found), retired(found))).collect();
        let first = self.place_at(window.start);
        move |(sku, unit)| {
            let mut was_priced = false;
            known.iter().enumerate().any(|(place, (priced, retired))| {
                let is_priced = priced.contains(&(sku, unit));
                let was = was_priced;
                was_priced |= is_priced;
                let retires = || [None, Some(unit)].iter().any(|of| retired.contains(&(sku, *of)));
                place >= first && !is_priced && (was || retires())
            })
        }
    }
}

/// What a version has a price for.
fn resources(catalogue: &Catalogue) -> impl Iterator<Item = Priced<'_>> {
    catalogue.skus.iter().map(|definition| (&definition.sku, &definition.unit))
}

/// What a version names as retired, without a unit in all of them.
fn retired(catalogue: &Catalogue) -> HashSet<(&Sku, Option<&Unit>)> {
    catalogue.retired.iter().map(|(sku, unit)| (sku, unit.as_ref())).collect()
}

/// What the first version leaves out of another: SKUs by name, each with its unit.
#[must_use]
pub fn left_out<'c>(before: &'c Catalogue, after: &Catalogue) -> Vec<Priced<'c>> {
    let stays: HashSet<Priced<'_>> = resources(after).collect();
    let mut gone: Vec<Priced<'c>> =
        resources(before).filter(|found| !stays.contains(found)).collect();
    gone.sort_unstable();
    gone
}

/// The first month in UTC that begins at a moment or behind it; since ever where the moment is.
fn next_month(moment: Timestamp) -> Option<Timestamp> {
    if moment == Timestamp::MIN {
        return Some(moment);
    }
    let month = Month::of(moment).window(&Calendar::UTC)?;
    Some(if month.start == moment { moment } else { month.end })
}

/// The time before the first version: its SKUs are known and have no prices.
fn unpriced(catalogue: &Catalogue) -> Arc<Catalogue> {
    let mut catalogue = catalogue.clone();
    catalogue.skus.iter_mut().for_each(|definition| definition.prices.clear());
    Arc::new(catalogue)
}

#[cfg(test)]
mod tests;
