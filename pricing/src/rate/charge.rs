//! Charge: one quantity of a period becomes exact money, step by step.
//!
//! Order: convert and round the quantity, free units, the model. Maximum, minimum and the rounding
//! of the line come after, in `bill.rs`.

use domain::{
    Quantity,
    catalogue::{
        Conversion, ConversionFactor, PackageRounding, PriceModel, RoundingMode, Tier, Tiers,
    },
};

use super::{Step, UnpricedReason, measured::Measured};
use crate::{
    amount::{self, Amount},
    words::Pairs,
};

mod percentage;

/// Steps and their sum so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(super) amount: Amount,
    pub(super) steps: Vec<Step>,
    /// What of a quantity below zero gives nothing back.
    pub(super) below_zero: Option<Quantity>,
}

impl Charge {
    pub(super) const fn new() -> Self {
        Self { amount: Amount::ZERO, steps: Vec::new(), below_zero: None }
    }

    /// Adds a step.
    pub(super) fn push(&mut self, step: Step) -> Result<(), UnpricedReason> {
        let amount = self.amount.checked_add(step.amount());
        self.amount = amount.ok_or(UnpricedReason::OutOfRange)?;
        self.steps.push(step);
        Ok(())
    }
}

/// Prices a metered quantity. What it uses of the free units goes off `free_left`.
///
/// A quantity below zero comes here under a linear price only: what was billed for 150 units is given
/// back for -150.
pub(super) fn charge(
    measured: &Measured<'_>,
    metered: Quantity,
    free_left: &mut Quantity,
    charge: &mut Charge,
) -> Result<(), UnpricedReason> {
    let Measured { price, cells, dimensions, events, .. } = measured;
    let quantity = match &price.convert {
        Some(conversion) => convert(conversion, metered, charge)?,
        None => metered,
    };
    let quantity = take_free_units(quantity, free_left, charge)?;
    match &price.model {
        PriceModel::Flat { amount } => charge.push(Step::Flat { amount: Amount::of(*amount) }),
        PriceModel::PerUnit { unit_price } => push_units(quantity, *unit_price, None, charge),
        PriceModel::Graduated(tiers) => graduated(tiers, quantity, charge),
        PriceModel::Volume(tiers) => volume(tiers, quantity, charge),
        PriceModel::Package { size, price, rounding } => {
            packages(quantity, *size, *price, *rounding, charge)
        }
        PriceModel::Matrix(_) => {
            let found = cells.and_then(|cells| cells.price(dimensions));
            let (unit_price, cell) = found.ok_or(UnpricedReason::NoMatrixPrice)?;
            push_units(quantity, unit_price, Some(cell), charge)
        }
        PriceModel::Percentage(terms) => percentage::percentage(terms, quantity, events, charge),
        PriceModel::GraduatedPercentage(tiers) => percentage::graduated(tiers, quantity, charge),
        PriceModel::Dynamic { multiplier } => {
            let amount = Amount::product(quantity, *multiplier);
            charge.push(Step::Multiplied { quantity, multiplier: *multiplier, amount })
        }
    }
}

fn convert(
    conversion: &Conversion,
    metered: Quantity,
    charge: &mut Charge,
) -> Result<Quantity, UnpricedReason> {
    let Conversion { factor, rounding } = *conversion;
    let converted = match factor {
        ConversionFactor::DivideBy(divisor) => amount::quotient(metered, divisor, rounding),
        ConversionFactor::MultiplyBy(factor) => amount::product(metered, factor, rounding),
    };
    let quantity = converted.ok_or(UnpricedReason::OutOfRange)?;
    let (divide_by, multiply_by) = match factor {
        ConversionFactor::DivideBy(divisor) => (Some(divisor), None),
        ConversionFactor::MultiplyBy(factor) => (None, Some(factor)),
    };
    charge.push(Step::Converted { divide_by, multiply_by, rounding, quantity })?;
    Ok(quantity)
}

fn take_free_units(
    quantity: Quantity,
    free_left: &mut Quantity,
    charge: &mut Charge,
) -> Result<Quantity, UnpricedReason> {
    let used = quantity.min(*free_left);
    if used <= Quantity::ZERO {
        return Ok(quantity);
    }
    let less = |one: Quantity| one.checked_sub(used).ok_or(UnpricedReason::OutOfRange);
    let left = less(quantity)?;
    *free_left = less(*free_left)?;
    charge.push(Step::FreeUnits { used, quantity: left })?;
    Ok(left)
}

fn push_units(
    quantity: Quantity,
    unit_price: Quantity,
    when: Option<Pairs>,
    charge: &mut Charge,
) -> Result<(), UnpricedReason> {
    let amount = Amount::product(quantity, unit_price);
    charge.push(Step::Units { quantity, unit_price, when, amount })
}

