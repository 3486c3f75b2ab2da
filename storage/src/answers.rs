//! Refusals that every adapter words in the same way.

use domain::{LogId, Partition, log::LogError, place::Generation, store::StoreError};

/// A flush for a log that the store does not know.
pub(crate) fn unregistered(log_id: LogId) -> StoreError {
    StoreError::Conflict(format!(
        "log generation {log_id} is not registered in this store: register it before flushing"
    ))
}

/// Registering one id with other parameters.
pub(crate) fn other_parameters(registered: &Generation, given: &Generation) -> StoreError {
    StoreError::Conflict(format!(
        "log generation {} is registered with other parameters, which are fixed for its life: \
         registered {registered:?}, given {given:?}",
        given.log_id
    ))
}

/// Activating a catalogue that is not there.
pub(crate) fn unknown_catalogue(version: &str) -> StoreError {
    StoreError::Conflict(format!("there is no catalogue {version:?}: publish it first"))
}

/// Reading a partition that is not there.
pub(crate) fn no_partition(partition: Partition) -> LogError {
    LogError::Fatal(format!("the log has no partition {partition}"))
}
