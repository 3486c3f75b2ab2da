//! Terms: what a billing period is rated under, beside the usage itself.

use std::{borrow::Cow, time::Duration};

use domain::{
    Quantity, Timestamp, Window,
    catalogue::{
        Catalogue, Currency, PerEvent, Percentage, Price, PriceModel, RateTier, RateTiers,
        Rounding, Tier, Tiers,
    },
    contract::{Contract, ExchangeRate},
};

use crate::{
    amount::{self, Amount},
    moment::Calendar,
};

/// What a billing period, or the stretch of it that is billed, is rated under.
#[derive(Clone, Debug)]
pub struct RatingTerms<'a> {
    /// What holds when, in order of time and without gaps. Equal terms that follow one another are one,
    /// however many parts they stand in.
    pub parts: Vec<Agreed<'a>>,
    /// Currency of the bill.
    pub currency: Currency,
    /// How each line is rounded.
    pub rounding: Rounding,
    /// The whole billing period, which amounts and allowances are for.
    pub period: Window,
    /// The stretch of it that is rated. Usage outside of it is no part of the bill.
    pub span: Window,
    /// The days of the zone that the bill is in.
    pub calendar: &'a Calendar,
    /// Whether lines say which hours of usage are behind them.
    pub sources: Sources,
}

/// What a stretch of time is under.
#[derive(Clone, Copy, Debug)]
pub struct Agreed<'a> {
    /// The stretch.
    pub window: Window,
    /// Its prices.
    pub catalogue: &'a Catalogue,
    /// What its tenant has agreed to; `None` for the catalogue alone.
    pub contract: Option<&'a Contract>,
}

/// Whether lines list their hours and the stretches of the log behind these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// They do.
    Listed,
    /// They do not, which saves most of the memory.
    LeftOut,
}

impl<'a> RatingTerms<'a> {
    /// A whole period in UTC under a catalogue alone.
    #[must_use]
    pub fn of(catalogue: &'a Catalogue, period: Window, calendar: &'a Calendar) -> Self {
        Self {
            parts: vec![Agreed { window: period, catalogue, contract: None }],
            currency: catalogue.currency,
            rounding: catalogue.rounding,
            period,
            span: period,
            calendar,
            sources: Sources::Listed,
        }
    }

    /// The share of the period that a part of the span has.
    pub(crate) fn share(&self, part: Window) -> Share {
        let before = Window { start: self.period.start, end: part.start };
        Share {
            before: self.calendar.days(before),
            days: self.calendar.days(part),
            of: self.calendar.days(self.period),
        }
    }

    /// The rate from a currency into the bill's: the one in force at the last moment of the span, by the
    /// newest contract that knows one. `None` where the amount is in the bill's currency already.
    pub(crate) fn exchange_from(&self, currency: Currency) -> Option<ExchangeRate> {
        let known = |part: &Agreed<'_>| part.contract.and_then(|it| self.rate_of(it, currency));
        let foreign = (currency != self.currency).then_some(&self.parts);
        foreign.into_iter().flatten().rev().find_map(known)
    }

    fn rate_of(&self, contract: &Contract, currency: Currency) -> Option<ExchangeRate> {
        let last = self.span.end.minus(Duration::from_micros(1));
        contract.rate_at(currency, last).copied()
    }

    /// Of a part's prices, the one that counts at a moment: in the bill's currency, or else the first in
    /// a currency that the part's contract has a rate from.
    pub(super) fn price_at<'p>(
        &self,
        part: &Agreed<'_>,
        prices: &'p [Price],
        moment: Timestamp,
    ) -> Option<&'p Price> {
        let valid = || prices.iter().filter(|price| price.is_valid_at(moment));
        valid().find(|price| price.currency == self.currency).or_else(|| {
            let contract = part.contract?;
            valid().find(|price| self.rate_of(contract, price.currency).is_some())
        })
    }
}

/// A part of a period, by calendar days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Days of the period before the part.
    pub before: u32,
    /// Days of the part. Zero for a part that holds no midnight.
    pub days: u32,
    /// Days of the period.
    pub of: u32,
}

impl Share {
    /// The whole of a period of one day.
    pub const WHOLE: Self = Self { before: 0, days: 1, of: 1 };

