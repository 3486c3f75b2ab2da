//! Billing: issues an invoice for every billing period of a tenant, once, and explains every number.
//!
//! This stage reads the usage store, keeps its books in the billing store, appends boundaries and
//! dimensions to the log, and sends messages to their topics. The arithmetic is the crate `pricing`'s.
//! In reading order: the threshold of deltas; settings and errors; the books, and the queues that topics
//! follow; usage below a cut, and levels from before it; a tenant's account and periods, the windows that
//! these have to fit, and their rating; what is due; issuing, voiding and crediting documents; one
//! tenant's saga and the runs that drive it; deriving documents again, to verify and explain them; what
//! a change would do, and previews; publishing catalogues; the parts put together; documents as messages;
//! answers as JSON; pages for people; the operations; the gRPC and HTTP doors.

mod threshold;

mod config;
mod error;
#[cfg(test)]
mod testing;

mod books;

pub mod outbox;

mod set_aside;

mod held;
mod sources;
mod usage;

mod cut;

mod periods;

mod account;

mod windows;

mod rater;

mod due;

mod issue;

mod voids;

mod credit_notes;

mod saga;

mod run;

mod lines;

mod evidence;

mod derive;

mod explain;

mod effects;
mod preview;

mod publish;

mod parts;

mod wire;

pub mod answers;

pub mod print;

mod api;

mod rules;

pub mod grpc;
pub mod http;

pub use api::BillingApi;
pub use config::{BillingConfig, DocumentLimits, RunConfig, ScheduleConfig, ScheduledDeltas};
pub use cut::{billed_epochs, mark_cuts};
pub use error::{BillingError, Refusal};
pub use publish::ActivationError;
pub use rules::RULES;
pub use threshold::{Threshold, ThresholdError};
pub use windows::check_zone;
pub use wire::NotUnderstood;

use domain::{BillingStore, BlockStore, PulseLog};
use edge::{Doors, grpc::Services};
use pricing::file;

/// What this stage serves.
pub fn doors<U: BlockStore, B: BillingStore, L: PulseLog>(api: &BillingApi<U, B, L>) -> Doors {
    // A catalogue's or contract's file, and what is around it.
    const REQUEST_BYTES_MAX: usize = file::BYTES_MAX + (64 << 10);
    Doors {
        grpc: Services::default()
            .with(api.catalog_server(), REQUEST_BYTES_MAX)
            .with(api.billing_server(), REQUEST_BYTES_MAX),
        http: http::routes(api.clone()),
        openapi: http::openapi(),
        rules: RULES.to_vec(),
    }
}
