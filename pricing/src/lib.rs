//! Pricing: usage becomes money, and every number can say why.
//!
//! It stands behind the usage store on the pulse's way and writes nothing but catalogues. In reading
//! order: exact money; moments and months; the catalogue file and its own tests; rating, which is
//! pure; its rendering; price lists and answers out of FOCUS files; the gRPC services. Contracts,
//! billing runs and invoices take their place between rendering and the services when they come.

pub mod amount;
pub mod moment;

pub mod file;

pub mod rate;

pub mod catalogue_tests;

pub mod page;
pub mod render;

pub mod timeline;

pub mod invoice;

pub mod simulate;

pub mod billing;

pub mod focus;

pub mod grpc;

pub mod documents;

pub mod http;

pub use amount::Amount;
pub use file::CatalogueFile;
pub use grpc::{PricingConfig, PricingService};
pub use rate::Rated;

#[cfg(test)]
mod testing;
