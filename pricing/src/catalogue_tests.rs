//! Runs the tests that a catalogue file carries, so that a price change is reviewed with its
//! examples, as code is.

use domain::{
    Dimensions, Quantity,
    catalogue::{Catalogue, Meter, NegativePolicy, Price, PriceModel, SkuDefinition},
};

use crate::{
    amount::Amount,
    file::{CatalogueFile, CatalogueTest},
    rate::{UnpricedReason, bill},
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
    let measured = measured(definition, price, &test.groups)?;
    let bill = bill::bill(&measured, price, catalogue.rounding);
    let mut total = bill.bound.map_or(Amount::ZERO, |bound| bound.amount);
    for part in bill.parts {
        total = total.checked_add(part?.amount).ok_or(UnpricedReason::OutOfRange)?;
    }
    Ok(total)
}

/// Brings the groups together as the meter does: those of equal dimensions for a matrix, all of
/// them for any other model.
fn measured<'c>(
    definition: &SkuDefinition,
    price: &'c Price,
    groups: &[(Dimensions, Quantity)],
) -> Result<Vec<bill::Measured<'c>>, UnpricedReason> {
    let mut merged: std::collections::BTreeMap<Dimensions, Quantity> = Default::default();
    for (dimensions, quantity) in groups {
        if definition.negative == NegativePolicy::Refuse && quantity.is_negative() {
            return Err(UnpricedReason::NegativeRefused);
        }
        let dimensions = match price.model {
            PriceModel::Matrix(_) => dimensions.clone(),
            _ => Dimensions::none(),
        };
        let together = match merged.get(&dimensions) {
            Some(before) => meet(definition.meter, *before, *quantity)?,
            None => *quantity,
        };
        merged.insert(dimensions, together);
    }
    let measured = |(dimensions, quantity)| bill::Measured {
        price,
        dimensions,
        quantity: Ok(quantity),
        origin: None,
    };
    Ok(merged.into_iter().map(measured).collect())
}

/// Two groups under one meter. Groups of a test stand in the order of time.
fn meet(meter: Meter, one: Quantity, next: Quantity) -> Result<Quantity, UnpricedReason> {
    match meter {
        Meter::Sum | Meter::Count => one.checked_add(next).ok_or(UnpricedReason::OutOfRange),
        Meter::Min => Ok(one.min(next)),
        Meter::Max => Ok(one.max(next)),
        Meter::Latest => Ok(next),
    }
}
