//! Percentages: shares of amounts of money, of the whole period's or of each event's.
//!
//! An event costs rate x amount + fixed fee, held between its minimum and maximum. The steps tell
//! that for all events together, however many there are: the rate on what is paid for, the fees,
//! then what the bounds added and took off. The sum is the same, exactly.

use domain::{
    Quantity,
    catalogue::{PerEvent, Percentage, RateTiers},
};

use super::{Charge, Stretch, fee_at_zero, stretches};
use crate::{
    amount::Amount,
    rate::{Step, UnpricedReason, events::Events},
};

/// Prices events whose amounts add up to `quantity`.
///
/// An adjustment (an amount below zero) is an event too: it takes the rate, which gives back, and
/// pays the fixed fee. It neither uses the free allowance nor meets the minimum, and the maximum
/// holds it on its own side of zero, so that no more is given back for an event than it cost.
pub(super) fn percentage(
    terms: &Percentage,
    quantity: Quantity,
    events: &Events,
    charge: &mut Charge,
) -> Result<(), UnpricedReason> {
    let amount_dimension = terms.per_event.as_ref().map(|terms| terms.amount_dimension.clone());
    charge.push(Step::Events { events: events.count, amount_dimension })?;
    let Some(per_event) = &terms.per_event else {
        return share(terms, quantity, events.count, charge);
    };
    let sums = Sums::of(terms, per_event, events).ok_or(UnpricedReason::OutOfRange)?;
    let paid = sums.paid.to_quantity().ok_or(UnpricedReason::OutOfRange)?;
    if sums.paid != Amount::of(quantity) || sums.events != events.count {
        let used = quantity.checked_sub(paid).ok_or(UnpricedReason::OutOfRange)?;
        let events = events.count - sums.events;
        charge.push(Step::FreeEvents { events, used, quantity: paid })?;
    }
    share(terms, paid, sums.events, charge)?;
    let (Held { events, amount }, held) = (sums.raised, sums.lowered);
    if let Some(bound) = per_event.minimum.filter(|_| events > 0) {
        charge.push(Step::MinimumPerEvent { events, bound, amount })?;
    }
    let Held { events, amount } = held;
    if let Some(bound) = per_event.maximum.filter(|_| events > 0) {
        charge.push(Step::MaximumPerEvent { events, bound, amount })?;
    }
    Ok(())
}

/// The rate on an amount, and the fees.
fn share(
    terms: &Percentage,
    quantity: Quantity,
    events: u128,
    charge: &mut Charge,
) -> Result<(), UnpricedReason> {
    let (rate, fixed_fee) = (terms.rate, terms.fixed_fee);
    charge.push(Step::Rate { quantity, rate, amount: Amount::product(quantity, rate) })?;
    if fixed_fee == Quantity::ZERO || events == 0 {
        return Ok(());
    }
    let amount = Amount::of(fixed_fee).times(events).ok_or(UnpricedReason::OutOfRange)?;
    charge.push(Step::FixedFees { events, fixed_fee, amount })
}

/// Events that a bound changed, and by how much in all.
#[derive(Clone, Copy, Debug)]
struct Held {
    events: u128,
    amount: Amount,
}

impl Held {
    const NONE: Self = Self { events: 0, amount: Amount::ZERO };

    /// Brings events from what each would have cost to a bound.
    fn add(&mut self, events: u128, from: Amount, bound: Amount) -> Option<()> {
        let change = bound.checked_sub(from)?.times(events)?;
        *self = Self { events: self.events + events, amount: self.amount.checked_add(change)? };
        Some(())
    }
}

/// What the events of a period come to. Its functions give `None` past the range of an amount.
struct Sums<'t> {
    terms: &'t Percentage,
    /// Events that are not free.
    events: u128,
    /// Amount that is paid for, with that of adjustments.
    paid: Amount,
    raised: Held,
    lowered: Held,
}

