//! Groups of dead letters: a CQL partition for each segment that has any, so that none grows for ever,
//! and two short lists that say which segments those are, by reason and by tenant.

use std::collections::BTreeSet;

use domain::{
    DeadLetterGroup, DeadLetterKey, DeadLetterReason, DeadLetterSample, Epoch, LogId, Partition,
    SegmentId, Timestamp,
    generation::Generation,
    store::{DeadLetterFilter, StoreError},
};
use futures_util::{TryStreamExt as _, future::try_join_all};

use super::{
    client::Client,
    error::{Failure, damaged, signed, signed_bound, small, time, unsigned},
};
use crate::order;

/// Groups of a segment that are written by one request. A group has at most 1 KiB, and Cassandra
/// refuses a batch of 50.
const GROUPS_TOGETHER: usize = 16;

/// Rows that are asked for at once, and groups that are looked up together.
const PAGE_GROUPS: usize = 100;

/// Writes groups and where they are. On return all are acknowledged.
pub(super) async fn write(client: &Client, groups: &[DeadLetterGroup]) -> Result<(), Failure> {
    let mut sorted: Vec<&DeadLetterGroup> = groups.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let place = |group: &DeadLetterGroup| {
        let SegmentId { log_id, partition, start, .. } = group.key.segment;
        (log_id, partition, start)
    };
    let mut writes = client.link.writes();
    for of_place in sorted.chunk_by(|a, b| place(a) == place(b)) {
        for together in of_place.chunks(GROUPS_TOGETHER) {
            writes.add(write_together(client, together)).await?;
        }
    }
    writes.finish().await?;
    let mut writes = client.link.writes();
    for group in &sorted {
        writes.add(write_tenant(client, &group.key)).await?;
    }
    writes.finish().await?;
    let reasons: BTreeSet<_> =
        sorted.iter().map(|group| (group.key.reason.as_str(), group.key.segment)).collect();
    let mut writes = client.link.writes();
    for (reason, segment) in reasons {
        writes.add(write_reason(client, reason, segment)).await?;
    }
    writes.finish().await.map(drop)
}

/// What `insert_group` takes; the last is the time of the write.
type Written<'a> = (
    &'a [u8],
    i32,
    i64,
    i32,
    &'a str,
    &'a str,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
    &'a str,
    Option<i64>,
    &'a str,
    i64,
);

async fn write_together(client: &Client, groups: &[&DeadLetterGroup]) -> Result<(), Failure> {
    let values = groups.iter().map(|group| values(group)).collect::<Result<Vec<_>, _>>()?;
    client.link.write_together(&client.statements.insert_group, &values).await
}

fn values(group: &DeadLetterGroup) -> Result<Written<'_>, Failure> {
    let DeadLetterKey { segment, reason, tenant } = &group.key;
    let sample = &group.sample;
    let count = i64::try_from(group.count)
        .map_err(|_| StoreError::Fatal(format!("count {} is beyond 63 bits", group.count)))?;
    let offset_last = signed(group.offset_last)?;
    Ok((
        &segment.log_id.0,
        i32::from(segment.partition.0),
        signed(segment.start)?,
        i32::from(segment.epoch.0),
        reason.as_str(),
        tenant,
        offset_last,
        count,
        group.time_first.map(Timestamp::micros),
        group.time_last.map(Timestamp::micros),
        signed(sample.offset)?,
        i64::from(sample.index),
        &sample.product_sku,
        sample.time.map(Timestamp::micros),
        &sample.message,
        offset_last + 1,
    ))
}

async fn write_tenant(client: &Client, key: &DeadLetterKey) -> Result<(), Failure> {
    let SegmentId { log_id, partition, epoch, start } = key.segment;
    let values = (
        log_id.0.as_slice(),
        i32::from(partition.0),
        key.tenant.as_str(),
        signed(start)?,
        i32::from(epoch.0),
        key.reason.as_str(),
    );
    client.link.write(&client.statements.insert_group_of_tenant, values).await
}

