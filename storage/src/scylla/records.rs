//! Manifests, progress, fold states and runs of ids.
//!
//! All are pure functions of the log, so the time of a write is a place in the log, never a clock's;
//! but for `caught_up_at`. That is a reading of the consumer's clock, and the servers time its write:
//! timed by itself, a reading from a clock that was ahead would win until that time has come.

use domain::{
    Manifest, Offset, SegmentId,
    segment::Progress,
    store::{PartitionKey, SegmentClose},
};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all};

use super::{
    client::Client,
    error::{Failure, damaged, signed, signed_bound, time, unsigned},
    session::InFlight,
};

/// Bytes of a chunk. Cells of this size are what both servers handle well; some megabytes are the
/// most that a request may have.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that are written or read at once.
const CHUNKS_TOGETHER: usize = 8;

pub(super) async fn write_manifest(client: &Client, manifest: &Manifest) -> Result<(), Failure> {
    let SegmentId { log_id, partition, epoch, start } = manifest.segment;
    let key = (log_id.0.as_slice(), i32::from(partition.0), i32::from(epoch.0), signed(start)?);
    let time = signed(manifest.end)? + 1;
    let values = (key.0, key.1, key.2, key.3, manifest.encode(), time);
    client.link.write(&client.statements.insert_manifest, values).await
}

pub(super) async fn newest_manifest(
    client: &Client,
    key: PartitionKey,
) -> Result<Option<Manifest>, Failure> {
    let PartitionKey { log_id, partition, epoch } = key;
    let values = (log_id.0.as_slice(), i32::from(partition.0), i32::from(epoch.0));
    let found = client.link.read_one(&client.statements.newest_manifest, values).await?;
    found.map(|found| manifest(key, found)).transpose()
}

pub(super) async fn manifests(
    client: &Client,
    key: PartitionKey,
    from: Offset,
    limit: usize,
) -> Result<Vec<Manifest>, Failure> {
    let PartitionKey { log_id, partition, epoch } = key;
    let values =
        (log_id.0.as_slice(), i32::from(partition.0), i32::from(epoch.0), signed_bound(from));
    let found = client.link.stream(&client.statements.manifests, values, limit).await?;
    found.map(|found| manifest(key, found?)).take(limit).try_collect().await
}

fn manifest(key: PartitionKey, (start, cell): (i64, Vec<u8>)) -> Result<Manifest, Failure> {
    let PartitionKey { log_id, partition, epoch } = key;
    let segment = SegmentId { log_id, partition, epoch, start: unsigned(start)? };
    Ok(Manifest::decode(segment, &cell)?)
}

/// Writes progress; a stored one that was folded further stays.
pub(super) async fn write_progress(client: &Client, progress: &Progress) -> Result<(), Failure> {
    let Progress { log_id, partition, epoch, .. } = *progress;
    let (log_id, partition, epoch) = (&log_id.0, i32::from(partition.0), i32::from(epoch.0));
    let values = (log_id.as_slice(), partition, epoch, progress.encode(), progress_time(progress)?);
    let cell = client.link.write(&client.statements.insert_progress, values);
    let Some(caught_up_at) = progress.caught_up_at else { return cell.await };
    let values = (log_id.as_slice(), partition, epoch, caught_up_at.micros());
    let caught_up = client.link.write(&client.statements.insert_caught_up, values);
    tokio::try_join!(cell, caught_up).map(drop)
}

/// Of one place there are two: with the open segment's last record, and a moment later, when the
/// segment was closed there, without. The later one must win, and of equal times the greater bytes
/// would.
fn progress_time(progress: &Progress) -> Result<i64, Failure> {
    Ok(signed(progress.folded_to)? * 2 + i64::from(progress.anchor.is_none()))
}

pub(super) async fn progress(
    client: &Client,
    key: PartitionKey,
) -> Result<Option<Progress>, Failure> {
    let PartitionKey { log_id, partition, epoch } = key;
    let values = (log_id.0.as_slice(), i32::from(partition.0), i32::from(epoch.0));
    let found: Option<(Option<Vec<u8>>, Option<i64>)> =
        client.link.read_one(&client.statements.progress, values).await?;
    // A row without a cell is one whose writer was interrupted between the two.
    let Some((Some(cell), caught_up_at)) = found else { return Ok(None) };
    let caught_up_at = caught_up_at.map(time).transpose()?;
    Ok(Some(Progress::decode((log_id, partition, epoch), &cell, caught_up_at)?))
}

/// Writes the run of ids and the fold state of a segment that is complete.
pub(super) async fn write_close(
    client: &Client,
    segment: SegmentId,
    close: &SegmentClose,
) -> Result<(), Failure> {
    let time = signed(close.manifest.end)? + 1;
    tokio::try_join!(
        write_run(client, segment, &close.run, time),
        write_state(client, close.manifest.state_digest, &close.state, time),
    )
    .map(drop)
}

