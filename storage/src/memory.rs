//! Adapters that keep everything in memory: the ports' plainest form, for the tests of the stages.
//!
//! They promise all that the ports promise but durability. Each can be told to fail in the ways
//! that its port allows, so that a stage's answer to a failure is tested without a broken disk.
//! All are handles: a clone sees the same contents, which is how a test restarts a stage.

mod billing;
mod log;
mod outlet;
mod usage;
mod blocks;

use std::sync::{Mutex, MutexGuard};

pub use billing::{EntryFault, MemoryBillingStore};
pub use log::{AppendFault, HeldAcks, MemoryDrain, MemoryLog};
pub use outlet::{MemoryOutlet, MemoryOutletWriter, OutletFault};
pub use usage::{FlushFault, MemoryUsageStore, StoredBlocks, StoredUsage};

/// Locks, also after a panic elsewhere: no update here leaves its data half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
