//! FOCUS 1.0, the FinOps Foundation's format of cloud bills: a source of real usage, of a price
//! list, and of the answer that rating must give.
//!
//! A file is read row by row. A row that cannot be read says which row and column and why, and the
//! others go on. Numbers are taken by their digits, never through a float.

use std::collections::BTreeMap;

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use domain::{Quantity, Sku, Tenant, Timestamp, Unit, catalogue::Currency, name::NameError};
use thiserror::Error;

use crate::{amount::Amount, moment};

mod import;
mod oracle;

pub use import::{Imported, import};
pub use oracle::{Comparison, Difference, HourKey, compare};

/// The property that carries `SkuPriceId`, declared as a dimension by an imported catalogue.
pub const SKU_PRICE_ID: &str = "sku_price_id";

/// How far the provider's ListCost may be from quantity times price for a row to be checkable:
/// 10^-8.
#[must_use]
pub fn tolerance() -> Amount {
    Amount::of(Quantity::from_raw(10_000_000_000))
}

/// Which quantity of a row is the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// PricingQuantity in PricingUnit: what the price list speaks of.
    Pricing,
    /// ConsumedQuantity in ConsumedUnit: what was measured.
    Consumed,
}

/// One row of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FocusRow {
    /// Number of the row in the file, counting the header as 1; quoted line breaks do not count.
    pub row: u64,
    /// SubAccountId.
    pub tenant: Tenant,
    /// SkuId.
    pub product_sku: Sku,
    /// PricingUnit or ConsumedUnit.
    pub use_unity: Unit,
    /// PricingQuantity or ConsumedQuantity.
    pub quantity: Quantity,
    /// ChargePeriodStart.
    pub time: Timestamp,
    /// Id, an addition of the sample to the format; absent in other files.
    pub id: Option<String>,
    /// SkuPriceId, where the provider gives one.
    pub sku_price_id: Option<String>,
    /// What else describes the usage, by property name; holds `sku_price_id` too.
    pub properties: BTreeMap<String, String>,
    /// BillingPeriodStart.
    pub billing_period_start: Timestamp,
    /// BillingCurrency.
    pub currency: Currency,
    /// ListUnitPrice, where the provider gives one.
    pub list_unit_price: Option<Quantity>,
    /// ListCost, where the provider gives one.
    pub list_cost: Option<Quantity>,
    /// Whether ListCost can be derived from the row.
    pub checkable: Checkable,
}

/// Whether quantity times ListUnitPrice gives ListCost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checkable {
    /// Within 10^-8.
    Yes,
    /// The row has no ListUnitPrice or no ListCost: a credit, a tax, a refund.
    NoListPrice,
    /// It does not: the provider rounded the quantity, or its price is per package.
    Differs,
}

impl Checkable {
    /// Why not, for a person.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Yes => "checkable",
            Self::NoListPrice => "the row has no list price: a credit, a tax or a refund",
            Self::Differs => {
                "quantity x list price is not the list cost: the provider rounded the quantity or \
                 prices by the package"
            }
        }
    }
}

/// Why a file cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FocusError {
    /// Not a single line.
    #[error("the file is empty: a FOCUS 1.0 file starts with a line of column names")]
    Empty,
    /// A byte sequence that is no text.
    #[error("the header is not UTF-8 text: save the file as UTF-8")]
    NotUtf8,
    /// Columns that are needed.
    #[error("missing columns: {}; FOCUS 1.0 files have them", .0.join(", "))]
    MissingColumns(Vec<String>),
    /// A column that stands twice.
    #[error("the column {0} stands there twice: remove one")]
    DuplicateColumn(String),
    /// No row has a price.
    #[error("no row has a ListUnitPrice, so there is no price list in the file")]
    NoPrices,
    /// Rows that contradict each other.
    #[error(
        "rows {first} and {second} give SKU {sku} in {unit} two list prices for SkuPriceId \
         {sku_price_id:?}, {one} and {other}: split the file by billing period"
    )]
    TwoPrices {
        /// The row that gave the first price.
        first: u64,
        /// The row that gave another.
        second: u64,
        /// The SKU.
        sku: Sku,
        /// The unit.
        unit: Unit,
        /// The price's key; empty where the row has none.
        sku_price_id: String,
        /// The first price.
        one: Quantity,
        /// The other.
        other: Quantity,
    },
    /// Rows in several currencies.
    #[error("rows {first} and {second} are in {one} and {other}: split the file by currency")]
    TwoCurrencies {
        /// A row in the first currency.
        first: u64,
        /// A row in another.
        second: u64,
        /// The first currency.
        one: Currency,
        /// The other.
        other: Currency,
    },
}