    /// Tells whether it is the whole period.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.days == self.of
    }

    /// The share of an amount, rounded half up at 18 decimals at both of its edges, so that the
    /// shares of parts that tile the period add up to the amount, exactly.
    #[must_use]
    pub fn of(self, whole: Quantity) -> Quantity {
        if self.is_whole() {
            return whole;
        }
        let to = |days: u32| amount::part(whole, days, self.of);
        let (end, start) = (to(self.before + self.days), to(self.before));
        end.checked_sub(start).expect("parts of a quantity lie between it and zero")
    }

    /// The share of an amount of money in the same way, at 36 decimals; `None` past the range.
    #[must_use]
    pub fn of_amount(self, whole: Amount) -> Option<Amount> {
        let to = |days: u32| whole.part(days, self.of);
        to(self.before + self.days)?.checked_sub(to(self.before)?)
    }

    /// The share of a count, by whole ones in the same way.
    #[must_use]
    pub fn of_count(self, whole: u64) -> u64 {
        let to = |days: u32| u128::from(whole) * u128::from(days) / u128::from(self.of.max(1));
        let (end, start) = (to(self.before + self.days), to(self.before));
        u64::try_from(end - start).expect("a part of a u64")
    }

    /// A price for this share of a period: amounts and allowances that are for a whole one, and the
    /// edges of tiers, are scaled; prices of units are as they are. Its minimum and maximum are left
    /// to whoever holds several versions together.
    pub(crate) fn of_price(self, price: &Price) -> Cow<'_, Price> {
        if self.is_whole() {
            return Cow::Borrowed(price);
        }
        #[cfg(test)]
        SCALED.set(SCALED.get() + 1);
        let model = match &price.model {
            PriceModel::Flat { amount } => PriceModel::Flat { amount: self.of(*amount) },
            PriceModel::Graduated(tiers) => PriceModel::Graduated(self.of_tiers(tiers)),
            PriceModel::Volume(tiers) => PriceModel::Volume(self.of_tiers(tiers)),
            PriceModel::GraduatedPercentage(tiers) => {
                PriceModel::GraduatedPercentage(self.of_rate_tiers(tiers))
            }
            PriceModel::Percentage(percentage) => {
                PriceModel::Percentage(self.of_percentage(percentage))
            }
            same @ (PriceModel::PerUnit { .. }
            | PriceModel::Package { .. }
            | PriceModel::Matrix(_)
            | PriceModel::Dynamic { .. }) => same.clone(),
        };
        Cow::Owned(Price { model, free_units: self.of(price.free_units), ..price.clone() })
    }

    fn of_tiers(self, tiers: &Tiers) -> Tiers {
        let tier = |tier: &Tier| Tier {
            up_to: tier.up_to.map(|edge| self.of(edge)),
            flat_fee: self.of(tier.flat_fee),
            ..*tier
        };
        Tiers { list: tiers.list.iter().map(tier).collect(), ..*tiers }
    }

    fn of_rate_tiers(self, tiers: &RateTiers) -> RateTiers {
        let tier = |tier: &RateTier| RateTier {
            up_to: tier.up_to.map(|edge| self.of(edge)),
            flat_fee: self.of(tier.flat_fee),
            ..*tier
        };
        RateTiers { list: tiers.list.iter().map(tier).collect(), ..*tiers }
    }

    fn of_percentage(self, percentage: &Percentage) -> Percentage {
        let per_event = percentage.per_event.as_ref().map(|terms| PerEvent {
            free_events: terms.free_events.map(|events| self.of_count(events)),
            free_amount: terms.free_amount.map(|amount| self.of(amount)),
            ..terms.clone()
        });
        Percentage { per_event, ..percentage.clone() }
    }
}

#[cfg(test)]
thread_local! {
    /// How many prices were scaled on this thread.
    pub(super) static SCALED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_of_parts_that_tile_add_up(raw: i128, cuts in proptest::collection::vec(0u32..=31, 0..6)) {
            let whole = Quantity::from_raw(raw / 4);
            let mut edges = cuts;
            edges.extend([0, 31]);
            edges.sort_unstable();
            let shares = edges.windows(2).map(|edge| Share { before: edge[0], days: edge[1] - edge[0], of: 31 });
            let mut sum = Quantity::ZERO;
            let mut count = 0;
            for share in shares {
                sum = sum.checked_add(share.of(whole)).unwrap();
                count += share.of_count(1_000_007);
            }
            prop_assert_eq!(sum, whole);
            prop_assert_eq!(count, 1_000_007);
        }
    }
}
