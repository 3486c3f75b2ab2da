//! Refusals that every adapter words in the same way.

use domain::{
    LogId, Partition, billing::ENTRY_BYTES_MAX, generation::Generation, log::LogError,
    store::StoreError,
};

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

/// Registering a generation behind one that is not the newest.
pub(crate) fn another_log(newest: Option<LogId>, given: LogId) -> StoreError {
    let known = newest.map_or_else(
        || "this store knows no log that it could follow".to_owned(),
        |known| format!("this store holds the totals of log {known}"),
    );
    StoreError::Conflict(format!(
        "{known}, and log {given} is another one: bring back the log that belongs to the store, or \
         use another store for new totals"
    ))
}

/// Adding to the journal where it has another length.
pub(crate) fn another_entry(entries: u64) -> StoreError {
    StoreError::Conflict(format!(
        "the journal of the logs does not have {entries} entries: another process has written to \
         it; look at it again"
    ))
}

/// Replacing a block map that is of another version.
pub(crate) fn another_map(version: u64) -> StoreError {
    StoreError::Conflict(format!(
        "the block map is not of the version before {version}: another process has replaced it; \
         look at it again"
    ))
}

/// A number as stores keep it, in 63 bits.
pub(crate) fn number_of(what: &str, number: u64) -> Result<i64, StoreError> {
    i64::try_from(number)
        .map_err(|_| StoreError::Fatal(format!("{what} {number} is beyond 63 bits")))
}

/// Activating a catalogue that is not there.
pub(crate) fn unknown_catalogue(version: &str) -> StoreError {
    StoreError::Conflict(format!("there is no catalogue {version:?}: publish it first"))
}

/// Lets an entry of a billing journal pass if it is not too large.
///
/// # Errors
/// `Conflict` for one that is.
pub(crate) fn check_entry(journal: &str, entry: &[u8]) -> Result<(), StoreError> {
    let bytes = entry.len();
    if bytes <= ENTRY_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "an entry of {bytes} bytes for the journal {journal:?} is too large: {ENTRY_BYTES_MAX} are \
         the most"
    )))
}

/// Adding to a billing journal beyond its next place.
pub(crate) fn beyond_next(journal: &str, place: u64, next: u64) -> StoreError {
    StoreError::Conflict(format!(
        "the journal {journal:?} has {next} entries, so {place} is not its next place: read on from \
         {next}"
    ))
}

/// Reading a partition that is not there.
pub(crate) fn no_partition(partition: Partition) -> LogError {
    LogError::Fatal(format!("the log has no partition {partition}"))
}
