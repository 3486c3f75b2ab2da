//! JSON of what lines are made of: steps, hours, usage that waits.
//!
//! Decimals and 64-bit integers are strings, keys stand in a fixed order: the same line gives the same
//! bytes. Keys are only ever added.

use domain::{
    Dimensions, Quantity, Window,
    catalogue::{Conversion, ConversionFactor},
};
use serde_json::{Map, Value, json};

use super::{Hour, Step, Unpriced};
use crate::amount::Amount;

/// A window as an object with `start` and `end`.
#[must_use]
pub fn period(period: Window) -> Value {
    json!({"start": period.start.to_string(), "end": period.end.to_string()})
}

/// Usage without a price, with the reason and the remedy.
#[must_use]
pub fn waiting(unpriced: &Unpriced) -> Value {
    json!({
        "product_sku": unpriced.product_sku.as_str(),
        "use_unity": unpriced.use_unity.as_str(),
        "dimensions": dimensions(&unpriced.dimensions),
        "quantity": unpriced.quantity.to_string(),
        "count": unpriced.count.to_string(),
        "reason": unpriced.reason.as_str(),
        "remedy": unpriced.reason.remedy(),
    })
}

/// Dimensions as an object, by name.
#[must_use]
pub fn dimensions(dimensions: &Dimensions) -> Value {
    let pairs = dimensions.pairs().into_iter().map(|(name, value)| (name, Value::from(value)));
    Value::Object(pairs.collect())
}

/// Adds the hours behind an entry, for as long as the stretches of the log in them are within a budget,
/// so that the document stays small enough to send; `hours_left_out` says how many are not.
pub fn add_hours(value: &mut Value, hours: &[Hour], budget: &mut usize) {
    let mut listed = Vec::new();
    for found in hours {
        if found.segments.len() > *budget {
            break;
        }
        *budget -= found.segments.len();
        listed.push(hour(found));
    }
    let left_out = hours.len() - listed.len();
    value["hours"] = Value::Array(listed);
    if left_out > 0 {
        value["hours_left_out"] = Value::from(left_out.to_string());
        // Later entries do not fill the gap with hours of their own: a cut stays a cut.
        *budget = 0;
    }
}

/// An hour of usage with the stretches of the log that it was counted in.
#[must_use]
pub fn hour(hour: &Hour) -> Value {
    let segments = hour.segments.iter().map(|part| {
        json!({
            "log_id": part.segment.log_id.to_string(),
            "partition": part.segment.partition.0,
            "epoch": part.segment.epoch.0,
            "segment_start": part.segment.start.to_string(),
            "offset_last": part.offset_last.to_string(),
        })
    });
    json!({
        "window_start": hour.window_start.to_string(),
        "count": hour.count.to_string(),
        "sum": hour.sum.to_string(),
        "segments": segments.collect::<Vec<_>>(),
    })
}

/// A step as an object: `step`, then what it is about, then `amount` where it adds to the line.
#[must_use]
pub fn step(step: &Step) -> Value {
    let mut object = Map::new();
    object.insert("step".into(), step.as_str().into());
    describe(step, &mut object);
    if step.adds() {
        object.insert("amount".into(), step.amount().to_string().into());
    }
    Value::Object(object)
}

fn describe(step: &Step, object: &mut Map<String, Value>) {
    let mut put = |key: &str, value: Value| _ = object.insert(key.to_owned(), value);
    match step {
        Step::Metered { meter, quantity } => {
            put("meter", meter.as_str().into());
            put("quantity", text(quantity));
        }
        Step::Converted { conversion: Conversion { factor, rounding }, quantity } => {
            match factor {
                ConversionFactor::DivideBy(divisor) => put("divide_by", text(divisor)),
                ConversionFactor::MultiplyBy(factor) => put("multiply_by", text(factor)),
            }
            put("rounding", text(rounding));
            put("quantity", text(quantity));
        }
        Step::FreeUnits { used, quantity } => {
            put("used", text(used));
            put("quantity", text(quantity));
        }
        Step::Prorated { days, of } => {
            put("days", (*days).into());
            put("of", (*of).into());
        }
        Step::Flat { .. } => {}
        Step::Units { .. } | Step::Packages { .. } | Step::Tier { .. } | Step::TierFee { .. } => {
            describe_units(step, &mut put)
        }
        Step::Events { .. }
        | Step::FreeEvents { .. }
        | Step::Rate { .. }
        | Step::FixedFees { .. }
        | Step::MinimumPerEvent { .. }
        | Step::MaximumPerEvent { .. }
        | Step::RateTier { .. }
        | Step::Multiplied { .. } => describe_share(step, &mut put),
        Step::Discounted { name, share, .. } => {
            put("name", text(name));
            put("share", text(share));
        }
        Step::Exchanged { from, rate, .. } => {
            put("from", text(from));
            put("rate", text(rate));
        }
        Step::AmountOff { .. }
        | Step::Shortfall { .. }
        | Step::Overage { .. }
        | Step::Taxed { .. }
        | Step::Invoiced { .. } => describe_charge(step, &mut put),
        Step::Maximum { bound, .. } | Step::Minimum { bound, .. } => put("bound", text(bound)),
        Step::Rounded { rounding, .. } => put("rounding", text(rounding)),
    }
}

