//! How pulses enter: the first two stations on a pulse's way, from a client's message to the log.
//!
//! A message stays the bytes it came as. The batch is walked in place, every field of every pulse
//! is checked, and stretches of the client's own bytes are packed into records. A batch is
//! acknowledged once all its records are durable; until then everything it holds is counted
//! against a bound, and at the bound the server stops reading or says so.
//!
//! In reading order; imports point up this list.

mod codec;
pub mod config;
pub mod scope;

pub mod check;
mod batch;

mod outcome;
mod metrics;
mod append;
pub mod packer;

mod answer;
pub mod ingest;

mod stream;
pub mod grpc;

pub use check::NegativePolicy;
pub use config::{Limits, LimitsError, Packing};
pub use grpc::{IngestServer, RULES, UsageServer};
pub use ingest::{Ingest, Origin, Ports};
pub use packer::Packers;
pub use scope::Scope;
