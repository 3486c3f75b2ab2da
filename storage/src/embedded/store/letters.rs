//! Groups of dead letters: written like rows, read back in the order of their keys.

use std::cmp::Ordering;

use domain::{
    DeadLetterGroup, DeadLetterKey, DeadLetterReason, DeadLetterSample, Epoch, LogId, Partition,
    SegmentId, Timestamp,
    store::{DeadLetterFilter, StoreError},
};
use rusqlite::{CachedStatement, Connection, Params, Row, params, types::Value};

use super::failure::{Failure, damaged, limit_of, signed, signed_bound, time, unsigned};
use crate::order;

/// Writes a group, or replaces the stored one if that was not folded as far.
pub(super) const UPSERT: &str = "
    INSERT INTO dead_letter_group (log_id, log_partition, segment_start, epoch, reason, tenant,
        offset_last, count, time_first, time_last, sample_offset, sample_index, product_sku, time,
        message)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
    ON CONFLICT DO UPDATE SET
        offset_last = excluded.offset_last, count = excluded.count,
        time_first = excluded.time_first, time_last = excluded.time_last,
        sample_offset = excluded.sample_offset, sample_index = excluded.sample_index,
        product_sku = excluded.product_sku, time = excluded.time, message = excluded.message
    WHERE excluded.offset_last > offset_last";

pub(super) fn upsert(
    statement: &mut CachedStatement<'_>,
    group: &DeadLetterGroup,
) -> Result<(), Failure> {
    let DeadLetterKey { segment, reason, tenant } = &group.key;
    let sample = &group.sample;
    let count = i64::try_from(group.count)
        .map_err(|_| StoreError::Fatal(format!("count {} is beyond 63 bits", group.count)))?;
    statement.execute(params![
        segment.log_id.0.as_slice(),
        segment.partition.0,
        signed(segment.start)?,
        segment.epoch.0,
        reason.as_str(),
        tenant,
        signed(group.offset_last)?,
        count,
        group.time_first.map(Timestamp::micros),
        group.time_last.map(Timestamp::micros),
        signed(sample.offset)?,
        sample.index,
        sample.product_sku,
        sample.time.map(Timestamp::micros),
        sample.message,
    ])?;
    Ok(())
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT log_partition, segment_start, epoch, reason, tenant, offset_last, count, ",
            "time_first, time_last, sample_offset, sample_index, product_sku, time, message ",
            "FROM dead_letter_group ",
            $rest
        )
    };
}

/// Every group.
const PAGE: &str = select!(
    "WHERE log_id = ?1
       AND (log_partition, segment_start, epoch, reason, tenant) > (?2, ?3, ?4, ?5, ?6)
     ORDER BY log_partition, segment_start, epoch, reason, tenant LIMIT ?7"
);

/// Those of a reason.
const PAGE_OF_REASON: &str = select!(
    "INDEXED BY dead_letter_by_reason
     WHERE log_id = ?1 AND reason = ?2
       AND (log_partition, segment_start, epoch, tenant) > (?3, ?4, ?5, ?6)
     ORDER BY log_partition, segment_start, epoch, tenant LIMIT ?7"
);

/// Those of a tenant; a segment has at most one of each reason, so passing over the others of them
/// is cheap.
const PAGE_OF_TENANT: &str = select!(
    "INDEXED BY dead_letter_by_tenant
     WHERE log_id = ?1 AND tenant = ?2
       AND (log_partition, segment_start, epoch, reason) > (?3, ?4, ?5, ?6)
       AND (?7 IS NULL OR reason = ?7)
     ORDER BY log_partition, segment_start, epoch, reason LIMIT ?8"
);

