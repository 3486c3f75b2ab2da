//! FOCUS 1.0 (the FinOps Foundation's export of cloud cost and usage) as pulses.
//!
//! | column | becomes |
//! | --- | --- |
//! | SubAccountId | tenant |
//! | SkuId | product_sku |
//! | PricingQuantity, PricingUnit | used_amount, use_unity (ConsumedQuantity and ConsumedUnit on request) |
//! | ChargePeriodStart | time; FOCUS times are UTC, with or without saying so |
//! | Id, where there is one | id |
//! | SkuPriceId, ProviderName, RegionId, ... | properties, in snake case |
//!
//! Empty cells and `NULL` are absent. A row without a quantity is a charge, not usage, and is
//! rejected as such.

use std::io::{self, BufRead};

use clap::ValueEnum;
use edge::problem::reasons;
use proto::v1;

use super::{
    csv_rows::read_header,
    records::Records,
    row::{self, Draft, Fault, Field, ROW_CELLS, Row, RowResult},
};

/// The same names as the imported price list declares and the pricing crate's reader gives.
const PROPERTIES: [(&str, &str); 9] = [
    ("SkuPriceId", pricing::focus::SKU_PRICE_ID),
    ("ProviderName", "provider_name"),
    ("RegionId", "region_id"),
    ("AvailabilityZone", "availability_zone"),
    ("ServiceName", "service_name"),
    ("ServiceCategory", "service_category"),
    ("ResourceId", "resource_id"),
    ("ResourceType", "resource_type"),
    ("ChargeCategory", "charge_category"),
];

/// Which quantity of a FOCUS row is the amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FocusQuantity {
    /// PricingQuantity in PricingUnit, of which price lists speak.
    Pricing,
    /// ConsumedQuantity in ConsumedUnit.
    Consumed,
}

/// Reads all rows and hands each row or rejection to `sink`, in order.
///
/// # Errors
/// `InvalidData` for a header that is not understood, those of the input, and those of `sink`.
pub fn read(
    input: &mut dyn BufRead,
    quantity: FocusQuantity,
    sink: &mut dyn FnMut(RowResult) -> io::Result<()>,
) -> io::Result<()> {
    let mut records = Records::of(input);
    let columns = read_header(&mut records, |header| Columns::of(header, quantity))?;
    for number in 1.. {
        let Some(record) = records.advance()? else { break };
        let parsed = record.and_then(|()| columns.pulse_of(&records));
        sink(parsed.map(|pulse| Row { number, pulse }).map_err(|fault| fault.at(number)))?;
    }
    Ok(())
}

/// Where the columns that matter stand.
struct Columns {
    cells: usize,
    fields: Vec<(Field, &'static str, usize)>,
    properties: Vec<(&'static str, usize)>,
}

impl Columns {
    fn of(header: &Records<'_>, quantity: FocusQuantity) -> Result<Self, String> {
        let (amount, unit) = match quantity {
            FocusQuantity::Pricing => ("PricingQuantity", "PricingUnit"),
            FocusQuantity::Consumed => ("ConsumedQuantity", "ConsumedUnit"),
        };
        let required = [
            (Field::Tenant, "SubAccountId"),
            (Field::ProductSku, "SkuId"),
            (Field::UseUnity, unit),
            (Field::UsedAmount, amount),
            (Field::Time, "ChargePeriodStart"),
        ];
        let mut fields = Vec::new();
        let mut missing = Vec::new();
        for (field, name) in required {
            match place_of(header, name)? {
                Some(place) => fields.push((field, name, place)),
                None => missing.push(name),
            }
        }
        if !missing.is_empty() {
            let missing = missing.join("`, `");
            return Err(format!("not a FOCUS file: column `{missing}` is missing"));
        }
        fields.extend(place_of(header, "Id")?.map(|place| (Field::Id, "Id", place)));
        let mut properties = Vec::new();
        for (name, property) in PROPERTIES {
            properties.extend(place_of(header, name)?.map(|place| (property, place)));
        }
        Ok(Self { cells: header.len(), fields, properties })
    }

    fn pulse_of(&self, record: &Records<'_>) -> Result<v1::Pulse, Fault> {
        if record.len() != self.cells {
            let message = format!(
                "{} cells where the header has {}: the row is cut off, or a quote is not closed",
                record.len(),
                self.cells
            );
            return Err(Fault::row(ROW_CELLS, message));
        }
        let mut draft = Draft::default();
        for (field, name, place) in &self.fields {
            let text = cell(record, *place, name)?;
            match field {
                Field::UsedAmount if text.is_empty() => {
                    let message = "empty: the row is a charge without usage";
                    return Err(Fault::new(reasons::AMOUNT_MISSING, name, message));
                }
                Field::Time => draft.set(*field, &in_utc(text))?,
                _ => draft.set(*field, text)?,
            }
        }
        for (property, place) in &self.properties {
            draft.set_property(property, cell(record, *place, property)?)?;
        }
        draft.finish()
    }
}

/// Where a column stands, or `None` when it does not.
fn place_of(header: &Records<'_>, name: &str) -> Result<Option<usize>, String> {
    let mut places =
        (0..header.len()).filter(|place| header.cell(*place).trim_ascii() == name.as_bytes());
    let place = places.next();
    match places.next() {
        None => Ok(place),
        Some(_) => Err(format!("column `{name}` comes twice")),
    }
}

fn cell<'r>(record: &'r Records<'_>, place: usize, name: &str) -> Result<&'r str, Fault> {
    let text = std::str::from_utf8(record.cell(place))
        .map_err(|_| Fault::new(reasons::NAME_NOT_UTF8, name, "not valid UTF-8"))?;
    Ok(if text == "NULL" { "" } else { text })
}

/// A time that names no zone is given the one that FOCUS means.
fn in_utc(text: &str) -> String {
    match text.parse::<jiff::civil::DateTime>() {
        Ok(_) if row::time(text).is_err() => format!("{text}Z"),
        _ => text.to_owned(),
    }
}
