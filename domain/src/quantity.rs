//! Quantity: an exact decimal, the only way an amount is held after the edge.
//!
//! An `i128` counts units of 10^-18. Real cloud usage needs ten to fifteen decimals, and sums of it
//! must come out to the last digit, so there is no float and no rounding here: what does not fit
//! exactly is refused.

use std::{fmt, str::FromStr};

use ethnum::I256;
use thiserror::Error;

/// Decimals that a quantity carries.
pub const SCALE: u32 = 18;
const ONE: i128 = 10i128.pow(SCALE);

/// An exact amount in units of 10^-18, from about -1.7e20 to 1.7e20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i128);

/// Why a number is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// More than 18 decimals on the wire.
    #[error("scale {0} is greater than 18")]
    Scale(u32),
    /// Digits beyond the 18th decimal that are not zero.
    #[error("more than 18 decimals: the amount would lose digits")]
    TooPrecise,
    /// Beyond the range of an `i128` at scale 18.
    #[error("beyond 170141183460469231731 units either way")]
    OutOfRange,
    /// Not a decimal number.
    #[error("not a decimal number: expected digits, at most one point, and an optional exponent")]
    NotANumber,
}

impl Quantity {
    /// Nothing used.
    pub const ZERO: Self = Self(0);
    /// One whole unit.
    pub const ONE: Self = Self(ONE);
    /// The greatest quantity.
    pub const MAX: Self = Self(i128::MAX);
    /// The least quantity.
    pub const MIN: Self = Self(i128::MIN);

    /// Takes a count of 10^-18 units.
    #[must_use]
    pub const fn from_raw(raw: i128) -> Self {
        Self(raw)
    }

    /// Gives the count of 10^-18 units.
    #[must_use]
    pub const fn raw(self) -> i128 {
        self.0
    }

    /// Takes the wire's decimal: unscaled / 10^scale. Never overflows: 2^63 x 10^18 fits.
    ///
    /// # Errors
    /// `Scale` when `scale` is greater than 18.
    #[inline]
    pub const fn from_decimal(unscaled: i64, scale: u32) -> Result<Self, QuantityError> {
        if scale > SCALE {
            return Err(QuantityError::Scale(scale));
        }
        Ok(Self(unscaled as i128 * POWERS[(SCALE - scale) as usize]))
    }

    /// Gives the shortest wire decimal, or `None` where the digits do not fit 64 bits.
    #[must_use]
    pub fn to_decimal(self) -> Option<(i64, u32)> {
        let (mut unscaled, mut scale) = (self.0, SCALE);
        while scale > 0 && unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        i64::try_from(unscaled).ok().map(|unscaled| (unscaled, scale))
    }

    /// Adds, or `None` past the range.
    #[inline]
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Subtracts, or `None` past the range.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// Tells whether it is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

const POWERS: [i128; SCALE as usize + 1] = {
    let mut powers = [1i128; SCALE as usize + 1];
    let mut i = 1;
    while i <= SCALE as usize {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

impl FromStr for Quantity {
    type Err = QuantityError;

    /// Reads `-12.5`, `+3`, `.5`, `2.0E-7`: by its digits, never through a float.
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (digits, exponent) = match rest.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, parse_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::NotANumber);
        }
        if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(QuantityError::NotANumber);
        }
        let fraction_len = i64::try_from(fraction.len()).map_err(|_| QuantityError::TooPrecise)?;
        let digits = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0');
        scaled(negative, digits, i64::from(SCALE) + exponent - fraction_len)
    }
}

fn parse_exponent(text: &str) -> Result<i64, QuantityError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::NotANumber);
    }
    // Past a million either way the answer is the same, and the sum below cannot overflow.
    Ok(text.parse::<i64>().map_or(1_000_000, |exponent| exponent.clamp(-1_000_000, 1_000_000)))
}

/// Folds digits into `digits x 10^shift`, exactly.
fn scaled(
    negative: bool,
    digits: impl Iterator<Item = u8> + Clone,
    mut shift: i64,
) -> Result<Quantity, QuantityError> {
    let count = digits.clone().count();
    let significant =
        count - digits.clone().collect::<Vec<_>>().iter().rev().take_while(|d| **d == 0).count();
    let mut value = 0i128;
    for digit in digits.take(significant) {
        // Built on the negative side, which reaches one further than the positive.
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_sub(i128::from(digit)))
            .ok_or(QuantityError::OutOfRange)?;
    }
    shift += i64::try_from(count - significant).map_err(|_| QuantityError::OutOfRange)?;
    if value == 0 {
        return Ok(Quantity::ZERO);
    }
    if shift < 0 {
        return Err(QuantityError::TooPrecise);
    }
    let power = u32::try_from(shift).ok().and_then(|shift| 10i128.checked_pow(shift));
    let value =
        power.and_then(|power| value.checked_mul(power)).ok_or(QuantityError::OutOfRange)?;
    if negative {
        return Ok(Quantity(value));
    }
    value.checked_neg().map(Quantity).ok_or(QuantityError::OutOfRange)
}

/// An exact sum of quantities, in units of 10^-18. Its 256 bits hold the sum of 2^128 quantities of
/// any size, so that adding never fails, whatever clients send and whatever span is added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum(I256);

impl Sum {
    /// Nothing.
    pub const ZERO: Self = Self(I256::ZERO);