async fn write_reason(client: &Client, reason: &str, segment: SegmentId) -> Result<(), Failure> {
    let SegmentId { log_id, partition, epoch, start } = segment;
    let (partition, epoch) = (i32::from(partition.0), i32::from(epoch.0));
    let values = (log_id.0.as_slice(), partition, reason, signed(start)?, epoch);
    client.link.write(&client.statements.insert_segment_of_reason, values).await
}

/// Groups of a generation that pass, behind a key, at most `limit`, in the order of their keys.
pub(super) async fn page(
    client: &Client,
    generation: &Generation,
    filter: &DeadLetterFilter,
    after: Option<&DeadLetterKey>,
    limit: usize,
) -> Result<Vec<DeadLetterGroup>, Failure> {
    let mut groups = Vec::new();
    let first = after.map_or(Partition(0), |after| after.segment.partition);
    for partition in generation.partitions().filter(|partition| *partition >= first) {
        if groups.len() >= limit {
            break;
        }
        let place = (generation.log_id, partition);
        let after = after.filter(|after| after.segment.partition == partition);
        let missing = limit - groups.len();
        groups.extend(match &filter.tenant {
            Some(tenant) => of_tenant(client, place, tenant, filter.reason, after, missing).await?,
            None => of_reason(client, place, filter.reason, after, missing).await?,
        });
    }
    Ok(groups)
}

/// Groups of a tenant in a partition: the list says which there are, each is looked up.
async fn of_tenant(
    client: &Client,
    (log_id, partition): (LogId, Partition),
    tenant: &str,
    reason: Option<DeadLetterReason>,
    after: Option<&DeadLetterKey>,
    limit: usize,
) -> Result<Vec<DeadLetterGroup>, Failure> {
    let (start, epoch, before) = after.map_or((-1, -1, ""), |after| {
        let SegmentId { start, epoch, .. } = after.segment;
        (signed_bound(start), i32::from(epoch.0), order::reason_before(after, tenant))
    });
    let values = (log_id.0.as_slice(), i32::from(partition.0), tenant, start, epoch, before);
    let statement = &client.statements.groups_of_tenant;
    let page = PAGE_GROUPS.min(limit);
    let listed = client.link.stream::<(i64, i32, String)>(statement, values, page).await?;
    let mut listed = std::pin::pin!(listed);
    let (mut groups, mut wanted) = (Vec::new(), Vec::new());
    loop {
        let next = listed.try_next().await?;
        let is_last = next.is_none();
        wanted.extend(next.filter(|(.., found)| reason.is_none_or(|of| of.as_str() == found)));
        let enough = wanted.len() >= page.min(limit - groups.len());
        if is_last || enough {
            let one = |(start, epoch, reason): (i64, i32, String)| async move {
                let place = (log_id, partition, start);
                group_at(client, place, (epoch, &reason, tenant)).await
            };
            // One that is not there yet is of a flush that is being written.
            groups.extend(try_join_all(wanted.drain(..).map(one)).await?.into_iter().flatten());
        }
        if is_last || groups.len() >= limit {
            return Ok(groups);
        }
    }
}

/// A partition's groups of a reason, or all of them: the lists say which segments have any, and those
/// are read one after the other.
async fn of_reason(
    client: &Client,
    (log_id, partition): (LogId, Partition),
    reason: Option<DeadLetterReason>,
    after: Option<&DeadLetterKey>,
    limit: usize,
) -> Result<Vec<DeadLetterGroup>, Failure> {
    let reasons = reason.as_ref().map_or(DeadLetterReason::ALL, std::slice::from_ref);
    let place_of = |after: &DeadLetterKey| {
        (signed_bound(after.segment.start), i32::from(after.segment.epoch.0))
    };
    let mut from = after.map_or((0, 0), place_of);
    let mut groups = Vec::new();
    while groups.len() < limit {
        let found = next_segment(client, (log_id, partition), reasons, from).await?;
        let Some((start, epoch)) = found else { break };
        let after = after.filter(|after| place_of(after) == (start, epoch));
        let place = (log_id, partition, start);
        let missing = limit - groups.len();
        groups.extend(in_segment(client, place, epoch, reasons, after, missing).await?);
        from = (start, epoch + 1);
    }
    Ok(groups)
}

