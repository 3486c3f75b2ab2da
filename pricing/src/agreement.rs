//! Agreement: what a tenant's contracts say in words, thing by thing, and what differs between two
//! states of them.

use std::{collections::BTreeMap, fmt::Write as _};

use domain::{
    Timestamp, Window,
    catalogue::{Price, PriceModel, Tiers},
    contract::{CatalogueChoice, Contract, DiscountValue, Scope, TaxedKind},
};

use crate::{moment::Calendar, timeline::Stretch};

/// A thing of a contract in words, such as `discount partner` and `10 % of each line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// Which one.
    pub what: String,
    /// What the contract says of it.
    pub words: String,
}

/// A thing that differs for a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// From when to when.
    pub window: Window,
    /// Which thing.
    pub what: String,
    /// What is said of it before; `None` where there is no such thing.
    pub before: Option<String>,
    /// What is said of it after.
    pub after: Option<String>,
}

/// All that a contract says, in the order of its file.
#[must_use]
pub fn things(contract: &Contract) -> Vec<Thing> {
    let Contract { terms, subscriptions, overrides, discounts, commitments, .. } = contract;
    let Contract { credits, exchange, taxes, .. } = contract;
    let currency = terms.currency;
    let calendar = Calendar::named(terms.time_zone.as_str()).unwrap_or(Calendar::UTC);
    let date = |moment: Timestamp| calendar.date_of(moment);
    let mut things = Things(vec![Thing {
        what: "contract".to_owned(),
        words: contract.name.as_str().to_owned(),
    }]);
    things.add(
        "catalogue",
        match &contract.catalogue {
            CatalogueChoice::Latest => "latest".to_owned(),
            CatalogueChoice::Version(version) => version.as_str().to_owned(),
        },
    );
    things.add("currency", currency.code());
    things.add("rounding", terms.rounding.to_string());
    things.add("time zone", terms.time_zone.as_str());
    things.add("billing anchor", format!("day {}", terms.anchor_day));
    things.add("payment term", format!("{} days", terms.payment_term_days));
    for (sku, unit) in subscriptions {
        things.add(format!("subscription to {sku} in {unit}"), "billed in every period");
    }
    for own in overrides {
        let prices: Vec<String> = own.prices.iter().map(price).collect();
        things.add(format!("price of {} in {}", own.sku, own.unit), prices.join(", "));
    }
    for discount in discounts {
        let value = match discount.value {
            DiscountValue::Share(share) => {
                let percent = share.raw().saturating_mul(100);
                format!("{} % of each line", domain::Quantity::from_raw(percent))
            }
            DiscountValue::Amount(amount) => format!("{amount} {currency} a period"),
        };
        let words = format!("{value}{}", of_scope(&discount.scope));
        things.add(format!("discount {}", discount.name), words);
    }
    for found in commitments {
        let (amount, factor) = (found.amount, found.overage_factor);
        let words =
            format!("{amount} {currency} a period, overage x {factor}{}", of_scope(&found.scope));
        things.add(format!("commitment {}", found.name), words);
    }
    for credit in credits {
        let end = credit.expires.map_or_else(String::new, |end| format!(" to {}", date(end)));
        let (amount, from) = (credit.amount, date(credit.valid_from));
        let words = format!("{amount} {currency} from {from}{end}, priority {}", credit.priority);
        things.add(format!("credit {}", credit.name), words);
    }
    for rate in exchange {
        let what = format!("exchange from {} from {}", rate.from, date(rate.valid_from));
        things.add(what, format!("{} {currency}", rate.rate));
    }
    for tax in taxes {
        let kinds: Vec<&str> = tax.on.iter().copied().map(TaxedKind::as_str).collect();
        things.add(format!("tax {}", tax.name), format!("{} on {}", tax.rate, kinds.join(" and ")));
    }
    things.0
}

struct Things(Vec<Thing>);

impl Things {
    fn add(&mut self, what: impl Into<String>, words: impl Into<String>) {
        self.0.push(Thing { what: what.into(), words: words.into() });
    }
}

fn of_scope(scope: &Scope) -> String {
    match scope {
        Scope::All => String::new(),
        Scope::Skus(skus) => {
            let names: Vec<&str> = skus.iter().map(domain::Sku::as_str).collect();
            format!(", of {}", names.join(", "))
        }
    }
}

