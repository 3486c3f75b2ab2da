//! A store with rows in it, a log beside it, and the reads of both.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use domain::{
    Aggregate, Cell, Clock, Conservation, DeadLetter, DeadLetterGroup, DeadLetterKey,
    DeadLetterReason, DeadLetterSample, Dimensions, Epoch, LogId, Offset, Partition, Quantity,
    ResourceKey, RowKey, SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, UsageStore,
    generation::Generation,
    refold::{
        Outcomes, OutcomesPiece, Question, RecordPlace, Refold, RefoldError, Refolded, Refolding,
        RequestPlace, SetAside,
    },
    segment::Progress,
    store::Flush,
};
use edge::{
    access::{
        Access, AccessLayer, Rules,
        browser::Transport,
        layer::Guarded,
        rate::{RateLimits, Rates},
        trail::Trail,
    },
    http::{Front, Hosts},
    paging::TokenKey,
};
use query_api::{QueryApi, QueryConfig};
use runtime::Health;
use storage::memory::{MemoryBillingStore, MemoryLog, MemoryUsageStore};
use tower::Layer as _;

/// 2024-09-01T00:00:00Z in hours since 1970.
pub(crate) const SEPTEMBER: i64 = 479_208;

const LOG: LogId = LogId([7; 16]);

/// The start of an hour since 1970.
pub(crate) fn hour(hour: i64) -> Timestamp {
    Timestamp::from_parts(hour * 3_600, 0).unwrap()
}

/// Two partitions, all else as by default.
pub(crate) fn generation() -> Generation {
    Generation::new(LOG, 2, 99)
}

/// What a stored row is about; the rest of its key is where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) tenant: &'static str,
    pub(crate) sku: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) dimensions: &'static [(&'static str, &'static str)],
    pub(crate) hour: i64,
    pub(crate) partition: u16,
    pub(crate) segment: u64,
    /// Amounts at the seconds 0, 1, ... of the hour.
    pub(crate) amounts: Vec<Quantity>,
}

impl Usage {
    /// One pulse of `sku` by `tenant` in an hour of September, in segment 0 of partition 0.
    pub(crate) fn of(tenant: &'static str, sku: &'static str, hour: i64, amount: &str) -> Self {
        Self {
            tenant,
            sku,
            unit: "hour",
            dimensions: &[],
            hour: SEPTEMBER + hour,
            partition: 0,
            segment: 0,
            amounts: vec![amount.parse().unwrap()],
        }
    }

    /// The same with dimensions.
    pub(crate) fn with(mut self, dimensions: &'static [(&'static str, &'static str)]) -> Self {
        self.dimensions = dimensions;
        self
    }

    /// The same from another place in the log.
    pub(crate) fn from(mut self, partition: u16, segment: u64) -> Self {
        (self.partition, self.segment) = (partition, segment);
        self
    }

    /// The same as a log of this generation would have counted it, at minutes of the hour.
    pub(crate) fn flush_in(&self, log_id: LogId, minute: u64) -> Flush {
        let mut row = self.row();
        let start = row.key.window_start.plus(std::time::Duration::from_secs(60 * minute));
        row.key.window_start = start;
        row.key.segment.log_id = log_id;
        let segment = row.key.segment;
        let progress = Some(Progress { log_id, ..progress(self.partition, 0, Timestamp::MIN) });
        Flush {
            segment,
            rows: vec![row],
            stored_before: vec![],
            dead_letters: vec![],
            close: None,
            progress,
        }
    }

    /// All amounts as one state.
    pub(crate) fn aggregate(&self) -> Aggregate {
        let states = self.amounts.iter().zip(0..).map(|(amount, second)| {
            Aggregate::of(*amount, Timestamp::from_parts(self.hour * 3_600 + second, 0).unwrap())
        });
        let merged = states.reduce(|mut sum, one| {
            sum.merge(&one).unwrap();
            sum
        });
        merged.unwrap()
    }

