//! Catalogue: what each SKU costs, and from when, as values that cannot be wrong in shape.
//!
//! Rating reads these and nothing else. The file format, its checks and the arithmetic are the
//! pricing crate's; here stands only what a price is. A price is never edited: the next one
//! supersedes it from its own `valid_from` on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{Name, Quantity, Sku, Timestamp, Unit, epochs::Declared};

/// A dated, immutable set of prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// Its name, published once.
    pub version: Name,
    /// Currency of the bills, and of prices that name none.
    pub currency: Currency,
    /// How each line is rounded.
    pub rounding: Rounding,
    /// First moment at which it is in effect, where the file says so. Otherwise that is when it is
    /// published.
    pub effective_from: Option<Timestamp>,
    /// One entry for each (SKU, unit), in the order of the file.
    pub skus: Vec<SkuDefinition>,
    /// SKUs that have no price from now on, not even for those who subscribe to them. Without a unit:
    /// in all of them.
    pub retired: Vec<(Sku, Option<Unit>)>,
}

impl Catalogue {
    /// The definition of a SKU in a unit.
    #[must_use]
    pub fn find(&self, sku: &Sku, unit: &Unit) -> Option<&SkuDefinition> {
        self.skus.iter().find(|definition| definition.sku == *sku && definition.unit == *unit)
    }

    /// Tells whether it names a SKU in a unit as retired.
    #[must_use]
    pub fn retires(&self, sku: &Sku, unit: &Unit) -> bool {
        let mut of_sku = self.retired.iter().filter(|(named, _)| named == sku);
        of_sku.any(|(_, of)| of.as_ref().is_none_or(|of| of == unit))
    }

    /// The dimensions of each SKU that has any, as the catalogue with this number declares them:
    /// those of all its units together, because the log knows a SKU by its name alone. By SKU.
    #[must_use]
    pub fn declared(&self, version: u64) -> Vec<Declared> {
        let mut skus: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for definition in self.skus.iter().filter(|found| !found.dimensions.is_empty()) {
            let names = definition.dimensions.iter().map(Name::as_str);
            skus.entry(definition.sku.as_str()).or_default().extend(names);
        }
        let declared = |(sku, names): (&str, BTreeSet<&str>)| Declared {
            product_sku: sku.to_owned(),
            version,
            dimensions: names.into_iter().map(str::to_owned).collect(),
        };
        skus.into_iter().map(declared).collect()
    }
}

/// A SKU as it is counted in one unit. The same SKU may stand in a catalogue once for each unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkuDefinition {
    /// The name under which pulses count it.
    pub sku: Sku,
    /// For people; empty where the file gives none.
    pub name: String,
    /// What the pulses' amounts count.
    pub unit: Unit,
    /// What is measured.
    pub meter: Meter,
    /// What a level is measured for: each combination of these dimensions has one of its own. Sorted,
    /// without repeats, among `dimensions`. Meters of other kinds do not look at it.
    pub per: Vec<Name>,
    /// Tells whether a level holds on into periods without a pulse. Only `latest` and `time_weighted`
    /// may.
    pub carry: bool,
    /// Properties that stay apart in the totals, sorted, without repeats.
    pub dimensions: Vec<Name>,
    /// What a negative amount means.
    pub negative: NegativePolicy,
    /// Sorted by `valid_from`; within a currency no two are valid at once.
    pub prices: Vec<Price>,
}

