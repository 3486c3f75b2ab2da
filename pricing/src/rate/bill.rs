//! Bill: the quantities of one SKU in one period become rounded amounts, held between the period's
//! minimum and maximum.

use std::{borrow::Cow, collections::BTreeMap};

use domain::{
    Quantity,
    catalogue::{Currency, Price, Rounding},
    contract::ExchangeRate,
};

use super::{
    Step, UnpricedReason,
    charge::{Charge, charge},
    events::Events,
    measured::Measured,
};
use crate::amount::Amount;

/// A minimum and a maximum, and which quantities they hold together.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// How many of the quantities they hold.
    pub(crate) parts: usize,
    /// Least amount, in `currency`.
    pub(crate) minimum: Option<Quantity>,
    /// Greatest amount.
    pub(crate) maximum: Option<Quantity>,
    pub(crate) currency: Currency,
    /// The rate from that currency into the bill's, where they differ.
    pub(crate) exchange: Option<ExchangeRate>,
    /// How a bound is rounded that several lines are held to: not at all where it stands as it was
    /// written, for then their total must meet it.
    pub(crate) rounding: Rounding,
}

impl Bounds {
    /// Those of a price as they are written.
    pub(crate) const fn of(price: &Price, parts: usize) -> Self {
        Self {
            parts,
            minimum: price.minimum,
            maximum: price.maximum,
            currency: price.currency,
            exchange: None,
            rounding: Rounding::Exact,
        }
    }
}

/// What the quantities of a SKU come to.
#[derive(Debug)]
pub(crate) struct Bill {
    /// One for each quantity, in the order given.
    pub(crate) parts: Vec<Result<Part, UnpricedReason>>,
    /// For each pair of bounds what brings several parts to it, where it changed anything.
    pub(crate) bounds: Vec<Option<Part>>,
}

/// A rounded amount and its steps, which add up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) amount: Amount,
    pub(crate) steps: Vec<Step>,
    /// What of a quantity below zero gave nothing back.
    pub(crate) below_zero: Option<Quantity>,
}

/// Most money on one line, so that no sum of lines can leave the range of an amount.
fn line_max() -> Amount {
    Amount::multiple(10i128.pow(30), Quantity::ONE).expect("10^30 is below 10^40")
}

