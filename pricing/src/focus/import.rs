//! Import: the price list that a FOCUS file implies, as a catalogue file.
//!
//! One SKU for each (SkuId, PricingUnit), priced by a matrix over `sku_price_id`. Rows without a
//! SkuPriceId give the matrix's default.

use std::{collections::BTreeMap, fmt::Write};

use domain::{Quantity, Sku, Timestamp, Unit, catalogue::Currency};

use super::{FocusError, FocusRow, SKU_PRICE_ID};
use crate::amount::Amount;

/// Tests that an imported catalogue carries at most.
const TESTS_MAX: usize = 12;

/// An imported price list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The catalogue file's text, which passes every check of [`crate::file::parse`].
    pub text: String,
    /// Rows that were read.
    pub rows: usize,
    /// SKUs by unit.
    pub skus: usize,
    /// Prices in all.
    pub prices: usize,
    /// Tests drawn from rows.
    pub tests: usize,
    /// Rows that have no list price, and so add none.
    pub rows_without_price: usize,
    /// Rows with a price from which their own list cost does not follow.
    pub rows_not_checkable: usize,
}

struct SkuPrices<'r> {
    service: Option<&'r str>,
    /// By SkuPriceId, with the row each came from.
    prices: BTreeMap<Option<&'r str>, (Quantity, u64)>,
}

type Skus<'r> = BTreeMap<(&'r Sku, &'r Unit), SkuPrices<'r>>;

/// Draws a catalogue from rows that were read with [`super::Basis::Pricing`]. Without a `version`
/// it is named after the first billing month, as `focus-2024-09`.
///
/// Prices are valid from the least BillingPeriodStart or ChargePeriodStart, whichever is earlier, so
/// that no row is before its price. Amounts are not rounded.
///
/// # Errors
/// `NoPrices`, `TwoPrices`, `TwoCurrencies`.
pub fn import(rows: &[FocusRow], version: Option<&str>) -> Result<Imported, FocusError> {
    let currency = currency(rows)?;
    let skus = skus(rows)?;
    let starts = rows.iter().map(|row| row.billing_period_start.min(row.time));
    let valid_from = starts.min().ok_or(FocusError::NoPrices)?;
    let examples = examples(rows);
    let version = match version {
        Some(version) => version.to_owned(),
        None => format!("focus-{}", &valid_from.to_string()[..7]),
    };
    let mut text = format!(
        "# Imported from a FOCUS 1.0 file: one price for each SkuPriceId, as the provider lists it.\n\
         catalogue: {}\ncurrency: {currency}\nrounding: {{mode: none}}\nskus:\n",
        quoted(&version)
    );
    for ((sku, unit), prices) in &skus {
        write_sku(&mut text, sku, unit, prices, valid_from);
    }
    if !examples.is_empty() {
        text.push_str("tests:\n");
    }
    examples.iter().for_each(|row| write_test(&mut text, row));
    Ok(Imported {
        text,
        rows: rows.len(),
        skus: skus.len(),
        prices: skus.values().map(|sku| sku.prices.len()).sum(),
        tests: examples.len(),
        rows_without_price: rows.iter().filter(|row| row.list_unit_price.is_none()).count(),
        rows_not_checkable: rows
            .iter()
            .filter(|row| row.checkable == super::Checkable::Differs)
            .count(),
    })
}

fn currency(rows: &[FocusRow]) -> Result<Currency, FocusError> {
    let first = rows.first().ok_or(FocusError::NoPrices)?;
    match rows.iter().find(|row| row.currency != first.currency) {
        Some(other) => Err(FocusError::TwoCurrencies {
            first: first.row,
            second: other.row,
            one: first.currency,
            other: other.currency,
        }),
        None => Ok(first.currency),
    }
}

fn skus(rows: &[FocusRow]) -> Result<Skus<'_>, FocusError> {
    let mut skus = Skus::new();
    for row in rows {
        let Some(price) = row.list_unit_price else { continue };
        let service = row.properties.get("service_name").map(String::as_str);
        let sku = skus
            .entry((&row.product_sku, &row.use_unity))
            .or_insert_with(|| SkuPrices { service, prices: BTreeMap::new() });
        let key = row.sku_price_id.as_deref();
        let (stands, first) = *sku.prices.entry(key).or_insert((price, row.row));
        if stands != price {
            return Err(FocusError::TwoPrices {
                first,
                second: row.row,
                sku: row.product_sku.clone(),
                unit: row.use_unity.clone(),
                sku_price_id: key.unwrap_or_default().to_owned(),
                one: stands,
                other: price,
            });
        }
    }
    if skus.is_empty() { Err(FocusError::NoPrices) } else { Ok(skus) }
}

/// The first row of each of the first SKUs whose cost is not zero and follows to the last digit.
fn examples(rows: &[FocusRow]) -> Vec<&FocusRow> {
    let mut seen = std::collections::BTreeSet::new();
    let exact = |row: &&FocusRow| match (row.list_unit_price, row.list_cost) {
        (Some(price), Some(cost)) => {
            cost != Quantity::ZERO && Amount::product(row.quantity, price) == Amount::of(cost)
        }
        _ => false,
    };
    rows.iter()
        .filter(exact)
        .filter(|row| seen.insert((&row.product_sku, &row.use_unity)))
        .take(TESTS_MAX)
        .collect()
}

fn write_sku(
    text: &mut String,
    sku: &Sku,
    unit: &Unit,
    found: &SkuPrices<'_>,
    valid_from: Timestamp,
) {
    let mut line =
        |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String grows");
    line(format_args!("  - sku: {}", quoted(sku.as_str())));
    if let Some(service) = found.service {
        line(format_args!("    name: {}", quoted(service)));
    }
    line(format_args!("    unit: {}", quoted(unit.as_str())));
    line(format_args!("    dimensions: [{SKU_PRICE_ID}]"));
    line(format_args!("    prices:"));
    line(format_args!("      - valid_from: {valid_from}"));
    line(format_args!("        model: matrix"));
    let cells: Vec<_> =
        found.prices.iter().filter_map(|(key, price)| Some(((*key)?, price.0))).collect();
    if cells.is_empty() {
        line(format_args!("        prices: []"));
    } else {
        line(format_args!("        prices:"));
    }
    for (key, price) in cells {
        line(format_args!(
            "          - {{when: {{{SKU_PRICE_ID}: {}}}, unit_price: \"{price}\"}}",
            quoted(key)
        ));
    }
    if let Some((price, _)) = found.prices.get(&None) {
        line(format_args!("        default: \"{price}\""));
    }
}

fn write_test(text: &mut String, row: &FocusRow) {
    let usage = match &row.sku_price_id {
        Some(key) => format!(
            "groups: [{{dimensions: {{{SKU_PRICE_ID}: {}}}, quantity: \"{}\"}}]",
            quoted(key),
            row.quantity
        ),
        None => format!("quantity: \"{}\"", row.quantity),
    };
    writeln!(
        text,
        "  - {{name: {}, sku: {}, unit: {}, {usage}, expect: \"{}\"}}",
        quoted(&format!("row {} of the file costs its ListCost", row.row)),
        quoted(row.product_sku.as_str()),
        quoted(row.use_unity.as_str()),
        row.list_cost.unwrap_or(Quantity::ZERO)
    )
    .expect("a String grows");
}

/// Text as a double-quoted YAML scalar, which spells escapes as JSON does. JSON lets characters stand
/// that YAML does not, or takes for the end of a line.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut quoted = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                write!(quoted, "\\u{:04x}", u32::from(character)).expect("a String grows");
            }
            _ => quoted.push(character),
        }
    }
    quoted
}