impl SkuDefinition {
    /// The price in a currency that is valid at a moment.
    #[must_use]
    pub fn price_at(&self, currency: Currency, moment: Timestamp) -> Option<&Price> {
        self.prices.iter().find(|price| price.currency == currency && price.is_valid_at(moment))
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word that files and answers use.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// What is measured of a period's usage.
    ///
    /// `sum` and `count` add pulses up. The others measure a level, as of seats or gigabytes that are
    /// there: each resource has one, and those of all resources are added up.
    Meter {
        /// Sum of the amounts.
        Sum = "sum",
        /// Number of pulses.
        Count = "count",
        /// Least amount of a resource.
        Min = "min",
        /// Greatest amount of a resource.
        Max = "max",
        /// Sum of a resource's amounts divided by their number, rounded half up at 18 decimals, once;
        /// an average of nothing is zero.
        Avg = "avg",
        /// The amount with the greatest event time; the greater one where times are equal.
        Latest = "latest",
        /// The integral of the level over time, divided by the length of the whole period: 100 for
        /// half of it are 50.
        TimeWeighted = "time_weighted",
    }
}

impl Meter {
    /// Tells whether it measures a level of each resource.
    #[must_use]
    pub const fn is_level(self) -> bool {
        !matches!(self, Self::Sum | Self::Count)
    }
}

words! {
    /// What happens to negative amounts of a SKU.
    NegativePolicy {
        /// They are adjustments and lower the total.
        Accept = "accept",
        /// They are a mistake, which ingest refuses.
        Refuse = "refuse",
    }
}

words! {
    /// Where digits go that are not kept.
    RoundingMode {
        /// To the nearest; a tie goes away from zero (2.5 to 3, -2.5 to -3).
        HalfUp = "half_up",
        /// To the nearest; a tie goes to the even neighbour (2.5 to 2, 3.5 to 4).
        HalfEven = "half_even",
        /// Away from zero.
        Up = "up",
        /// Towards zero.
        Down = "down",
    }
}

words! {
    /// What becomes of a package that is not full.
    PackageRounding {
        /// A started package is a whole one.
        Up = "up",
        /// Only full packages count.
        Down = "down",
    }
}

/// How a number is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// All digits are kept.
    Exact,
    /// Digits after the point.
    To {
        /// 0 to 18.
        digits: u8,
        /// Where the rest goes.
        mode: RoundingMode,
    },
}

impl Rounding {
    /// Digits after the point that a number rounded so always shows.
    #[must_use]
    pub const fn digits(self) -> u8 {
        match self {
            Self::Exact => 0,
            Self::To { digits, .. } => digits,
        }
    }
}

impl fmt::Display for Rounding {
    /// Prints `none` or, for example, `half_up to 2 digits`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("none"),
            Self::To { digits, mode } => write!(f, "{} to {digits} digits", mode.as_str()),
        }
    }
}

/// A currency of ISO 4217.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// Takes an alphabetic code in capitals, such as `BRL`, or `None` where ISO 4217 has no such.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        iso_currency::Currency::from_code(code).map(Self)
    }

    /// Digits of its smallest coin: 2 for BRL, 0 for JPY; 2 where ISO 4217 names none, as for gold.
    #[must_use]
    pub fn minor_digits(self) -> u8 {
        self.0.exponent().and_then(|digits| u8::try_from(digits).ok()).unwrap_or(2)
    }

    /// The alphabetic code.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What a SKU costs in one currency, from one moment to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// First moment at which it is valid.
    pub valid_from: Timestamp,
    /// First moment at which it is no longer valid: as the file says, or where the next begins.
    pub valid_to: Option<Timestamp>,
    /// The currency of every amount in it.
    pub currency: Currency,
    /// How the quantity becomes money.
    pub model: PriceModel,
    /// Units of each period that cost nothing, not below zero.
    pub free_units: Quantity,
    /// Least amount for the whole period, where it has one. Not above `maximum`.
    pub minimum: Option<Quantity>,
    /// Greatest amount for the whole period, where it has one.
    pub maximum: Option<Quantity>,
    /// Applied to the quantity before anything else.
    pub convert: Option<Conversion>,
}

