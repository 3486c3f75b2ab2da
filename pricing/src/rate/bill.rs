//! Bill: the quantities of one SKU in one period become rounded amounts, held between the period's
//! minimum and maximum.

use domain::{
    Dimensions, Quantity, Timestamp,
    catalogue::{Price, Rounding},
};

use super::{
    Step, UnpricedReason,
    charge::{Charge, charge},
    events::Events,
};
use crate::amount::Amount;

/// A quantity that one price version prices together.
#[derive(Clone, Debug)]
pub(crate) struct Measured<'c> {
    pub(crate) price: &'c Price,
    pub(crate) dimensions: Dimensions,
    /// The quantity, or why there is none to price.
    pub(crate) quantity: Result<Quantity, UnpricedReason>,
    /// The single events behind it.
    pub(crate) events: Events,
    /// The step that says where the quantity came from.
    pub(crate) origin: Option<Step>,
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

/// Prices the quantities of one SKU, ordered by price version and dimensions. `bounds` is the price
/// whose minimum and maximum hold for the period.
///
/// A single quantity takes the bounds before it is rounded. Several are rounded first, and one more
/// part brings their sum to the bound.
pub(crate) fn bill(measured: &[Measured<'_>], bounds: &Price, rounding: Rounding) -> Bill {
    let charges = charges(measured);
    let priced = charges.iter().filter(|charge| charge.is_ok()).count();
    let inner = if priced == 1 { Some(bounds) } else { None };
    let finish = |charge: Result<Charge, UnpricedReason>| {
        charge.and_then(|charge| finish(charge, inner, rounding))
    };
    let parts: Vec<_> = charges.into_iter().map(finish).collect();
    let sum = sum(parts.iter().flatten().map(|part| part.amount));
    // A part that left its range has taken the bounds with it.
    let bound = if priced > 1 { outer_bound(sum, bounds) } else { None };
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
        if version != Some(one.price.valid_from) {
            version = Some(one.price.valid_from);
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
    if let Some(origin) = &one.origin {
        steps.push(origin.clone())?;
    }
    charge(one, quantity, free_left, &mut steps)?;
    Ok(steps)
}

fn finish(
    mut charge: Charge,
    bounds: Option<&Price>,
    rounding: Rounding,
) -> Result<Part, UnpricedReason> {
    if let Some(bounds) = bounds {
        for step in bound_steps(charge.amount, bounds).ok_or(UnpricedReason::OutOfRange)? {
            charge.push(step)?;
        }
    }
    let rounded = charge.amount.rounded(rounding).ok_or(UnpricedReason::OutOfRange)?;
    let difference = rounded.checked_sub(charge.amount).ok_or(UnpricedReason::OutOfRange)?;
    if difference != Amount::ZERO {
        charge.push(Step::Rounded { rounding, amount: difference })?;
    }
    if rounded.checked_abs().is_none_or(|amount| amount > line_max()) {
        return Err(UnpricedReason::OutOfRange);
    }
    Ok(Part { amount: charge.amount, steps: charge.steps })
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

/// The part that brings the sum of several lines to a bound. It is not rounded: the lines are, and
/// their total must meet the bound as it is written.
fn outer_bound(sum: Amount, bounds: &Price) -> Option<Part> {
    let steps = bound_steps(sum, bounds).expect("lines and bounds are far inside the range");
    let amount = self::sum(steps.iter().map(Step::amount));
    (!steps.is_empty()).then_some(Part { amount, steps })
}