/// Why one row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("row {row}, {column}: {message}")]
pub struct RowError {
    /// Number of the row, counting the header as 1.
    pub row: u64,
    /// Name of the column; `row` where it is about the row as a whole.
    pub column: String,
    /// What is wrong.
    pub message: String,
}

const NEEDED: [&str; 8] = [
    "SubAccountId",
    "SkuId",
    "SkuPriceId",
    "ChargePeriodStart",
    "BillingPeriodStart",
    "BillingCurrency",
    "ListUnitPrice",
    "ListCost",
];

/// Columns that become properties, and the properties' names.
const PROPERTIES: [(&str, &str); 9] = [
    ("SkuPriceId", SKU_PRICE_ID),
    ("ProviderName", "provider_name"),
    ("RegionId", "region_id"),
    ("AvailabilityZone", "availability_zone"),
    ("ServiceName", "service_name"),
    ("ServiceCategory", "service_category"),
    ("ResourceId", "resource_id"),
    ("ResourceType", "resource_type"),
    ("ChargeCategory", "charge_category"),
];

impl Basis {
    const fn columns(self) -> (&'static str, &'static str) {
        match self {
            Self::Pricing => ("PricingQuantity", "PricingUnit"),
            Self::Consumed => ("ConsumedQuantity", "ConsumedUnit"),
        }
    }
}

/// Reads a whole file. A byte order mark and CRLF are accepted.
///
/// # Errors
/// [`FocusError`] when the file cannot be read at all; rows fail one by one.
pub fn read(bytes: &[u8], basis: Basis) -> Result<Vec<Result<FocusRow, RowError>>, FocusError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().from_reader(bytes);
    let header = reader.headers().map_err(|_| FocusError::NotUtf8)?.clone();
    let columns = Columns::of(&header, basis)?;
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        // The header is row 1, and `usize` is at most 64 bits.
        let row = index as u64 + 2;
        rows.push(match record {
            Ok(record) => Cells { columns: &columns, record: &record, row }.read(basis),
            Err(error) => Err(RowError { row, column: "row".into(), message: describe(&error) }),
        });
    }
    Ok(rows)
}

fn describe(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} cells where the header has {expected_len}: is the file cut short?")
        }
        ErrorKind::Utf8 { .. } => "not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

/// Places of the columns by name.
struct Columns(BTreeMap<String, usize>);

impl Columns {
    fn of(header: &StringRecord, basis: Basis) -> Result<Self, FocusError> {
        if header.iter().all(|name| name.trim().is_empty()) {
            return Err(FocusError::Empty);
        }
        let mut places = BTreeMap::new();
        for (place, name) in header.iter().enumerate() {
            if places.insert(name.trim().to_owned(), place).is_some() {
                return Err(FocusError::DuplicateColumn(name.trim().to_owned()));
            }
        }
        let (quantity, unit) = basis.columns();
        let needed = NEEDED.into_iter().chain([quantity, unit]);
        let missing: Vec<String> =
            needed.filter(|name| !places.contains_key(*name)).map(str::to_owned).collect();
        if missing.is_empty() { Ok(Self(places)) } else { Err(FocusError::MissingColumns(missing)) }
    }
}

/// One record, by column name.
struct Cells<'a> {
    columns: &'a Columns,
    record: &'a StringRecord,
    row: u64,
}

