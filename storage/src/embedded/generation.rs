//! The generation as a table row, the same in both files: in the log it is the truth, in the store
//! what was registered.

use std::time::Duration;

use domain::{
    LogId, WindowLength,
    generation::{Generation, GenerationError},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

/// Durations are in microseconds; `segment_records_max` and the seed are the same 64 bits, read as
/// signed. `shards` is 1 in every file and read by nobody; it stays for the sake of the format.
pub(super) const SCHEMA: &str = "
    CREATE TABLE generation (
        sequence            INTEGER PRIMARY KEY,
        log_id              BLOB NOT NULL UNIQUE,
        partitions          INTEGER NOT NULL,
        segment_records_max INTEGER NOT NULL,
        segment_span        INTEGER NOT NULL,
        horizon             INTEGER NOT NULL,
        lateness            INTEGER NOT NULL,
        future_tolerance    INTEGER NOT NULL,
        window_length       INTEGER NOT NULL,
        shards              INTEGER NOT NULL,
        hash_seed           INTEGER NOT NULL
    ) STRICT;
";

/// Refuses what the table would keep otherwise than it was given.
///
/// # Errors
/// `Range` of the first duration that is not whole microseconds or does not fit 63 bits of them.
pub(super) fn check_storable(generation: &Generation) -> Result<(), GenerationError> {
    for (name, duration) in [
        ("segment_span", generation.segment_span),
        ("horizon", generation.horizon),
        ("lateness", generation.lateness),
        ("future_tolerance", generation.future_tolerance),
    ] {
        if Duration::from_micros(micros(duration).cast_unsigned()) != duration {
            return Err(GenerationError::Range(name, "whole microseconds, at most 292,000 years"));
        }
    }
    Ok(())
}

const COLUMNS: &str = "log_id, partitions, segment_records_max, segment_span, horizon, lateness, \
                       future_tolerance, window_length, hash_seed";

/// Writes a generation; its sequence is the next.
pub(super) fn insert(connection: &Connection, generation: &Generation) -> rusqlite::Result<()> {
    connection.execute(
        &format!(
            "INSERT INTO generation ({COLUMNS}, shards) VALUES (:log_id, :partitions, :records, :span, \
             :horizon, :lateness, :future, :window, :seed, 1)"
        ),
        named_params! {
            ":log_id": generation.log_id.0.as_slice(),
            ":partitions": generation.partitions,
            ":records": generation.segment_records_max.cast_signed(),
            ":span": micros(generation.segment_span),
            ":horizon": micros(generation.horizon),
            ":lateness": micros(generation.lateness),
            ":future": micros(generation.future_tolerance),
            ":window": micros(generation.window.duration()),
            ":seed": generation.hash_seed.cast_signed(),
        },
    )?;
    Ok(())
}

/// The one with the greatest sequence.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Option<Generation>> {
    let sql = format!("SELECT {COLUMNS} FROM generation ORDER BY sequence DESC LIMIT 1");
    connection.query_row(&sql, [], from_row).optional()
}

/// Every one, by sequence.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Generation>> {
    let sql = format!("SELECT {COLUMNS} FROM generation ORDER BY sequence");
    connection.prepare(&sql)?.query_map([], from_row)?.collect()
}

/// The one of this id.
pub(super) fn find(connection: &Connection, id: LogId) -> rusqlite::Result<Option<Generation>> {
    let sql = format!("SELECT {COLUMNS} FROM generation WHERE log_id = ?1");
    connection.query_row(&sql, [id.0.as_slice()], from_row).optional()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Generation> {
    let duration = |column: usize| {
        let micros = row.get(column)?;
        u64::try_from(micros)
            .map(Duration::from_micros)
            .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, micros))
    };
    Ok(Generation {
        log_id: LogId(row.get(0)?),
        partitions: row.get(1)?,
        segment_records_max: row.get::<_, i64>(2)?.cast_unsigned(),
        segment_span: duration(3)?,
        horizon: duration(4)?,
        lateness: duration(5)?,
        future_tolerance: duration(6)?,
        window: WindowLength::new(duration(7)?)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(7, row.get(7)?))?,
        hash_seed: row.get::<_, i64>(8)?.cast_unsigned(),
    })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
