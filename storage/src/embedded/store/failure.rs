//! What goes wrong inside a read or a write, and what the port calls it.

use domain::{Offset, Timestamp, codec::CodecError, store::StoreError};
use rusqlite::ErrorCode;

/// An answer of the port, or an error of SQLite that is still to be sorted.
#[derive(Debug)]
pub(super) enum Failure {
    Store(StoreError),
    Sqlite(rusqlite::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<CodecError> for Failure {
    fn from(error: CodecError) -> Self {
        let message = error.to_string();
        Self::Store(match error {
            CodecError::Version(_) => StoreError::Fatal(message),
            CodecError::Length | CodecError::Checksum | CodecError::Value => {
                StoreError::Damaged(message)
            }
        })
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::Sqlite(error) => sort(&error),
        }
    }
}

fn sort(error: &rusqlite::Error) -> StoreError {
    let message = error.to_string();
    match (error, error.sqlite_error_code()) {
        (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        | (
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..),
            _,
        ) => StoreError::Damaged(message),
        (_, Some(ErrorCode::DiskFull)) => disk_full(),
        (_, Some(ErrorCode::TooBig)) => StoreError::TooLarge(message),
        (_, Some(ErrorCode::OperationInterrupted)) => {
            StoreError::Unavailable(READ_ENDED.to_owned())
        }
        (
            _,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure),
        ) => StoreError::Unavailable(message),
        _ => StoreError::Fatal(message),
    }
}

/// See `snapshots.rs`.
const READ_ENDED: &str = "the read was ended, because it took longer than store.read_timeout or held up the write-ahead log: ask for a shorter time, one tenant or one SKU, or ask again";

pub(super) fn disk_full() -> StoreError {
    StoreError::Unavailable("the disk is full: free some space".to_owned())
}

/// A stored value that no version of this program writes.
pub(super) fn damaged(what: &str, value: &str) -> Failure {
    StoreError::Damaged(format!("{what} {value:?}")).into()
}

/// A time as it was stored.
pub(super) fn time(micros: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_micros(micros).ok_or_else(|| damaged("time", &micros.to_string()))
}

/// An offset as SQLite's signed integer.
pub(super) fn signed(offset: Offset) -> Result<i64, Failure> {
    i64::try_from(offset.0).map_err(|_| {
        let most = i64::MAX;
        StoreError::Fatal(format!("offset {offset} is beyond {most}, the store's greatest")).into()
    })
}

/// For bounds of searches: past the greatest there is nothing to find.
pub(super) fn signed_bound(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

/// An offset as it was stored.
pub(super) fn unsigned(stored: i64) -> Result<Offset, Failure> {
    u64::try_from(stored).map(Offset).map_err(|_| damaged("offset", &stored.to_string()))
}

/// A limit as SQLite's signed integer.
pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