/// A price in one line.
fn price(price: &Price) -> String {
    let mut words = match &price.model {
        PriceModel::Flat { amount } => format!("{amount} {} a period", price.currency),
        PriceModel::PerUnit { unit_price } => format!("{unit_price} {} a unit", price.currency),
        PriceModel::Graduated(tiers) | PriceModel::Volume(tiers) => {
            format!("{} {} {}", price.model.as_str(), in_tiers(tiers), price.currency)
        }
        PriceModel::Package { size, price: of, .. } => {
            format!("{of} {} for each {size} units", price.currency)
        }
        other => format!("{} in {}", other.as_str(), price.currency),
    };
    let ends = price.valid_to.map_or_else(String::new, |end| format!(" to {end}"));
    let bounds = [("at least", price.minimum), ("at most", price.maximum)];
    if price.free_units != domain::Quantity::ZERO {
        _ = write!(words, ", {} units free", price.free_units);
    }
    for (word, bound) in bounds.into_iter().filter_map(|(word, bound)| Some((word, bound?))) {
        _ = write!(words, ", {word} {bound}");
    }
    _ = write!(words, " from {}{ends}", price.valid_from);
    words
}

fn in_tiers(tiers: &Tiers) -> String {
    let tier = |tier: &domain::catalogue::Tier| match tier.up_to {
        Some(edge) => format!("{} to {edge}", tier.unit_price),
        None => format!("{} beyond", tier.unit_price),
    };
    tiers.list.iter().map(tier).collect::<Vec<_>>().join(", ")
}

/// What differs between two states of a tenant's contracts, in order of time, then by thing. A thing
/// that differs in the same way for several stretches in a row is told once.
#[must_use]
pub fn differences(before: &[Stretch<'_>], after: &[Stretch<'_>]) -> Vec<Difference> {
    let windows = before.iter().chain(after).map(|stretch| stretch.window);
    let mut edges: Vec<Timestamp> = windows.flat_map(|it| [it.start, it.end]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut all: Vec<Difference> = Vec::new();
    for edge in edges.windows(2) {
        let window = Window { start: edge[0], end: edge[1] };
        let (one, other) = (holding(before, window.start), holding(after, window.start));
        if one == other {
            continue;
        }
        for found in between(one, other, window) {
            let same = |known: &&mut Difference| {
                known.window.end == window.start
                    && (&known.what, &known.before, &known.after)
                        == (&found.what, &found.before, &found.after)
            };
            match all.iter_mut().find(same) {
                Some(known) => known.window.end = window.end,
                None => all.push(found),
            }
        }
    }
    all
}

fn holding<'c>(stretches: &[Stretch<'c>], moment: Timestamp) -> Option<&'c Contract> {
    let inside = |window: Window| window.start <= moment && moment < window.end;
    stretches.iter().find(|stretch| inside(stretch.window)).map(|stretch| stretch.contract)
}

fn between(one: Option<&Contract>, other: Option<&Contract>, window: Window) -> Vec<Difference> {
    let of = |contract: Option<&Contract>| contract.map_or_else(Vec::new, things);
    let (before, after) = (of(one), of(other));
    let known: BTreeMap<&str, &str> =
        before.iter().map(|thing| (thing.what.as_str(), thing.words.as_str())).collect();
    let stays: BTreeMap<&str, &str> =
        after.iter().map(|thing| (thing.what.as_str(), thing.words.as_str())).collect();
    let gone = before.iter().filter(|thing| !stays.contains_key(thing.what.as_str()));
    let what = gone.chain(&after).map(|thing| thing.what.as_str());
    let text = |words: &&str| (*words).to_owned();
    let difference = |what: &str| Difference {
        window,
        what: what.to_owned(),
        before: known.get(what).map(text),
        after: stays.get(what).map(text),
    };
    let mut found: Vec<Difference> = what.map(difference).collect();
    let changed_prices = changed_prices(one, other);
    for difference in &mut found {
        // Words of a price with many terms leave some out.
        if difference.before == difference.after && changed_prices.contains(&difference.what) {
            difference.after.iter_mut().for_each(|words| words.push_str(", with other terms"));
        }
    }
    found.retain(|difference| difference.before != difference.after);
    found
}

fn changed_prices(one: Option<&Contract>, other: Option<&Contract>) -> Vec<String> {
    let (Some(one), Some(other)) = (one, other) else { return Vec::new() };
    let known: BTreeMap<_, _> =
        one.overrides.iter().map(|own| ((&own.sku, &own.unit), &own.prices)).collect();
    let changed = other.overrides.iter().filter(|own| {
        known.get(&(&own.sku, &own.unit)).is_some_and(|prices| **prices != own.prices)
    });
    changed.map(|own| format!("price of {} in {}", own.sku, own.unit)).collect()
}

#[cfg(test)]
mod tests;
