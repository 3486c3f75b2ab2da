//! Amount: exact money, a count of 10^-36 in 256 bits.
//!
//! A quantity and a price have 18 decimals each, so their product has 36 and always fits: nothing is
//! lost before the one rounding that a line states. Sums of lines are exact too. No float is
//! anywhere near.

use std::{fmt, str::FromStr};

use domain::{
    Quantity,
    catalogue::{Rounding, RoundingMode},
    quantity::SCALE as QUANTITY_SCALE,
};
use ethnum::I256;
use thiserror::Error;

pub use money::Money;

mod money;

/// Decimals that an amount carries.
pub const SCALE: u32 = 2 * QUANTITY_SCALE;

/// Digits that always fit into 128 bits.
const DIGITS_128: usize = 38;

const ONE_QUANTITY: i128 = 10i128.pow(QUANTITY_SCALE);

/// An exact amount of money, or a sum of quantities that may be wider than a quantity. From about
/// -5.8e40 to 5.8e40.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(I256);

/// Why text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AmountError {
    /// Not plain decimal text.
    #[error("not a decimal number: expected digits and at most one point")]
    NotANumber,
    /// More decimals than an amount holds.
    #[error("more than 36 decimals")]
    TooPrecise,
    /// More than an amount holds.
    #[error("more than 40 digits before the point")]
    OutOfRange,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(I256::ZERO);

    /// The amount that equals a quantity.
    #[must_use]
    pub fn of(quantity: Quantity) -> Self {
        // 2^127 x 10^18 is below 2^187.
        Self(I256::from(quantity.raw()) * I256::from(ONE_QUANTITY))
    }

    /// Quantity times price, exactly. Always fits: 2^127 x 2^127 is below 2^255.
    #[must_use]
    pub fn product(quantity: Quantity, unit_price: Quantity) -> Self {
        Self(I256::from(quantity.raw()) * I256::from(unit_price.raw()))
    }

    /// A whole number times a price, or `None` past the range.
    #[must_use]
    pub fn multiple(count: i128, price: Quantity) -> Option<Self> {
        Self::of(price).0.checked_mul(I256::from(count)).map(Self)
    }

    /// A whole number.
    #[must_use]
    pub fn whole(count: u64) -> Self {
        Self(I256::from(count) * I256::from(ONE_QUANTITY) * I256::from(ONE_QUANTITY))
    }

    /// The quantity that equals the amount, or `None` where it is wider or finer than one.
    #[must_use]
    pub fn to_quantity(self) -> Option<Quantity> {
        let one = I256::from(ONE_QUANTITY);
        if self.0 % one != I256::ZERO {
            return None;
        }
        i128::try_from(self.0 / one).ok().map(Quantity::from_raw)
    }

    /// Adds, or `None` past the range.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Subtracts, or `None` past the range.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// A whole number of times as much, or `None` past the range.
    #[must_use]
    pub fn times(self, count: u128) -> Option<Self> {
        self.0.checked_mul(I256::from(count)).map(Self)
    }

    /// The amount times a factor of zero or more, rounded half up at 36 decimals, once; `None` past
    /// the range.
    #[must_use]
    pub fn scaled(self, factor: Quantity) -> Option<Self> {
        // In two parts, because the full product needs more than 256 bits.
        let (one, factor) = (I256::from(ONE_QUANTITY), I256::from(factor.raw()));
        let (high, low) = (self.0 / one, self.0 % one);
        let rest = divide(low * factor, one, RoundingMode::HalfUp);
        high.checked_mul(factor)?.checked_add(rest).map(Self)
    }

    /// `days` of `of` equal parts, rounded half up at 36 decimals, once; `None` past the range. `of` above
    /// zero.
    #[must_use]
    pub fn part(self, days: u32, of: u32) -> Option<Self> {
        let times = self.0.checked_mul(I256::from(days))?;
        Some(Self(divide(times, I256::from(of.max(1)), RoundingMode::HalfUp)))
    }

    /// Thousandths of another amount, towards zero, held to a million either way; `None` of zero.
    #[must_use]
    pub fn permille_of(self, whole: Self) -> Option<i64> {
        if whole == Self::ZERO {
            return None;
        }
        let bound = I256::from(1_000_000);
        // Divided first where a thousandfold would leave the range; then digits matter no more.
        let permille = match self.0.checked_mul(I256::from(1_000)) {
            Some(thousandfold) => thousandfold / whole.0,
            None => self.0 / (whole.0 / I256::from(1_000)),
        };
        i64::try_from(permille.clamp(-bound, bound)).ok()
    }

    /// The same on the other side of zero, or `None` for the very least amount.
    #[must_use]
    pub fn checked_neg(self) -> Option<Self> {
        self.0.checked_neg().map(Self)
    }

    /// The distance from zero, or `None` for the very least amount.
    #[must_use]
    pub fn checked_abs(self) -> Option<Self> {
        self.0.checked_abs().map(Self)
    }

    /// Rounds once, or `None` past the range. See [`RoundingMode`] for where digits go: every mode
    /// treats both sides of zero alike, so a credit mirrors its charge.
    #[must_use]
    pub fn rounded(self, rounding: Rounding) -> Option<Self> {
        let Rounding::To { digits, mode } = rounding else { return Some(self) };
        let step = power_of_ten(SCALE.checked_sub(u32::from(digits))?);
        divide(self.0, step, mode).checked_mul(step).map(Self)
    }

    /// Decimal text with at least `digits_min` digits after the point: `50.00`, `-0.0000012`.
    #[must_use]
    pub fn text(self, digits_min: u8) -> String {
        // In two parts, because digits of 128 bits are found much faster than digits of 256.
        let (magnitude, one) = (self.0.unsigned_abs(), power_of_ten(SCALE).unsigned_abs());
        let (whole, fraction) = (magnitude / one, (magnitude % one).as_u128());
        let whole = u128::try_from(whole).map_or_else(|_| whole.to_string(), |it| it.to_string());
        let scale = SCALE as usize;
        let fraction = format!("{fraction:0>scale$}");
        let significant = fraction.trim_end_matches('0').len();
        let shown = significant.max(usize::from(digits_min).min(scale));
        let sign = if self.0.is_negative() { "-" } else { "" };
        match shown {
            0 => format!("{sign}{whole}"),
            shown => format!("{sign}{whole}.{}", &fraction[..shown]),
        }
    }
}