/// Brings the charges of one SKU between its bounds and rounds them.
///
/// A single charge takes the bounds before it is rounded. Several are rounded first, and one more
/// part brings their sum to the bound.
pub(crate) fn bill(
    charges: Vec<Result<Charge, UnpricedReason>>,
    measured: &[Measured<'_>],
    bounds: &[Bounds],
    rounding: Rounding,
) -> Bill {
    let mut bill = Bill { parts: Vec::with_capacity(charges.len()), bounds: Vec::new() };
    let mut pairs = charges.into_iter().zip(measured);
    let mut over = BTreeMap::new();
    for bounds in bounds {
        let held: Vec<_> = pairs.by_ref().take(bounds.parts).collect();
        let mut priced = held.iter().filter(|(charge, _)| charge.is_ok());
        let only = priced.next().filter(|_| priced.next().is_none());
        // What is in another currency meets the bound in the bill's.
        let alone = only.is_some_and(|(_, one)| one.price.currency == bounds.currency);
        let finish = |(charge, one): (Result<Charge, UnpricedReason>, &Measured<'_>)| {
            let over = one.goes_on.then(|| over.entry(one.dimensions.clone()).or_default());
            finish(charge?, one, alone.then_some(bounds), (rounding, over))
        };
        let parts: Vec<_> = held.into_iter().map(finish).collect();
        let sum = sum(parts.iter().flatten().map(|part| part.amount));
        bill.bounds.push(if alone { None } else { outer_bound(sum, bounds) });
        bill.parts.extend(parts);
    }
    bill
}

/// Sums amounts of lines.
pub(crate) fn sum(amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.fold(Amount::ZERO, |sum, amount| {
        sum.checked_add(amount).expect("5 x 10^10 lines of at most 10^30 are within an amount")
    })
}

/// What the models make of the quantities of one SKU, ordered by time and dimensions.
pub(crate) fn charges(measured: &[Measured<'_>]) -> Vec<Result<Charge, UnpricedReason>> {
    let mut piece: Option<usize> = None;
    let mut free_left = Quantity::ZERO;
    let mut charges = Vec::with_capacity(measured.len());
    for one in measured {
        if piece != Some(one.piece) {
            piece = Some(one.piece);
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
    let mut quantity = one.quantity?;
    let mut steps = Charge::new();
    for origin in &one.origin {
        steps.push(origin.clone())?;
    }
    let mut priced = Cow::Borrowed(one);
    if quantity.is_negative() && !one.price.mirrors_below_zero() {
        steps.push(Step::BelowZero { quantity })?;
        steps.below_zero = Some(quantity);
        quantity = Quantity::ZERO;
        priced.to_mut().events = Events::default();
    }
    charge(&priced, quantity, free_left, &mut steps)?;
    if let Some(share) = one.share {
        let part = share.of_amount(steps.amount).ok_or(UnpricedReason::OutOfRange)?;
        let amount = part.checked_sub(steps.amount).ok_or(UnpricedReason::OutOfRange)?;
        steps.push(Step::Shared { days: share.days, of: share.of, amount })?;
    }
    Ok(steps)
}

/// Discounts, bounds, the bill's currency, one rounding; in this order.
fn finish(
    mut charge: Charge,
    one: &Measured<'_>,
    bounds: Option<&Bounds>,
    (rounding, over): (Rounding, Option<&mut Amount>),
) -> Result<Part, UnpricedReason> {
    for (discount, share) in one.discounts {
        let taken = charge.amount.scaled(*share).and_then(Amount::checked_neg);
        let amount = taken.ok_or(UnpricedReason::OutOfRange)?;
        charge.push(Step::Discounted { name: discount.name.clone(), share: *share, amount })?;
    }
    if let Some(bounds) = bounds {
        for step in bound_steps(charge.amount, bounds).ok_or(UnpricedReason::OutOfRange)? {
            charge.push(step)?;
        }
    }
    if let Some(ExchangeRate { from, rate, .. }) = one.exchange {
        let exchanged = charge.amount.scaled(rate);
        let added = exchanged.and_then(|exchanged| exchanged.checked_sub(charge.amount));
        let amount = added.ok_or(UnpricedReason::OutOfRange)?;
        charge.push(Step::Exchanged { from, rate, amount })?;
    }
    round(&mut charge, rounding, over)?;
    if charge.amount.checked_abs().is_none_or(|amount| amount > line_max()) {
        return Err(UnpricedReason::OutOfRange);
    }
    Ok(Part { amount: charge.amount, steps: charge.steps, below_zero: charge.below_zero })
}

/// Rounds a charge. `over` is what the lines before it, of which it is one more share, were rounded down
/// by, and becomes what all of them were.
fn round(
    charge: &mut Charge,
    rounding: Rounding,
    over: Option<&mut Amount>,
) -> Result<(), UnpricedReason> {
    let before = over.as_ref().map_or(Amount::ZERO, |over| **over);
    let exact = charge.amount.checked_add(before).ok_or(UnpricedReason::OutOfRange)?;
    let rounded = exact.rounded(rounding).ok_or(UnpricedReason::OutOfRange)?;
    if let Some(over) = over {
        *over = exact.checked_sub(rounded).ok_or(UnpricedReason::OutOfRange)?;
    }
    let difference = rounded.checked_sub(charge.amount).ok_or(UnpricedReason::OutOfRange)?;
    if difference != Amount::ZERO {
        charge.push(Step::Rounded { rounding, amount: difference })?;
    }
    Ok(())
}

/// What brings an amount between the bounds: maximum first, then minimum. `None` past the range.
fn bound_steps(amount: Amount, bounds: &Bounds) -> Option<Vec<Step>> {
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
fn outer_bound(sum: Amount, bounds: &Bounds) -> Option<Part> {
    let to_bill = |bound: Quantity| {
        let exact = match bounds.exchange {
            None => Amount::of(bound),
            Some(ExchangeRate { rate, .. }) => Amount::product(bound, rate),
        };
        exact.rounded(bounds.rounding)
    };
    let mut steps = Vec::new();
    if let Some(bound) = bounds.maximum
        && let Some(most) = to_bill(bound).filter(|most| sum > *most)
    {
        steps.push(Step::Maximum { bound, amount: most.checked_sub(sum)? });
    }
    if let Some(bound) = bounds.minimum
        && let Some(least) = to_bill(bound).filter(|least| sum < *least)
    {
        steps.push(Step::Minimum { bound, amount: least.checked_sub(sum)? });
    }
    let amount = self::sum(steps.iter().map(Step::amount));
    (!steps.is_empty()).then_some(Part { amount, steps, below_zero: None })
}
