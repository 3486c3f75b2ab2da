//! Contract: what one tenant has agreed to pay, from when to when, as values that cannot be wrong in
//! shape.
//!
//! Rating reads these beside the catalogue. The file format and its checks are the pricing crate's.
//! A contract is applied once and never edited. It holds until its own end or until the next one
//! begins, whichever of them was applied first, and takes the place of those that it names. One about
//! the past mends the past; what that changes is billed as a delta. [`crate::amendment`] says how a
//! part of a contract changes from a day on.
//!
//! Amounts are in the contract's currency and, where they are for a period, for a whole one: a
//! shorter part takes its share by calendar days.

use crate::{
    Name, Quantity, Sku, Tenant, Timestamp, Unit, Window,
    catalogue::{Currency, Price, Rounding},
};

/// What one tenant has agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Its name, applied once.
    pub name: Name,
    /// Whose contract it is.
    pub tenant: Tenant,
    /// First moment at which it holds: a local midnight of its zone.
    pub valid_from: Timestamp,
    /// First moment at which it no longer holds, a local midnight; `None` holds until the next one
    /// begins.
    pub valid_to: Option<Timestamp>,
    /// Contracts of the tenant that do not begin, because this one begins before them or with them.
    /// Those that begin earlier end where this one begins, named or not.
    pub supersedes: Vec<Name>,
    /// Where its prices come from.
    pub catalogue: CatalogueChoice,
    /// How and when it is billed.
    pub terms: Terms,
    /// SKUs that are billed in every period, used or not, so that their flat prices and minimums
    /// are due without a pulse. Sorted, without repeats.
    pub subscriptions: Vec<(Sku, Unit)>,
    /// Prices that stand in place of the catalogue's. No two for one SKU and unit.
    pub overrides: Vec<Override>,
    /// In the order in which they are taken off.
    pub discounts: Vec<Discount>,
    /// Spend that was promised. Different names.
    pub commitments: Vec<Commitment>,
    /// Money paid ahead. Different names; a credit of the same name in an earlier contract of the
    /// tenant is the same credit.
    pub credits: Vec<Credit>,
    /// Sorted by currency and first moment.
    pub exchange: Vec<ExchangeRate>,
    /// Taxes on the lines, in the order of the file. Different names.
    pub taxes: Vec<Tax>,
}

impl Contract {
    /// What lines call the terms that hold before a tenant's first contract. No file may use the name.
    pub const STANDARD: &str = "standard";

    /// Tells whether it is the terms that a tenant begins with.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        self.name.as_str() == Self::STANDARD
    }

    /// From its first moment until it no longer holds, other contracts aside.
    #[must_use]
    pub fn agreed(&self) -> Window {
        Window { start: self.valid_from, end: self.valid_to.unwrap_or(Timestamp::MAX) }
    }

    /// Tells whether it holds at a moment, other contracts aside.
    #[must_use]
    pub fn is_valid_at(&self, moment: Timestamp) -> bool {
        self.valid_from <= moment && self.valid_to.is_none_or(|end| moment < end)
    }

    /// The rate from a currency into the contract's at a moment, where it is known.
    #[must_use]
    pub fn rate_at(&self, from: Currency, moment: Timestamp) -> Option<&ExchangeRate> {
        self.exchange.iter().rfind(|rate| rate.from == from && rate.valid_from <= moment)
    }
}

/// Where a contract's prices come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogueChoice {
    /// At each moment the catalogue that is in effect then.
    Latest,
    /// Always this version.
    Version(Name),
}

/// How and when a contract is billed. Two contracts in a row whose terms [go on](Terms::go_on) share
/// the period in which one follows the other; otherwise the period ends there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Currency of the bill.
    pub currency: Currency,
    /// How each line is rounded.
    pub rounding: Rounding,
    /// IANA name of the zone in whose midnights periods begin, such as `America/Sao_Paulo`.
    pub time_zone: Name,
    /// Day of the month on which periods begin, 1 to 31; a shorter month's last day where it has
    /// no such day.
    pub anchor_day: u8,
    /// Days from the end of the period until payment is due.
    pub payment_term_days: u16,
}

impl Terms {
    /// Tells whether a period goes on where these follow others: all are the same but the payment term,
    /// which counts from the end of a period and is that of its last day.
    #[must_use]
    pub fn go_on(&self, before: &Self) -> bool {
        Self { payment_term_days: before.payment_term_days, ..self.clone() } == *before
    }
}

/// The prices of one SKU in one unit under a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The SKU, which the catalogue knows.
    pub sku: Sku,
    /// The unit, which the catalogue knows for it.
    pub unit: Unit,
    /// As [`crate::catalogue::SkuDefinition::prices`].
    pub prices: Vec<Price>,
}

/// Which usage something is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    All,
    /// That of these SKUs, in any unit. Sorted, at least one.
    Skus(Vec<Sku>),
}

impl Scope {
    /// Tells whether a SKU is meant.
    #[must_use]
    pub fn holds(&self, sku: &Sku) -> bool {
        match self {
            Self::All => true,
            Self::Skus(skus) => skus.contains(sku),
        }
    }
}

/// What is taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discount {
    /// What lines call it.
    pub name: Name,
    /// Off what.
    pub scope: Scope,
    /// How much.
    pub value: DiscountValue,
}

/// How much is taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscountValue {
    /// A share of each line as a factor, above zero and at most one: 0.1 is 10 %. Several are taken
    /// one after the other, each off what the one before left.
    Share(Quantity),
    /// An amount a period, above zero, off the lines together, which it does not take below zero.
    Amount(Quantity),
}

/// Spend that was promised for each period: what is missing is due, what goes beyond is overage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// What lines call it.
    pub name: Name,
    /// What counts towards it.
    pub scope: Scope,
    /// Amount a period, above zero.
    pub amount: Quantity,
    /// What each unit of money beyond the amount costs, not below zero: 1 is the normal price, 0.8
    /// is a fifth less, 1.2 a fifth more.
    pub overage_factor: Quantity,
}

/// Money paid ahead, which pays invoices until it is used up or expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Its name, unique for the tenant.
    pub name: Name,
    /// What was paid, above zero.
    pub amount: Quantity,
    /// First moment of service that it pays for.
    pub valid_from: Timestamp,
    /// First moment of service that it no longer pays for.
    pub expires: Option<Timestamp>,
    /// The lower is used first; then the one that expires first, then the first by name.
    pub priority: u32,
}

impl Credit {
    /// Tells whether it may pay for a period: it is valid at any moment of it. One that was ended
    /// before its first moment is never valid.
    #[must_use]
    pub fn pays_for(&self, period: Window) -> bool {
        let starts = self.valid_from.max(period.start);
        self.valid_from < period.end && self.expires.is_none_or(|end| starts < end)
    }
}

/// What one unit of another currency is in the contract's, from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeRate {
    /// The other currency.
    pub from: Currency,
    /// First moment, until the next rate of that currency.
    pub valid_from: Timestamp,
    /// Units of the contract's currency, above zero.
    pub rate: Quantity,
}

/// A tax on lines of some kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tax {
    /// What its line is called.
    pub name: Name,
    /// The share as a factor, not below zero: 0.05 is 5 %.
    pub rate: Quantity,
    /// The kinds of lines it is on. At least one.
    pub on: Vec<TaxedKind>,
}

/// A kind of line that a tax may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaxedKind {
    /// Usage and flat prices, with the discounts on them.
    Usage,
    /// What was missing to a commitment, and the overage's difference.
    Commitment,
}

impl TaxedKind {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Usage, Self::Commitment];

    /// The word that files and answers use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Commitment => "commitment",
        }
    }
}
