//! Port: the usage store, where totals and their proofs are kept.
//!
//! Every row is an absolute total of one segment, never read before it is written, and the writer
//! that folded further wins. So a flush may be repeated, reordered with an older one, or done by a
//! consumer that should be dead, and the totals stay right.

use std::{future::Future, sync::Arc};

use thiserror::Error;

use crate::{
    DeadLetterGroup, DeadLetterKey, Epoch, LogId, Manifest, Offset, Partition, RowKey, SegmentId,
    Sku, Tenant, Timestamp, Unit, UsageRow, View,
    dead_letter::DeadLetterReason,
    epochs::{Journal, LogEvent},
    generation::Generation,
    segment::Progress,
};

/// Rows, manifests, fold states, dead letters, progress.
pub trait UsageStore: Send + Sync + 'static {
    /// Registers a log generation behind the newest one, which must be `after` (`None`: the store
    /// knows no log), by compare-and-set: of two processes that register at once, one does. A
    /// generation that is registered already is only compared, whatever `after` says.
    ///
    /// # Errors
    /// `Conflict` when its parameters differ from those registered under its id, or when the newest
    /// generation is not `after`: the totals here come from another log.
    fn register(
        &self,
        generation: &Generation,
        after: Option<LogId>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Every registered generation, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn generations(&self) -> impl Future<Output = Result<Vec<Generation>, StoreError>> + Send;

    /// Writes a flush. Durable on return, in this order or all at once: rows, dead letters, run and
    /// state; then the manifest; then progress. A row replaces a stored one
    /// only if its `offset_last` is greater; an equal one has equal bytes, because a row is a pure
    /// function of its segment up to there, so which of them stays is the adapter's choice. The same
    /// holds for a group of dead letters, and for progress by `folded_to`. `caught_up_at` is
    /// written whenever it is given: the last one that was written counts, not the greatest, so that a
    /// reading from a wrong clock does not stay. The flush is shared and never copied.
    ///
    /// # Errors
    /// `TooLarge`: nothing was written, and trying again cannot help. After any other error the flush
    /// may be written in part; the caller writes it again.
    fn flush(&self, flush: Arc<Flush>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The manifest with the greatest start, if any.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn newest_manifest(
        &self,
        partition: PartitionKey,
    ) -> impl Future<Output = Result<Option<Manifest>, StoreError>> + Send;

    /// Manifests whose start is at or after `from`, ascending, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn manifests(
        &self,
        partition: PartitionKey,
        from: Offset,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Manifest>, StoreError>> + Send;

    /// Progress, if anything was flushed.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn progress(
        &self,
        partition: PartitionKey,
    ) -> impl Future<Output = Result<Option<Progress>, StoreError>> + Send;

    /// The fold state's bytes with this digest.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn state(
        &self,
        digest: u128,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// The first bytes of the fold state with this digest: `bytes` of them, or more, or all there are.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn state_head(
        &self,
        digest: u128,
        bytes: usize,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// The run of ids of a closed segment; empty where it saw none.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn run(&self, segment: SegmentId) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;

    /// The stored rows of one segment within these tenants' days, in any order.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn segment_rows(
        &self,
        segment: SegmentId,
        places: &[(Tenant, i32)],
    ) -> impl Future<Output = Result<Vec<UsageRow>, StoreError>> + Send;

    /// Rows of every epoch that pass the filter, after `after`, at most `limit`, sorted by tenant,
    /// window start, SKU, unit, dimensions, epoch, log, partition, segment. A result shorter than
    /// `limit` is the last. Who wants totals reads by a [`UsageCursor`](crate::UsageCursor), which
    /// knows the blocks and counts everything once.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn scan(
        &self,
        filter: &UsageFilter,
        after: Option<&RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<UsageRow>, StoreError>> + Send;

    /// Tenants that have any row, in any epoch, each once, by the bytes of their names, behind
    /// `after`; at most `limit` (at least 1), fewer only at the end. One whose first row is just being
    /// flushed may be among them. Costs a look-up a tenant, not a row.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Tenant>, StoreError>> + Send;

    /// Groups of dead letters of one log in every epoch that pass the filter, after `after`, at most
    /// `limit`, in the order of their keys. A result shorter than `limit` is the last.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn scan_dead_letters(
        &self,
        log_id: LogId,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetterGroup>, StoreError>> + Send;

    /// The journal's entries, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn log_events(&self) -> impl Future<Output = Result<Vec<LogEvent>, StoreError>> + Send;

    /// Adds an entry to the journal as its number `entries`, by compare-and-set: of two processes
    /// that add at once, one does. Durable on return.
    ///
    /// # Errors
    /// `Conflict` when the journal does not have exactly `entries` entries. After `Unavailable` the
    /// entry may be there.
    fn append_log_event(
        &self,
        entries: u64,
        event: &LogEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What the journal says.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn journal(&self) -> impl Future<Output = Result<Journal, StoreError>> + Send {
        async { Ok(Journal::of(self.log_events().await?)) }
    }

    /// The totals that are the logs' now.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn active_view(&self) -> impl Future<Output = Result<View, StoreError>> + Send {
        async { Ok(View::active(self.journal().await?)) }
    }

    /// The stored groups of dead letters of one segment, in the order of their keys.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn segment_dead_letters(
        &self,
        segment: SegmentId,
    ) -> impl Future<Output = Result<Vec<DeadLetterGroup>, StoreError>> + Send {
        const PAGE: usize = 1_000;
        async move {
            let (mut groups, filter) = (Vec::new(), DeadLetterFilter::default());
            let mut after = DeadLetterKey::behind_all_before(segment);
            loop {
                let more = self.scan_dead_letters(segment.log_id, &filter, after.as_ref(), PAGE);
                let more = more.await?;
                let found = more.len();
                after = more.last().map(|group| group.key.clone());
                groups.extend(more.into_iter().filter(|group| group.key.segment == segment));
                let is_past = after.as_ref().is_none_or(|last| last.segment != segment);
                if found < PAGE || is_past {
                    return Ok(groups);
                }
            }
        }
    }

    /// As [`UsageStore::scan_dead_letters`], of a view only.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn dead_letters(
        &self,
        view: &View,
        log_id: LogId,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetterGroup>, StoreError>> + Send {
        async move {
            let (mut groups, mut after) = (Vec::new(), after.cloned());
            while groups.len() < limit {
                let more = self.scan_dead_letters(log_id, filter, after.as_ref(), limit).await?;
                let is_last = more.len() < limit;
                after = more.last().map(|group| group.key.clone());
                groups.extend(more.into_iter().filter(|group| view.counts(&group.key.segment)));
                if is_last {
                    break;
                }
            }
            groups.truncate(limit);
            Ok(groups)
        }
    }
}

