//! Amounts: exact arithmetic, and rounding by its rule.

use proptest::prelude::*;

use super::*;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

const MODES: [RoundingMode; 4] =
    [RoundingMode::HalfUp, RoundingMode::HalfEven, RoundingMode::Up, RoundingMode::Down];

#[test]
fn products_keep_all_36_decimals() {
    let least = Quantity::from_raw(1);
    assert_eq!(Amount::product(least, least).to_string(), format!("0.{}1", "0".repeat(35)));
    let widest = Amount::product(Quantity::MIN, Quantity::MIN);
    assert!(widest.to_string().starts_with("28948022309329048855892746252171976963317."));
    assert_eq!(widest.to_string().parse(), Ok(widest));
}

#[test]
fn each_mode_rounds_ties_of_both_signs_as_it_says() {
    //           amount     half_up  half_even up      down
    for (text, expected) in [
        ("0.005", ["0.01", "0.00", "0.01", "0.00"]),
        ("-0.005", ["-0.01", "0.00", "-0.01", "0.00"]),
        ("0.015", ["0.02", "0.02", "0.02", "0.01"]),
        ("-0.015", ["-0.02", "-0.02", "-0.02", "-0.01"]),
        ("0.025", ["0.03", "0.02", "0.03", "0.02"]),
        ("-0.025", ["-0.03", "-0.02", "-0.03", "-0.02"]),
        ("0.0249999", ["0.02", "0.02", "0.03", "0.02"]),
        ("0.0250001", ["0.03", "0.03", "0.03", "0.02"]),
        ("0.02", ["0.02", "0.02", "0.02", "0.02"]),
        ("-1.999", ["-2.00", "-2.00", "-2.00", "-1.99"]),
        ("0.000000000000000000000000000000000001", ["0.00", "0.00", "0.01", "0.00"]),
    ] {
        for (mode, expected) in MODES.into_iter().zip(expected) {
            let rounded = amount(text).rounded(Rounding::To { digits: 2, mode }).unwrap();
            assert_eq!(rounded.text(2), expected, "{text} {}", mode.as_str());
        }
        assert_eq!(amount(text).rounded(Rounding::Exact), Some(amount(text)));
    }
}

#[test]
fn text_shows_the_digits_that_rounding_asks_for() {
    for (text, digits, shown) in [
        ("50", 2, "50.00"),
        ("50", 0, "50"),
        ("0", 2, "0.00"),
        ("-0.5", 2, "-0.50"),
        ("0.125", 2, "0.125"),
        ("1200.000", 0, "1200"),
    ] {
        assert_eq!(amount(text).text(digits), shown);
    }
}

#[test]
fn text_reads_the_same_in_few_digits_and_in_many() {
    let zeros = "0".repeat(40);
    for text in
        ["0", "7", "-7.5", "99999999999999999999999999999999999999", "-0.000000000000000001"]
    {
        let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
        let many = format!("{sign}{zeros}{digits}");
        assert_eq!(many.parse::<Amount>(), Ok(amount(text)), "{text}");
        assert_eq!(amount(text).to_string(), text);
    }
    assert_eq!("9".repeat(41).parse::<Amount>(), Err(AmountError::OutOfRange));
    let wide = format!("{}.{}", "5".repeat(40), "4".repeat(36));
    assert_eq!(amount(&wide).to_string(), wide);
}

#[test]
fn text_that_is_no_amount_is_refused() {
    for (text, error) in [
        ("", AmountError::NotANumber),
        (".", AmountError::NotANumber),
        ("1e5", AmountError::NotANumber),
        ("--1", AmountError::NotANumber),
        ("0.0000000000000000000000000000000000001", AmountError::TooPrecise),
        ("100000000000000000000000000000000000000000", AmountError::OutOfRange),
    ] {
        assert_eq!(text.parse::<Amount>(), Err(error), "{text}");
    }
}

