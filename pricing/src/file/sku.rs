//! SKUs and their prices over time.

use domain::{
    Name, Quantity, Sku, Unit,
    catalogue::{
        Conversion, ConversionFactor, Currency, Meter, NegativePolicy, Price, Rounding,
        SkuDefinition,
    },
};

use super::{
    ROUNDING_WORDS, currency,
    cursor::{Cursor, Fields},
    frame::Frame,
    model, to_rounding,
};

/// Most prices of a SKU.
pub(super) const PRICES_MAX: usize = 1_000;
/// Most dimensions of a SKU: as many as a pulse may have properties.
const DIMENSIONS_MAX: usize = 64;
const METERS_LATER: &[&str] = &["unique", "percentile"];

/// Reads one entry of `skus`.
pub(super) fn read(cursor: &Cursor<'_>, default: Currency) -> Option<SkuDefinition> {
    let known =
        ["sku", "name", "unit", "meter", "per", "carry", "dimensions", "negative", "prices"];
    let fields = cursor.map(&known)?;
    let sku = fields.need("sku", "give the key that pulses send as product_sku");
    let unit = fields.need("unit", "give the unit that pulses send as use_unity");
    let name = match fields.get("name") {
        Some(name) => name.text().map(str::to_owned),
        None => Some(String::new()),
    };
    let dimensions = match fields.get("dimensions") {
        Some(dimensions) => dimensions.names(DIMENSIONS_MAX),
        None => Some(Vec::new()),
    };
    let (meter, negative) = (meter(&fields), negative(&fields));
    let (per, carry) = (per(&fields, meter, dimensions.as_deref()), carry(&fields, meter));
    let (sku, unit) =
        (sku.and_then(|sku| sku.name(Sku::new)), unit.and_then(|unit| unit.name(Unit::new)));
    let frame = Frame { dimensions: dimensions.as_deref(), meter, per: per.as_deref() };
    let prices = fields
        .need("prices", "list its prices, each with valid_from and model")
        .and_then(|prices| read_prices(&prices, default, &frame));
    Some(SkuDefinition {
        sku: sku?,
        name: name?,
        unit: unit?,
        meter: meter?,
        per: per?,
        carry: carry?,
        dimensions: dimensions?,
        negative: negative?,
        prices: prices?,
    })
}

fn meter(fields: &Fields<'_>) -> Option<Meter> {
    let Some(cursor) = fields.get("meter") else { return Some(Meter::Sum) };
    let words: Vec<_> = Meter::ALL.iter().map(|meter| (meter.as_str(), *meter)).collect();
    cursor.word("meter", &words, METERS_LATER)
}

/// The dimensions that a level is measured for: those that are named, or all that are declared.
fn per(
    fields: &Fields<'_>,
    meter: Option<Meter>,
    dimensions: Option<&[Name]>,
) -> Option<Vec<Name>> {
    let Some(cursor) = fields.get("per") else {
        let is_level = meter.is_some_and(Meter::is_level);
        return Some(dimensions.filter(|_| is_level).unwrap_or_default().to_vec());
    };
    if let Some(meter) = meter.filter(|meter| !meter.is_level()) {
        return cursor.fail(
            format!("the meter `{}` adds all pulses up, whatever they are of", meter.as_str()),
            "remove `per`, or use the meter of a level, such as `max`",
        );
    }
    let names = cursor.names(DIMENSIONS_MAX)?;
    let frame = Frame { dimensions, ..Frame::ANY };
    names.iter().try_for_each(|name| frame.check_dimension(&cursor, name.as_str()))?;
    Some(names)
}

/// Whether a level holds on without pulses.
fn carry(fields: &Fields<'_>, meter: Option<Meter>) -> Option<bool> {
    let Some(cursor) = fields.get("carry") else { return Some(false) };
    let carry = cursor.boolean()?;
    match meter {
        Some(meter) if carry && !matches!(meter, Meter::Latest | Meter::TimeWeighted) => cursor
            .fail(
                format!("the meter `{}` has no value that could hold on", meter.as_str()),
                "remove `carry`, or use the meter `latest` or `time_weighted`",
            ),
        _ => Some(carry),
    }
}

fn negative(fields: &Fields<'_>) -> Option<NegativePolicy> {
    let Some(cursor) = fields.get("negative") else { return Some(NegativePolicy::Accept) };
    let words: Vec<_> = NegativePolicy::ALL.iter().map(|word| (word.as_str(), *word)).collect();
    cursor.word("policy for negative amounts", &words, &[])
}

