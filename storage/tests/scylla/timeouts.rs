//! Writes that go wrong one by one: whichever write of a flush is refused, times out, gets no answer
//! or loses its connection, the order held, and the caller's next try completes the flush.

use std::{collections::BTreeSet, time::Duration};

use domain::{
    DeadLetterGroup, DeadLetterReason, Epoch, Manifest, Offset, Partition, SegmentId, Tenant,
    Timestamp, UsageRow, UsageStore,
    store::{DeadLetterFilter, Flush, PartitionKey, StoreError, UsageFilter},
};
use storage::{
    conformance::{
        samples::{LOG, at, close, dead_letters, flush, generation, key, row, segment},
        servers::Server,
    },
    order,
    scylla::{ScyllaStore, ScyllaUsageStore},
};

use crate::{
    proxy::{Fault, Proxy},
    server::OwnKeyspace,
    store::until_available,
};

const ALL: DeadLetterFilter = DeadLetterFilter { reason: None, tenant: None };

const FIRST: PartitionKey = PartitionKey { log_id: LOG, partition: Partition(0), epoch: Epoch(0) };

/// Every table that a closing flush writes to.
const TABLES: [&str; 10] = [
    "dead_letter_group",
    "dead_letter_reason",
    "dead_letter_tenant",
    "fold_state",
    "id_run",
    "partition_progress",
    "segment_manifest",
    "usage_segment",
    "usage_tenant",
    "usage_tenant_day",
];

/// Offsets of a segment.
const SEGMENT: u64 = 100;

/// A flush with some of everything that closes a segment, with tenants that no other flush has.
fn closing_flush(start: u64) -> Flush {
    let mine = segment(0, start);
    let day = |tenant: usize, hours: i64| key(&format!("{start}-{tenant}"), "s", at(hours), mine);
    let keys = [day(0, 0), day(0, 3_600), day(1, 0)];
    let rows = keys.into_iter().map(|key| row(key, start + 5, 7)).collect();
    let mut flush = flush(mine, rows, start + SEGMENT);
    flush.dead_letters = letters(mine, (9, start + 7));
    flush.close = Some(close(mine, start + SEGMENT));
    let progress = flush.progress.as_mut().unwrap();
    progress.anchor = None;
    progress.caught_up_at = Some(at(i64::try_from(start).unwrap()));
    flush
}

/// Two groups, in the order of their keys, of so many pulses up to an offset.
fn letters(mine: SegmentId, (count, offset_last): (u64, u64)) -> Vec<DeadLetterGroup> {
    let of = |tenant| dead_letters(mine, DeadLetterReason::TooLate, tenant, (count, offset_last));
    vec![of("a"), of("b")]
}

/// The flush of the same segment that came before, with fewer pulses in its rows and groups.
fn earlier_flush(closing: &Flush) -> Flush {
    let mine = closing.segment;
    let of = |last: &UsageRow| row(last.key.clone(), mine.start.0 + 3, 5);
    let mut earlier = flush(mine, closing.rows.iter().map(of).collect(), mine.start.0 + 4);
    earlier.dead_letters = letters(mine, (4, mine.start.0 + 3));
    earlier
}

/// A store that is reached through a proxy, and beside it one that is not.
struct Subject {
    proxy: Proxy,
    usage: ScyllaUsageStore,
    direct: ScyllaUsageStore,
    _keyspace: OwnKeyspace,
}

impl Subject {
    async fn new(server: &Server) -> Self {
        let keyspace = OwnKeyspace::empty(server).await;
        let proxy = Proxy::before(server).await;
        let mut options = keyspace.options.clone();
        options.hosts = vec![proxy.address.clone()];
        options.request_timeout = Duration::from_secs(2);
        let open = async |options| ScyllaStore::open(options).await.unwrap().usage();
        let (usage, direct) = (open(options).await, open(keyspace.options.clone()).await);
        direct.register(&generation(LOG), None).await.unwrap();
        // What it looks up once, it has looked up.
        until_available(async || usage.newest_manifest(FIRST).await).await;
        Self { proxy, usage, direct, _keyspace: keyspace }
    }

    /// Flushes once with a fault in the write behind so many others. Gives the table of that write,
    /// or `None` where the flush has no such write.
    async fn flush_with(
        &self,
        flush: &Flush,
        writes_before: usize,
        fault: Fault,
    ) -> Option<String> {
        self.proxy.arm(writes_before, fault);
        let flushed = self.usage.flush(flush.clone().into()).await;
        let table = self.proxy.disarm();
        match (&table, &flushed) {
            (None, Ok(())) | (Some(_), Err(StoreError::Unavailable(_))) => table,
            // The server itself was slower than the short timeout; a write later is as good.
            (None, Err(StoreError::Unavailable(_))) => Some(String::new()),
            _ => panic!("write {writes_before} {fault:?}: {table:?}, {flushed:?}"),
        }
    }

    /// The manifest of a segment.
    async fn manifest(&self, segment: SegmentId) -> Option<Manifest> {
        let found = self.direct.manifests(FIRST, segment.start, 1).await.unwrap();
        found.into_iter().find(|manifest| manifest.segment == segment)
    }

    /// Looks at the last thing first, so that what a dropped request still writes meanwhile cannot
    /// make a right order look wrong.
    async fn kept_the_order(&self, flush: &Flush) {
        let progress = self.direct.progress(FIRST).await.unwrap();
        let folded_to = progress.map_or(Offset(0), |progress| progress.folded_to);
        let manifest = self.manifest(flush.segment).await;
        if folded_to >= flush.progress.unwrap().folded_to {
            assert!(manifest.is_some(), "progress without a manifest");
        }
        if manifest.is_some() {
            self.has_all(flush).await;
        }
    }