#[test]
fn quotients_round_once_to_the_digits_asked_for() {
    let to = |digits, mode| Rounding::To { digits, mode };
    for (dividend, divisor, rounding, expected) in [
        ("3601", "3600", to(0, RoundingMode::Up), "2"),
        ("3600", "3600", to(0, RoundingMode::Up), "1"),
        ("-3601", "3600", to(0, RoundingMode::Up), "-2"),
        ("5400", "3600", to(0, RoundingMode::HalfUp), "2"),
        ("5400", "3600", to(0, RoundingMode::HalfEven), "2"),
        ("9000", "3600", to(0, RoundingMode::HalfEven), "2"),
        ("9000", "3600", to(0, RoundingMode::HalfUp), "3"),
        ("7199", "3600", to(0, RoundingMode::Down), "1"),
        ("1", "3", Rounding::Exact, "0.333333333333333333"),
        ("2", "3", Rounding::Exact, "0.666666666666666667"),
    ] {
        let (dividend, divisor) = (quantity(dividend), quantity(divisor));
        assert_eq!(quotient(dividend, divisor, rounding), Some(quantity(expected)));
    }
    // 1.499...9 with 18 nines over 3 is just below a tie; only a single rounding sees it.
    let just_below = Quantity::from_raw(1_499_999_999_999_999_999);
    let one_digit = to(0, RoundingMode::HalfUp);
    assert_eq!(quotient(just_below, quantity("3"), one_digit), Some(Quantity::ZERO));
    assert_eq!(quotient(Quantity::ONE, Quantity::ZERO, Rounding::Exact), None);
    assert_eq!(quotient(Quantity::MAX, Quantity::from_raw(1), Rounding::Exact), None);
    assert_eq!(product(Quantity::MAX, quantity("2"), Rounding::Exact), None);
    assert_eq!(
        product(quantity("0.3"), quantity("0.5"), to(1, RoundingMode::HalfUp)),
        Some(quantity("0.2"))
    );
}

#[test]
fn a_mean_is_exact_to_its_last_decimal() {
    for (sum, count, expected) in [
        ("0", 0, "0"),
        ("0", 3, "0"),
        ("1", 3, "0.333333333333333333"),
        ("2", 3, "0.666666666666666667"),
        ("-2", 3, "-0.666666666666666667"),
        ("0.000000000000000003", 2, "0.000000000000000002"),
        ("-0.000000000000000003", 2, "-0.000000000000000002"),
        ("340282366920938463462", 2, "170141183460469231731"),
    ] {
        assert_eq!(mean(amount(sum), count), Some(quantity(expected)), "{sum} / {count}");
    }
    let least = Amount::of(Quantity::MIN).times(u64::MAX.into()).unwrap();
    assert_eq!(mean(least, u64::MAX.into()), Some(Quantity::MIN));
}

#[test]
fn a_started_package_counts_only_when_rounding_up() {
    for (units, up, down) in
        [("0", 0, 0), ("0.001", 1, 0), ("10", 1, 1), ("10.001", 2, 1), ("-10.001", -2, -1)]
    {
        let ten = quantity("10");
        assert_eq!(packages(quantity(units), ten, RoundingMode::Up), Some(up), "{units}");
        assert_eq!(packages(quantity(units), ten, RoundingMode::Down), Some(down), "{units}");
    }
    assert_eq!(packages(Quantity::ONE, Quantity::ZERO, RoundingMode::Up), None);
}

proptest! {
    #[test]
    fn text_and_back_is_the_same(one: i128, other: i128, digits in 0u8..=36) {
        let amount = Amount::product(Quantity::from_raw(one), Quantity::from_raw(other));
        prop_assert_eq!(amount.text(digits).parse::<Amount>(), Ok(amount));
    }

    #[test]
    fn rounding_stays_within_a_step_and_changes_nothing_twice(
        one: i64, other: i64, digits in 0u8..=18, mode in proptest::sample::select(MODES.to_vec()),
    ) {
        let amount = Amount::product(Quantity::from_raw(one.into()), Quantity::from_raw(other.into()));
        let rounding = Rounding::To { digits, mode };
        let rounded = amount.rounded(rounding).unwrap();
        prop_assert_eq!(rounded.rounded(rounding), Some(rounded));
        let distance = rounded.checked_sub(amount).unwrap().checked_abs().unwrap();
        prop_assert!(distance.0 < power_of_ten(SCALE - u32::from(digits)));
        let mirrored = amount.checked_neg().unwrap().rounded(rounding).unwrap();
        prop_assert_eq!(mirrored, rounded.checked_neg().unwrap());
    }

    #[test]
    fn a_quantity_survives_being_an_amount(raw: i128) {
        let quantity = Quantity::from_raw(raw);
        prop_assert_eq!(Amount::of(quantity).to_quantity(), Some(quantity));
    }
}
