//! Invoice: what one tenant owes for one billing period, as lines that add up. Pure: the same
//! contracts, catalogues and usage give the same lines, to the byte.
//!
//! Rating prices the usage of each contract's stretch of the period; here come the things that hold
//! several lines together (amounts off, commitments, taxes), in this order, each as lines of their
//! own. What stands in a document that was issued is `document.rs`.

use std::{borrow::Cow, collections::HashMap};

use domain::{
    Dimensions, Name, Sku, Tenant, Timestamp, Unit, UsageRow, Window,
    catalogue::{Catalogue, Currency, Rounding},
    contract::{Contract, ExchangeRate, Terms},
};
use thiserror::Error;

use crate::{
    Amount,
    moment::Calendar,
    rate::{self, Hour, RatingTerms, Sources, Step, Unpriced, UnpricedReason},
    timeline::{BillingPeriod, Stretch},
};

mod charges;
pub mod credits;
pub mod document;

/// What a tenant owes for a billing period, before it is a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Who.
    pub tenant: Tenant,
    /// From anchor to anchor.
    pub whole: Window,
    /// What is billed of it.
    pub window: Window,
    /// How it is billed.
    pub terms: Terms,
    /// For each contract in order: usage by SKU, unit, price version and dimensions; amounts off;
    /// commitments; taxes.
    pub lines: Vec<Line>,
    /// Usage that waits for a price.
    pub unpriced: Vec<Unpriced>,
    /// Sum of the lines.
    pub total: Amount,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is about.
    pub subject: Subject,
    /// The contract that it is under.
    pub contract: Name,
    /// The stretch of time that it is for.
    pub span: Window,
    /// The rounded amount.
    pub amount: Amount,
    /// The rule it was rounded by.
    pub rounding: Rounding,
    /// How the amount came about; the steps' amounts add up to it.
    pub steps: Vec<Step>,
}

/// What a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Usage of a SKU.
    Usage(Usage),
    /// A discount of an amount.
    Discount(Name),
    /// What is missing to a commitment, or the difference of its overage.
    Commitment(Name),
    /// A tax.
    Tax(Name),
}

/// The usage that a line prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What was used.
    pub product_sku: Sku,
    /// What the quantity counts.
    pub use_unity: Unit,
    /// The combination that a matrix line prices.
    pub dimensions: Dimensions,
    /// The SKU's name for people; may be empty.
    pub name: String,
    /// The price model's word.
    pub model: &'static str,
    /// Version of the catalogue.
    pub catalogue: Name,
    /// First moment of the price version.
    pub valid_from: Timestamp,
    /// What the meter gave. Zero on a line that only meets a bound.
    pub quantity: Amount,
    /// True for a line that only brings others to a bound.
    pub is_bound: bool,
    /// The hours behind it, in order, where sources are listed.
    pub hours: Vec<Hour>,
}

impl Subject {
    /// The stable word for the kind of line.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Discount(_) => "discount",
            Self::Commitment(_) => "commitment",
            Self::Tax(_) => "tax",
        }
    }
}

impl Line {
    /// What identifies the line among those of its billing period, whenever and from whatever usage
    /// it was computed: a delta bills the difference between lines of one key.
    #[must_use]
    pub fn key(&self) -> String {
        let (kind, contract, from) = (self.subject.kind(), &self.contract, self.span.start);
        match &self.subject {
            Subject::Usage(Usage {
                product_sku,
                use_unity,
                dimensions,
                valid_from,
                is_bound,
                ..
            }) => {
                let what = serde_json::json!([product_sku.as_str(), use_unity.as_str()]);
                let bound = if *is_bound { "bound" } else { "usage" };
                format!(
                    "{bound} {what} {dimensions} priced {valid_from} from {from} under {contract}"
                )
            }
            Subject::Discount(name) | Subject::Commitment(name) | Subject::Tax(name) => {
                format!("{kind} {name} from {from} under {contract}")
            }
        }
    }
}

/// The catalogue of each part of a period, in the parts' order.
pub type Catalogues<'c> = [&'c Catalogue];

