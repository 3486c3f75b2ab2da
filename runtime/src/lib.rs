//! What every process runs on, in reading order: the clock, when work starts and starts again, how
//! a process ends, what an operator sees of it, and where tests make it fail.
//!
//! Nothing here knows a request, a stage, a log or a store. Stages take these parts as values, so that
//! tests and simulations replace them: the clock, the randomness and the source of signals are all
//! passed in.

pub mod clock;

pub mod retry;
pub mod shutdown;

pub mod schedule;

pub mod health;
pub mod telemetry;

pub mod fault;

pub use health::Health;
pub use retry::Backoff;
pub use schedule::Schedule;
pub use shutdown::Shutdown;