/// A partition of a log generation, in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The log generation.
    pub log_id: LogId,
    /// A partition of that generation.
    pub partition: Partition,
    /// The epoch of its fold.
    pub epoch: Epoch,
}

/// Which dead letters are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// One reason, or all.
    pub reason: Option<DeadLetterReason>,
    /// One tenant, or all. Empty: those whose tenant is not known.
    pub tenant: Option<String>,
}

/// What leaves a lane at once, about one segment.
///
/// The rows in the flushes of a complete segment without progress, and in that with its close, are all
/// of the segment together with `stored_before`.
#[derive(Clone, Debug)]
pub struct Flush {
    /// The one segment that all of it belongs to.
    pub segment: SegmentId,
    /// Its rows that changed since they were last stored.
    pub rows: Vec<UsageRow>,
    /// Its groups of dead letters that changed since they were last stored.
    pub dead_letters: Vec<DeadLetterGroup>,
    /// For who publishes totals, not for the store: rows of a segment that is complete, which earlier
    /// flushes stored in their final form.
    pub stored_before: Vec<UsageRow>,
    /// Set when the segment is complete, in the last of its flushes.
    pub close: Option<SegmentClose>,
    /// Where the partition stands after this flush. `None` in flushes of a segment that is complete,
    /// but for the last: their rows are final, and nothing is proved yet.
    pub progress: Option<Progress>,
}

/// What a complete segment leaves beside its rows.
#[derive(Clone, Debug)]
pub struct SegmentClose {
    /// Its proof.
    pub manifest: Manifest,
    /// Its ids, sorted; empty when it saw none.
    pub run: Vec<u8>,
    /// The fold state at its end, without the ids, in its stored form.
    pub state: Vec<u8>,
    /// Days of tenants that got usage for windows that had ended when the segment started. Not stored: the
    /// manifest's digest of rows is made with them.
    pub touched: Vec<Touched>,
}

/// A tenant's day (days since 1970) that a segment added to after its window's end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Touched {
    /// The tenant whose day it is.
    pub tenant: Tenant,
    /// Days since 1970.
    pub window_day: i32,
}

/// Which usage is wanted. Windows whose start is in `[from, to)`.
#[derive(Clone, Debug)]
pub struct UsageFilter {
    /// One tenant, or all.
    pub tenant: Option<Tenant>,
    /// One SKU, or all.
    pub product_sku: Option<Sku>,
    /// One unit, or all.
    pub use_unity: Option<Unit>,
    /// First window start.
    pub from: Timestamp,
    /// First window start that is out.
    pub to: Timestamp,
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Passing; try again.
    #[error("the store does not answer now: {0}")]
    Unavailable(String),
    /// Something else stands in its place.
    #[error("{0}")]
    Conflict(String),
    /// Stored bytes are damaged.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// A value is larger than the store can keep. Nothing was written, and the store itself is well.
    #[error("too large for the store: {0}")]
    TooLarge(String),
    /// Cannot be mended by trying again.
    #[error("{0}")]
    Fatal(String),
}