/// Why a period cannot be invoiced. What is billed otherwise is not touched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvoiceError {
    /// The zone of a contract is unknown here.
    #[error("time zone {0} of the contract is unknown to this program: use a newer version")]
    TimeZone(Name),
    /// A period does not begin or end where an hour (a window of the store) does.
    #[error(
        "the billing period from {0} to {1} does not begin and end on whole windows of {2} seconds: contracts in this zone need a log with shorter windows (log.window)"
    )]
    Windows(Timestamp, Timestamp, u64),
    /// A sum is beyond what money may be.
    #[error("the lines of {0} add up to more than an amount of money holds")]
    OutOfRange(Name),
}

/// Bills a period: the usage whose windows start in it, under the contracts that hold in it, each with
/// the catalogue at the same place of `catalogues`.
///
/// # Errors
/// See [`InvoiceError`].
pub fn invoice(
    tenant: &Tenant,
    period: &BillingPeriod<'_>,
    catalogues: &Catalogues<'_>,
    usage: &[UsageRow],
    sources: Sources,
) -> Result<Invoice, InvoiceError> {
    let terms = period.terms();
    let zone = &terms.time_zone;
    let calendar =
        Calendar::named(zone.as_str()).ok_or_else(|| InvoiceError::TimeZone(zone.clone()))?;
    let (mut lines, mut unpriced) = (Vec::new(), Vec::new());
    for (part, catalogue) in period.parts.iter().zip(catalogues) {
        let context = Part { tenant, period, part, catalogue, calendar: &calendar, sources };
        context.bill(usage, &mut lines, &mut unpriced)?;
    }
    // In a contract's last period, usage from beyond its end has none to be billed under.
    let total = sum(lines.iter().map(|line: &Line| line.amount));
    let total =
        total.ok_or_else(|| InvoiceError::OutOfRange(period.parts[0].contract.name.clone()))?;
    Ok(Invoice {
        tenant: tenant.clone(),
        whole: period.whole,
        window: period.window,
        terms: terms.clone(),
        lines,
        unpriced,
        total,
    })
}

/// One contract's part of a period.
struct Part<'a> {
    tenant: &'a Tenant,
    period: &'a BillingPeriod<'a>,
    part: &'a Stretch<'a>,
    catalogue: &'a Catalogue,
    calendar: &'a Calendar,
    sources: Sources,
}

impl Part<'_> {
    fn bill(
        &self,
        usage: &[UsageRow],
        lines: &mut Vec<Line>,
        unpriced: &mut Vec<Unpriced>,
    ) -> Result<(), InvoiceError> {
        let contract = self.part.contract;
        let catalogue = effective(self.catalogue, contract);
        let exchange = self.exchange(&catalogue);
        let terms = self.rating_terms(&catalogue, &exchange);
        let rated = rate::rate_under(&terms, usage);
        // An index, because lines and SKUs may both be many.
        let skus = catalogue.skus.iter().map(|known| ((&known.sku, &known.unit), &known.name));
        let names: HashMap<_, _> = skus.collect();
        let name_of = |line: &rate::Line| {
            let found = names.get(&(&line.product_sku, &line.use_unity));
            found.map_or_else(String::new, |name| (*name).clone())
        };
        let mut part: Vec<Line> = rated
            .lines
            .into_iter()
            .map(|line| usage_line(contract, &rated.catalogue, name_of(&line), line))
            .collect();
        let share = terms.share(self.part.window);
        let more = charges::charges(contract, share, self.part.window, &part);
        part.extend(more.ok_or_else(|| InvoiceError::OutOfRange(contract.name.clone()))?);
        lines.extend(part);
        unpriced.extend(rated.unpriced);
        Ok(())
    }

    fn rating_terms<'t>(
        &'t self,
        catalogue: &'t Catalogue,
        exchange: &'t [ExchangeRate],
    ) -> RatingTerms<'t> {
        let contract = self.part.contract;
        RatingTerms {
            catalogue,
            currency: contract.terms.currency,
            rounding: contract.terms.rounding,
            discounts: &contract.discounts,
            exchange,
            subscriptions: Some((self.tenant, &contract.subscriptions)),
            period: self.period.whole,
            span: self.part.window,
            calendar: self.calendar,
            sources: self.sources,
        }
    }

    /// The rates that count for the part: those in force at its last moment.
    fn exchange(&self, catalogue: &Catalogue) -> Vec<ExchangeRate> {
        let contract = self.part.contract;
        let last = self.part.window.end.minus(std::time::Duration::from_micros(1));
        let mut rates: Vec<ExchangeRate> = Vec::new();
        let prices = catalogue.skus.iter().flat_map(|definition| &definition.prices);
        for currency in prices.map(|price| price.currency) {
            let known = |rate: &ExchangeRate| rate.from == currency;
            if !rates.iter().any(known) {
                rates.extend(contract.rate_at(currency, last));
            }
        }
        rates
    }
}

