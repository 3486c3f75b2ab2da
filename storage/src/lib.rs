//! Every adapter of every port, and the suites that each adapter must pass.
//!
//! In reading order: the identity of a fresh log, the order of a usage scan and the answers that all
//! adapters share; the adapters that keep everything in memory, for tests; the embedded ones on SQLite, the default;
//! those on servers, Kafka for the log and CQL for the stores, and why a certificate of theirs is not
//! taken; the choice between them;
//! the conformance suites, one per port (feature `conformance`).

mod answers;
pub mod identity;
pub mod order;

pub mod memory;

pub mod embedded;

#[cfg(any(feature = "kafka-tls", feature = "scylla-tls"))]
mod distrust;

#[cfg(feature = "kafka")]
pub mod kafka;

#[cfg(feature = "scylla")]
pub mod scylla;

#[cfg(all(feature = "kafka", feature = "scylla"))]
pub mod choice;

#[cfg(feature = "conformance")]
pub mod conformance;
