//! Steps: the explanation of a line, in the order in which its amount came about.

use domain::{
    Name, Quantity,
    catalogue::{Currency, Meter, Rounding},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    amount::Amount,
    words::{self, Pairs},
};

mod effect;

/// One step from usage to money. The steps' amounts add up to the line's, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "step")]
pub enum Step {
    /// What the meter gave.
    #[serde(rename = "meter")]
    Metered {
        /// The meter.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        meter: Meter,
        /// What it gave, of all resources together.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
        /// Of a level: how many resources have one.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
        #[schema(value_type = Option<String>)]
        resources: Option<u64>,
        /// How many of them have theirs from before the period, where any has.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
        #[schema(value_type = Option<String>)]
        carried: Option<u64>,
    },
    /// A quantity below zero is priced as zero, because the price has terms that begin or end there.
    #[serde(rename = "below_zero")]
    BelowZero {
        /// What gives nothing back.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
    },
    /// What a level costs for a whole period went down to its share of the days.
    #[serde(rename = "days")]
    Shared {
        /// Calendar days of the share.
        days: u32,
        /// Calendar days of the period.
        of: u32,
        /// The share minus the whole.
        amount: Amount,
    },
    /// The quantity went over into the unit that is priced.
    #[serde(rename = "convert")]
    Converted {
        /// Units of what was measured in one unit of what is priced, where it was divided.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
        #[schema(value_type = Option<String>)]
        divide_by: Option<Quantity>,
        /// The factor, where it was multiplied.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
        #[schema(value_type = Option<String>)]
        multiply_by: Option<Quantity>,
        /// How the result was rounded.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        rounding: Rounding,
        /// The result.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
    },
    /// Units that cost nothing went off.
    #[serde(rename = "free_units")]
    FreeUnits {
        /// Units that this line took of the period's free units.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        used: Quantity,
        /// What is left to pay for.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
    },
    /// The price's amounts, allowances and tier edges are for a share of a period only.
    #[serde(rename = "proration")]
    Prorated {
        /// Calendar days of the share.
        days: u32,
        /// Calendar days of the period.
        of: u32,
    },
    /// A fee that does not depend on the quantity.
    #[serde(rename = "flat")]
    Flat {
        /// The fee.
        amount: Amount,
    },
    /// Units at one price.
    #[serde(rename = "units")]
    Units {
        /// Units.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
        /// Price of each.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        unit_price: Quantity,
        /// The cell of the matrix that the price came from: names and values, empty for its
        /// default. `None` for models without a matrix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<Pairs>,
        /// Their product.
        amount: Amount,
    },
    /// Packages at one price.
    #[serde(rename = "packages")]
    Packages {
        /// Units.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
        /// Units in a package.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        package_size: Quantity,
        /// Packages that count.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        packages: i128,
        /// Price of a package.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        package_price: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// The units of one tier.
    #[serde(rename = "tier")]
    Tier {
        /// From 1.
        tier: usize,
        /// The tier begins just above this quantity.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        above: Quantity,
        /// The last quantity inside; `None` reaches without end.
        #[serde(with = "words::optional")]
        #[schema(value_type = Option<String>)]
        up_to: Option<Quantity>,
        /// Units that are priced here.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
        /// Units in a package, where the tier sells packages.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
        #[schema(value_type = Option<String>)]
        package_size: Option<Quantity>,
        /// Packages started, where the tier sells packages.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
        #[schema(value_type = Option<String>)]
        packages: Option<i128>,
        /// Price of a unit, or of a package.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        unit_price: Quantity,
        /// Units or packages times price.
        amount: Amount,
    },
    /// The fee of a tier that was reached.
    #[serde(rename = "tier_fee")]
    TierFee {
        /// From 1.
        tier: usize,
        /// The fee.
        amount: Amount,
    },
    /// The events that a percentage looks at.
    #[serde(rename = "events")]
    Events {
        /// Pulses.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        events: u128,
        /// The dimension that keeps events of different amounts apart, where single events matter.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
        #[schema(value_type = Option<String>)]
        amount_dimension: Option<Name>,
    },
    /// Events and a part of the amount that cost nothing went off.
    #[serde(rename = "free_events")]
    FreeEvents {
        /// Events that are free as a whole. One more may be free in part.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        events: u128,
        /// What of the amount is free.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        used: Quantity,
        /// What of the amount is left to pay for.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
    },
    /// A share of an amount.
    #[serde(rename = "rate")]
    Rate {
        /// The amount that is paid for.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
        /// The share as a factor.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        rate: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// The fees of events that are not free.
    #[serde(rename = "fixed_fee")]
    FixedFees {
        /// Events.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        events: u128,
        /// Fee of each.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        fixed_fee: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// What was missing to the least price of an event.
    #[serde(rename = "min_per_event")]
    MinimumPerEvent {
        /// Events that the minimum raised.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        events: u128,
        /// The minimum.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        bound: Quantity,
        /// Positive: the sum over them of the bound minus what each would have cost.
        amount: Amount,
    },
    /// What the greatest price of an event took off.
    #[serde(rename = "max_per_event")]
    MaximumPerEvent {
        /// Events that the maximum held.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        events: u128,
        /// The maximum.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        bound: Quantity,
        /// The sum over them of the bound minus what each would have cost: negative, but for
        /// adjustments, of which less is given back.
        amount: Amount,
    },
    /// The part of an amount that lies in one tier of rates.
    #[serde(rename = "rate_tier")]
    RateTier {
        /// From 1.
        tier: usize,
        /// The tier begins just above this amount.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        above: Quantity,
        /// The last amount inside; `None` reaches without end.
        #[serde(with = "words::optional")]
        #[schema(value_type = Option<String>)]
        up_to: Option<Quantity>,
        /// The part that is priced here.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
        /// The share as a factor.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        rate: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// Amounts that are money already.
    #[serde(rename = "multiplier")]
    Multiplied {
        /// The amount that was sent.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        quantity: Quantity,
        /// What it is multiplied by.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        multiplier: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// What a contract's discount took off.
    #[serde(rename = "discount")]
    Discounted {
        /// The discount.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        name: Name,
        /// The share as a factor.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        share: Quantity,
        /// Its product with what the line was before, on the other side of zero.
        amount: Amount,
    },
    /// The amount went over into the currency of the bill.
    #[serde(rename = "exchange")]
    Exchanged {
        /// The currency of the price.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        from: Currency,
        /// Units of the bill's currency for one of the price's.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        rate: Quantity,
        /// What the line became, minus what it was as a number in the other currency.
        amount: Amount,
    },
    /// What a discount of an amount took off the lines together.
    #[serde(rename = "amount_off")]
    AmountOff {
        /// What it takes off at most, for this part of the period.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        offered: Quantity,
        /// What the lines come to.
        base: Amount,
        /// The lesser of both, on the other side of zero.
        amount: Amount,
    },
    /// What was missing to a commitment.
    #[serde(rename = "shortfall")]
    Shortfall {
        /// What was promised for this part of the period.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        committed: Quantity,
        /// What was spent.
        spent: Amount,
        /// The difference.
        amount: Amount,
    },
    /// What spend beyond a commitment costs more or less than the normal price.
    #[serde(rename = "overage")]
    Overage {
        /// What was promised for this part of the period.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        committed: Quantity,
        /// What was spent beyond it.
        beyond: Amount,
        /// What a unit of money beyond it costs.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        factor: Quantity,
        /// `beyond` x (`factor` - 1).
        amount: Amount,
    },
    /// A tax on lines.
    #[serde(rename = "tax")]
    Taxed {
        /// What the lines come to.
        base: Amount,
        /// The share as a factor.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        rate: Quantity,
        /// Their product.
        amount: Amount,
    },
    /// What earlier documents have billed of the line already.
    #[serde(rename = "invoiced_before")]
    Invoiced {
        /// It, on the other side of zero.
        amount: Amount,
    },
    /// What correction notes gave back of the line, so that it counts as billed less.
    #[serde(rename = "corrected_before")]
    Corrected {
        /// It, above zero.
        amount: Amount,
    },
    /// What goodwill notes gave back beyond what there is to pay now: it stays billed, because it is not
    /// given back again.
    #[serde(rename = "goodwill")]
    Goodwill {
        /// It, above zero; below zero on the line about goodwill in all, where that takes over what
        /// stays billed of other lines.
        amount: Amount,
    },
    /// What the period's maximum took off.
    #[serde(rename = "maximum")]
    Maximum {
        /// The maximum.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        bound: Quantity,
        /// Negative: bound minus what it would have been.
        amount: Amount,
    },
    /// What was missing to the period's minimum.
    #[serde(rename = "minimum")]
    Minimum {
        /// The minimum.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        bound: Quantity,
        /// Positive: bound minus what it would have been.
        amount: Amount,
    },
    /// The one rounding of the line, where it changed anything.
    #[serde(rename = "rounding")]
    Rounded {
        /// The rule.
        #[serde(with = "words")]
        #[schema(value_type = String)]
        rounding: Rounding,
        /// Rounded minus exact.
        amount: Amount,
    },
}