impl<'a> Cells<'a> {
    fn read(&self, basis: Basis) -> Result<FocusRow, RowError> {
        let (quantity, unit) = basis.columns();
        let mut row = FocusRow {
            row: self.row,
            tenant: self.name("SubAccountId", Tenant::new)?,
            product_sku: self.name("SkuId", Sku::new)?,
            use_unity: self.name(unit, Unit::new)?,
            quantity: match self.decimal(quantity)? {
                Some(quantity) => quantity,
                None => return Err(self.error(quantity, "empty, but usage needs a quantity")),
            },
            time: self.moment("ChargePeriodStart")?,
            id: self.word("Id").map(str::to_owned),
            sku_price_id: self.word("SkuPriceId").map(str::to_owned),
            properties: self.properties(),
            billing_period_start: self.moment("BillingPeriodStart")?,
            currency: self.currency()?,
            list_unit_price: self.decimal("ListUnitPrice")?,
            list_cost: self.decimal("ListCost")?,
            checkable: Checkable::NoListPrice,
        };
        row.checkable = checkable(&row);
        Ok(row)
    }

    /// A cell that says something, without blanks around it: providers write `NULL` or nothing for none.
    fn get(&self, column: &str) -> Option<&'a str> {
        self.word(column).map(str::trim).filter(|cell| !cell.is_empty() && *cell != "NULL")
    }

    /// The same as it is. Names are read as `pulso ingest` reads them, or a price would be another
    /// SKU's.
    fn word(&self, column: &str) -> Option<&'a str> {
        let cell = self.record.get(*self.columns.0.get(column)?)?;
        (!cell.is_empty() && cell != "NULL").then_some(cell)
    }

    fn error(&self, column: &str, message: impl Into<String>) -> RowError {
        RowError { row: self.row, column: column.to_owned(), message: message.into() }
    }

    fn needed(&self, column: &str) -> Result<&'a str, RowError> {
        self.get(column).ok_or_else(|| self.error(column, "empty, but needed"))
    }

    fn name<T>(&self, column: &str, make: fn(&str) -> Result<T, NameError>) -> Result<T, RowError> {
        let word = self.word(column).ok_or_else(|| self.error(column, "empty, but needed"))?;
        make(word).map_err(|error| self.error(column, error.to_string()))
    }

    fn decimal(&self, column: &str) -> Result<Option<Quantity>, RowError> {
        let Some(text) = self.get(column) else { return Ok(None) };
        let parsed = text.parse::<Quantity>();
        parsed.map(Some).map_err(|error| self.error(column, format!("`{text}`: {error}")))
    }

    fn moment(&self, column: &str) -> Result<Timestamp, RowError> {
        let text = self.needed(column)?;
        moment::parse_utc(text).ok_or_else(|| {
            self.error(column, format!("`{text}` is no date and time, such as 2024-09-18 22:00:00"))
        })
    }

    fn currency(&self) -> Result<Currency, RowError> {
        let code = self.needed("BillingCurrency")?;
        Currency::from_code(code).ok_or_else(|| {
            self.error("BillingCurrency", format!("`{code}` is no currency of ISO 4217"))
        })
    }

    fn properties(&self) -> BTreeMap<String, String> {
        let found = PROPERTIES.iter().filter_map(|(column, property)| {
            self.word(column).map(|value| ((*property).to_owned(), value.to_owned()))
        });
        found.collect()
    }
}

fn checkable(row: &FocusRow) -> Checkable {
    let (Some(price), Some(cost)) = (row.list_unit_price, row.list_cost) else {
        return Checkable::NoListPrice;
    };
    let difference = Amount::product(row.quantity, price)
        .checked_sub(Amount::of(cost))
        .and_then(Amount::checked_abs);
    match difference {
        Some(difference) if difference <= tolerance() => Checkable::Yes,
        _ => Checkable::Differs,
    }
}

#[cfg(test)]
mod tests;