    /// The sum with one more quantity.
    #[inline]
    #[must_use]
    pub fn plus(self, quantity: Quantity) -> Self {
        Self(self.0 + I256::from(quantity.0))
    }

    /// The sum of both.
    #[inline]
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Its 32 bytes, least first, two's complement.
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; 32] {
        self.0.to_le_bytes()
    }

    /// Reads what [`Sum::to_le_bytes`] gave.
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; 32]) -> Self {
        Self(I256::from_le_bytes(bytes))
    }

    /// Quantities that add up to it: as few as do.
    #[must_use]
    pub fn quantities(self) -> Vec<Quantity> {
        let (mut left, mut found) = (self.0, Vec::new());
        loop {
            let next = left.clamp(I256::from(i128::MIN), I256::from(i128::MAX));
            found.push(Quantity(next.as_i128()));
            left -= next;
            if left == I256::ZERO {
                return found;
            }
        }
    }

    /// The quantity that equals it, or `None` past the range of one.
    #[must_use]
    pub fn to_quantity(self) -> Option<Quantity> {
        i128::try_from(self.0).ok().map(Quantity)
    }
}

impl From<Quantity> for Sum {
    fn from(quantity: Quantity) -> Self {
        Self(I256::from(quantity.0))
    }
}

impl fmt::Display for Sum {
    /// Prints all digits that matter and no more, as a quantity does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, magnitude) = (I256::from(ONE), self.0);
        let (whole, fraction) = ((magnitude / one).abs(), (magnitude % one).abs());
        let sign = if self.0.is_negative() { "-" } else { "" };
        if fraction == I256::ZERO {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{:018}", fraction.as_u64());
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl fmt::Display for Quantity {
    /// Prints all digits that matter and no more: `12.5`, `-0.000000000000000001`, `3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, fraction) = (magnitude / ONE.unsigned_abs(), magnitude % ONE.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:018}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_text_is_read_by_its_digits() {
        for (text, raw) in [
            ("0", 0),
            ("-0.0", 0),
            ("12.50", 12_500_000_000_000_000_000),
            ("+3", 3_000_000_000_000_000_000),
            (".5", 500_000_000_000_000_000),
            ("5.", 5_000_000_000_000_000_000),
            ("2.0E-7", 200_000_000_000),
            ("1e2", 100_000_000_000_000_000_000),
            ("0.000000000000000001", 1),
            ("-0.0000000000000000010", -1),
            ("1000000000000000000000e-21", 1_000_000_000_000_000_000),
            ("0e999999999999", 0),
            ("-170141183460469231731.687303715884105728", i128::MIN),
            ("170141183460469231731.687303715884105727", i128::MAX),
        ] {
            assert_eq!(text.parse::<Quantity>().map(Quantity::raw), Ok(raw), "{text}");
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        for (text, error) in [
            ("", QuantityError::NotANumber),
            (".", QuantityError::NotANumber),
            ("NaN", QuantityError::NotANumber),
            ("inf", QuantityError::NotANumber),
            ("1,5", QuantityError::NotANumber),
            ("1e", QuantityError::NotANumber),
            ("--1", QuantityError::NotANumber),
            ("1.2.3", QuantityError::NotANumber),
            ("0.0000000000000000001", QuantityError::TooPrecise),
            ("1e-19", QuantityError::TooPrecise),
            ("170141183460469231731.687303715884105728", QuantityError::OutOfRange),
            ("1e21", QuantityError::OutOfRange),
            ("1e999999999999", QuantityError::OutOfRange),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text}");
        }
        assert_eq!(Quantity::from_decimal(1, 19), Err(QuantityError::Scale(19)));
    }

    #[test]
    fn a_sum_of_the_greatest_and_the_least_quantities_is_exact() {
        let add = |quantity: Quantity, times: usize| {
            (0..times).fold(Sum::ZERO, |sum, _| sum.plus(quantity))
        };
        assert_eq!(
            add(Quantity::MAX, 1_000).to_string(),
            "170141183460469231731687.303715884105727"
        );
        assert_eq!(add(Quantity::MAX, 2).to_quantity(), None);
        assert_eq!(add(Quantity::MIN, 3).to_string(), "-510423550381407695195.061911147652317184");
        assert_eq!(
            add(Quantity::MIN, 2).plus(Quantity::MAX).plus(Quantity::MAX).to_string(),
            "-0.000000000000000002"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_sum_of_one_reads_as_the_quantity(raw: i128) {
            let quantity = Quantity::from_raw(raw);
            proptest::prop_assert_eq!(Sum::from(quantity).to_string(), quantity.to_string());
            proptest::prop_assert_eq!(Sum::ZERO.plus(quantity).to_quantity(), Some(quantity));
        }

        #[test]
        fn text_and_back_is_the_same(raw: i128) {
            let quantity = Quantity::from_raw(raw);
            proptest::prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }

        #[test]
        fn wire_and_back_is_the_same(unscaled: i64, scale in 0u32..=18) {
            let quantity = Quantity::from_decimal(unscaled, scale).unwrap();
            let (unscaled, scale) = quantity.to_decimal().unwrap();
            proptest::prop_assert_eq!(Quantity::from_decimal(unscaled, scale).unwrap(), quantity);
        }
    }
}
