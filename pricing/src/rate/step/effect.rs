//! Effect: what a step is called, and what it adds to its line.

use super::Step;
use crate::amount::Amount;

impl Step {
    /// The word that answers use.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Metered { .. } => "meter",
            Self::BelowZero { .. } => "below_zero",
            Self::Shared { .. } => "days",
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
            Self::Corrected { .. } => "corrected_before",
            Self::Goodwill { .. } => "goodwill",
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
                | Self::BelowZero { .. }
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
            | Self::BelowZero { .. }
            | Self::Converted { .. }
            | Self::FreeUnits { .. }
            | Self::Prorated { .. }
            | Self::Events { .. }
            | Self::FreeEvents { .. } => Amount::ZERO,
            Self::Flat { amount }
            | Self::Shared { amount, .. }
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
            | Self::Corrected { amount }
            | Self::Goodwill { amount }
            | Self::Maximum { amount, .. }
            | Self::Minimum { amount, .. }
            | Self::Rounded { amount, .. } => *amount,
        }
    }
}
