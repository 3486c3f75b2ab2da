//! The embedded adapters: log and store in two SQLite files of one data directory, the default.
//!
//! Two files, because SQLite lets one writer into a file at a time: `log.db` takes the appends,
//! `store.db` the flushes and the catalogues. Each file has one writer thread, which takes all that
//! is queued, does it in one transaction, and answers once that is durable (group commit: a fixed
//! wait for more was slower everywhere). Readers have connections of their own. No SQLite call
//! runs on a caller's thread but the drain's, which is blocking by its port.
//!
//! Promised: what was answered survives a crash of the machine; a failed commit or sync is never
//! tried again, because nobody knows what the disk holds then: the process ends, and the next start
//! reads what is there. A full disk fails before the commit, is rolled back, and harms nobody.

mod error;
mod generation;
mod private;
mod directory;
mod file;
mod queue;
mod snapshots;
mod checkpoint;
mod log;
mod store;
pub mod inventory;

pub use directory::{DataDirectory, LOG_FILE, OpenOptions, STORE_FILE};
pub use error::{FatalHook, OpenError};
pub use log::{EmbeddedDrain, EmbeddedLog, LogOptions};
pub use store::{EmbeddedBillingStore, EmbeddedStore, EmbeddedUsageStore, StoreOptions};
