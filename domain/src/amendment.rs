//! Amendment: what changes about a contract from a day on, thing by thing; the rest stays.
//!
//! The things of a contract have keys: discounts, commitments, credits and taxes their names, prices
//! and subscriptions a SKU and unit, exchange rates a currency and a date. At each moment the newest
//! statement about a thing counts: that of the amendment that began last, or else the contract's own.
//! So an amendment about the past leaves what later ones say as it is, in whatever order they were
//! applied.

use std::fmt;

use crate::{
    Name, Sku, Timestamp, Unit,
    catalogue::Currency,
    contract::{Commitment, Contract, Credit, Discount, ExchangeRate, Override, Tax},
};

/// What changes about a contract from a day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// Its name, applied once; unique among amendments and contracts.
    pub name: Name,
    /// The contract that it changes.
    pub contract: Name,
    /// First moment: a local midnight of the contract's zone.
    pub from: Timestamp,
    /// First moment at which it no longer counts, and what would hold without it holds again; `None`
    /// where it counts to the contract's end.
    pub until: Option<Timestamp>,
    /// What changes.
    pub changes: Changes,
}

/// What an amendment changes: each thing at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// As [`crate::contract::Terms::payment_term_days`].
    pub payment_term_days: Option<u16>,
    /// SKUs billed whether they are used or not.
    pub subscriptions: Vec<Change<(Sku, Unit)>>,
    /// Prices in place of the catalogue's.
    pub overrides: Vec<Change<Override>>,
    /// What is taken off.
    pub discounts: Vec<Change<Discount>>,
    /// Spend that was promised.
    pub commitments: Vec<Change<Commitment>>,
    /// Money paid ahead. It ends by an end of its own, so an amendment with credits has no `until`.
    pub credits: Vec<Change<Credit>>,
    /// Values of other currencies.
    pub exchange: Vec<Change<ExchangeRate>>,
    /// Taxes on the lines.
    pub taxes: Vec<Change<Tax>>,
}

/// What is said of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T: Thing> {
    /// There is this, in place of what has its key.
    Stated(T),
    /// There is none of this key.
    Ended(T::Key),
}

impl<T: Thing> Change<T> {
    /// Which thing it is about.
    #[must_use]
    pub fn key(&self) -> T::Key {
        match self {
            Self::Stated(thing) => thing.key(),
            Self::Ended(key) => key.clone(),
        }
    }
}

/// What a contract has several of, each with a key of its own.
pub trait Thing: Clone + fmt::Debug + Eq {
    /// What tells it from the others.
    type Key: Clone + fmt::Debug + Eq;

    /// Its key.
    fn key(&self) -> Self::Key;

    /// Tells whether a key is its.
    fn is(&self, key: &Self::Key) -> bool;
}

macro_rules! named_things {
    ($($thing:ty),*) => {
        $(impl Thing for $thing {
            type Key = Name;

            fn key(&self) -> Name {
                self.name.clone()
            }

            fn is(&self, key: &Name) -> bool {
                self.name == *key
            }
        })*
    };
}

named_things!(Discount, Commitment, Credit, Tax);

impl Thing for (Sku, Unit) {
    type Key = Self;

    fn key(&self) -> Self {
        self.clone()
    }

    fn is(&self, key: &Self) -> bool {
        self == key
    }
}

impl Thing for Override {
    type Key = (Sku, Unit);

    fn key(&self) -> (Sku, Unit) {
        (self.sku.clone(), self.unit.clone())
    }

    fn is(&self, (sku, unit): &(Sku, Unit)) -> bool {
        self.sku == *sku && self.unit == *unit
    }
}

impl Thing for ExchangeRate {
    type Key = (Currency, Timestamp);

    fn key(&self) -> (Currency, Timestamp) {
        (self.from, self.valid_from)
    }

    fn is(&self, key: &(Currency, Timestamp)) -> bool {
        self.key() == *key
    }
}

impl Amendment {
    /// Tells whether it counts at a moment.
    #[must_use]
    pub fn holds_at(&self, moment: Timestamp) -> bool {
        self.from <= moment && self.until.is_none_or(|until| moment < until)
    }

    /// Changes a contract, which is as it would be without it.
    fn apply(&self, contract: &mut Contract) {
        let Changes {
            payment_term_days,
            subscriptions,
            overrides,
            discounts,
            commitments,
            credits,
            exchange,
            taxes,
        } = &self.changes;
        if let Some(days) = payment_term_days {
            contract.terms.payment_term_days = *days;
        }
        change(&mut contract.subscriptions, subscriptions, remove);
        change(&mut contract.overrides, overrides, remove);
        change(&mut contract.discounts, discounts, remove);
        change(&mut contract.commitments, commitments, remove);
        change(&mut contract.exchange, exchange, remove);
        change(&mut contract.taxes, taxes, remove);
        // A credit belongs to the tenant for ever, so one that ends stays, with its end.
        change(&mut contract.credits, credits, |credits, place| {
            let expires = &mut credits[place].expires;
            *expires = Some(expires.map_or(self.from, |end| end.min(self.from)));
        });
        contract.subscriptions.sort();
        contract.exchange.sort_by_key(|rate| (rate.from.code(), rate.valid_from));
    }
}

/// Changes a list; what is in it keeps its place, what is new goes to its end. `end` does what becomes of
/// the thing at a place that ends.
fn change<T: Thing>(things: &mut Vec<T>, changes: &[Change<T>], end: impl Fn(&mut Vec<T>, usize)) {
    for change in changes {
        let key = change.key();
        let known = things.iter().position(|thing| thing.is(&key));
        match (change, known) {
            (Change::Stated(thing), Some(place)) => things[place] = thing.clone(),
            (Change::Stated(thing), None) => things.push(thing.clone()),
            (Change::Ended(_), Some(place)) => end(things, place),
            (Change::Ended(_), None) => {}
        }
    }
}

/// What ends is gone.
fn remove<T>(things: &mut Vec<T>, place: usize) {
    things.remove(place);
}

impl Contract {
    /// The contract as its amendments make it, which are given in the order in which they were applied:
    /// one value for each stretch of its time in which none of them begins or ends, in order of time.
    /// They tile the time of the contract, and have its name.
    #[must_use]
    pub fn amended<'a>(&self, applied: impl IntoIterator<Item = &'a Amendment>) -> Vec<Self> {
        let mut amendments: Vec<&Amendment> = applied.into_iter().collect();
        // Of those that begin at once, the one that was applied last says what counts.
        amendments.sort_by_key(|amendment| amendment.from);
        let end = self.valid_to.unwrap_or(Timestamp::MAX);
        let inside = |moment: &Timestamp| self.valid_from < *moment && *moment < end;
        let edges = amendments.iter().flat_map(|found| [Some(found.from), found.until]);
        let mut starts: Vec<Timestamp> = edges.flatten().filter(inside).collect();
        starts.push(self.valid_from);
        starts.sort_unstable();
        starts.dedup();
        let ends = starts[1..].iter().copied().map(Some).chain([self.valid_to]);
        let piece = |(start, valid_to): (&Timestamp, Option<Timestamp>)| {
            let mut piece = Self { valid_from: *start, valid_to, ..self.clone() };
            let count = amendments.iter().filter(|amendment| amendment.holds_at(*start));
            count.for_each(|amendment| amendment.apply(&mut piece));
            piece
        };
        starts.iter().zip(ends).map(piece).collect()
    }
}

#[cfg(test)]
mod tests;
