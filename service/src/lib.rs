//! What every process has at its edge, in reading order: how errors are said, what clients may take,
//! how a request is followed, what an operator sees, where calls compute, when work starts and starts
//! again, and how a process ends.
//!
//! Nothing here knows a stage, a log or a store. Stages take these parts as values, so that tests
//! and simulations put others in their place: the clock, the randomness and the source of signals
//! are all handed in.

pub mod problem;

pub mod listen;

pub mod correlation;
pub mod health;
pub mod telemetry;

pub mod clock;
pub mod compute;
pub mod retry;
pub mod schedule;
pub mod shutdown;

pub mod fault;

pub use compute::Compute;
pub use correlation::CorrelationId;
pub use health::Health;
pub use problem::{Problem, Violation};
pub use retry::Backoff;
pub use schedule::Schedule;
pub use shutdown::Shutdown;