async fn write_run(
    client: &Client,
    segment: SegmentId,
    run: &[u8],
    time: i64,
) -> Result<(), Failure> {
    if run.is_empty() {
        return Ok(());
    }
    let SegmentId { log_id, partition, epoch, start } = segment;
    let (partition, epoch, start) = (i32::from(partition.0), i32::from(epoch.0), signed(start)?);
    let log_id = log_id.0.as_slice();
    let mut writes = InFlight::new(CHUNKS_TOGETHER);
    for (chunk, chunks, bytes) in chunks(run)? {
        let values = (log_id, partition, epoch, start, chunk, chunks, bytes, time);
        writes.add(client.link.write(&client.statements.insert_run, values)).await?;
    }
    writes.finish().await.map(drop)
}

async fn write_state(
    client: &Client,
    digest: u128,
    state: &[u8],
    time: i64,
) -> Result<(), Failure> {
    let digest = digest.to_be_bytes();
    let mut writes = InFlight::new(CHUNKS_TOGETHER);
    for (chunk, chunks, bytes) in chunks(state)? {
        let values = (digest.as_slice(), chunk, chunks, bytes, time);
        writes.add(client.link.write(&client.statements.insert_state, values)).await?;
    }
    writes.finish().await.map(drop)
}

/// Number of a chunk, how many there are, its bytes.
type Piece<'a> = (i32, i32, &'a [u8]);

/// Cuts bytes. No bytes are one empty chunk.
fn chunks(bytes: &[u8]) -> Result<Vec<Piece<'_>>, Failure> {
    let mut pieces: Vec<&[u8]> = bytes.chunks(CHUNK_BYTES).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let count = i32::try_from(pieces.len()).map_err(|_| damaged("length", bytes.len()))?;
    Ok((0..count).zip(pieces).map(|(chunk, piece)| (chunk, count, piece)).collect())
}

pub(super) async fn state(client: &Client, digest: u128) -> Result<Option<Vec<u8>>, Failure> {
    let digest = digest.to_be_bytes();
    let read = |chunk: i32| {
        let values = (digest.as_slice(), chunk);
        client.link.read_one(&client.statements.state, values)
    };
    join("fold state", read).await
}

/// The first chunk of the state of a digest.
pub(super) async fn state_head(client: &Client, digest: u128) -> Result<Option<Vec<u8>>, Failure> {
    let digest = digest.to_be_bytes();
    let values = (digest.as_slice(), 0);
    let first: Option<Chunk> = client.link.read_one(&client.statements.state, values).await?;
    Ok(first.map(|(_, bytes)| bytes))
}

pub(super) async fn run(client: &Client, segment: SegmentId) -> Result<Vec<u8>, Failure> {
    let SegmentId { log_id, partition, epoch, start } = segment;
    let (partition, epoch) = (i32::from(partition.0), i32::from(epoch.0));
    let start = signed_bound(start);
    let read = |chunk: i32| {
        let values = (log_id.0.as_slice(), partition, epoch, start, chunk);
        client.link.read_one(&client.statements.run, values)
    };
    Ok(join("run of ids", read).await?.unwrap_or_default())
}

/// A chunk: how many there are, and its bytes.
type Chunk = (i32, Vec<u8>);

/// Reads all chunks by their numbers and puts them together; `None` where there is no first.
async fn join<F>(what: &str, read: impl Fn(i32) -> F) -> Result<Option<Vec<u8>>, Failure>
where
    F: Future<Output = Result<Option<Chunk>, Failure>>,
{
    let Some((count, mut bytes)) = read(0).await? else { return Ok(None) };
    for first in (1..count).step_by(CHUNKS_TOGETHER) {
        let numbers = (first..count).take(CHUNKS_TOGETHER);
        for (chunk, found) in numbers.clone().zip(try_join_all(numbers.map(&read)).await?) {
            let missing = || damaged(what, format!("chunk {chunk} of {count} is missing"));
            let (_, more) = found.ok_or_else(missing)?;
            bytes.extend(more);
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_all_of_the_bytes() {
        for (length, expected) in
            [(0, 1), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (3 * CHUNK_BYTES, 3)]
        {
            let bytes = vec![7; length];
            let chunks = chunks(&bytes).unwrap();
            assert_eq!(chunks.len(), expected);
            assert!(chunks.iter().all(|(_, count, _)| *count as usize == expected));
            assert_eq!(chunks.iter().map(|(.., bytes)| bytes.len()).sum::<usize>(), length);
        }
    }
}