/// Divides two quantities and rounds the quotient to a quantity, or `None` past its range or for a
/// divisor of zero.
#[must_use]
pub fn quotient(dividend: Quantity, divisor: Quantity, rounding: Rounding) -> Option<Quantity> {
    if divisor == Quantity::ZERO {
        return None;
    }
    let (digits, mode) = kept(rounding);
    // Round once, straight to the digits asked for: rounding to 18 first could tip a tie.
    let numerator = I256::from(dividend.raw()) * power_of_ten(u32::from(digits));
    let whole = divide(numerator, I256::from(divisor.raw()), mode);
    let shift = power_of_ten(QUANTITY_SCALE.checked_sub(u32::from(digits))?);
    whole.checked_mul(shift).and_then(|raw| i128::try_from(raw).ok()).map(Quantity::from_raw)
}

/// The mean of `count` quantities that add up to `sum`, rounded half up at 18 decimals, once; zero
/// of nothing. Never `None` for a sum of quantities, because their mean lies between them.
#[must_use]
pub fn mean(sum: Amount, count: u128) -> Option<Quantity> {
    if count == 0 {
        return Some(Quantity::ZERO);
    }
    // 2^128 x 10^18 is below 2^188.
    let divisor = I256::from(count) * I256::from(ONE_QUANTITY);
    i128::try_from(divide(sum.0, divisor, RoundingMode::HalfUp)).ok().map(Quantity::from_raw)
}

