//! The journal of the logs, and the table by which the SQL view knows what counts.

use domain::{
    Offset,
    epochs::{Journal, LogEvent, Stretch},
};
use rusqlite::{Connection, params};

use super::failure::{Failure, signed_bound};
use crate::{
    answers::{another_entry, unregistered},
    embedded::generation,
};

/// Every entry, oldest first.
pub(super) fn all(connection: &Connection) -> Result<Vec<LogEvent>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT event FROM log_event ORDER BY sequence")?;
    let cells = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    cells.map(|cell| Ok(LogEvent::decode(&cell?)?)).collect()
}

/// Adds an entry behind exactly so many others.
pub(super) fn append(
    connection: &Connection,
    entries: u64,
    event: &LogEvent,
) -> Result<(), Failure> {
    let mut events = all(connection)?;
    if events.len() as u64 != entries {
        return Err(another_entry(entries).into());
    }
    connection
        .prepare_cached("INSERT INTO log_event (sequence, event) VALUES (?1, ?2)")?
        .execute(params![signed_bound(Offset(entries)), event.encode()])?;
    events.push(event.clone());
    write_active(connection, event, &Journal::of(events))
}

/// Writes which stretches of the log count in which epoch, for people with an SQL tool.
fn write_active(
    connection: &Connection,
    event: &LogEvent,
    journal: &Journal,
) -> Result<(), Failure> {
    let LogEvent::Activated { log_id, epoch } = event else { return Ok(()) };
    let known = generation::find(connection, *log_id)?;
    let known = known.ok_or_else(|| unregistered(*log_id))?;
    connection
        .execute("DELETE FROM active_stretch WHERE log_id = ?1", params![log_id.0.as_slice()])?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO active_stretch (log_id, log_partition, epoch, from_offset, to_offset)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let log = journal.log(*log_id);
    for partition in known.partitions() {
        for Stretch { epoch, from, to } in log.stretches(*epoch, partition) {
            let (from, to) = (signed_bound(from), to.map_or(i64::MAX, signed_bound));
            insert.execute(params![log_id.0.as_slice(), partition.0, epoch.0, from, to])?;
        }
    }
    Ok(())
}
