//! A flush, written inside the writer's transaction.

use domain::{
    DeadLetter, SegmentId, Timestamp, UsageRow,
    segment::Progress,
    store::{Flush, SegmentClose},
};
use rusqlite::{Connection, params};

use super::{
    failure::{Failure, signed},
    rows,
};
use crate::{answers::unregistered, embedded::generation, order};

/// Bytes that it puts into the write-ahead log, about.
pub(super) fn bytes_about(flush: &Flush) -> usize {
    const ROW_BYTES: usize = 300;
    let close = flush.close.as_ref().map_or(0, |close| close.run.len() + close.state.len());
    let letters: usize = flush.dead_letters.iter().map(|letter| letter.payload.len() + 300).sum();
    flush.rows.len() * ROW_BYTES + close + letters
}

/// Writes everything; it becomes durable at once with the transaction.
pub(super) fn write(connection: &Connection, flush: &Flush) -> Result<(), Failure> {
    let log_id = flush.segment.log_id;
    if generation::find(connection, log_id)?.is_none() {
        return Err(unregistered(log_id).into());
    }
    write_rows(connection, &flush.rows)?;
    flush.dead_letters.iter().try_for_each(|letter| write_dead_letter(connection, letter))?;
    if let Some(close) = &flush.close {
        write_close(connection, flush.segment, close)?;
    }
    write_progress(connection, &flush.progress)
}

/// In the order of the table, so that each page is touched once.
fn write_rows(connection: &Connection, usage: &[UsageRow]) -> Result<(), Failure> {
    let mut sorted: Vec<&UsageRow> = usage.iter().collect();
    sorted.sort_unstable_by(|a, b| order::compare(&a.key, &b.key));
    let mut statement = connection.prepare_cached(rows::UPSERT)?;
    sorted.into_iter().try_for_each(|row| rows::upsert(&mut statement, row))
}

fn write_dead_letter(connection: &Connection, letter: &DeadLetter) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO dead_letter (log_id, log_partition, record_offset, pulse_index,
             epoch, reason, tenant, product_sku, time, message, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    statement.execute(params![
        letter.log_id.0.as_slice(),
        letter.partition.0,
        signed(letter.offset)?,
        letter.index,
        letter.epoch.0,
        letter.reason.as_str(),
        letter.tenant,
        letter.product_sku,
        letter.time.map(Timestamp::micros),
        letter.message,
        letter.payload,
    ])?;
    Ok(())
}

fn write_close(
    connection: &Connection,
    segment: SegmentId,
    close: &SegmentClose,
) -> Result<(), Failure> {
    let SegmentId { log_id, partition, epoch, start } = segment;
    let (log_id, start) = (log_id.0.as_slice(), signed(start)?);
    if !close.run.is_empty() {
        connection
            .prepare_cached("INSERT OR REPLACE INTO id_run VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![log_id, partition.0, epoch.0, start, close.run])?;
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO fold_state VALUES (?1, ?2)")?
        .execute(params![close.manifest.state_digest.to_be_bytes().as_slice(), close.state])?;
    for touched in &close.touched {
        let tenant = touched.tenant.as_str();
        connection
            .prepare_cached("INSERT OR IGNORE INTO usage_touched VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![tenant, touched.window_day, log_id, partition.0, epoch.0, start])?;
    }
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