impl Price {
    /// Tells whether another price asks for the same, whenever either is valid.
    #[must_use]
    pub fn has_terms_of(&self, other: &Self) -> bool {
        let Self {
            valid_from: _,
            valid_to: _,
            currency,
            model,
            free_units,
            minimum,
            maximum,
            convert,
        } = self;
        *currency == other.currency
            && *free_units == other.free_units
            && *minimum == other.minimum
            && *maximum == other.maximum
            && *convert == other.convert
            && *model == other.model
    }

    /// Tells whether a period's usage below zero gives back what the same above zero costs: nothing in the
    /// price is for a whole period, so nothing begins or ends at zero.
    #[must_use]
    pub fn mirrors_below_zero(&self) -> bool {
        let mirrors = match &self.model {
            PriceModel::PerUnit { .. } | PriceModel::Matrix(_) | PriceModel::Dynamic { .. } => true,
            PriceModel::Percentage(percentage) => percentage
                .per_event
                .as_ref()
                .is_none_or(|terms| terms.free_events.is_none() && terms.free_amount.is_none()),
            PriceModel::Flat { .. }
            | PriceModel::Graduated(_)
            | PriceModel::Volume(_)
            | PriceModel::Package { .. }
            | PriceModel::GraduatedPercentage(_) => false,
        };
        mirrors
            && self.free_units == Quantity::ZERO
            && self.minimum.is_none()
            && self.maximum.is_none()
    }

    /// Tells whether it is valid at a moment.
    #[must_use]
    pub fn is_valid_at(&self, moment: Timestamp) -> bool {
        self.valid_from <= moment && self.valid_to.is_none_or(|end| moment < end)
    }
}

/// How a quantity becomes money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceModel {
    /// One amount for the period, whatever the quantity, zero included.
    Flat {
        /// The whole charge of a period.
        amount: Quantity,
    },
    /// Each unit at one price.
    PerUnit {
        /// Price of a unit.
        unit_price: Quantity,
    },
    /// Each unit at the price of its own tier.
    Graduated(Tiers),
    /// All units at the price of the tier that the quantity reaches.
    Volume(Tiers),
    /// Packages of units.
    Package {
        /// Units in a package, above zero.
        size: Quantity,
        /// Price of a package.
        price: Quantity,
        /// What becomes of a package that is not full.
        rounding: PackageRounding,
    },
    /// A price for each combination of dimensions.
    Matrix(Matrix),
    /// A share of each event's amount, and a fee for each event.
    Percentage(Percentage),
    /// A share of the period's amount, each part of it at the rate of its own tier.
    GraduatedPercentage(RateTiers),
    /// The amounts are money already.
    Dynamic {
        /// What they are multiplied by, not below zero.
        multiplier: Quantity,
    },
}

impl PriceModel {
    /// The word that files and answers use.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Flat { .. } => "flat",
            Self::PerUnit { .. } => "per_unit",
            Self::Graduated(_) => "graduated",
            Self::Volume(_) => "volume",
            Self::Package { .. } => "package",
            Self::Matrix(_) => "matrix",
            Self::Percentage(_) => "percentage",
            Self::GraduatedPercentage(_) => "graduated_percentage",
            Self::Dynamic { .. } => "dynamic",
        }
    }

    /// The terms that need the amount of each single event, where there are any.
    #[must_use]
    pub const fn per_event(&self) -> Option<&PerEvent> {
        match self {
            Self::Percentage(percentage) => percentage.per_event.as_ref(),
            _ => None,
        }
    }
}

/// Tiers that cover every quantity above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// At least one; `up_to` ascends, and the last alone has none.
    pub list: Vec<Tier>,
    /// True when the first tier's fee is due for a quantity of zero too.
    pub flat_fee_at_zero: bool,
}

/// A stretch of quantity with its price: above the tier before, up to `up_to` inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Last quantity inside, counted from zero; `None` reaches without end.
    pub up_to: Option<Quantity>,
    /// Price of a unit, or of a started package where `package_size` is given.
    pub unit_price: Quantity,
    /// Due once the tier is reached.
    pub flat_fee: Quantity,
    /// Units in a package, above zero.
    pub package_size: Option<Quantity>,
}

