//! The edge of a process: what every request passes before a stage sees it, and every answer after.
//!
//! In reading order: how errors are reported, what clients may take, how a request is followed
//! through the logs, and where calls compute. Nothing here knows a stage, a log or a store.

pub mod problem;

pub mod listen;

pub mod correlation;

pub mod compute;

pub use compute::Compute;
pub use correlation::CorrelationId;
pub use problem::{Problem, Violation};