/// Reads a list of prices, from the oldest to the newest within a currency. `default` is the
/// currency of those that name none.
pub(super) fn read_prices(
    cursor: &Cursor<'_>,
    default: Currency,
    frame: &Frame<'_>,
) -> Option<Vec<Price>> {
    let entries = cursor.list(PRICES_MAX)?;
    let count = entries.len();
    let mut prices: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| price(&entry, default, frame).map(|price| (entry, price)))
        .collect();
    if prices.len() < count {
        return None;
    }
    check_order(&mut prices)?;
    let mut prices: Vec<Price> = prices.into_iter().map(|(_, price)| price).collect();
    prices.sort_by_key(|price| price.valid_from);
    Some(prices)
}

/// Checks that within a currency each price begins after the one before, and not before that one's
/// own end; a price without an end ends where the next begins.
fn check_order(prices: &mut [(Cursor<'_>, Price)]) -> Option<()> {
    for later in 1..prices.len() {
        let (before, rest) = prices.split_at_mut(later);
        let (cursor, price) = &rest[0];
        let same = before.iter_mut().rev().find(|(_, other)| other.currency == price.currency);
        let Some((_, previous)) = same else { continue };
        if price.valid_from <= previous.valid_from {
            return cursor.fail(
                format!(
                    "valid_from {} is not after the price before it, {}",
                    price.valid_from, previous.valid_from
                ),
                "list prices of a currency from the oldest to the newest",
            );
        }
        match previous.valid_to {
            Some(end) if price.valid_from < end => {
                return cursor.fail(
                    format!(
                        "overlaps the price before it, which is valid to {end}, and begins at {}",
                        price.valid_from
                    ),
                    "end the one before at or before this one's valid_from",
                );
            }
            Some(_) => {}
            None => previous.valid_to = Some(price.valid_from),
        }
    }
    Some(())
}

/// Keys that every model takes.
const COMMON: [&str; 8] =
    ["valid_from", "valid_to", "model", "currency", "free_units", "minimum", "maximum", "convert"];

fn price(cursor: &Cursor<'_>, default: Currency, frame: &Frame<'_>) -> Option<Price> {
    let fields = cursor.any_map()?;
    let model = fields
        .need("model", "name the model, as `model: per_unit`")
        .and_then(|word| model::read(&fields, &word, &COMMON, frame));
    let valid_from = fields
        .need("valid_from", "give the first moment it is valid, as 2026-01-01T00:00:00Z")
        .and_then(|cursor| cursor.instant());
    let free_units = match fields.get("free_units") {
        Some(cursor) => cursor.decimal_not_negative(),
        None => Some(Quantity::ZERO),
    };
    let currency = match fields.get("currency") {
        Some(cursor) => currency(&cursor),
        None => Some(default),
    };
    let minimum = fields.get("minimum").and_then(|cursor| cursor.decimal_not_negative());
    let maximum = fields.get("maximum").and_then(|cursor| cursor.decimal_not_negative());
    if let (Some(least), Some(most)) = (minimum, maximum)
        && least > most
    {
        return cursor.fail(
            format!("minimum {least} is greater than maximum {most}"),
            "raise the maximum or lower the minimum",
        );
    }
    let convert = fields.get("convert").and_then(|cursor| convert(&cursor));
    let valid_to = fields.get("valid_to").and_then(|cursor| cursor.instant());
    let (model, valid_from) = (model?, valid_from?);
    if valid_to.is_some_and(|end| end <= valid_from) {
        return cursor.fail("valid_to is not after valid_from", "give a later valid_to, or none");
    }
    Some(Price {
        valid_from,
        valid_to,
        currency: currency?,
        model,
        free_units: free_units?,
        minimum,
        maximum,
        convert,
    })
}

fn convert(cursor: &Cursor<'_>) -> Option<Conversion> {
    let fields = cursor.map(&["divide_by", "multiply_by", "round", "digits"])?;
    let factor = match (fields.get("divide_by"), fields.get("multiply_by")) {
        (Some(factor), None) => ConversionFactor::DivideBy(factor.decimal_above_zero()?),
        (None, Some(factor)) => ConversionFactor::MultiplyBy(factor.decimal_above_zero()?),
        _ => {
            return cursor.fail(
                "exactly one of divide_by and multiply_by is needed",
                "for seconds priced by the hour write `divide_by: \"3600\"`",
            );
        }
    };
    let rounding = match fields.get("round") {
        Some(round) => {
            let mode = round.word("rounding mode", ROUNDING_WORDS, &[])?;
            to_rounding(mode, fields.get("digits"), 0)?
        }
        None => match fields.get("digits") {
            Some(digits) => {
                return digits.fail("`digits` without `round`", "name the mode, as `round: up`");
            }
            None => Rounding::Exact,
        },
    };
    Some(Conversion { factor, rounding })
}