    fn row(&self) -> UsageRow {
        let resource = ResourceKey {
            tenant: Tenant::new(self.tenant).unwrap(),
            product_sku: Sku::new(self.sku).unwrap(),
            use_unity: Unit::new(self.unit).unwrap(),
            dimensions: Dimensions::from_pairs(self.dimensions.iter().copied()),
        };
        let key = RowKey {
            resource,
            window_start: hour(self.hour),
            segment: segment(self.partition, self.segment),
        };
        let offset_last = Offset(self.segment);
        UsageRow { key, cell: Cell { offset_last, aggregate: self.aggregate() } }
    }
}

fn segment(partition: u16, start: u64) -> SegmentId {
    SegmentId {
        log_id: LOG,
        partition: Partition(partition),
        epoch: Epoch(0),
        start: Offset(start),
    }
}

/// Progress of a partition up to an offset.
pub(crate) fn progress(partition: u16, folded_to: u64, eff_ts: Timestamp) -> Progress {
    Progress {
        log_id: LOG,
        partition: Partition(partition),
        epoch: Epoch(0),
        folded_to: Offset(folded_to),
        eff_ts,
        counts: Conservation { read: folded_to, accepted: folded_to, ..Conservation::default() },
        anchor: None,
        caught_up_at: None,
    }
}

/// What a segment of partition 1 set aside of a tenant: so many pulses, the first two records behind the
/// segment's start.
pub(crate) fn dead_letters(
    start: u64,
    reason: DeadLetterReason,
    tenant: &str,
    count: u64,
) -> DeadLetterGroup {
    let key = DeadLetterKey { segment: segment(1, start), reason, tenant: tenant.to_owned() };
    DeadLetterGroup {
        key,
        offset_last: Offset(start + 9),
        count,
        time_first: Some(hour(SEPTEMBER - 1)),
        time_last: Some(hour(SEPTEMBER + 1)),
        sample: DeadLetterSample {
            offset: Offset(start + 2),
            index: 3,
            product_sku: String::new(),
            time: Some(hour(SEPTEMBER)),
            message: "older than 24 h".to_owned(),
        },
    }
}

/// What a log would tell. Dead letters: those of partition 1 at offsets below 100, each record with
/// one at index 3. Outcomes: the request `call` brought a pulse that counts with every
/// record of partition 1, and one in all that was too late.
pub(crate) struct Letters;

impl Refold for Letters {
    fn refold(&self, _: Question) -> Refolding<'_, Refolded> {
        Box::pin(async { Err(RefoldError("nobody asks".to_owned())) })
    }

    fn outcomes(&self, request: RequestPlace) -> Refolding<'_, OutcomesPiece> {
        let RequestPlace { key, offsets, request_id } = request;
        let is_there = key.log_id == LOG && key.partition == Partition(1) && request_id == "call";
        let late = SetAside {
            count: 1,
            times: Some((hour(SEPTEMBER), hour(SEPTEMBER))),
            message: "older than 24 h".to_owned(),
        };
        let until = offsets.end.min(Offset(offsets.start.0 / 1_000 * 1_000 + 1_000));
        let outcomes = Outcomes {
            counted: until.0 - offsets.start.0,
            duplicate: 0,
            set_aside: BTreeMap::from([(DeadLetterReason::TooLate, late)]),
        };
        let outcomes = if is_there { outcomes } else { Outcomes::default() };
        // As if a segment ended every thousand offsets.
        Box::pin(async move { Ok(OutcomesPiece { outcomes, next: until }) })
    }

    fn dead_letters(&self, place: RecordPlace) -> Refolding<'_, Vec<DeadLetter>> {
        let RecordPlace { key, offset } = place;
        Box::pin(async move {
            if offset >= Offset(100) {
                return Err(RefoldError(format!("record {offset} was not folded yet")));
            }
            let letter = DeadLetter {
                log_id: key.log_id,
                partition: key.partition,
                epoch: key.epoch,
                offset,
                index: 3,
                reason: DeadLetterReason::TooLate,
                tenant: "acme".to_owned(),
                product_sku: String::new(),
                time: Some(hour(SEPTEMBER)),
                message: "older than 24 h".to_owned(),
                payload: b"pulse".to_vec(),
            };
            Ok(if key.log_id == LOG && key.partition == Partition(1) {
                vec![letter]
            } else {
                vec![]
            })
        })
    }
}

