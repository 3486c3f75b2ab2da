//! Wire types to domain types and back: `Decimal` and `Quantity`, protobuf and domain time.

use domain::{Quantity, Timestamp, quantity::QuantityError};

use crate::v1;

/// Reads a wire decimal.
///
/// # Errors
/// `Scale` when its scale is greater than 18.
pub const fn quantity(decimal: &v1::Decimal) -> Result<Quantity, QuantityError> {
    Quantity::from_decimal(decimal.unscaled, decimal.scale)
}

/// Writes a wire decimal, or `None` where the digits need more than 64 bits.
#[must_use]
pub fn decimal(quantity: Quantity) -> Option<v1::Decimal> {
    quantity.to_decimal().map(|(unscaled, scale)| v1::Decimal { unscaled, scale })
}

/// Reads a wire time, or `None` outside year 1 to 9999.
#[must_use]
pub const fn timestamp(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::from_parts(time.seconds, time.nanos)
}

/// Writes a wire time.
#[must_use]
pub const fn wire_time(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = time.parts();
    prost_types::Timestamp { seconds, nanos }
}
