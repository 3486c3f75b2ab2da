//! Steps: the explanation of a line, in the order in which its amount came about.

use domain::{
    Name, Quantity,
    catalogue::{Conversion, Currency, Meter, Rounding},
};

use crate::amount::Amount;

/// One step from usage to money. The steps' amounts add up to the line's, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The meter took its aggregate of the whole period.
    Metered {
        /// Which aggregate.
        meter: Meter,
        /// What it gave.
        quantity: Quantity,
    },
    /// The quantity went over into the unit that is priced.
    Converted {
        /// By what, and how the result was rounded.
        conversion: Conversion,
        /// The result.
        quantity: Quantity,
    },
    /// Units that cost nothing went off.
    FreeUnits {
        /// Units that this line took of the period's free units.
        used: Quantity,
        /// What is left to pay for.
        quantity: Quantity,
    },
    /// The price's amounts, allowances and tier edges are for a share of a period only.
    Prorated {
        /// Calendar days of the share.
        days: u32,
        /// Calendar days of the period.
        of: u32,
    },
    /// A fee that does not depend on the quantity.
    Flat {
        /// The fee.
        amount: Amount,
    },
    /// Units at one price.
    Units {
        /// Units.
        quantity: Quantity,
        /// Price of each.
        unit_price: Quantity,
        /// The cell of the matrix that the price came from: names and values, empty for its
        /// default. `None` for models without a matrix.
        cell: Option<Vec<(String, String)>>,
        /// Their product.
        amount: Amount,
    },
    /// Packages at one price.
    Packages {
        /// Units.
        quantity: Quantity,
        /// Units in a package.
        package_size: Quantity,
        /// Packages that count.
        packages: i128,
        /// Price of a package.
        package_price: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// The units of one tier.
    Tier {
        /// From 1.
        number: usize,
        /// The tier begins just above this quantity.
        above: Quantity,
        /// The last quantity inside; `None` reaches without end.
        up_to: Option<Quantity>,
        /// Units that are priced here.
        quantity: Quantity,
        /// Price of a unit, or of a package.
        unit_price: Quantity,
        /// Units in a package and packages started, where the tier sells packages.
        packages: Option<(Quantity, i128)>,
        /// Units or packages times price.
        amount: Amount,
    },
    /// The fee of a tier that was reached.
    TierFee {
        /// From 1.
        number: usize,
        /// The fee.
        amount: Amount,
    },
    /// The events that a percentage looks at.
    Events {
        /// Pulses.
        events: u128,
        /// The dimension that keeps events of different amounts apart, where single events matter.
        amount_dimension: Option<Name>,
    },
    /// Events and a part of the amount that cost nothing went off.
    FreeEvents {
        /// Events that are free as a whole. One more may be free in part.
        events: u128,
        /// What of the amount is free.
        used: Quantity,
        /// What of the amount is left to pay for.
        quantity: Quantity,
    },
    /// A share of an amount.
    Rate {
        /// The amount that is paid for.
        quantity: Quantity,
        /// The share as a factor.
        rate: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// The fees of events that are not free.
    FixedFees {
        /// Events.
        events: u128,
        /// Fee of each.
        fixed_fee: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// What was missing to the least price of an event.
    MinimumPerEvent {
        /// Events that the minimum raised.
        events: u128,
        /// The minimum.
        bound: Quantity,
        /// Positive: the sum over them of the bound minus what each would have cost.
        amount: Amount,
    },
    /// What the greatest price of an event took off.
    MaximumPerEvent {
        /// Events that the maximum held.
        events: u128,
        /// The maximum.
        bound: Quantity,
        /// The sum over them of the bound minus what each would have cost: negative, but for
        /// adjustments, of which less is given back.
        amount: Amount,
    },
    /// The part of an amount that lies in one tier of rates.
    RateTier {
        /// From 1.
        number: usize,
        /// The tier begins just above this amount.
        above: Quantity,
        /// The last amount inside; `None` reaches without end.
        up_to: Option<Quantity>,
        /// The part that is priced here.
        quantity: Quantity,
        /// The share as a factor.
        rate: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// Amounts that are money already.
    Multiplied {
        /// The amount that was sent.
        quantity: Quantity,
        /// What it is multiplied by.
        multiplier: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// What a contract's discount took off.
    Discounted {
        /// The discount.
        name: Name,
        /// The share as a factor.
        share: Quantity,
        /// Its product with what the line was before, on the other side of zero.
        amount: Amount,
    },
    /// The amount went over into the currency of the bill.
    Exchanged {
        /// The currency of the price.
        from: Currency,
        /// Units of the bill's currency for one of the price's.
        rate: Quantity,
        /// What the line became, minus what it was as a number in the other currency.
        amount: Amount,
    },
    /// What a discount of an amount took off the lines together.
    AmountOff {
        /// What it takes off at most, for this part of the period.
        offered: Quantity,
        /// What the lines come to.
        base: Amount,
        /// The lesser of both, on the other side of zero.
        amount: Amount,
    },
    /// What was missing to a commitment.
    Shortfall {
        /// What was promised for this part of the period.
        committed: Quantity,
        /// What was spent.
        spent: Amount,
        /// The difference.
        amount: Amount,
    },
    /// What spend beyond a commitment costs more or less than the normal price.
    Overage {
        /// What was promised for this part of the period.
        committed: Quantity,
        /// What was spent beyond it.
        beyond: Amount,
        /// What a unit of money beyond it costs.
        factor: Quantity,
        /// `beyond` x (`factor` - 1).
        amount: Amount,
    },
    /// A tax on lines.
    Taxed {
        /// What the lines come to.
        base: Amount,
        /// The share as a factor.
        rate: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// What earlier documents have billed of the line already.
    Invoiced {
        /// It, on the other side of zero.
        amount: Amount,
    },
    /// What the period's maximum took off.
    Maximum {
        /// The maximum.
        bound: Quantity,
        /// Negative: bound minus what it would have been.
        amount: Amount,
    },
    /// What was missing to the period's minimum.
    Minimum {
        /// The minimum.
        bound: Quantity,
        /// Positive: bound minus what it would have been.
        amount: Amount,
    },
    /// The one rounding of the line, where it changed anything.
    Rounded {
        /// The rule.
        rounding: Rounding,
        /// Rounded minus exact.
        amount: Amount,
    },
}

impl Step {
    /// The word that answers use.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Metered { .. } => "meter",
            Self::Converted { .. } => "convert",
            Self::FreeUnits { .. } => "free_units",
            Self::Prorated { .. } => "proration",
            Self::Flat { .. } => "flat",
            Self::Units { .. } => "units",
            Self::Packages { .. } => "packages",
            Self::Tier { .. } => "tier",
            Self::TierFee { .. } => "tier_fee",
            Self::Events { .. } => "events",
            Self::FreeEvents { .. } => "free_events",
            Self::Rate { .. } => "rate",
            Self::FixedFees { .. } => "fixed_fee",
            Self::MinimumPerEvent { .. } => "min_per_event",
            Self::MaximumPerEvent { .. } => "max_per_event",
            Self::RateTier { .. } => "rate_tier",
            Self::Multiplied { .. } => "multiplier",
            Self::Discounted { .. } => "discount",
            Self::Exchanged { .. } => "exchange",
            Self::AmountOff { .. } => "amount_off",
            Self::Shortfall { .. } => "shortfall",
            Self::Overage { .. } => "overage",
            Self::Taxed { .. } => "tax",
            Self::Invoiced { .. } => "invoiced_before",
            Self::Maximum { .. } => "maximum",
            Self::Minimum { .. } => "minimum",
            Self::Rounded { .. } => "rounding",
        }
    }

    /// Tells whether the step only brings other lines to a bound of the period.
    #[must_use]
    pub const fn is_bound(&self) -> bool {
        matches!(self, Self::Maximum { .. } | Self::Minimum { .. })
    }

    /// Tells whether the step adds to the line; the others only change the quantity.
    #[must_use]
    pub const fn adds(&self) -> bool {
        !matches!(
            self,
            Self::Metered { .. }
                | Self::Converted { .. }
                | Self::FreeUnits { .. }
                | Self::Prorated { .. }
                | Self::Events { .. }
                | Self::FreeEvents { .. }
        )
    }

    /// What the step adds to the line; zero for steps that only change the quantity.
    #[must_use]
    pub const fn amount(&self) -> Amount {
        match self {
            Self::Metered { .. }
            | Self::Converted { .. }
            | Self::FreeUnits { .. }
            | Self::Prorated { .. }
            | Self::Events { .. }
            | Self::FreeEvents { .. } => Amount::ZERO,
            Self::Flat { amount }
            | Self::Units { amount, .. }
            | Self::Packages { amount, .. }
            | Self::Tier { amount, .. }
            | Self::TierFee { amount, .. }
            | Self::Rate { amount, .. }
            | Self::FixedFees { amount, .. }
            | Self::MinimumPerEvent { amount, .. }
            | Self::MaximumPerEvent { amount, .. }
            | Self::RateTier { amount, .. }
            | Self::Multiplied { amount, .. }
            | Self::Discounted { amount, .. }
            | Self::Exchanged { amount, .. }
            | Self::AmountOff { amount, .. }
            | Self::Shortfall { amount, .. }
            | Self::Overage { amount, .. }
            | Self::Taxed { amount, .. }
            | Self::Invoiced { amount, .. }
            | Self::Maximum { amount, .. }
            | Self::Minimum { amount, .. }
            | Self::Rounded { amount, .. } => *amount,
        }
    }
}
