//! Dead letters: by stretches of a partition's offsets, so that no CQL partition grows for ever, and
//! a short list of the stretches that have any of a reason, so that a rare one is found at once.

use std::collections::BTreeSet;

use domain::{
    DeadLetter, DeadLetterReason, Epoch, LogId, Offset, Partition, Timestamp, place::Generation,
    store::DeadLetterPlace,
};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all};

use super::{
    client::Client,
    error::{Failure, damaged, signed, signed_bound, small, unsigned},
};

/// Offsets of a stretch. A record holds some hundred pulses, so a stretch in which all are bad is
/// some hundred megabytes.
const STRETCH_OFFSETS: i64 = 1_024;

/// Letters that are read at once; each may be as large as a record.
const PAGE_LETTERS: usize = 100;

/// Writes letters and where they are. On return all are acknowledged.
pub(super) async fn write(client: &Client, letters: &[DeadLetter]) -> Result<(), Failure> {
    let mut writes = client.link.writes();
    for letter in letters {
        writes.add(write_letter(client, letter)).await?;
    }
    writes.finish().await?;
    let mut stretches = BTreeSet::new();
    for letter in letters {
        let stretch = signed(letter.offset)? / STRETCH_OFFSETS;
        stretches.insert((letter.log_id, letter.partition, letter.reason, stretch));
    }
    let mut writes = client.link.writes();
    for (log_id, partition, reason, stretch) in &stretches {
        let values = (log_id.0.as_slice(), i32::from(partition.0), reason.as_str(), *stretch);
        writes.add(client.link.write(&client.statements.insert_stretch, values)).await?;
    }
    writes.finish().await.map(drop)
}

async fn write_letter(client: &Client, letter: &DeadLetter) -> Result<(), Failure> {
    let offset = signed(letter.offset)?;
    let values = (
        letter.log_id.0.as_slice(),
        i32::from(letter.partition.0),
        offset / STRETCH_OFFSETS,
        offset,
        i64::from(letter.index),
        i32::from(letter.epoch.0),
        letter.reason.as_str(),
        letter.tenant.as_str(),
        letter.product_sku.as_str(),
        letter.time.map(Timestamp::micros),
        letter.message.as_str(),
        letter.payload.as_slice(),
        offset + 1,
    );
    client.link.write(&client.statements.insert_letter, values).await
}

/// Letters of a generation after a place, at most `limit`, by place.
pub(super) async fn page(
    client: &Client,
    generation: &Generation,
    reason: Option<DeadLetterReason>,
    after: Option<DeadLetterPlace>,
    limit: usize,
) -> Result<Vec<DeadLetter>, Failure> {
    let mut letters = Vec::new();
    let first = after.map_or(Partition(0), |after| after.partition);
    for partition in generation.partitions().filter(|partition| *partition >= first) {
        let mut from = match after {
            Some(DeadLetterPlace { partition: of, offset, index, epoch }) if of == partition => {
                (signed_bound(offset), i64::from(index), i32::from(epoch.0))
            }
            _ => (-1, -1, -1),
        };
        while letters.len() < limit {
            let place = (generation.log_id, partition);
            let first = from.0.max(0) / STRETCH_OFFSETS;
            let Some(stretch) = next_stretch(client, place, reason, first).await? else { break };
            let missing = limit - letters.len();
            letters.extend(in_stretch(client, place, stretch, reason, from, missing).await?);
            from = ((stretch + 1).saturating_mul(STRETCH_OFFSETS), -1, -1);
        }
    }
    Ok(letters)
}

/// The first stretch at or after one that has letters, of this reason or of any.
async fn next_stretch(
    client: &Client,
    (log_id, partition): (LogId, Partition),
    reason: Option<DeadLetterReason>,
    first: i64,
) -> Result<Option<i64>, Failure> {
    let reasons = reason.as_ref().map_or(DeadLetterReason::ALL, std::slice::from_ref);
    let statement = &client.statements.next_stretch;
    let next = |reason: &DeadLetterReason| {
        let values = (log_id.0.to_vec(), i32::from(partition.0), reason.as_str(), first);
        client.link.read_one::<(i64,)>(statement, values)
    };
    let found = try_join_all(reasons.iter().map(next)).await?;
    Ok(found.into_iter().flatten().map(|(stretch,)| stretch).min())
}

async fn in_stretch(
    client: &Client,
    (log_id, partition): (LogId, Partition),
    stretch: i64,
    reason: Option<DeadLetterReason>,
    after: (i64, i64, i32),
    limit: usize,
) -> Result<Vec<DeadLetter>, Failure> {
    let (offset, index, epoch) = after;
    let key = (log_id.0.as_slice(), i32::from(partition.0), stretch, offset, index, epoch);
    let statement = &client.statements.letters;
    let found = client.link.stream::<Read>(statement, key, PAGE_LETTERS.min(limit)).await?;
    let mut found = std::pin::pin!(found.map(|row| take(log_id, partition, row?)));
    let mut letters: Vec<DeadLetter> = Vec::new();
    while letters.len() < limit
        && let Some(letter) = found.try_next().await?
    {
        if reason.is_none_or(|reason| letter.reason == reason) {
            letters.push(letter);
        }
    }
    Ok(letters)
}

/// The letter at a place.
pub(super) async fn one(
    client: &Client,
    log_id: LogId,
    DeadLetterPlace { partition, offset, index, epoch }: DeadLetterPlace,
) -> Result<Option<DeadLetter>, Failure> {
    let offset = signed_bound(offset);
    let values = (
        log_id.0.as_slice(),
        i32::from(partition.0),
        offset / STRETCH_OFFSETS,
        offset,
        i64::from(index),
        i32::from(epoch.0),
    );
    let found = client.link.read_one::<Read>(&client.statements.letter, values).await?;
    found.map(|row| take(log_id, partition, row)).transpose()
}

/// Offset, index, epoch, reason, tenant, SKU, time, message, payload.
type Read = (i64, i64, i32, String, String, String, Option<i64>, String, Vec<u8>);

fn take(log_id: LogId, partition: Partition, row: Read) -> Result<DeadLetter, Failure> {
    let (offset, index, epoch, reason, tenant, product_sku, time, message, payload) = row;
    let at = |micros| Timestamp::from_micros(micros).ok_or_else(|| damaged("time", micros));
    Ok(DeadLetter {
        log_id,
        partition,
        epoch: Epoch(small("epoch", epoch)?),
        offset: Offset(unsigned(offset)?.0),
        index: u32::try_from(index).map_err(|_| damaged("index", index))?,
        reason: DeadLetterReason::parse(&reason).ok_or_else(|| damaged("reason", reason))?,
        tenant,
        product_sku,
        time: time.map(at).transpose()?,
        message,
        payload,
    })
}
