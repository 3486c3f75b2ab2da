//! Measured: what a price's meter gave of a tenant's usage, ready to be priced.

use domain::{
    Dimensions, Quantity,
    catalogue::Price,
    contract::{Discount, ExchangeRate},
};

use super::{Share, Step, UnpricedReason, cells::Cells, events::Events};

/// A quantity that one price prices together.
#[derive(Clone, Debug)]
pub(crate) struct Measured<'c> {
    pub(crate) price: &'c Price,
    /// Where the price is a matrix, what finds its cells.
    pub(crate) cells: Option<&'c Cells<'c>>,
    /// Which stretch of time the price counts in: what is priced together shares its allowances.
    pub(crate) piece: usize,
    /// Shares that go off, in order.
    pub(crate) discounts: &'c [(&'c Discount, Quantity)],
    /// The rate into the bill's currency, where the price is in another.
    pub(crate) exchange: Option<ExchangeRate>,
    pub(crate) dimensions: Dimensions,
    /// The quantity, or why there is none to price.
    pub(crate) quantity: Result<Quantity, UnpricedReason>,
    /// The single events behind it.
    pub(crate) events: Events,
    /// The steps that say where the quantity came from, and what share of a period it is priced for.
    pub(crate) origin: Vec<Step>,
    /// The share of the days for which a level costs what it costs for the whole period.
    pub(crate) share: Option<Share>,
    /// Whether what was lost or won by rounding goes on to the next of these dimensions, so that shares
    /// of one amount add up to it.
    pub(crate) goes_on: bool,
}
