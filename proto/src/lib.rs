//! The wire: messages and services of `pulso.v1`, and the two hand-written readers of the hot path.
//!
//! - [`v1`]: everything generated from `proto/pulso/v1`, and [`DESCRIPTORS`] for reflection.
//! - [`walk`]: reads batches and pulses in place, without decoding them into owned messages.
//! - [`record`]: the log's records, built by ingest from slices and opened by the consumer.
//! - [`convert`]: the one place where wire types become domain types and back.
//! - [`totals`]: final totals, as they are published.

pub mod walk;
pub mod record;

pub mod convert;
pub mod totals;

/// Generated messages, clients and servers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("pulso.v1");
}

/// Encoded `FileDescriptorSet` of everything in [`v1`], for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pulso.v1.binpb"));
