//! The query stage: what analysts and operators read, over gRPC and HTTP. Nothing here writes.
//!
//! It stands at the end of the pulse's way and meets the other stages only in the log and the store.
//! In reading order: settings, the one query engine with its calendar, what informs beside the
//! numbers (freshness, status, dead letters), the reads put together, and the two doors.

pub mod config;

pub mod usage;

pub mod dead_letters;
pub mod freshness;
mod log_ends;
mod log_reader;
pub mod status;

pub mod api;

mod rules;

pub mod grpc;
pub mod http;

use std::sync::Arc;

use domain::{BlockStore, PulseLog};
use edge::Doors;

pub use api::{QueryApi, ReadGeneration};
pub use config::QueryConfig;
pub use rules::RULES;

/// What this stage serves.
pub fn doors<U: BlockStore, L: PulseLog>(api: &Arc<QueryApi<U, L>>) -> Doors {
    Doors {
        grpc: grpc::services(api),
        http: http::routes(Arc::clone(api)),
        openapi: http::openapi(),
        rules: RULES.to_vec(),
    }
}
