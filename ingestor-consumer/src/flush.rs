//! Flush: aggregates leave the lanes, reach the store, and only then does progress move.
//!
//! A crash at any point repeats work and never changes a total: a row is a pure function of its
//! segment of the log, so writing it again writes the same bytes. One task for each lane writes one
//! flush after the other, and tries for ever: what a lane has handed over is never dropped while
//! the process lives.

use std::{sync::Arc, time::Duration};

use domain::{PulseLog, SegmentId, TotalsFeed, UsageRow, UsageStore, WindowLength, store::Flush};
use runtime::{Backoff, fault, health::Trouble};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::{
    handover::{FlushJob, StoreJob},
    metrics,
};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where flushes go, in this order: final totals to the feed, everything to the store, and a word
/// to the log.
pub(crate) struct Flusher<L, U, F> {
    /// Receives how far the log was read; `None` for rebuilds.
    pub(crate) progress_log: Option<Arc<L>>,
    pub(crate) store: Arc<U>,
    pub(crate) feed: Option<Arc<F>>,
    /// Length of the rows' windows.
    pub(crate) window: WindowLength,
    pub(crate) trouble: Trouble,
}

/// Stores flushes in order until their lane is gone.
pub(crate) async fn run<L: PulseLog, U: UsageStore, F: TotalsFeed>(
    to: Flusher<L, U, F>,
    mut jobs: mpsc::Receiver<FlushJob>,
) {
    while let Some(job) = jobs.recv().await {
        let StoreJob { mut flush, done } = match job {
            FlushJob::Store(job) => *job,
            FlushJob::Tell { reason, done } => {
                // The tick may have been dropped; then nobody asks.
                drop(done.send(Err(reason)));
                continue;
            }
        };
        fault::point("consumer.before_flush");
        if let Some(feed) = &to.feed {
            publish_final((&**feed, to.window), &mut flush, &to.trouble).await;
        }
        let flush = Arc::new(flush);
        store_flush(&*to.store, &flush, &to.trouble).await;
        if let Some(close) = &flush.close {
            fault::point("consumer.after_close");
            if let Some(log) = &to.progress_log {
                log.note_stored(flush.segment.partition, close.manifest.end);
            }
        } else {
            fault::point("consumer.after_rows");
        }
        metrics::flushed(&flush);
        if let Some((done, report)) = done {
            // The tick may have been dropped; then nobody asks.
            drop(done.send(Ok(report)));
        }
    }
}

/// Publishes the rows of a complete segment before its manifest is stored, so that a segment with a
/// manifest was published.
async fn publish_final<F: TotalsFeed>(
    feed: (&F, WindowLength),
    flush: &mut Flush,
    trouble: &Trouble,
) {
    if flush.close.is_none() && flush.progress.is_some() {
        return;
    }
    for rows in [&std::mem::take(&mut flush.stored_before), &flush.rows] {
        publish(feed, &flush.segment, rows, trouble).await;
    }
}

async fn publish<F: TotalsFeed>(
    (feed, window): (&F, WindowLength),
    segment: &SegmentId,
    rows: &[UsageRow],
    trouble: &Trouble,
) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    while let Err(error) = feed.publish(window, rows).await {
        let delay = backoff.next_delay();
        let _also_in_readiness = trouble.met(&error);
        warn!(partition = %segment.partition, segment_start = %segment.start, %error, ?delay, "totals not published; trying again");
        tokio::time::sleep(delay).await;
    }
    debug!(partition = %segment.partition, segment_start = %segment.start, rows = rows.len(), "totals published");
}

async fn store_flush<U: UsageStore>(store: &U, flush: &Arc<Flush>, trouble: &Trouble) {
    let segment = &flush.segment;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    let mut failed = 0u64;
    while let Err(error) = store.flush(Arc::clone(flush)).await {
        failed += 1;
        metrics::flush_failed();
        let delay = backoff.next_delay();
        // Every try is logged: there are few, and each says how long until the next.
        let _also_in_readiness = trouble.met(&error);
        warn!(partition = %segment.partition, segment_start = %segment.start, %error, failed, ?delay, "flush failed; the log keeps everything, trying again");
        tokio::time::sleep(delay).await;
    }
    if failed > 0 {
        info!(partition = %segment.partition, segment_start = %segment.start, failed, "flush stored after failures");
    }
    debug!(partition = %segment.partition, segment_start = %segment.start, folded_to = ?flush.progress.map(|progress| progress.folded_to), rows = flush.rows.len(), "flushed");
}

#[cfg(test)]
mod tests;