/// `days` of `of` equal parts of a quantity, rounded half up at 18 decimals, once. `of` above zero.
#[must_use]
pub fn part(whole: Quantity, days: u32, of: u32) -> Quantity {
    let raw = divide(
        I256::from(whole.raw()) * I256::from(days),
        I256::from(of.max(1)),
        RoundingMode::HalfUp,
    );
    Quantity::from_raw(i128::try_from(raw).expect("no more than the whole, while days <= of"))
}

/// Multiplies two quantities and rounds the product to a quantity, or `None` past its range.
#[must_use]
pub fn product(one: Quantity, other: Quantity, rounding: Rounding) -> Option<Quantity> {
    let (digits, mode) = kept(rounding);
    Amount::product(one, other).rounded(Rounding::To { digits, mode })?.to_quantity()
}

/// Number of packages of `size` in `quantity`: a started one counts (`Up`, away from zero) or not
/// (`Down`). `None` past the range or for a size of zero.
#[must_use]
pub fn packages(quantity: Quantity, size: Quantity, mode: RoundingMode) -> Option<i128> {
    if size == Quantity::ZERO {
        return None;
    }
    i128::try_from(divide(I256::from(quantity.raw()), I256::from(size.raw()), mode)).ok()
}

/// A quantity keeps 18 decimals at most, so `Exact` rounds half up there.
fn kept(rounding: Rounding) -> (u8, RoundingMode) {
    match rounding {
        Rounding::Exact => (18, RoundingMode::HalfUp),
        Rounding::To { digits, mode } => (digits.min(18), mode),
    }
}

/// Divides and rounds to a whole number. The divisor is not zero.
fn divide(dividend: I256, divisor: I256, mode: RoundingMode) -> I256 {
    let (towards_zero, rest) = (dividend / divisor, dividend % divisor);
    if rest == I256::ZERO {
        return towards_zero;
    }
    // 256-bit unsigned magnitudes: twice the rest cannot wrap, because divisors stay below 2^254.
    let twice = rest.unsigned_abs() << 1u32;
    let middle = divisor.unsigned_abs();
    let away = match mode {
        RoundingMode::Up => true,
        RoundingMode::Down => false,
        RoundingMode::HalfUp => twice >= middle,
        RoundingMode::HalfEven => {
            twice > middle || (twice == middle && towards_zero % I256::from(2) != I256::ZERO)
        }
    };
    let sign = if dividend.is_negative() == divisor.is_negative() { I256::ONE } else { -I256::ONE };
    if away { towards_zero + sign } else { towards_zero }
}

fn power_of_ten(exponent: u32) -> I256 {
    I256::from(10).pow(exponent)
}

impl fmt::Display for Amount {
    /// Prints all digits that matter and no more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(0))
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    /// Reads plain decimal text with up to 36 decimals: what [`Amount::text`] prints.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = || whole.bytes().chain(fraction.bytes());
        if digits().next().is_none() || !digits().all(|byte| byte.is_ascii_digit()) {
            return Err(AmountError::NotANumber);
        }
        let fraction = fraction.trim_end_matches('0');
        let missing =
            (SCALE as usize).checked_sub(fraction.len()).ok_or(AmountError::TooPrecise)?;
        let sign = |value: I256| Self(if text.starts_with('-') { -value } else { value });
        if whole.len() + fraction.len() <= DIGITS_128 {
            let digits = whole.bytes().chain(fraction.bytes());
            let number = digits.fold(0u128, |number, digit| number * 10 + u128::from(digit - b'0'));
            let scale = power_of_ten(u32::try_from(missing).expect("36 at most"));
            return I256::from(number).checked_mul(scale).map(sign).ok_or(AmountError::OutOfRange);
        }
        let mut value = I256::ZERO;
        let zeros = std::iter::repeat_n(b'0', missing);
        for digit in whole.bytes().chain(fraction.bytes()).chain(zeros) {
            value = value
                .checked_mul(I256::from(10))
                .and_then(|value| value.checked_add(I256::from(digit - b'0')))
                .ok_or(AmountError::OutOfRange)?;
        }
        Ok(sign(value))
    }
}

#[cfg(test)]
mod tests;