/// A share of amounts of money. An event is a pulse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Percentage {
    /// The share as a factor: 0.015 is 1.5 %. Not below zero; above one is allowed.
    pub rate: Quantity,
    /// Due for each event, not below zero.
    pub fixed_fee: Quantity,
    /// Terms that need more than the sum of the amounts and their number.
    pub per_event: Option<PerEvent>,
}

/// Terms of a percentage that look at each event by itself. At least one of the four is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerEvent {
    /// The declared dimension in which pulses repeat their amount, so that the totals keep events
    /// of different amounts apart.
    pub amount_dimension: Name,
    /// Events of the period that cost nothing, above zero. `None` with a `free_amount` means that
    /// the amount alone ends the allowance.
    pub free_events: Option<u64>,
    /// Amount of the period that costs nothing, above zero. `None` with `free_events` means that
    /// their number alone ends the allowance.
    pub free_amount: Option<Quantity>,
    /// Least price of an event that is not free, not below zero. Not above `maximum`.
    pub minimum: Option<Quantity>,
    /// Greatest price of an event, not below zero.
    pub maximum: Option<Quantity>,
}

/// Tiers of rates that cover every amount above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateTiers {
    /// At least one; `up_to` ascends, and the last alone has none.
    pub list: Vec<RateTier>,
    /// True when the first tier's fee is due for an amount of zero too.
    pub flat_fee_at_zero: bool,
}

/// A stretch of the amount with its rate: above the tier before, up to `up_to` inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateTier {
    /// Last amount inside, counted from zero; `None` reaches without end.
    pub up_to: Option<Quantity>,
    /// The share as a factor, not below zero.
    pub rate: Quantity,
    /// Due once the tier is reached.
    pub flat_fee: Quantity,
}

/// Prices by dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// No two cells that name as many dimensions fit the same usage, so the order means nothing.
    pub cells: Vec<MatrixCell>,
    /// Price where no cell fits.
    pub default: Option<Quantity>,
}

/// The price of usage whose dimensions have these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixCell {
    /// Names and values, sorted by name, at least one. Dimensions that are not named may have any
    /// value or none; of the cells that fit, the one that names most wins.
    pub when: Vec<(String, String)>,
    /// Price of a unit.
    pub unit_price: Quantity,
}

/// Turns the unit that is measured into the unit that is priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// What is done.
    pub factor: ConversionFactor,
    /// How the result is rounded. With `Exact`, what lies beyond the 18th decimal is still rounded
    /// half up, because a quantity holds no more.
    pub rounding: Rounding,
}

/// The number of a conversion, above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversionFactor {
    /// Units of what is measured in one unit of what is priced.
    DivideBy(Quantity),
    /// Units of what is priced in one unit of what is measured.
    MultiplyBy(Quantity),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_those_of_iso_4217() {
        for (code, digits) in [("BRL", 2), ("JPY", 0), ("KWD", 3), ("XAU", 2)] {
            let currency = Currency::from_code(code).unwrap();
            assert_eq!((currency.code(), currency.minor_digits()), (code, digits));
        }
        for unknown in ["brl", "BR", "XQQ", ""] {
            assert_eq!(Currency::from_code(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn a_price_is_valid_from_its_start_to_just_before_its_end() {
        let at = |micros| Timestamp::from_micros(micros).unwrap();
        let price = Price {
            valid_from: at(10),
            valid_to: Some(at(20)),
            currency: Currency::from_code("BRL").unwrap(),
            model: PriceModel::Flat { amount: Quantity::ONE },
            free_units: Quantity::ZERO,
            minimum: None,
            maximum: None,
            convert: None,
        };
        for (moment, valid) in [(9, false), (10, true), (19, true), (20, false)] {
            assert_eq!(price.is_valid_at(at(moment)), valid, "{moment}");
        }
    }
}