    /// Everything of the flush but its progress.
    async fn has_all(&self, flush: &Flush) {
        let close = flush.close.as_ref().unwrap();
        assert_eq!(self.manifest(flush.segment).await, Some(close.manifest));
        // By the way that readers take: tenant, then day, then rows.
        let mut rows = Vec::new();
        for tenant in flush.rows.iter().map(|row| &row.key.resource.tenant).collect::<BTreeSet<_>>()
        {
            rows.extend(self.direct.scan(&of(Some(tenant)), None, 1_000).await.unwrap());
        }
        assert_eq!(rows, flush.rows);
        let of_tenant = |group: &DeadLetterGroup| DeadLetterFilter {
            reason: None,
            tenant: Some(group.key.tenant.clone()),
        };
        for group in &flush.dead_letters {
            let of_tenant = of_tenant(group);
            let found = self.direct.scan_dead_letters(LOG, &of_tenant, None, 10_000).await.unwrap();
            assert!(found.contains(group), "{found:?}");
        }
        assert_eq!(self.direct.run(flush.segment).await.unwrap(), close.run);
        let state = self.direct.state(close.manifest.state_digest).await.unwrap();
        assert_eq!(state.as_ref(), Some(&close.state));
    }

    /// Every flush is there, and nothing else is.
    async fn has_exactly(&self, flushes: &[Flush]) {
        for flush in flushes {
            self.has_all(flush).await;
        }
        let progress = flushes.last().and_then(|last| last.progress);
        assert_eq!(self.direct.progress(FIRST).await.unwrap(), progress);
        let found = self.direct.scan(&of(None), None, 10_000).await.unwrap();
        let mut rows: Vec<UsageRow> = flushes.iter().flat_map(|flush| flush.rows.clone()).collect();
        rows.sort_by(|a, b| order::compare(&a.key, &b.key));
        assert_eq!(found, rows);
        let found = self.direct.scan_dead_letters(LOG, &ALL, None, 10_000).await.unwrap();
        let letters = flushes.iter().flat_map(|flush| flush.dead_letters.clone());
        assert_eq!(found, letters.collect::<Vec<_>>());
    }
}

fn of(tenant: Option<&Tenant>) -> UsageFilter {
    UsageFilter {
        tenant: tenant.cloned(),
        product_sku: None,
        use_unity: None,
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    }
}

/// Goes through the writes of a flush, one flush a write, until a flush has no such write; and again
/// until every table was met, for many writes of a flush have no order among them, and one that came
/// now before and now behind another may have been passed by.
async fn each_write_with(server: &Server, fault: Fault) {
    const FLUSHES_MAX: usize = 200;
    let subject = Subject::new(server).await;
    let (mut flushes, mut tables): (Vec<Flush>, BTreeSet<String>) = Default::default();
    let mut write = 0;
    loop {
        let flush = closing_flush(flushes.len() as u64 * SEGMENT);
        let table = subject.flush_with(&flush, write, fault).await;
        subject.kept_the_order(&flush).await;
        until_available(async || subject.usage.flush(flush.clone().into()).await).await;
        subject.has_all(&flush).await;
        flushes.push(flush);
        write = if table.is_some() { write + 1 } else { 0 };
        tables.extend(table);
        if write == 0 && TABLES.iter().all(|table| tables.contains(*table)) {
            break;
        }
        assert!(flushes.len() < FLUSHES_MAX, "not every table's write went wrong: {tables:?}");
    }
    subject.has_exactly(&flushes).await;
}

#[tokio::test]
async fn a_write_for_which_too_few_replicas_are_alive_is_tried_again() {
    each_write_with(crate::cassandra_or_skip!(), Fault::Unavailable).await;
}

#[tokio::test]
async fn a_write_that_timed_out_and_was_lost_is_tried_again() {
    each_write_with(crate::cassandra_or_skip!(), Fault::TimedOutAndLost).await;
}

#[tokio::test]
async fn a_write_that_timed_out_and_was_done_may_be_done_again() {
    each_write_with(crate::cassandra_or_skip!(), Fault::TimedOutAndDone).await;
}

#[tokio::test]
async fn a_write_without_an_answer_is_tried_again() {
    each_write_with(crate::cassandra_or_skip!(), Fault::Unanswered).await;
}

#[tokio::test]
async fn a_write_whose_connection_breaks_is_tried_again() {
    each_write_with(crate::cassandra_or_skip!(), Fault::Broken).await;
}

#[tokio::test]
async fn a_write_that_timed_out_and_lands_after_newer_ones_changes_nothing() {
    let subject = Subject::new(crate::cassandra_or_skip!()).await;
    let mut flushes: Vec<Flush> = Vec::new();
    for write in 0.. {
        let closing = closing_flush(write as u64 * SEGMENT);
        let earlier = earlier_flush(&closing);
        let table = subject.flush_with(&earlier, write, Fault::TimedOutAndLate).await;
        for flush in [&earlier, &closing] {
            until_available(async || subject.usage.flush(flush.clone().into()).await).await;
        }
        subject.proxy.let_late_writes_land().await;
        flushes.push(closing);
        subject.has_exactly(&flushes).await;
        if table.is_none() {
            break;
        }
    }
    assert!(flushes.len() > 6, "{} writes went wrong", flushes.len() - 1);
}
