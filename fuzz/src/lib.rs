//! Fuzz targets: every reader of bytes that others wrote, each with the laws that hold for any bytes.
//!
//! A target is one function over bytes, defined once in [`targets`]. Two engines feed it:
//! - `tests/smoke.rs` in every test run: a committed corpus, and mutations of it by a seed;
//! - `src/bin/guided.rs` under `make fuzz`: libFuzzer, which sees what code an input reaches.
//!
//! In reading order: [`memory`] counts what a check costs, [`mutate`] makes inputs, [`target`] holds
//! a check to its bounds, [`targets`] is the table, [`corpus`] reads the committed inputs,
//! [`samples`] makes them out of the repository's own files.
//!
//! The crate stands beside the program because it has to see every stage, and only its public side:
//! what a reader promises, it promises to its callers.

// Nothing here ships: a law that does not hold ends the process.
#![allow(clippy::unwrap_used)]

pub mod memory;

pub mod mutate;

pub mod target;

pub mod targets;

pub mod corpus;

pub mod samples;

pub use target::{Target, time_of};
pub use targets::TARGETS;
