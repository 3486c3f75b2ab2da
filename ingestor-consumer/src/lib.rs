//! The consumer stage: drains the log through lanes into the usage store, counting once.
//!
//! In reading order; a module imports only those above it:
//! - [`fold`]: the pure heart: what becomes of each pulse;
//! - [`handover`]: what the threads around it give to one another;
//! - `drain`: a thread for each lane reads records into recycled buffers;
//! - `lane`: a thread folds its partitions' records in offset order;
//! - `flush`: rows reach the store, then the proof, and only then progress;
//! - [`restart`]: where a partition goes on after a stop, however it stopped;
//! - [`sealing`]: a generation of the log has ended, and the next one begins;
//! - [`consumer`]: a tick asks each partition for its end, and waits until all below it is stored;
//! - [`blocks`]: closed segments are merged into blocks, which stand for them from then on;
//! - [`retention`]: what nobody can begin from any more is deleted;
//! - [`rebase`]: append times of a wrong clock are found and taken back;
//! - [`replay`]: the log folded again into another epoch, compared, and put to use;
//! - [`refold`]: chosen segments folded again, to list the pulses behind a total;
//! - [`audit`]: anyone can fold a segment again and compare.

#[cfg(test)]
mod testing;

pub mod fold;

pub mod handover;
mod drain;
mod lane;

mod metrics;
mod flush;

pub mod restart;
pub mod sealing;

pub mod consumer;

pub mod blocks;
pub mod retention;

pub mod rebase;
pub mod replay;

pub mod refold;
pub mod audit;

pub mod grpc;

pub use consumer::{Consumer, ConsumerConfig, ConsumerError, ConsumerPorts, TickReport, Work};
pub use fold::Fold;