fn packages(
    quantity: Quantity,
    package_size: Quantity,
    package_price: Quantity,
    rounding: PackageRounding,
    charge: &mut Charge,
) -> Result<(), UnpricedReason> {
    let mode = match rounding {
        PackageRounding::Up => RoundingMode::Up,
        PackageRounding::Down => RoundingMode::Down,
    };
    let packages = amount::packages(quantity, package_size, mode);
    let packages = packages.ok_or(UnpricedReason::OutOfRange)?;
    let amount = Amount::multiple(packages, package_price).ok_or(UnpricedReason::OutOfRange)?;
    charge.push(Step::Packages { quantity, package_size, packages, package_price, amount })
}

/// Each unit at its own tier's price; a tier is reached by any quantity above the tier before.
fn graduated(tiers: &Tiers, quantity: Quantity, charge: &mut Charge) -> Result<(), UnpricedReason> {
    if quantity == Quantity::ZERO {
        return fee_at_zero(fee_of(tiers), charge);
    }
    let edges = tiers.list.iter().map(|tier| tier.up_to);
    for (tier, stretch) in tiers.list.iter().zip(stretches(edges, quantity)?) {
        let Stretch { index, above, inside } = stretch;
        push_tier(TierPlace { index, tier, above }, inside, charge)?;
    }
    Ok(())
}

/// What of a quantity lies in one tier.
struct Stretch {
    index: usize,
    /// The tier begins just above this quantity.
    above: Quantity,
    /// Units in it, above zero.
    inside: Quantity,
}

/// Cuts a quantity at the last quantities of tiers: one stretch for each tier that it reaches.
fn stretches(
    edges: impl Iterator<Item = Option<Quantity>>,
    quantity: Quantity,
) -> Result<Vec<Stretch>, UnpricedReason> {
    let mut above = Quantity::ZERO;
    let mut stretches = Vec::new();
    for (index, up_to) in edges.enumerate() {
        if quantity <= above {
            break;
        }
        let top = up_to.map_or(quantity, |up_to| up_to.min(quantity));
        let inside = top.checked_sub(above).ok_or(UnpricedReason::OutOfRange)?;
        stretches.push(Stretch { index, above, inside });
        above = top;
    }
    Ok(stretches)
}

/// All units at the price of the first tier that holds them.
fn volume(tiers: &Tiers, quantity: Quantity, charge: &mut Charge) -> Result<(), UnpricedReason> {
    if quantity == Quantity::ZERO {
        return fee_at_zero(fee_of(tiers), charge);
    }
    let mut above = Quantity::ZERO;
    for (index, tier) in tiers.list.iter().enumerate() {
        match tier.up_to {
            Some(up_to) if quantity > up_to => above = up_to,
            _ => return push_tier(TierPlace { index, tier, above }, quantity, charge),
        }
    }
    unreachable!("the last tier of a catalogue reaches without end")
}

fn fee_of(tiers: &Tiers) -> Option<Quantity> {
    let first = tiers.list.first().filter(|_| tiers.flat_fee_at_zero);
    first.map(|first| first.flat_fee)
}

/// Takes the first tier's fee, where it is due for a quantity of zero.
fn fee_at_zero(fee: Option<Quantity>, charge: &mut Charge) -> Result<(), UnpricedReason> {
    fee.map_or(Ok(()), |fee| charge.push(Step::TierFee { tier: 1, amount: Amount::of(fee) }))
}

struct TierPlace<'t> {
    index: usize,
    tier: &'t Tier,
    above: Quantity,
}

/// Prices units in a tier.
fn push_tier(
    place: TierPlace<'_>,
    quantity: Quantity,
    charge: &mut Charge,
) -> Result<(), UnpricedReason> {
    let TierPlace { index, tier, above } = place;
    let (number, up_to, unit_price) = (index + 1, tier.up_to, tier.unit_price);
    let package_size = tier.package_size;
    let (packages, amount) = match package_size {
        None => (None, Amount::product(quantity, unit_price)),
        Some(size) => {
            let count = amount::packages(quantity, size, RoundingMode::Up)
                .ok_or(UnpricedReason::OutOfRange)?;
            let amount = Amount::multiple(count, unit_price).ok_or(UnpricedReason::OutOfRange)?;
            (Some(count), amount)
        }
    };
    charge.push(Step::Tier {
        tier: number,
        above,
        up_to,
        quantity,
        package_size,
        packages,
        unit_price,
        amount,
    })?;
    if tier.flat_fee != Quantity::ZERO {
        charge.push(Step::TierFee { tier: number, amount: Amount::of(tier.flat_fee) })?;
    }
    Ok(())
}
