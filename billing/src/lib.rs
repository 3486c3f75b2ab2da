//! Billing: totals become contracts' invoices, each issued once, and every number can say why.
//!
//! This stage reads the usage store, keeps its books in the billing store, appends boundaries and
//! dimensions to the log, and sends messages to their topics. The arithmetic is the crate `pricing`'s.
//! In reading order: settings and errors; the books; the queues that topics follow; usage below a cut;
//! what a tenant is billed under, and its periods rated; documents issued, corrected and taken back; one
//! tenant's saga; runs; documents derived again, explained and verified; previews; catalogues
//! published; all of it put together; pages for people; answers as JSON; the operations, whichever door
//! they are asked at; the gRPC and HTTP doors.

mod config;
mod error;
#[cfg(test)]
mod testing;

mod books;

pub mod outbox;

mod set_aside;

mod usage;

mod cut;

mod periods;

mod account;

mod rater;

mod issue;

mod voids;

mod credit_notes;

mod saga;

mod run;

mod lines;

mod evidence;

mod derive;

mod explain;

mod preview;

mod publish;

mod parts;

pub mod print;

pub mod answers;

mod api;

pub mod grpc;
pub mod http;

pub use api::BillingApi;
pub use config::{BillingConfig, RunConfig};
pub use error::{BillingError, Refusal};
pub use publish::ActivationError;

use domain::{BillingStore, PulseLog, UsageStore};
use edge::{Doors, grpc::Services};
use pricing::file;

/// What this stage serves.
pub fn doors<U: UsageStore, B: BillingStore, L: PulseLog>(api: &BillingApi<U, B, L>) -> Doors {
    // A catalogue's or contract's file, and what is around it.
    const REQUEST_BYTES_MAX: usize = file::BYTES_MAX + (64 << 10);
    Doors {
        grpc: Services::default()
            .with(api.catalog_server(), REQUEST_BYTES_MAX)
            .with(api.billing_server(), REQUEST_BYTES_MAX),
        http: http::routes(api.clone()),
        openapi: http::openapi(),
    }
}