/// The steps of the models that price units.
fn describe_units(step: &Step, put: &mut impl FnMut(&str, Value)) {
    match step {
        Step::Units { quantity, unit_price, cell, .. } => {
            put("quantity", text(quantity));
            put("unit_price", text(unit_price));
            if let Some(cell) = cell {
                let pairs = cell.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
                put("when", Value::Object(pairs.collect()));
            }
        }
        Step::Packages { quantity, package_size, packages, package_price, .. } => {
            put("quantity", text(quantity));
            put("package_size", text(package_size));
            put("packages", text(packages));
            put("package_price", text(package_price));
        }
        Step::Tier { number, above, up_to, quantity, unit_price, packages, .. } => {
            put("tier", (*number).into());
            put("above", text(above));
            put("up_to", up_to.as_ref().map_or(Value::Null, text::<Quantity>));
            put("quantity", text(quantity));
            if let Some((size, count)) = packages {
                put("package_size", text(size));
                put("packages", text(count));
            }
            put("unit_price", text(unit_price));
        }
        Step::TierFee { number, .. } => put("tier", (*number).into()),
        _ => {}
    }
}

/// The steps of the models that price amounts of money.
fn describe_share(step: &Step, put: &mut impl FnMut(&str, Value)) {
    match step {
        Step::Events { events, amount_dimension } => {
            put("events", text(events));
            if let Some(name) = amount_dimension {
                put("amount_dimension", text(name));
            }
        }
        Step::FreeEvents { events, used, quantity } => {
            put("events", text(events));
            put("used", text(used));
            put("quantity", text(quantity));
        }
        Step::Rate { quantity, rate, .. } => {
            put("quantity", text(quantity));
            put("rate", text(rate));
        }
        Step::FixedFees { events, fixed_fee, .. } => {
            put("events", text(events));
            put("fixed_fee", text(fixed_fee));
        }
        Step::MinimumPerEvent { events, bound, .. }
        | Step::MaximumPerEvent { events, bound, .. } => {
            put("events", text(events));
            put("bound", text(bound));
        }
        Step::RateTier { number, above, up_to, quantity, rate, .. } => {
            put("tier", (*number).into());
            put("above", text(above));
            put("up_to", up_to.as_ref().map_or(Value::Null, text::<Quantity>));
            put("quantity", text(quantity));
            put("rate", text(rate));
        }
        Step::Multiplied { quantity, multiplier, .. } => {
            put("quantity", text(quantity));
            put("multiplier", text(multiplier));
        }
        _ => {}
    }
}

/// The steps that hold several lines together.
fn describe_charge(step: &Step, put: &mut impl FnMut(&str, Value)) {
    match step {
        Step::AmountOff { offered, base, .. } => {
            put("offered", text(offered));
            put("base", text(base));
        }
        Step::Shortfall { committed, spent, .. } => {
            put("committed", text(committed));
            put("spent", text(spent));
        }
        Step::Overage { committed, beyond, factor, .. } => {
            put("committed", text(committed));
            put("beyond", text(beyond));
            put("factor", text(factor));
        }
        Step::Taxed { base, rate, .. } => {
            put("base", text(base));
            put("rate", text(rate));
        }
        _ => {}
    }
}

fn text<T: std::fmt::Display>(value: &T) -> Value {
    Value::from(value.to_string())
}

/// Rendered amounts of a line's steps, for checks that read the document itself.
#[must_use]
pub fn steps_total(line: &Value) -> Option<Amount> {
    let steps = line["detail"].as_array()?;
    let amounts = steps.iter().filter_map(|step| step["amount"].as_str());
    amounts
        .map(|text| text.parse::<Amount>().ok())
        .try_fold(Amount::ZERO, |sum, amount| sum.checked_add(amount?))
}
