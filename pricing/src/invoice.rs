//! Invoice: what one tenant owes for one billing period, as lines that add up. Pure: the same
//! contracts, catalogues and usage give the same lines, to the byte.
//!
//! Rating prices the usage of the whole period; here come the things that hold several lines together
//! (amounts off, commitments, taxes), in this order, each as lines of their own, and what brings the
//! total to whole coins. What stands in a document that was issued is `document.rs`.

use domain::{
    Dimensions, Name, Sku, Tenant, Timestamp, Unit, UsageRow, Window,
    catalogue::{Catalogue, Currency, Rounding, RoundingMode},
    contract::{Contract, Terms},
};
use thiserror::Error;

use crate::{
    Amount,
    moment::Calendar,
    rate::{self, Agreed, Detail, Hour, RatingTerms, Sources, Step, Unpriced, UnpricedReason},
    timeline::BillingPeriod,
};

mod billed;
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
    /// The contracts that hold in it, in order of time.
    pub contracts: Vec<Name>,
    /// Usage by SKU, unit, time and dimensions; amounts off; commitments; taxes; a rounding.
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
    /// The contract in which what it is about begins.
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
    Usage(Box<Usage>),
    /// A discount of an amount.
    Discount(Name),
    /// What is missing to a commitment, or the difference of its overage.
    Commitment(Name),
    /// A tax.
    Tax(Name),
    /// What brings the total to the digits of its currency.
    Rounding,
}

/// The usage that a line prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What was used.
    pub product_sku: Sku,
    /// What the quantity counts.
    pub use_unity: Unit,
    /// The dimensions of the cell that a matrix line prices.
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
    /// The quantity by dimensions, where it is of several that a matrix or a level tells apart.
    pub by_dimensions: Detail,
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
            Self::Rounding => "rounding",
        }
    }
}

impl Line {
    /// What identifies the line among those of its billing period, whenever, from whatever usage and under
    /// whichever contracts it was computed: a delta bills the difference between lines of one key.
    #[must_use]
    pub fn key(&self) -> String {
        let (kind, from) = (self.subject.kind(), self.span.start);
        match &self.subject {
            Subject::Usage(usage) => {
                let Usage { product_sku, use_unity, dimensions, is_bound, .. } = &**usage;
                let what = serde_json::json!([product_sku.as_str(), use_unity.as_str()]);
                let bound = if *is_bound { "bound" } else { "usage" };
                format!("{bound} {what} {dimensions} from {from}")
            }
            Subject::Discount(name) | Subject::Commitment(name) | Subject::Tax(name) => {
                format!("{kind} {name} from {from}")
            }
            Subject::Rounding => kind.to_owned(),
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
    let rate = |terms: &RatingTerms<'_>| rate::rate_under(terms, usage);
    bill(tenant, (period, catalogues), sources, rate)
}

/// The same of usage that comes page by page, of which none stays in memory; see [`rate::rate_pages`].
///
/// # Errors
/// See [`InvoiceError`].
pub fn invoice_of_pages(
    tenant: &Tenant,
    period: &BillingPeriod<'_>,
    catalogues: &Catalogues<'_>,
    pages: impl Iterator<Item = Vec<UsageRow>>,
) -> Result<Invoice, InvoiceError> {
    let rate = |terms: &RatingTerms<'_>| rate::rate_pages(terms, pages);
    bill(tenant, (period, catalogues), Sources::LeftOut, rate)
}

fn bill(
    tenant: &Tenant,
    (period, catalogues): (&BillingPeriod<'_>, &Catalogues<'_>),
    sources: Sources,
    rate: impl FnOnce(&RatingTerms<'_>) -> rate::Rated,
) -> Result<Invoice, InvoiceError> {
    let agreed = period.terms();
    let zone = &agreed.time_zone;
    let calendar =
        Calendar::named(zone.as_str()).ok_or_else(|| InvoiceError::TimeZone(zone.clone()))?;
    let parts = period.parts.iter().zip(catalogues).map(|(part, catalogue)| Agreed {
        window: part.window,
        catalogue,
        contract: Some(part.contract),
    });
    let terms = RatingTerms {
        parts: parts.collect(),
        currency: agreed.currency,
        rounding: agreed.rounding,
        period: period.whole,
        span: period.window,
        calendar: &calendar,
        sources,
    };
    let rated = rate(&terms);
    let newest = &period.parts.last().expect("a period is of some contract").contract.name;
    let mut lines: Vec<Line> =
        rated.lines.into_iter().map(|line| usage_line(newest, line)).collect();
    let out_of_range = || InvoiceError::OutOfRange(newest.clone());
    let more = charges::charges(&terms, &lines).ok_or_else(out_of_range)?;
    lines.extend(more);
    let total = sum(lines.iter().map(|line| line.amount)).ok_or_else(out_of_range)?;
    let rounding =
        rounding_line(agreed, (newest, period.window), total).ok_or_else(out_of_range)?;
    let added = rounding.as_ref().map_or(Amount::ZERO, |line| line.amount);
    lines.extend(rounding);
    Ok(Invoice {
        tenant: tenant.clone(),
        whole: period.whole,
        window: period.window,
        terms: agreed.clone(),
        contracts: period.parts.iter().map(|part| part.contract.name.clone()).collect(),
        lines,
        unpriced: rated.unpriced,
        total: total.checked_add(added).ok_or_else(out_of_range)?,
    })
}

/// What brings a total to the digits of its currency, where lines keep more: nobody can pay a part of a
/// coin. The outer `None` is past the range.
fn rounding_line(
    terms: &Terms,
    (contract, span): (&Name, Window),
    total: Amount,
) -> Option<Option<Line>> {
    let mode = match terms.rounding {
        Rounding::To { mode, .. } => mode,
        Rounding::Exact => RoundingMode::HalfUp,
    };
    let rounding = Rounding::To { digits: terms.currency.minor_digits(), mode };
    let amount = total.rounded(rounding)?.checked_sub(total)?;
    Some((amount != Amount::ZERO).then(|| Line {
        subject: Subject::Rounding,
        contract: contract.clone(),
        span,
        amount,
        rounding,
        steps: vec![Step::Rounded { rounding, amount }],
    }))
}

/// `newest` is the contract of a line that is under none, which a bill has none of.
fn usage_line(newest: &Name, line: rate::Line) -> Line {
    let is_bound = line.steps.iter().all(Step::is_bound);
    Line {
        contract: line.contract.unwrap_or_else(|| newest.clone()),
        span: line.span,
        amount: line.amount,
        rounding: line.rounding,
        steps: line.steps,
        subject: Subject::Usage(Box::new(Usage {
            product_sku: line.product_sku,
            use_unity: line.use_unity,
            dimensions: line.dimensions,
            name: line.name,
            model: line.model,
            catalogue: line.catalogue,
            valid_from: line.valid_from,
            quantity: line.quantity,
            by_dimensions: line.by_dimensions,
            is_bound,
            hours: line.hours,
        })),
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

    /// First and last day of its period, in its zone.
    #[must_use]
    pub fn days(&self) -> (String, String) {
        let calendar = Calendar::named(self.terms.time_zone.as_str()).unwrap_or(Calendar::UTC);
        calendar.dates_of(self.window)
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
