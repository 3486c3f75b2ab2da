//! The query stage: what analysts and operators read, over gRPC and HTTP. Nothing here writes.
//!
//! It stands at the end of the pulse's way and meets the other stages only in the log and the store.
//! In reading order: what both doors share (settings, tokens, pages, suggestions), the one query
//! engine with its calendar, what informs beside the numbers (freshness, status, dead letters), the
//! reads put together, and the two doors.

pub mod config;
pub mod token;

pub mod page;
mod suggest;

pub mod usage;

pub mod dead_letters;
pub mod freshness;
mod log_ends;
mod log_reader;
pub mod status;

pub mod api;

pub mod grpc;
pub mod http;

pub use api::{QueryApi, ReadGeneration};
pub use config::QueryConfig;
pub use token::TokenKey;
