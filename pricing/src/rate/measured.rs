//! Measured: what a price's meter gave of a tenant's usage, ready to be priced.

use domain::{Dimensions, Quantity, Timestamp, catalogue::Price, contract::ExchangeRate};

use super::{Step, UnpricedReason, events::Events};

/// A quantity that one price version prices together.
#[derive(Clone, Debug)]
pub(crate) struct Measured<'c> {
    pub(crate) price: &'c Price,
    /// First moment of the stretch in which the price counts: what is priced together shares its
    /// allowances.
    pub(crate) since: Timestamp,
    /// The rate into the bill's currency, where the price is in another.
    pub(crate) exchange: Option<ExchangeRate>,
    pub(crate) dimensions: Dimensions,
    /// The quantity, or why there is none to price.
    pub(crate) quantity: Result<Quantity, UnpricedReason>,
    /// The single events behind it.
    pub(crate) events: Events,
    /// The steps that say where the quantity came from, and what share of a period it is priced for.
    pub(crate) origin: Vec<Step>,
}
