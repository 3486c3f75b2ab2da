//! Billing: totals become contracts' invoices, each issued once, and every number can say why.
//!
//! This stage reads the usage store, keeps its books in the billing store, appends boundaries and
//! dimensions to the log, and sends messages to their topics. The arithmetic is the crate `pricing`'s.
//! In reading order: billing itself; the queues that topics follow; pages for people; answers as JSON;
//! the operations, whichever door they are asked at; the gRPC and HTTP doors.

mod config;
mod error;

mod books;

mod billing;

pub mod outbox;

pub mod print;

pub mod answers;

pub mod api;

pub mod grpc;

pub mod http;

pub use api::BillingApi;
pub use config::{BillingConfig, RunConfig};
pub use error::{BillingError, Refusal};

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

#[cfg(test)]
mod testing;