impl<'t> Sums<'t> {
    fn of(terms: &'t Percentage, per_event: &PerEvent, events: &Events) -> Option<Self> {
        let mut sums =
            Self { terms, events: 0, paid: Amount::ZERO, raised: Held::NONE, lowered: Held::NONE };
        let mut allowance = Allowance::of(per_event);
        for (amount, count) in &events.amounts {
            let Taken { events: free, of_next } = allowance.take(*amount, *count)?;
            let mut left = count - free;
            if let Some(part) = of_next {
                sums.pay(per_event, amount.checked_sub(part)?, 1)?;
                left -= 1;
            }
            sums.pay(per_event, *amount, left)?;
        }
        Some(sums)
    }

    /// Adds events that each pay for an amount.
    fn pay(&mut self, bounds: &PerEvent, amount: Quantity, events: u128) -> Option<()> {
        if events == 0 {
            return Some(());
        }
        self.events += events;
        self.paid = self.paid.checked_add(Amount::of(amount).times(events)?)?;
        let share = Amount::product(amount, self.terms.rate);
        let price = share.checked_add(Amount::of(self.terms.fixed_fee))?;
        if let Some(minimum) = bounds.minimum.map(Amount::of)
            && price < minimum
            && !amount.is_negative()
        {
            return self.raised.add(events, price, minimum);
        }
        if let Some(maximum) = bounds.maximum.map(Amount::of) {
            let least = maximum.checked_neg()?;
            if price > maximum {
                return self.lowered.add(events, price, maximum);
            }
            if price < least {
                return self.lowered.add(events, price, least);
            }
        }
        Some(())
    }
}

/// What is left of the period's free events and amount. `None` sets no end; the allowance is over
/// once either has come to zero.
struct Allowance {
    events: Option<u128>,
    amount: Option<Quantity>,
}

/// What a number of equal events took of the allowance.
struct Taken {
    /// Events that are free as a whole.
    events: u128,
    /// The free part of one more event, which ends the allowance.
    of_next: Option<Quantity>,
}

impl Allowance {
    fn of(terms: &PerEvent) -> Self {
        match (terms.free_events, terms.free_amount) {
            (None, None) => Self { events: Some(0), amount: None },
            (events, amount) => Self { events: events.map(u128::from), amount },
        }
    }

    fn is_over(&self) -> bool {
        self.events == Some(0) || self.amount == Some(Quantity::ZERO)
    }

    fn take(&mut self, amount: Quantity, count: u128) -> Option<Taken> {
        if self.is_over() || amount.is_negative() {
            return Some(Taken { events: 0, of_next: None });
        }
        let mut events = self.events.map_or(count, |left| left.min(count));
        if let Some(left) = self.amount {
            // Events of zero use none of the amount, so any number of them fits.
            let fit = left.raw().unsigned_abs().checked_div(amount.raw().unsigned_abs());
            events = fit.map_or(events, |fit| events.min(fit));
            let used = i128::try_from(events).ok()?.checked_mul(amount.raw())?;
            self.amount = Some(left.checked_sub(Quantity::from_raw(used))?);
        }
        self.events = self.events.map(|left| left - events);
        if events == count || self.is_over() {
            return Some(Taken { events, of_next: None });
        }
        // Neither has come to zero, so it was the amount that the next event does not fit into.
        Some(Taken { events, of_next: self.amount.replace(Quantity::ZERO) })
    }
}

/// Each part of an amount at its own tier's rate; a tier is reached by any amount above the tier
/// before.
pub(super) fn graduated(
    tiers: &RateTiers,
    quantity: Quantity,
    charge: &mut Charge,
) -> Result<(), UnpricedReason> {
    if quantity == Quantity::ZERO {
        let first = tiers.list.first().filter(|_| tiers.flat_fee_at_zero);
        return fee_at_zero(first.map(|first| first.flat_fee), charge);
    }
    let edges = tiers.list.iter().map(|tier| tier.up_to);
    for (tier, stretch) in tiers.list.iter().zip(stretches(edges, quantity)?) {
        let Stretch { index, above, inside: quantity } = stretch;
        let (number, up_to, rate) = (index + 1, tier.up_to, tier.rate);
        let amount = Amount::product(quantity, rate);
        charge.push(Step::RateTier { tier: number, above, up_to, quantity, rate, amount })?;
        if tier.flat_fee != Quantity::ZERO {
            charge.push(Step::TierFee { tier: number, amount: Amount::of(tier.flat_fee) })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
