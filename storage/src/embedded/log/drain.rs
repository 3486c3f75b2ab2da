//! Reads a partition on the caller's thread: records are lent from SQLite's own memory, checked.

use std::ops::ControlFlow;

use domain::{
    Offset, Partition, Timestamp,
    log::{LogBounds, LogDrain, LogError, LogRecord},
};
use rusqlite::{Connection, ErrorCode, Row, params};

use super::{EmbeddedLog, offset_of, place};

/// Bytes and records after which a read transaction ends and another begins: a reader that stays in
/// one keeps the write-ahead log from being begun anew.
const TRANSACTION_BYTES_MAX: usize = 4 << 20;
const TRANSACTION_RECORDS_MAX: usize = 1_000;

/// A reader of one partition with a connection of its own.
pub struct EmbeddedDrain {
    connection: Connection,
    log: EmbeddedLog,
    partition: Partition,
    /// Records below were lent.
    position: u64,
}

/// What was lent so far by a read, or within one of its transactions.
#[derive(Clone, Copy, Default)]
struct Lent {
    records: usize,
    bytes: usize,
}

impl Lent {
    fn and(self, bytes: usize) -> Self {
        Self { records: self.records + 1, bytes: self.bytes + bytes }
    }
}

impl EmbeddedDrain {
    pub(super) fn new(
        connection: Connection,
        log: EmbeddedLog,
        partition: Partition,
        from: Offset,
    ) -> Self {
        Self { connection, log, partition, position: from.0 }
    }

    /// Lends records in one transaction. `Break` when the read has all it may have.
    fn read_transaction(
        &mut self,
        until: u64,
        bytes_max: usize,
        lent: &mut Lent,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<ControlFlow<()>, LogError> {
        let (partition, mut position) = (self.partition, self.position);
        let failed = |error: rusqlite::Error| sort(partition, Offset(position), &error);
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT place, appended_at, crc32c, body FROM record
                 WHERE place >= ?1 AND place < ?2 ORDER BY place",
            )
            .map_err(failed)?;
        let mut rows = statement
            .query(params![place(partition, position), place(partition, until)])
            .map_err(failed)?;
        let mut here = Lent::default();
        while position < until {
            let row = rows.next().map_err(|error| sort(partition, Offset(position), &error))?;
            let record = check(row, partition, Offset(position))?;
            let length = record.body.len();
            if lent.records > 0 && lent.bytes + length > bytes_max {
                return Ok(ControlFlow::Break(()));
            }
            visit(record);
            position += 1;
            self.position = position;
            (*lent, here) = (lent.and(length), here.and(length));
            if here.bytes >= TRANSACTION_BYTES_MAX || here.records >= TRANSACTION_RECORDS_MAX {
                return Ok(ControlFlow::Continue(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl EmbeddedDrain {
    /// A record that is missing because it was trimmed meanwhile is no damage.
    fn trimmed(&self, error: LogError) -> LogError {
        match self.log.bounds_now(self.partition) {
            Ok(LogBounds { low, end }) if self.position < low.0 => {
                let (partition, wanted) = (self.partition, Offset(self.position));
                LogError::OutOfRange { partition, wanted, low, end }
            }
            _ => error,
        }
    }
}

impl LogDrain for EmbeddedDrain {
    fn read(
        &mut self,
        until: Offset,
        bytes_max: usize,
        visit: &mut dyn FnMut(LogRecord<'_>),
    ) -> Result<Offset, LogError> {
        let LogBounds { low, end } = self.log.bounds_now(self.partition)?;
        if self.position < low.0 {
            let (partition, wanted) = (self.partition, Offset(self.position));
            return Err(LogError::OutOfRange { partition, wanted, low, end });
        }
        // What is committed is there to read; beyond the end there is nothing yet.
        let readable = until.min(end).0;
        let mut lent = Lent::default();
        while self.position < readable {
            let read = self.read_transaction(readable, bytes_max, &mut lent, visit);
            if read.map_err(|error| self.trimmed(error))?.is_break() {
                return Ok(Offset(self.position));
            }
        }
        Ok(until.max(Offset(self.position)))
    }
}

/// Takes a row as the record at `offset`. Offsets of this log have no holes, so another offset, or
/// no row at all below the end, is a record that was lost.
fn check<'a>(
    row: Option<&'a Row<'_>>,
    partition: Partition,
    offset: Offset,
) -> Result<LogRecord<'a>, LogError> {
    let damaged = |message: String| LogError::Damaged { partition, offset, message };
    let row = row.ok_or_else(|| damaged("it is missing".to_owned()))?;
    let failed = |error: rusqlite::Error| sort(partition, offset, &error);
    if offset_of(row.get(0).map_err(failed)?) != offset.0 {
        return Err(damaged("it is missing".to_owned()));
    }
    let appended_at = Timestamp::from_micros(row.get(1).map_err(failed)?)
        .ok_or_else(|| damaged("its append time is outside year 1 to 9999".to_owned()))?;
    let crc: i64 = row.get(2).map_err(failed)?;
    let body =
        row.get_ref(3).map_err(failed)?.as_blob().map_err(|error| damaged(error.to_string()))?;
    if i64::from(crc32c::crc32c(body)) != crc {
        return Err(damaged("its bytes do not match their checksum".to_owned()));
    }
    Ok(LogRecord { offset, appended_at, body })
}

fn sort(partition: Partition, offset: Offset, error: &rusqlite::Error) -> LogError {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            LogError::Damaged { partition, offset, message }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure) => {
            LogError::Unavailable(message)
        }
        _ => LogError::Fatal(message),
    }
}
