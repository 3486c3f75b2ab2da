//! Flush: aggregates leave the lanes, reach the store, and only then does progress move.
//!
//! A crash at any point repeats work and never changes a total: a row is a pure function of its
//! segment of the log, so writing it again writes the same bytes. One task for each lane writes one
//! flush after the other, and tries for ever: what a lane has handed over is never dropped while
//! the process lives.

use std::{sync::Arc, time::Duration};

use domain::{UsageStore, store::Flush};
use service::{Backoff, fault, health::Trouble};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::{consumer::PartitionReport, drain::Done, metrics};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A flush, and who waits for it.
pub(crate) struct FlushJob {
    pub(crate) flush: Flush,
    pub(crate) done: Option<(Done, PartitionReport)>,
}

/// Stores flushes in order until their lane is gone.
pub(crate) async fn run<U: UsageStore>(
    store: Arc<U>,
    mut jobs: mpsc::Receiver<FlushJob>,
    trouble: Trouble,
) {
    while let Some(FlushJob { flush, done }) = jobs.recv().await {
        fault::point("consumer.before_flush");
        store_flush(&*store, &flush, &trouble).await;
        if flush.close.is_some() {
            fault::point("consumer.after_close");
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

async fn store_flush<U: UsageStore>(store: &U, flush: &Flush, trouble: &Trouble) {
    let segment = &flush.segment;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    let mut failed = 0u64;
    while let Err(error) = store.flush(flush).await {
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
    debug!(partition = %segment.partition, segment_start = %segment.start, folded_to = %flush.progress.folded_to, rows = flush.rows.len(), "flushed");
}

#[cfg(test)]
mod tests;
