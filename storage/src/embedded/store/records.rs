//! Manifests and progress, read back.

use domain::{Manifest, Offset, SegmentId, segment::Progress, store::PartitionKey};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::failure::{Failure, limit_of, signed_bound, time, unsigned};

pub(super) fn newest_manifest(
    connection: &Connection,
    key: PartitionKey,
) -> Result<Option<Manifest>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT segment_start, cell FROM segment_manifest
         WHERE log_id = ?1 AND log_partition = ?2 AND epoch = ?3
         ORDER BY segment_start DESC LIMIT 1",
    )?;
    let found = statement
        .query_row(params![key.log_id.0.as_slice(), key.partition.0, key.epoch.0], start_and_cell)
        .optional()?;
    found.map(|found| manifest(key, found)).transpose()
}

pub(super) fn manifests(
    connection: &Connection,
    key: PartitionKey,
    from: Offset,
    limit: usize,
) -> Result<Vec<Manifest>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT segment_start, cell FROM segment_manifest
         WHERE log_id = ?1 AND log_partition = ?2 AND epoch = ?3 AND segment_start >= ?4
         ORDER BY segment_start LIMIT ?5",
    )?;
    let log_id = key.log_id.0.as_slice();
    let params = params![log_id, key.partition.0, key.epoch.0, signed_bound(from), limit_of(limit)];
    statement.query_map(params, start_and_cell)?.map(|found| manifest(key, found?)).collect()
}

fn start_and_cell(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, Vec<u8>)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn manifest(key: PartitionKey, (start, cell): (i64, Vec<u8>)) -> Result<Manifest, Failure> {
    let PartitionKey { log_id, partition, epoch } = key;
    let segment = SegmentId { log_id, partition, epoch, start: unsigned(start)? };
    Ok(Manifest::decode(segment, &cell)?)
}

pub(super) fn progress(
    connection: &Connection,
    key: PartitionKey,
) -> Result<Option<Progress>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT cell, caught_up_at FROM partition_progress
         WHERE log_id = ?1 AND log_partition = ?2 AND epoch = ?3",
    )?;
    let PartitionKey { log_id, partition, epoch } = key;
    let found: Option<(Vec<u8>, Option<i64>)> = statement
        .query_row(params![log_id.0.as_slice(), partition.0, epoch.0], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((cell, caught_up_at)) = found else { return Ok(None) };
    let caught_up_at = caught_up_at.map(time).transpose()?;
    Ok(Some(Progress::decode((log_id, partition, epoch), &cell, caught_up_at)?))
}
