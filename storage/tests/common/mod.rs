//! What the tests of the embedded adapters share.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::{path::Path, sync::Arc};

use domain::{Clock, LogId, Offset, Partition, PulseLog, Timestamp, log::LogDrain};
use storage::{
    conformance::samples::{at, generation},
    embedded::{
        DataDirectory, EmbeddedLog, EmbeddedStore, FatalHook, LogOptions, OpenError, OpenOptions,
        StoreOptions,
    },
};

pub(crate) const FIRST: Partition = Partition(0);
pub(crate) const SECOND: Partition = Partition(1);

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(|| -> Timestamp { at(1_700_000_000) })
}

pub(crate) fn no_fatal() -> FatalHook {
    FatalHook::new(|what| panic!("{what}"))
}

pub(crate) fn options() -> LogOptions {
    LogOptions::new(generation(LogId([0; 16])), clock(), no_fatal())
}

pub(crate) fn directory(path: &Path) -> Result<DataDirectory, OpenError> {
    DataDirectory::open(path, OpenOptions::default())
}

pub(crate) fn open_log(path: &Path) -> Result<EmbeddedLog, OpenError> {
    EmbeddedLog::open(&directory(path)?, options())
}

pub(crate) fn open_store(path: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(&directory(path)?, &StoreOptions::new(no_fatal()))
}

/// Every record of a partition with its offset.
pub(crate) fn read_all(
    log: &EmbeddedLog,
    partition: Partition,
    end: Offset,
) -> Vec<(Offset, Vec<u8>)> {
    let mut records = Vec::new();
    let mut drain = log.drain(partition, Offset(0)).unwrap();
    let next = drain
        .read(end, usize::MAX, &mut |record| records.push((record.offset, record.body.to_vec())))
        .unwrap();
    assert_eq!(next, end);
    records
}

/// Another program's connection to a file of the data directory.
pub(crate) fn other_program(path: &Path, file: &str) -> rusqlite::Connection {
    rusqlite::Connection::open(path.join(file)).unwrap()
}
