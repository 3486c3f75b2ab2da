//! Bill: the quantities of one SKU in one period become rounded amounts, held between the period's
//! minimum and maximum.

use domain::{
    Quantity, Timestamp,
    catalogue::{Price, Rounding},
    contract::{Discount, ExchangeRate},
};

use super::{
    Step, UnpricedReason,
    charge::{Charge, charge},
    measured::Measured,
};
use crate::amount::Amount;

/// What happens to the charges of a SKU once their models have priced them.
#[derive(Clone, Debug)]
pub(crate) struct Finish<'c> {
    /// Holds the least and the greatest amount of the period, in its own currency.
    pub(crate) bounds: &'c Price,
    /// The rate from that currency into the bill's, where they differ.
    pub(crate) exchange: Option<ExchangeRate>,
    /// Shares that are taken off, in order.
    pub(crate) discounts: Vec<(&'c Discount, Quantity)>,
    /// When the bounds hold.
    pub(crate) bounds_hold: BoundsHold,
    /// How a bound is rounded that several lines are held to: not at all where it stands as it was
    /// written, for then their total must meet it.
    pub(crate) bound_rounding: Rounding,
    /// How lines are rounded.
    pub(crate) rounding: Rounding,
}

/// When a minimum and a maximum hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoundsHold {
    /// Where there is usage that is priced, be it a quantity of zero.
    WherePriced,
    /// In any case: the SKU is subscribed to.
    Always,
}

impl<'c> Finish<'c> {
    /// Bounds and rounding, and nothing of a contract.
    pub(crate) const fn plain(bounds: &'c Price, rounding: Rounding) -> Self {
        Self {
            bounds,
            exchange: None,
            discounts: Vec::new(),
            bounds_hold: BoundsHold::WherePriced,
            bound_rounding: Rounding::Exact,
            rounding,
        }
    }
}

/// What the quantities of a SKU come to.
#[derive(Debug)]
pub(crate) struct Bill {
    /// One for each quantity, in the order given.
    pub(crate) parts: Vec<Result<Part, UnpricedReason>>,
    /// The bound that holds several parts together, where it changed anything.
    pub(crate) bound: Option<Part>,
}

/// A rounded amount and its steps, which add up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) amount: Amount,
    pub(crate) steps: Vec<Step>,
}

/// Most money on one line, so that no sum of lines can leave the range of an amount.
fn line_max() -> Amount {
    Amount::multiple(10i128.pow(30), Quantity::ONE).expect("10^30 is below 10^40")
}

