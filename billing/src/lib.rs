//! Billing: totals become contracts' invoices, each issued once, and every number can say why.
//!
//! This stage reads the usage store, keeps its books in the billing store, appends boundaries and
//! dimensions to the log, and sends messages to their topics. The arithmetic is the crate `pricing`'s.
//! In reading order: billing itself; the queues that topics follow; pages for people; answers as JSON;
//! the operations, whichever door they are asked at; the gRPC and HTTP doors.

pub mod billing;

pub mod outbox;

pub mod print;

pub mod answers;

pub mod api;

pub mod grpc;

pub mod http;

pub use api::{BillingApi, PricingConfig};

#[cfg(test)]
mod testing;
