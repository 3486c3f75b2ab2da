//! Blocks: pages and manifests under their numbers, the map, the edges, and the rows that go.

use domain::{
    LogId, Offset, RowKey, SegmentId, Tenant,
    blocks::{BlockManifest, BlockMap, BlockNumber, EntryKey, Page},
    usage::ResourceKey,
};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::failure::{Failure, damaged, limit_of, signed};
use crate::{
    answers::{another_map, number_of},
    embedded::file,
};

/// Pages deleted at once: about 8 MiB, some milliseconds of the one writer.
const DELETED_AT_ONCE: i64 = 256;

/// Pages that are given back to the file system at once: as much.
const FREED_AT_ONCE: u32 = 512;

pub(super) fn map(connection: &Connection) -> Result<BlockMap, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT version, map FROM block_map WHERE id = 0")?;
    let found = statement
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    let Some((version, bytes)) = found else { return Ok(BlockMap::default()) };
    let version = u64::try_from(version).map_err(|_| damaged("version", &version.to_string()))?;
    Ok(BlockMap::decode(version, &bytes)?)
}

pub(super) fn replace_map(connection: &Connection, next: &BlockMap) -> Result<(), Failure> {
    let stored = map(connection)?.version;
    if stored + 1 != next.version {
        return Err(another_map(next.version).into());
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO block_map (id, version, map) VALUES (0, ?1, ?2)")?
        .execute(params![number_of("version", next.version)?, next.encode()])?;
    write_ends(connection, next)
}

/// For people with an SQL tool.
fn write_ends(connection: &Connection, map: &BlockMap) -> Result<(), Failure> {
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO block_end VALUES (?1, ?2, ?3, ?4)")?;
    for (log_id, epoch, blocks) in map.epochs() {
        for (partition, end) in (0u16..).zip(blocks.ends()) {
            insert.execute(params![log_id.0.as_slice(), partition, epoch.0, signed(*end)?])?;
        }
    }
    Ok(())
}

pub(super) fn marks(connection: &Connection, log_id: LogId) -> Result<Vec<Vec<Offset>>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT places FROM block_mark WHERE log_id = ?1 ORDER BY number")?;
    let found = statement.query_map([log_id.0.as_slice()], |row| row.get::<_, Vec<u8>>(0))?;
    found.map(|places| crate::order::places_of(&places?).map_err(Failure::from)).collect()
}

pub(super) fn put_mark(
    connection: &Connection,
    log_id: LogId,
    number: u64,
    edge: &[Offset],
) -> Result<(), Failure> {
    connection.prepare_cached("INSERT OR IGNORE INTO block_mark VALUES (?1, ?2, ?3)")?.execute(
        params![log_id.0.as_slice(), number_of("edge", number)?, crate::order::bytes_of(edge)],
    )?;
    Ok(())
}

pub(super) fn write_pages(
    connection: &Connection,
    block: BlockNumber,
    pages: &[Page],
    tenants: &[Tenant],
) -> Result<(), Failure> {
    let block = number_of("block", block)?;
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO block_page VALUES (?1, ?2, ?3, ?4)")?;
    for Page { number, first, bytes } in pages {
        insert.execute(params![block, number, first.as_bytes(), bytes])?;
    }
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO usage_tenant VALUES (?1)")?;
    for tenant in tenants {
        insert.execute([tenant.as_str()])?;
    }
    Ok(())
}

pub(super) fn write_manifest(
    connection: &Connection,
    block: BlockNumber,
    manifest: &BlockManifest,
) -> Result<(), Failure> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO block_manifest VALUES (?1, ?2)")?
        .execute(params![number_of("block", block)?, manifest.encode()])?;
    Ok(())
}

pub(super) fn manifest(
    connection: &Connection,
    block: BlockNumber,
) -> Result<Option<BlockManifest>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT cell FROM block_manifest WHERE block = ?1")?;
    let found = statement
        .query_row([number_of("block", block)?], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    found.map(|cell| Ok(BlockManifest::decode(&cell)?)).transpose()
}

const FIND_PAGE: &str = "
    SELECT number FROM block_page WHERE block = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";

pub(super) fn find_page(
    connection: &Connection,
    block: BlockNumber,
    key: &[u8],
) -> Result<u32, Failure> {
    let mut statement = connection.prepare_cached(FIND_PAGE)?;
    let values = params![number_of("block", block)?, key];
    Ok(statement.query_row(values, |row| row.get(0)).optional()?.unwrap_or(0))
}

pub(super) fn pages(
    connection: &Connection,
    block: BlockNumber,
    from: u32,
    limit: usize,
) -> Result<Vec<Page>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT number, first, bytes FROM block_page WHERE block = ?1 AND number >= ?2
         ORDER BY number LIMIT ?3",
    )?;
    let values = params![number_of("block", block)?, from, limit_of(limit)];
    let found = statement.query_map(values, |row| {
        let first = EntryKey::from_bytes(row.get(1)?);
        Ok(Page { number: row.get(0)?, first, bytes: row.get(2)? })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn stored(connection: &Connection) -> Result<Vec<BlockNumber>, Failure> {
    let mut next = connection.prepare_cached(
        "SELECT min(block) FROM (
             SELECT min(block) AS block FROM block_page WHERE block >= ?1
             UNION ALL SELECT min(block) FROM block_manifest WHERE block >= ?1)",
    )?;
    let (mut found, mut from) = (Vec::new(), 0i64);
    while let Some(block) = next.query_row([from], |row| row.get::<_, Option<i64>>(0))? {
        found.push(block.unsigned_abs());
        from = block + 1;
    }
    Ok(found)
}

pub(super) fn delete(connection: &Connection, block: BlockNumber) -> Result<bool, Failure> {
    let block = number_of("block", block)?;
    connection.prepare_cached("DELETE FROM block_manifest WHERE block = ?1")?.execute([block])?;
    let deleted = connection
        .prepare_cached(
            "DELETE FROM block_page WHERE block = ?1 AND number IN (
                 SELECT number FROM block_page WHERE block = ?1 LIMIT ?2)",
        )?
        .execute(params![block, DELETED_AT_ONCE])?;
    file::give_back(connection, FREED_AT_ONCE)?;
    Ok(deleted as i64 == DELETED_AT_ONCE)
}

pub(super) fn delete_rows(connection: &Connection, rows: &[RowKey]) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM usage_segment WHERE tenant = ?1 AND window_start = ?2 AND product_sku = ?3
             AND use_unity = ?4 AND dimensions = ?5 AND epoch = ?6 AND log_id = ?7
             AND log_partition = ?8 AND segment_start = ?9",
    )?;
    for RowKey { resource, window_start, segment } in rows {
        let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
        let SegmentId { log_id, partition, epoch, start } = segment;
        statement.execute(params![
            tenant.as_str(),
            window_start.micros(),
            product_sku.as_str(),
            use_unity.as_str(),
            dimensions.as_str(),
            epoch.0,
            log_id.0.as_slice(),
            partition.0,
            signed(*start)?,
        ])?;
    }
    Ok(())
}

/// The first tenant of blocks behind one.
pub(super) const TENANT_BEHIND: &str = "SELECT min(tenant) FROM usage_tenant WHERE tenant > ?1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_by_a_step_down_the_tree() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&super::super::schema::KIND.schema.concat()).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {FIND_PAGE}")).unwrap();
        let plan: Vec<String> = statement
            .query_map(params![1, &b"k"[..]], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(plan.len(), 1, "no sorting: {plan:?}");
        assert!(plan[0].contains("(block=? AND first<?)"), "{plan:?}");
    }
}