/// Prices the quantities of one SKU, ordered by price version and dimensions.
///
/// A single quantity takes the bounds before it is rounded. Several are rounded first, and one more
/// part brings their sum to the bound.
pub(crate) fn bill(measured: &[Measured<'_>], rules: &Finish<'_>) -> Bill {
    let charges = charges(measured);
    let priced = charges.iter().filter(|charge| charge.is_ok()).count();
    let finish = |(charge, one): (Result<Charge, UnpricedReason>, &Measured<'_>)| {
        let alone = priced == 1 && one.price.currency == rules.bounds.currency;
        finish(charge?, alone.then_some(rules.bounds), one.exchange, rules)
    };
    let parts: Vec<_> = charges.into_iter().zip(measured).map(finish).collect();
    let sum = sum(parts.iter().flatten().map(|part| part.amount));
    // A single part has taken the bounds with it, and one that left its range too.
    let alone = measured
        .iter()
        .zip(&parts)
        .filter(|(_, part)| part.is_ok())
        .all(|(one, _)| priced == 1 && one.price.currency == rules.bounds.currency);
    let holds = priced > 0 || rules.bounds_hold == BoundsHold::Always;
    let bound = if holds && !(priced > 0 && alone) { outer_bound(sum, rules) } else { None };
    Bill { parts, bound }
}

/// Sums amounts of lines.
pub(super) fn sum(amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.fold(Amount::ZERO, |sum, amount| {
        sum.checked_add(amount).expect("5 x 10^10 lines of at most 10^30 are within an amount")
    })
}

fn charges(measured: &[Measured<'_>]) -> Vec<Result<Charge, UnpricedReason>> {
    let mut version: Option<Timestamp> = None;
    let mut free_left = Quantity::ZERO;
    let mut charges = Vec::with_capacity(measured.len());
    for one in measured {
        if version != Some(one.since) {
            version = Some(one.since);
            free_left = one.price.free_units;
        }
        // Free units go off only when the whole charge stands.
        let mut free_after = free_left;
        let charged = charge_one(one, &mut free_after);
        if charged.is_ok() {
            free_left = free_after;
        }
        charges.push(charged);
    }
    charges
}

fn charge_one(one: &Measured<'_>, free_left: &mut Quantity) -> Result<Charge, UnpricedReason> {
    let quantity = one.quantity?;
    let mut steps = Charge::new();
    for origin in &one.origin {
        steps.push(origin.clone())?;
    }
    charge(one, quantity, free_left, &mut steps)?;
    Ok(steps)
}

/// Discounts, bounds, the bill's currency, one rounding; in this order.
fn finish(
    mut charge: Charge,
    bounds: Option<&Price>,
    exchange: Option<ExchangeRate>,
    rules: &Finish<'_>,
) -> Result<Part, UnpricedReason> {
    for (discount, share) in &rules.discounts {
        let taken = charge.amount.scaled(*share).and_then(Amount::checked_neg);
        let amount = taken.ok_or(UnpricedReason::OutOfRange)?;
        charge.push(Step::Discounted { name: discount.name.clone(), share: *share, amount })?;
    }
    if let Some(bounds) = bounds {
        for step in bound_steps(charge.amount, bounds).ok_or(UnpricedReason::OutOfRange)? {
            charge.push(step)?;
        }
    }
    if let Some(ExchangeRate { from, rate, .. }) = exchange {
        let exchanged = charge.amount.scaled(rate);
        let added = exchanged.and_then(|exchanged| exchanged.checked_sub(charge.amount));
        let amount = added.ok_or(UnpricedReason::OutOfRange)?;
        charge.push(Step::Exchanged { from, rate, amount })?;
    }
    round(&mut charge, rules.rounding)?;
    if charge.amount.checked_abs().is_none_or(|amount| amount > line_max()) {
        return Err(UnpricedReason::OutOfRange);
    }
    Ok(Part { amount: charge.amount, steps: charge.steps })
}

fn round(charge: &mut Charge, rounding: Rounding) -> Result<(), UnpricedReason> {
    let rounded = charge.amount.rounded(rounding).ok_or(UnpricedReason::OutOfRange)?;
    let difference = rounded.checked_sub(charge.amount).ok_or(UnpricedReason::OutOfRange)?;
    if difference != Amount::ZERO {
        charge.push(Step::Rounded { rounding, amount: difference })?;
    }
    Ok(())
}

/// What brings an amount between the bounds: maximum first, then minimum. `None` past the range.
fn bound_steps(amount: Amount, bounds: &Price) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    if let Some(bound) = bounds.maximum
        && amount > Amount::of(bound)
    {
        steps.push(Step::Maximum { bound, amount: Amount::of(bound).checked_sub(amount)? });
    }
    if let Some(bound) = bounds.minimum
        && amount < Amount::of(bound)
    {
        steps.push(Step::Minimum { bound, amount: Amount::of(bound).checked_sub(amount)? });
    }
    Some(steps)
}

/// The part that brings the sum of several lines, or of none, to a bound.
fn outer_bound(sum: Amount, rules: &Finish<'_>) -> Option<Part> {
    let to_bill = |bound: Quantity| {
        let exact = match rules.exchange {
            None => Amount::of(bound),
            Some(ExchangeRate { rate, .. }) => Amount::product(bound, rate),
        };
        exact.rounded(rules.bound_rounding)
    };
    let mut steps = Vec::new();
    if let Some(bound) = rules.bounds.maximum
        && let Some(most) = to_bill(bound).filter(|most| sum > *most)
    {
        steps.push(Step::Maximum { bound, amount: most.checked_sub(sum)? });
    }
    if let Some(bound) = rules.bounds.minimum
        && let Some(least) = to_bill(bound).filter(|least| sum < *least)
    {
        steps.push(Step::Minimum { bound, amount: least.checked_sub(sum)? });
    }
    let amount = self::sum(steps.iter().map(Step::amount));
    (!steps.is_empty()).then_some(Part { amount, steps })
}
