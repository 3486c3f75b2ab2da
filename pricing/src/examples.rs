//! Runs the tests that a catalogue file carries, so that a price change is reviewed with its
//! examples, as code is.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    Aggregate, Dimensions, Quantity, Timestamp,
    catalogue::{Catalogue, Meter, Price, PriceModel, SkuDefinition},
};

use crate::{
    amount::Amount,
    file::{CatalogueFile, CatalogueTest, TestUsage},
    rate::{UnpricedReason, bill, measure, measured::Measured, tally::Tally},
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
    let measured = measured(definition, price, &test.usage);
    let bill = bill::bill(&measured, &bill::Finish::plain(price, catalogue.rounding));
    let mut total = bill.bound.map_or(Amount::ZERO, |bound| bound.amount);
    for part in bill.parts {
        total = total.checked_add(part?.amount).ok_or(UnpricedReason::OutOfRange)?;
    }
    Ok(total)
}

/// What the meter gives of the test's usage: of equal dimensions for a matrix, of all together for
/// any other model. Each amount is one event of an hour of its own, in the order of the file.
fn measured<'c>(
    definition: &SkuDefinition,
    price: &'c Price,
    usage: &TestUsage,
) -> Vec<Measured<'c>> {
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
    let mut tallies: BTreeMap<Dimensions, Tally> = BTreeMap::new();
    let mut hour = Timestamp::EPOCH;
    for (dimensions, amount) in amounts {
        let dimensions = match price.model {
            PriceModel::Matrix(_) => dimensions,
            _ => Dimensions::none(),
        };
        let tally = tallies.entry(dimensions).or_default();
        tally.add(&Aggregate::of(amount, hour));
        tally.add_events(hour, amount, 1);
        hour = hour.plus(Duration::from_secs(3_600));
    }
    let meter = (meter, definition.negative);
    tallies.iter().map(|(dimensions, tally)| measure(price, dimensions, tally, meter)).collect()
}
