//! Ingest served over gRPC on loopback, in front of a log in memory.
#![cfg(test)]

mod acks;
mod single;
mod streams;
mod support;
