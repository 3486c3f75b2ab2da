//! A flush, written inside the writer's transaction.

use domain::{
    DeadLetterGroup, SegmentId, Timestamp, UsageRow,
    segment::Progress,
    store::{Flush, SegmentClose},
};
use rusqlite::{Connection, params};

use super::{
    failure::{Failure, signed},
    letters, pieces, rows,
};
use crate::{answers::unregistered, embedded::generation, order};

/// Bytes that it puts into the write-ahead log, about.
pub(super) fn bytes_about(flush: &Flush) -> usize {
    const ROW_BYTES: usize = 300;
    /// With its entries in the two indexes; its message and names come on top.
    const GROUP_BYTES: usize = 500;
    let close = flush.close.as_ref().map_or(0, |close| close.run.len() + close.state.len());
    let bytes_of = |group: &DeadLetterGroup| GROUP_BYTES + group.sample.message.len();
    let letters: usize = flush.dead_letters.iter().map(bytes_of).sum();
    flush.rows.len() * ROW_BYTES + close + letters
}

/// Writes everything; it becomes durable at once with the transaction.
pub(super) fn write(connection: &Connection, flush: &Flush) -> Result<(), Failure> {
    let log_id = flush.segment.log_id;
    if generation::find(connection, log_id)?.is_none() {
        return Err(unregistered(log_id).into());
    }
    write_rows(connection, &flush.rows)?;
    write_groups(connection, &flush.dead_letters)?;
    if let Some(close) = &flush.close {
        write_close(connection, flush.segment, close)?;
    }
    flush.progress.iter().try_for_each(|progress| write_progress(connection, progress))
}

/// In the order of the table, so that each page is touched once.
fn write_rows(connection: &Connection, usage: &[UsageRow]) -> Result<(), Failure> {
    let mut sorted: Vec<&UsageRow> = usage.iter().collect();
    sorted.sort_unstable_by(|a, b| order::compare(&a.key, &b.key));
    let mut statement = connection.prepare_cached(rows::UPSERT)?;
    sorted.into_iter().try_for_each(|row| rows::upsert(&mut statement, row))
}

/// In the order of the table, as rows.
fn write_groups(connection: &Connection, groups: &[DeadLetterGroup]) -> Result<(), Failure> {
    let mut sorted: Vec<&DeadLetterGroup> = groups.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let mut statement = connection.prepare_cached(letters::UPSERT)?;
    sorted.into_iter().try_for_each(|group| letters::upsert(&mut statement, group))
}

fn write_close(
    connection: &Connection,
    segment: SegmentId,
    close: &SegmentClose,
) -> Result<(), Failure> {
    if !close.run.is_empty() {
        pieces::write_run(connection, segment, &close.run)?;
    }
    pieces::write_state(connection, close.manifest.state_digest, &close.state)?;
    let SegmentId { log_id, partition, epoch, start } = segment;
    let (log_id, start) = (log_id.0.as_slice(), signed(start)?);
    let (end, cell) = (signed(close.manifest.end)?, close.manifest.encode());
    connection
        .prepare_cached("INSERT OR REPLACE INTO segment_manifest VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![log_id, partition.0, epoch.0, start, end, cell])?;
    Ok(())
}

fn write_progress(connection: &Connection, progress: &Progress) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO partition_progress (log_id, log_partition, epoch, folded_to, cell, caught_up_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET
             cell = iif(excluded.folded_to >= folded_to, excluded.cell, cell),
             folded_to = max(excluded.folded_to, folded_to),
             caught_up_at = coalesce(excluded.caught_up_at, caught_up_at)",
    )?;
    statement.execute(params![
        progress.log_id.0.as_slice(),
        progress.partition.0,
        progress.epoch.0,
        signed(progress.folded_to)?,
        progress.encode(),
        progress.caught_up_at.map(Timestamp::micros),
    ])?;
    Ok(())
}