/// Groups of a log that pass, behind a key, in the order of their keys.
pub(super) fn page(
    connection: &Connection,
    log_id: LogId,
    filter: &DeadLetterFilter,
    after: Option<&DeadLetterKey>,
    limit: usize,
) -> Result<Vec<DeadLetterGroup>, Failure> {
    let (log, limit) = (log_id.0.as_slice(), limit_of(limit));
    let (partition, start, epoch) =
        after.map_or((-1, -1, -1), |DeadLetterKey { segment, .. }| {
            (
                i64::from(segment.partition.0),
                signed_bound(segment.start),
                i64::from(segment.epoch.0),
            )
        });
    match (&filter.tenant, filter.reason) {
        (None, None) => {
            let (reason, tenant) =
                after.map_or(("", ""), |key| (key.reason.as_str(), key.tenant.as_str()));
            let values = params![log, partition, start, epoch, reason, tenant, limit];
            collect(connection, log_id, PAGE, values)
        }
        (None, Some(reason)) => {
            let (epoch, tenant) = tenant_bound(after, reason, epoch);
            let reason = reason.as_str();
            let values = params![log, reason, partition, start, epoch, tenant, limit];
            collect(connection, log_id, PAGE_OF_REASON, values)
        }
        (Some(tenant), reason) => {
            let before = after.map_or("", |after| order::reason_before(after, tenant));
            let reason = reason.map(DeadLetterReason::as_str);
            let values = params![log, tenant, partition, start, epoch, before, reason, limit];
            collect(connection, log_id, PAGE_OF_TENANT, values)
        }
    }
}

/// Epoch and tenant that the groups of a reason in the segment of `after` must be greater than. Keys
/// sort by the reason first, so those of a lesser reason are all before `after`, and those of a
/// greater one all behind it. In SQLite every blob is greater than every text.
fn tenant_bound(
    after: Option<&DeadLetterKey>,
    reason: DeadLetterReason,
    epoch: i64,
) -> (i64, Value) {
    let last = Value::Blob(Vec::new());
    let Some(after) = after else { return (epoch, last) };
    match after.reason.as_str().cmp(reason.as_str()) {
        Ordering::Less => (epoch - 1, last),
        Ordering::Equal => (epoch, Value::Text(after.tenant.clone())),
        Ordering::Greater => (epoch, last),
    }
}

fn collect(
    connection: &Connection,
    log_id: LogId,
    sql: &str,
    values: impl Params,
) -> Result<Vec<DeadLetterGroup>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut groups = Vec::new();
    while let Some(row) = rows.next()? {
        groups.push(group(log_id, row)?);
    }
    Ok(groups)
}

fn group(log_id: LogId, row: &Row<'_>) -> Result<DeadLetterGroup, Failure> {
    let segment = SegmentId {
        log_id,
        partition: Partition(row.get(0)?),
        start: unsigned(row.get(1)?)?,
        epoch: Epoch(row.get(2)?),
    };
    let (reason, count): (String, i64) = (row.get(3)?, row.get(6)?);
    let reason = DeadLetterReason::parse(&reason).ok_or_else(|| damaged("reason", &reason))?;
    Ok(DeadLetterGroup {
        key: DeadLetterKey { segment, reason, tenant: row.get(4)? },
        offset_last: unsigned(row.get(5)?)?,
        count: u64::try_from(count).map_err(|_| damaged("count", &count.to_string()))?,
        time_first: row.get::<_, Option<i64>>(7)?.map(time).transpose()?,
        time_last: row.get::<_, Option<i64>>(8)?.map(time).transpose()?,
        sample: DeadLetterSample {
            offset: unsigned(row.get(9)?)?,
            index: row.get(10)?,
            product_sku: row.get(11)?,
            time: row.get::<_, Option<i64>>(12)?.map(time).transpose()?,
            message: row.get(13)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_found_by_a_step_down_a_tree() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&super::super::schema::KIND.schema.concat()).unwrap();
        for (sql, seek) in [
            (PAGE, "(log_id=? AND (log_partition,segment_start,epoch,reason,tenant)>"),
            (
                PAGE_OF_REASON,
                "(log_id=? AND reason=? AND (log_partition,segment_start,epoch,tenant)>",
            ),
            (
                PAGE_OF_TENANT,
                "(log_id=? AND tenant=? AND (log_partition,segment_start,epoch,reason)>",
            ),
        ] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
            let plan: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(plan.len(), 1, "no sorting: {plan:?}");
            assert!(plan[0].starts_with("SEARCH") && plan[0].contains(seek), "{plan:?}");
        }
    }
}