/// The first segment, with its epoch, at or behind one that has groups of any of these reasons.
async fn next_segment(
    client: &Client,
    (log_id, partition): (LogId, Partition),
    reasons: &[DeadLetterReason],
    (start, epoch): (i64, i32),
) -> Result<Option<(i64, i32)>, Failure> {
    let statement = &client.statements.next_segment_of_reason;
    let next = |reason: &DeadLetterReason| {
        let values = (log_id.0.to_vec(), i32::from(partition.0), reason.as_str(), start, epoch);
        client.link.read_one::<(i64, i32)>(statement, values)
    };
    Ok(try_join_all(reasons.iter().map(next)).await?.into_iter().flatten().min())
}

/// The groups of some reasons, which are one or all, in one epoch of a segment.
async fn in_segment(
    client: &Client,
    (log_id, partition, start): (LogId, Partition, i64),
    epoch: i32,
    reasons: &[DeadLetterReason],
    after: Option<&DeadLetterKey>,
    limit: usize,
) -> Result<Vec<DeadLetterGroup>, Failure> {
    let words = || reasons.iter().map(|reason| reason.as_str());
    let (least, most) = (words().min().unwrap_or_default(), words().max().unwrap_or_default());
    let (reason, tenant) = after
        .map(|after| (after.reason.as_str(), after.tenant.as_str()))
        .filter(|(reason, _)| *reason >= least)
        .unwrap_or((least, ""));
    if reason > most {
        return Ok(Vec::new());
    }
    let partition_number = i32::from(partition.0);
    let values = (log_id.0.as_slice(), partition_number, start, epoch, reason, tenant, epoch, most);
    let statement = &client.statements.groups_in_segment;
    let page = PAGE_GROUPS.min(limit + 1);
    let found = client.link.stream::<Read>(statement, values, page).await?;
    let mut found = std::pin::pin!(found);
    let mut groups = Vec::new();
    while groups.len() < limit
        && let Some(row) = found.try_next().await?
    {
        let group = take((log_id, partition, start), row)?;
        // The range begins with `after` itself.
        if after.is_none_or(|after| group.key > *after) {
            groups.push(group);
        }
    }
    Ok(groups)
}

async fn group_at(
    client: &Client,
    (log_id, partition, start): (LogId, Partition, i64),
    (epoch, reason, tenant): (i32, &str, &str),
) -> Result<Option<DeadLetterGroup>, Failure> {
    let values = (log_id.0.as_slice(), i32::from(partition.0), start, epoch, reason, tenant);
    let found = client.link.read_one::<Read>(&client.statements.group, values).await?;
    found.map(|row| take((log_id, partition, start), row)).transpose()
}

/// Epoch, reason, tenant, offset_last, count, time_first, time_last, sample_offset, sample_index, SKU,
/// time, message.
type Read = (
    i32,
    String,
    String,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
    String,
    Option<i64>,
    String,
);

fn take(
    (log_id, partition, start): (LogId, Partition, i64),
    row: Read,
) -> Result<DeadLetterGroup, Failure> {
    let (epoch, reason, tenant, offset_last, count, first, last, offset, index, sku, at, message) =
        row;
    let segment = SegmentId {
        log_id,
        partition,
        epoch: Epoch(small("epoch", epoch)?),
        start: unsigned(start)?,
    };
    let reason = DeadLetterReason::parse(&reason).ok_or_else(|| damaged("reason", reason))?;
    Ok(DeadLetterGroup {
        key: DeadLetterKey { segment, reason, tenant },
        offset_last: unsigned(offset_last)?,
        count: u64::try_from(count).map_err(|_| damaged("count", count))?,
        time_first: first.map(time).transpose()?,
        time_last: last.map(time).transpose()?,
        sample: DeadLetterSample {
            offset: unsigned(offset)?,
            index: u32::try_from(index).map_err(|_| damaged("index", index))?,
            product_sku: sku,
            time: at.map(time).transpose()?,
            message,
        },
    })
}
