//! Pricing: usage becomes money, and every number can say why.
//!
//! It stands behind the usage store on the pulse's way and writes to the billing store,
//! boundaries and dimensions to the log, messages to their topics. In reading
//! order: exact money; moments and months; the catalogue file and its own tests; rating, which is
//! pure; its rendering; pages for people; which contract holds when; invoices; what another catalogue
//! would change; billing runs; price lists and answers out of FOCUS files; the gRPC and HTTP services.

pub mod amount;
pub mod moment;

pub mod file;

pub mod rate;

pub mod catalogue_tests;

mod markup;
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