/// A clock that a test moves, in microseconds since 1970.
#[derive(Clone)]
pub(crate) struct HandClock(Arc<AtomicI64>);

impl HandClock {
    fn new(hours: i64) -> Self {
        Self(Arc::new(AtomicI64::new(hour(hours).micros())))
    }

    /// Sets the hour, counted from 1970.
    pub(crate) fn set(&self, to: Timestamp) {
        self.0.store(to.micros(), Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// No access control, as in a process that serves loopback only.
pub(crate) fn access() -> Access {
    let clock: Arc<dyn Clock> = Arc::new(|| Timestamp::EPOCH);
    let rates = Rates::new(&RateLimits::default(), &clock);
    let trail = Trail::new(Arc::new(MemoryBillingStore::new()), clock);
    Access::off(Rules::new([]).unwrap(), rates, Arc::new(trail))
}

/// A service behind the gate that every call passes.
pub(crate) fn gated<S>(service: S) -> Guarded<S> {
    AccessLayer::grpc(access()).layer(service)
}

/// What HTTP shows of the process.
pub(crate) fn front(health: &Health) -> Front {
    Front {
        health: health.clone(),
        render_metrics: Arc::new(|| "up 1\n".to_owned()),
        access: access(),
        origins: Vec::new(),
        transport: Transport::Plain,
        hosts: Hosts::Any,
    }
}

/// A store, a log and the reads of both.
pub(crate) struct Bench {
    pub(crate) store: MemoryUsageStore,
    pub(crate) log: MemoryLog,
    pub(crate) clock: HandClock,
    pub(crate) health: Health,
    pub(crate) ready: runtime::health::Check,
    pub(crate) api: Arc<QueryApi<MemoryUsageStore, MemoryLog>>,
}

impl Bench {
    /// With these rows and no progress.
    pub(crate) async fn new(usage: &[Usage]) -> Self {
        Self::with(usage, |config| config).await
    }

    /// The same with other settings.
    pub(crate) async fn with(
        usage: &[Usage],
        settings: impl FnOnce(QueryConfig) -> QueryConfig,
    ) -> Self {
        let store = MemoryUsageStore::new();
        store.register(&generation(), None).await.unwrap();
        let log = MemoryLog::new(generation(), Arc::new(|| Timestamp::EPOCH));
        let clock = HandClock::new(SEPTEMBER + 1_000);
        let health = Health::new();
        let ready = health.register("store");
        ready.ready();
        let config = settings(QueryConfig::new(TokenKey::new([3; 16])));
        let ports = (Arc::new(store.clone()), Arc::new(log.clone()));
        let api = QueryApi::new(ports, Arc::new(clock.clone()), health.clone(), config);
        let api = Arc::new(api.folding_again(Arc::new(Letters)));
        let bench = Self { store, log, clock, health, ready, api };
        for one in usage {
            bench.flush(one.partition, one.segment, vec![one.row()], vec![], None).await;
        }
        bench
    }

    /// Writes progress, as a flush without rows does.
    pub(crate) async fn progress(&self, progress: Progress) {
        self.flush(progress.partition.0, 0, vec![], vec![], Some(progress)).await;
    }

    /// Writes groups of dead letters.
    pub(crate) async fn dead_letters(&self, groups: Vec<DeadLetterGroup>) {
        self.flush(1, 0, vec![], groups, None).await;
    }

    async fn flush(
        &self,
        partition: u16,
        start: u64,
        rows: Vec<UsageRow>,
        dead_letters: Vec<DeadLetterGroup>,
        standing: Option<Progress>,
    ) {
        let progress = standing.unwrap_or_else(|| progress(partition, 0, Timestamp::MIN));
        let segment = segment(partition, start);
        let (stored_before, progress) = (Vec::new(), Some(progress));
        let flush = Flush { segment, rows, stored_before, dead_letters, close: None, progress };
        self.store.flush(flush.into()).await.unwrap();
    }
}
