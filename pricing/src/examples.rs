//! Runs the tests that a catalogue file carries, so that a price change is reviewed with its
//! examples, as code is.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    Aggregate, Dimensions, Quantity, Timestamp,
    catalogue::{Catalogue, Meter, Price, SkuDefinition},
};

use crate::{
    amount::Amount,
    file::{CatalogueFile, CatalogueTest, TestUsage},
    rate::{
        UnpricedReason,
        bill::{self, Bounds},
        cells::Cells,
        measured::Measured,
        tally::Tally,
    },
};

/// What one test gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// Its SKU.
    pub sku: String,
    /// The amount that the file expects, with the digits of the catalogue's rounding.
    pub expect: String,
    /// The amount that rating gave, or why there is none.
    pub got: String,
    /// True when they are the same number.
    pub ok: bool,
}

/// Runs every test, in the order of the file. Each bills one tenant's period that holds the test's
/// quantities and nothing else.
#[must_use]
pub fn run(file: &CatalogueFile) -> Vec<TestResult> {
    file.tests.iter().map(|test| run_one(&file.catalogue, test)).collect()
}

fn run_one(catalogue: &Catalogue, test: &CatalogueTest) -> TestResult {
    let digits = catalogue.rounding.digits();
    let got = bill_of(catalogue, test);
    TestResult {
        name: test.name.clone(),
        sku: test.sku.as_str().to_owned(),
        expect: test.expect.text(digits),
        got: match got {
            Ok(amount) => amount.text(digits),
            Err(reason) => format!("unpriced: {}", reason.as_str()),
        },
        ok: got == Ok(test.expect),
    }
}

fn bill_of(catalogue: &Catalogue, test: &CatalogueTest) -> Result<Amount, UnpricedReason> {
    let definition = catalogue.find(&test.sku, &test.unit).ok_or(UnpricedReason::UnknownSku)?;
    let price = match test.at {
        Some(moment) => definition.price_at(catalogue.currency, moment),
        None => definition.prices.iter().rfind(|price| price.currency == catalogue.currency),
    };
    let price = price.ok_or(UnpricedReason::NoPrice)?;
    let cells = Cells::of(&price.model);
    let measured = measured(definition, (price, cells.as_ref()), &test.usage)?;
    let charges = bill::charges(&measured);
    let is_priced = charges.iter().any(Result::is_ok);
    let bounds = is_priced.then(|| Bounds::of(price, measured.len()));
    let bill = bill::bill(charges, &measured, bounds.as_slice(), catalogue.rounding);
    let outer = bill.bounds.into_iter().flatten();
    let mut total = bill::sum(outer.map(|bound| bound.amount));
    for part in bill.parts {
        total = total.checked_add(part?.amount).ok_or(UnpricedReason::OutOfRange)?;
    }
    Ok(total)
}

/// What the meter gives of the test's usage, by the cells of a matrix: of each group for a level, of
/// all together for any other meter. Each amount is one event of an hour of its own, in the order of
/// the file.
fn measured<'c>(
    definition: &SkuDefinition,
    (price, matrix): (&'c Price, Option<&'c Cells<'c>>),
    usage: &TestUsage,
) -> Result<Vec<Measured<'c>>, UnpricedReason> {
    let (meter, amounts): (_, Vec<_>) = match usage {
        TestUsage::Groups(groups) => {
            // A test's quantity is what the meter has counted already, not a pulse to be counted.
            let meter =
                if definition.meter == Meter::Count { Meter::Sum } else { definition.meter };
            (meter, groups.clone())
        }
        TestUsage::Events(amounts) => {
            let event = |amount: &Quantity| (Dimensions::none(), *amount);
            (definition.meter, amounts.iter().map(event).collect())
        }
    };
    let mut cells: BTreeMap<Dimensions, BTreeMap<Dimensions, Tally>> = BTreeMap::new();
    let mut hour = Timestamp::EPOCH;
    for (dimensions, amount) in amounts {
        let cell = match matrix {
            Some(matrix) => matrix.cell(&dimensions).ok_or(UnpricedReason::NoMatrixPrice)?,
            None => Dimensions::none(),
        };
        let of = if meter.is_level() { dimensions } else { Dimensions::none() };
        let tally = cells.entry(cell).or_default().entry(of).or_default();
        tally.add(&Aggregate::of(amount, hour));
        tally.add_events(hour, amount, 1);
        hour = hour.plus(Duration::from_secs(3_600));
    }
    Ok(cells
        .into_iter()
        .map(|(cell, tallies)| measure((price, matrix), cell, tallies, meter))
        .collect())
}

/// What one cell prices.
fn measure<'c>(
    (price, cells): (&'c Price, Option<&'c Cells<'c>>),
    cell: Dimensions,
    tallies: BTreeMap<Dimensions, Tally>,
    meter: Meter,
) -> Measured<'c> {
    let add = |sum: Quantity, tally: &Tally| {
        sum.checked_add(tally.metered(meter)?).ok_or(UnpricedReason::OutOfRange)
    };
    let quantity = tallies.values().try_fold(Quantity::ZERO, add);
    let mut all = Tally::default();
    tallies.into_values().for_each(|tally| all.merge(tally));
    Measured {
        price,
        cells,
        piece: 0,
        discounts: &[],
        exchange: None,
        dimensions: cell,
        quantity,
        events: all.events(),
        origin: Vec::new(),
        share: None,
        goes_on: false,
    }
}
