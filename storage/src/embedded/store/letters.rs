//! Dead letters, read back.

use domain::{
    DeadLetter, DeadLetterReason, Epoch, LogId, Partition, Timestamp, store::DeadLetterPlace,
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::failure::{Failure, damaged, limit_of, signed_bound, unsigned};

const COLUMNS: &str = "log_id, log_partition, record_offset, pulse_index, epoch, reason, tenant, \
                       product_sku, time, message, payload";

pub(super) fn page(
    connection: &Connection,
    log_id: LogId,
    reason: Option<DeadLetterReason>,
    after: Option<DeadLetterPlace>,
    limit: usize,
) -> Result<Vec<DeadLetter>, Failure> {
    let by_reason = if reason.is_some() { "AND reason = :reason" } else { "AND :reason IS NULL" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letter
         WHERE log_id = :log {by_reason} AND (log_partition, record_offset, pulse_index, epoch)
               > (:partition, :offset, :index, :epoch)
         ORDER BY log_partition, record_offset, pulse_index, epoch LIMIT :limit"
    ))?;
    let (partition, offset, index, epoch) = after.map_or((-1, -1, -1, -1), |place| {
        let DeadLetterPlace { partition, offset, index, epoch } = place;
        (i64::from(partition.0), signed_bound(offset), i64::from(index), i64::from(epoch.0))
    });
    let mut rows = statement.query(named_params! {
        ":log": log_id.0.as_slice(),
        ":reason": reason.map(DeadLetterReason::as_str),
        ":partition": partition,
        ":offset": offset,
        ":index": index,
        ":epoch": epoch,
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
    log_id: LogId,
    DeadLetterPlace { partition, offset, index, epoch }: DeadLetterPlace,
) -> Result<Option<DeadLetter>, Failure> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letter
         WHERE log_id = :log AND log_partition = :partition AND record_offset = :offset
           AND pulse_index = :index AND epoch = :epoch"
    ))?;
    let params = named_params! {
        ":log": log_id.0.as_slice(),
        ":partition": partition.0,
        ":offset": signed_bound(offset),
        ":index": index,
        ":epoch": epoch.0,
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
