//! Oracle: compares rated usage with the provider's own ListCost, hour line by hour line.

use std::collections::BTreeMap;

use domain::{
    Quantity, Sku, Tenant, Timestamp, Unit, UsageRow, WindowLength, catalogue::Catalogue,
};

use super::{Checkable, FocusRow, SKU_PRICE_ID, tolerance};
use crate::{amount::Amount, rate::rate};

/// An hour line: what a tenant used of one priced SKU in one hour.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HourKey {
    /// The tenant.
    pub tenant: Tenant,
    /// The SKU.
    pub product_sku: Sku,
    /// The unit.
    pub use_unity: Unit,
    /// The price's key, where there is one.
    pub sku_price_id: Option<String>,
    /// Start of the hour.
    pub hour: Timestamp,
}

/// An hour line whose rated amount is not the provider's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which hour line differs.
    pub key: HourKey,
    /// Sum of ListCost.
    pub list_cost: Amount,
    /// What rating gave; `None` where it gave no line.
    pub rated: Option<Amount>,
}

/// How rated usage compares with ListCost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Rows whose hour lines were compared.
    pub rows_compared: usize,
    /// Hour lines that were compared.
    pub lines_compared: usize,
    /// Those that differ by more than 10^-8, in order.
    pub differences: Vec<Difference>,
    /// Sum of ListCost over the lines compared.
    pub list_cost: Amount,
    /// Sum of what rating gave for them.
    pub rated: Amount,
    /// Rows that were not compared, by reason. A row that is checkable by itself but shares its
    /// hour line with one that is not counts under that one's reason.
    pub rows_not_compared: BTreeMap<Checkable, usize>,
}

#[derive(Default)]
struct Expected {
    rows: usize,
    list_cost: Option<Amount>,
    obstacle: Option<Checkable>,
}

/// Rates `usage` hour by hour and compares each hour line that can be derived with the file's rows.
/// The catalogue is one that [`super::import()`] drew from the same rows.
#[must_use]
pub fn compare(catalogue: &Catalogue, usage: &[UsageRow], rows: &[FocusRow]) -> Comparison {
    let rated = rate_by_hour(catalogue, usage);
    let mut comparison = Comparison {
        rows_compared: 0,
        lines_compared: 0,
        differences: Vec::new(),
        list_cost: Amount::ZERO,
        rated: Amount::ZERO,
        rows_not_compared: BTreeMap::new(),
    };
    for (key, expected) in expected(rows) {
        match (expected.obstacle, expected.list_cost) {
            (None, Some(list_cost)) => {
                let rated = rated.get(&key).copied();
                comparison.take(key, expected.rows, list_cost, rated);
            }
            (obstacle, _) => {
                let reason = obstacle.unwrap_or(Checkable::NoListPrice);
                *comparison.rows_not_compared.entry(reason).or_default() += expected.rows;
            }
        }
    }
    comparison
}

impl Comparison {
    fn take(&mut self, key: HourKey, rows: usize, list_cost: Amount, rated: Option<Amount>) {
        self.rows_compared += rows;
        self.lines_compared += 1;
        self.list_cost = add(self.list_cost, list_cost);
        self.rated = add(self.rated, rated.unwrap_or(Amount::ZERO));
        let near = rated
            .and_then(|rated| rated.checked_sub(list_cost))
            .and_then(Amount::checked_abs)
            .is_some_and(|difference| difference <= tolerance());
        if !near {
            self.differences.push(Difference { key, list_cost, rated });
        }
    }
}

fn add(one: Amount, other: Amount) -> Amount {
    one.checked_add(other).expect("costs of a file are far inside the range")
}

fn expected(rows: &[FocusRow]) -> BTreeMap<HourKey, Expected> {
    let mut lines: BTreeMap<HourKey, Expected> = BTreeMap::new();
    for row in rows {
        let key = HourKey {
            tenant: row.tenant.clone(),
            product_sku: row.product_sku.clone(),
            use_unity: row.use_unity.clone(),
            sku_price_id: row.sku_price_id.clone(),
            hour: WindowLength::HOUR.start_of(row.time),
        };
        let line = lines.entry(key).or_default();
        line.rows += 1;
        if row.checkable != Checkable::Yes {
            line.obstacle = Some(row.checkable);
        }
        let cost = Amount::of(row.list_cost.unwrap_or(Quantity::ZERO));
        line.list_cost = Some(add(line.list_cost.unwrap_or(Amount::ZERO), cost));
    }
    lines
}

fn rate_by_hour(catalogue: &Catalogue, usage: &[UsageRow]) -> BTreeMap<HourKey, Amount> {
    let mut hours: BTreeMap<Timestamp, Vec<UsageRow>> = BTreeMap::new();
    for row in usage {
        let hour = WindowLength::HOUR.start_of(row.key.window_start);
        hours.entry(hour).or_default().push(row.clone());
    }
    let mut amounts = BTreeMap::new();
    for (hour, rows) in hours {
        for line in rate(catalogue, &rows, WindowLength::HOUR.window_of(hour)).lines {
            let pairs = line.dimensions.pairs();
            let sku_price_id = pairs.into_iter().find(|(name, _)| name == SKU_PRICE_ID);
            let key = HourKey {
                tenant: line.tenant,
                product_sku: line.product_sku,
                use_unity: line.use_unity,
                sku_price_id: sku_price_id.map(|(_, value)| value),
                hour,
            };
            let amount = amounts.entry(key).or_insert(Amount::ZERO);
            *amount = add(*amount, line.amount);
        }
    }
    amounts
}
