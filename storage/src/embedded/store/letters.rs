//! Dead letters, read back: those of the newest generation, and of each place the newest verdict.

use domain::{
    DeadLetter, DeadLetterReason, Epoch, LogId, Partition, Timestamp, store::DeadLetterPlace,
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::failure::{Failure, damaged, limit_of, signed_bound, unsigned};

const NEWEST_AT_ITS_PLACE: &str = "
    log_id = (SELECT log_id FROM generation ORDER BY sequence DESC LIMIT 1)
    AND NOT EXISTS (
        SELECT 1 FROM dead_letter AS newer
        WHERE newer.log_id = letter.log_id AND newer.log_partition = letter.log_partition
          AND newer.record_offset = letter.record_offset
          AND newer.pulse_index = letter.pulse_index AND newer.epoch > letter.epoch)";

const COLUMNS: &str = "log_id, log_partition, record_offset, pulse_index, epoch, reason, tenant, \
                       product_sku, time, message, payload";

pub(super) fn page(
    connection: &Connection,
    reason: Option<DeadLetterReason>,
    after: Option<DeadLetterPlace>,
    limit: usize,
) -> Result<Vec<DeadLetter>, Failure> {
    let by_reason = if reason.is_some() { "AND reason = :reason" } else { "AND :reason IS NULL" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letter AS letter
         WHERE {NEWEST_AT_ITS_PLACE} {by_reason}
           AND (log_partition, record_offset, pulse_index) > (:partition, :offset, :index)
         ORDER BY log_partition, record_offset, pulse_index LIMIT :limit"
    ))?;
    let (partition, offset, index) = after.map_or((-1, -1, -1), |(partition, offset, index)| {
        (i64::from(partition.0), signed_bound(offset), i64::from(index))
    });
    let mut rows = statement.query(named_params! {
        ":reason": reason.map(DeadLetterReason::as_str),
        ":partition": partition,
        ":offset": offset,
        ":index": index,
        ":limit": limit_of(limit),
    })?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        letters.push(letter(row)?);
    }
    Ok(letters)
}

pub(super) fn one(
    connection: &Connection,
    (partition, offset, index): DeadLetterPlace,
) -> Result<Option<DeadLetter>, Failure> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letter AS letter
         WHERE {NEWEST_AT_ITS_PLACE} AND log_partition = :partition AND record_offset = :offset
           AND pulse_index = :index"
    ))?;
    let params = named_params! {
        ":partition": partition.0,
        ":offset": signed_bound(offset),
        ":index": index,
    };
    statement.query_row(params, |row| Ok(letter(row))).optional()?.transpose()
}

fn letter(row: &Row<'_>) -> Result<DeadLetter, Failure> {
    let reason: String = row.get(5)?;
    let time: Option<i64> = row.get(8)?;
    let time = time.map(|micros| {
        Timestamp::from_micros(micros).ok_or_else(|| damaged("time", &micros.to_string()))
    });
    Ok(DeadLetter {
        log_id: LogId(row.get(0)?),
        partition: Partition(row.get(1)?),
        offset: unsigned(row.get(2)?)?,
        index: row.get(3)?,
        epoch: Epoch(row.get(4)?),
        reason: DeadLetterReason::parse(&reason).ok_or_else(|| damaged("reason", &reason))?,
        tenant: row.get(6)?,
        product_sku: row.get(7)?,
        time: time.transpose()?,
        message: row.get(9)?,
        payload: row.get(10)?,
    })
}
