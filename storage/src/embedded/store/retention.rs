//! Fold states and runs of ids that go.

use std::collections::HashSet;

use domain::{Epoch, LogId, Manifest, Offset, SegmentId, store::PartitionKey};
use rusqlite::{Connection, params};

use super::failure::{Failure, damaged, signed, signed_bound, unsigned};
use crate::embedded::file;

/// Pieces of states that are deleted in one transaction: 32 MiB, which has to be read to be freed.
const PIECES_AT_ONCE: usize = 32;
/// Pages that are given back to the file system in one transaction: as much.
const PAGES_AT_ONCE: u32 = 2_048;
/// Rows of a dropped epoch that are deleted in one transaction.
const ROWS_AT_ONCE: u32 = 10_000;
/// Runs that are listed at once.
const RUNS_AT_ONCE: i64 = 1_000;

/// Deletes some pieces of states. In one transaction with what it looks at: no state is written meanwhile
/// that it takes for one of those.
pub(super) fn keep_states(
    connection: &Connection,
    digests: &[u128],
    seen: &[SegmentId],
) -> Result<u64, Failure> {
    let mut kept: HashSet<u128> = digests.iter().copied().collect();
    add_later(connection, seen, &mut kept)?;
    let mut stored = connection.prepare_cached("SELECT rowid, digest FROM fold_state")?;
    let mut rows = stored.query([])?;
    let mut gone = Vec::new();
    while let Some(row) = rows.next()? {
        let (rowid, digest): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let digest =
            <[u8; 16]>::try_from(&digest[..]).map_err(|_| damaged("digest", "of a state"))?;
        if !kept.contains(&u128::from_be_bytes(digest)) {
            gone.push(rowid);
        }
        if gone.len() == PIECES_AT_ONCE {
            break;
        }
    }
    drop(rows);
    let mut delete = connection.prepare_cached("DELETE FROM fold_state WHERE rowid = ?1")?;
    for rowid in &gone {
        delete.execute([rowid])?;
    }
    if !gone.is_empty() {
        file::give_back(connection, PAGES_AT_ONCE)?;
    }
    Ok(gone.len() as u64)
}

/// Adds the states of segments behind those that were seen, and of partitions of which none was.
fn add_later(
    connection: &Connection,
    seen: &[SegmentId],
    kept: &mut HashSet<u128>,
) -> Result<(), Failure> {
    let mut partitions = connection
        .prepare_cached("SELECT DISTINCT log_id, log_partition, epoch FROM segment_manifest")?;
    let mut later = connection.prepare_cached(
        "SELECT cell FROM segment_manifest
         WHERE log_id = ?1 AND log_partition = ?2 AND epoch = ?3 AND segment_start > ?4",
    )?;
    let mut found = partitions.query([])?;
    while let Some(row) = found.next()? {
        let key: (Vec<u8>, u16, u16) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let of = |seen: &&SegmentId| {
            (&seen.log_id.0[..], seen.partition.0, seen.epoch.0) == (&key.0[..], key.1, key.2)
        };
        let start = seen.iter().find(of).map(|seen| signed(seen.start)).transpose()?;
        let values = params![key.0, key.1, key.2, start.unwrap_or(-1)];
        for cell in later.query_map(values, |row| row.get::<_, Vec<u8>>(0))? {
            kept.insert(Manifest::decode(NO_SEGMENT, &cell?)?.state_digest);
        }
    }
    Ok(())
}

/// A manifest's own segment is not in its cell, and does not matter here.
const NO_SEGMENT: SegmentId = SegmentId {
    log_id: domain::LogId([0; 16]),
    partition: domain::Partition(0),
    epoch: domain::Epoch(0),
    start: Offset(0),
};

/// Deletes some rows of one table that has any of an epoch.
pub(super) fn delete_epoch(
    connection: &Connection,
    log_id: LogId,
    epoch: Epoch,
) -> Result<u64, Failure> {
    const TABLES: [(&str, &str); 5] = [
        (
            "usage_segment",
            "tenant, window_start, product_sku, use_unity, dimensions, epoch, log_id, log_partition, segment_start",
        ),
        ("dead_letter_group", "log_id, log_partition, segment_start, epoch, reason, tenant"),
        ("id_run", "log_id, log_partition, epoch, segment_start, piece"),
        ("segment_manifest", "log_id, log_partition, epoch, segment_start"),
        ("partition_progress", "log_id, log_partition, epoch"),
    ];
    for (table, columns) in TABLES {
        let delete = format!(
            "DELETE FROM {table} WHERE ({columns}) IN
             (SELECT {columns} FROM {table} WHERE log_id = ?1 AND epoch = ?2 LIMIT {ROWS_AT_ONCE})"
        );
        let values = params![log_id.0.as_slice(), epoch.0];
        let deleted = connection.prepare_cached(&delete)?.execute(values)?;
        if deleted > 0 {
            file::give_back(connection, PAGES_AT_ONCE)?;
            return Ok(deleted as u64);
        }
    }
    Ok(0)
}

pub(super) fn runs_below(
    connection: &Connection,
    key: PartitionKey,
    below: Offset,
) -> Result<Vec<Offset>, Failure> {
    let PartitionKey { log_id, partition, epoch } = key;
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT segment_start FROM id_run
         WHERE log_id = ?1 AND log_partition = ?2 AND epoch = ?3 AND segment_start < ?4
         ORDER BY segment_start LIMIT ?5",
    )?;
    let values =
        params![log_id.0.as_slice(), partition.0, epoch.0, signed_bound(below), RUNS_AT_ONCE];
    let found = statement.query_map(values, |row| row.get::<_, i64>(0))?;
    found.map(|start| unsigned(start?)).collect()
}

pub(super) fn delete_run(connection: &Connection, segment: SegmentId) -> Result<(), Failure> {
    let SegmentId { log_id, partition, epoch, start } = segment;
    connection
        .prepare_cached(
            "DELETE FROM id_run WHERE log_id = ?1 AND log_partition = ?2 AND epoch = ?3
                 AND segment_start = ?4",
        )?
        .execute(params![log_id.0.as_slice(), partition.0, epoch.0, signed(start)?])?;
    Ok(())
}