/// The catalogue as it is under a contract: with its overrides in place.
fn effective<'c>(catalogue: &'c Catalogue, contract: &Contract) -> Cow<'c, Catalogue> {
    if contract.overrides.is_empty() {
        return Cow::Borrowed(catalogue);
    }
    let mut catalogue = catalogue.clone();
    let overrides = contract.overrides.iter().map(|own| ((&own.sku, &own.unit), &own.prices));
    let overrides: HashMap<_, _> = overrides.collect();
    for definition in &mut catalogue.skus {
        if let Some(prices) = overrides.get(&(&definition.sku, &definition.unit)) {
            definition.prices.clone_from(prices);
        }
    }
    Cow::Owned(catalogue)
}

fn usage_line(contract: &Contract, catalogue: &Name, name: String, line: rate::Line) -> Line {
    let is_bound = line.steps.iter().all(Step::is_bound);
    Line {
        contract: contract.name.clone(),
        span: line.span,
        amount: line.amount,
        rounding: line.rounding,
        steps: line.steps,
        subject: Subject::Usage(Usage {
            product_sku: line.product_sku,
            use_unity: line.use_unity,
            dimensions: line.dimensions,
            name,
            model: line.model,
            catalogue: catalogue.clone(),
            valid_from: line.valid_from,
            quantity: line.quantity,
            is_bound,
            hours: line.hours,
        }),
    }
}

/// What every tenant begins with, until its first contract: the catalogue's currency and rounding,
/// calendar months in UTC, thirty days to pay.
#[must_use]
pub fn standard_contract(tenant: &Tenant, catalogue: &Catalogue) -> Contract {
    let name = |text: &str| Name::new(text).expect("a name");
    Contract {
        name: name(STANDARD_CONTRACT),
        tenant: tenant.clone(),
        valid_from: Timestamp::MIN,
        valid_to: None,
        supersedes: Vec::new(),
        catalogue: domain::contract::CatalogueChoice::Latest,
        terms: Terms {
            currency: catalogue.currency,
            rounding: catalogue.rounding,
            time_zone: name("UTC"),
            anchor_day: 1,
            payment_term_days: 30,
        },
        subscriptions: Vec::new(),
        overrides: Vec::new(),
        discounts: Vec::new(),
        commitments: Vec::new(),
        credits: Vec::new(),
        exchange: Vec::new(),
        taxes: Vec::new(),
    }
}

/// What lines call the terms that hold before a tenant's first contract.
pub const STANDARD_CONTRACT: &str = Contract::STANDARD;

impl Invoice {
    /// The currency of every amount.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.terms.currency
    }

    /// Usage that waits for a price, by reason, as (reason, number of resources).
    #[must_use]
    pub fn waiting(&self) -> Vec<(UnpricedReason, usize)> {
        let mut reasons: std::collections::BTreeMap<_, usize> = std::collections::BTreeMap::new();
        for unpriced in &self.unpriced {
            *reasons.entry(unpriced.reason).or_default() += 1;
        }
        reasons.into_iter().collect()
    }
}

/// Adds amounts, or `None` past the range.
fn sum(amounts: impl IntoIterator<Item = Amount>) -> Option<Amount> {
    amounts.into_iter().try_fold(Amount::ZERO, Amount::checked_add)
}
