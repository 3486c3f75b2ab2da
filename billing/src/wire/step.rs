//! Steps to messages and back: each kind of step has a message of the same fields.

use pricing::{
    rate::Step,
    words::{Pairs, Word},
};
use proto::v1::{self, step::Kind};

use super::{NotUnderstood, dimensions, pairs};

/// A field of a step that has a form on the wire.
trait Field<W>: Sized {
    fn wire(self) -> W;
    fn read(wire: W) -> Option<Self>;
}

impl<T: Word> Field<String> for T {
    fn wire(self) -> String {
        self.shown().to_string()
    }

    fn read(wire: String) -> Option<Self> {
        T::read(&wire)
    }
}

impl<T: Word> Field<Option<String>> for Option<T> {
    fn wire(self) -> Option<String> {
        self.map(Field::wire)
    }

    fn read(wire: Option<String>) -> Option<Self> {
        wire.map_or(Some(None), |wire| T::read(&wire).map(Some))
    }
}

impl Field<u32> for u32 {
    fn wire(self) -> u32 {
        self
    }

    fn read(wire: u32) -> Option<Self> {
        Some(wire)
    }
}

impl Field<u32> for usize {
    fn wire(self) -> u32 {
        u32::try_from(self).unwrap_or(u32::MAX)
    }

    fn read(wire: u32) -> Option<Self> {
        Self::try_from(wire).ok()
    }
}

impl Field<Option<v1::Dimensions>> for Option<Pairs> {
    fn wire(self) -> Option<v1::Dimensions> {
        self.map(dimensions)
    }

    fn read(wire: Option<v1::Dimensions>) -> Option<Self> {
        Some(wire.map(pairs))
    }
}

/// Both ways of each kind of step, from one list: the step, its message, and the fields that they share.
macro_rules! steps {
    ($($step:ident as $message:ident { $($field:ident),* };)*) => {
        /// A step as a message.
        pub(super) fn message(step: Step) -> v1::Step {
            let kind = match step {
                $(Step::$step { $($field),* } => {
                    Kind::$message(v1::step::$message { $($field: $field.wire()),* })
                })*
            };
            v1::Step { kind: Some(kind) }
        }

        /// The step that a message is.
        pub(super) fn of_message(message: v1::Step) -> Result<Step, NotUnderstood> {
            let kind = message.kind.ok_or(NotUnderstood("detail.step"))?;
            Ok(match kind {
                $(Kind::$message(v1::step::$message { $($field),* }) => Step::$step {
                    $($field: Field::read($field).ok_or(NotUnderstood(concat!(
                        "detail.", stringify!($message), ".", stringify!($field)
                    )))?),*
                },)*
            })
        }
    };
}

steps! {
    Metered as Meter { meter, quantity, resources, carried };
    BelowZero as BelowZero { quantity };
    Shared as Days { days, of, amount };
    Converted as Convert { divide_by, multiply_by, rounding, quantity };
    FreeUnits as FreeUnits { used, quantity };
    Prorated as Proration { days, of };
    Flat as Flat { amount };
    Units as Units { quantity, unit_price, when, amount };
    Packages as Packages { quantity, package_size, packages, package_price, amount };
    Tier as Tier { tier, above, up_to, quantity, package_size, packages, unit_price, amount };
    TierFee as TierFee { tier, amount };
    Events as Events { events, amount_dimension };
    FreeEvents as FreeEvents { events, used, quantity };
    Rate as Rate { quantity, rate, amount };
    FixedFees as FixedFee { events, fixed_fee, amount };
    MinimumPerEvent as MinPerEvent { events, bound, amount };
    MaximumPerEvent as MaxPerEvent { events, bound, amount };
    RateTier as RateTier { tier, above, up_to, quantity, rate, amount };
    Multiplied as Multiplier { quantity, multiplier, amount };
    Discounted as Discount { name, share, amount };
    Exchanged as Exchange { from, rate, amount };
    AmountOff as AmountOff { offered, base, amount };
    Shortfall as Shortfall { committed, spent, amount };
    Overage as Overage { committed, beyond, factor, amount };
    Taxed as Tax { base, rate, amount };
    Invoiced as InvoicedBefore { amount };
    Corrected as CorrectedBefore { amount };
    Goodwill as Goodwill { amount };
    Maximum as Maximum { bound, amount };
    Minimum as Minimum { bound, amount };
    Rounded as Rounding { rounding, amount };
}
