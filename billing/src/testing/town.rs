//! A service in memory with as many tenants as a test wants, whose clock the test holds and whose cuts
//! no consumer has to prove.

use std::sync::{Arc, Mutex};

use domain::{
    Aggregate, BillingStore as _, Cell, Dimensions, Epoch, LogId, Offset, Partition, PulseLog as _,
    Quantity, ResourceKey, RowKey, SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow,
    UsageStore as _,
    billing::CatalogueVersion,
    generation::Generation,
    segment::{Conservation, Progress},
    store::Flush,
};
use edge::{Compute, access::Change};
use proto::v1::ApplyContractRequest;
use storage::memory::{MemoryBillingStore, MemoryLog, MemoryUsageStore};

use super::no_log;
use crate::{
    BillingApi,
    books::runs::{Cut, CutEnd, Ended, Run, RunRequest, results::Results},
    config::{BillingConfig, RunConfig},
    threshold::Threshold,
};

/// An hour of a machine costs 0.25 USD.
pub(crate) const TEXT: &str = r#"
catalogue: "1"
currency: USD
skus:
  - {sku: vm, unit: hour, prices: [{valid_from: 2020-01-01T00:00:00Z, model: per_unit, unit_price: "0.25"}]}
  - {sku: fee, unit: month, prices: [{valid_from: 2020-01-01T00:00:00Z, model: flat, amount: "9.00"}]}
"#;
const LOG: LogId = LogId([3; 16]);

pub(crate) type Service = BillingApi<MemoryUsageStore, MemoryBillingStore, MemoryLog>;

/// The stores, the clock, and a service over them.
pub(crate) struct Town {
    pub(crate) usage: MemoryUsageStore,
    pub(crate) store: MemoryBillingStore,
    log: MemoryLog,
    now: Arc<Mutex<Timestamp>>,
    offset: Mutex<u64>,
    config: BillingConfig,
    pub(crate) service: Service,
}

impl Town {
    /// At a moment, with a catalogue.
    pub(crate) async fn at(now: &str) -> Self {
        Self::with(now, BillingConfig::default()).await
    }

    /// The same, with other settings.
    pub(crate) async fn with(now: &str, config: BillingConfig) -> Self {
        let now = Arc::new(Mutex::new(now.parse().unwrap()));
        let (usage, store) = (MemoryUsageStore::new(), MemoryBillingStore::new());
        let log = MemoryLog::new(Generation::new(LOG, 1, 11), Arc::new(clock(&now)));
        usage.register(log.generation(), None).await.unwrap();
        let runs = RunConfig { backoff: Default::default(), ..config.runs };
        let config = BillingConfig { runs, ..config };
        let service = serve((&usage, &store, &log), &now, &config);
        let town = Self { usage, store, log, now, offset: Mutex::default(), config, service };
        town.publish("1", TEXT).await;
        town
    }

    /// Another process over the same stores.
    pub(crate) fn another(&self) -> Service {
        serve((&self.usage, &self.store, &self.log), &self.now, &self.config)
    }

    /// Sets the clock.
    pub(crate) fn wait_until(&self, now: &str) {
        *self.now.lock().unwrap() = now.parse().unwrap();
    }

    /// Publishes a catalogue.
    pub(crate) async fn publish(&self, version: &str, text: &str) {
        let version = CatalogueVersion {
            version: version.into(),
            sequence: 0,
            text: text.into(),
            published_at: *self.now.lock().unwrap(),
            active: false,
        };
        self.store.publish_catalogue(&version).await.unwrap();
        self.store.activate_catalogue(&version.version).await.unwrap();
    }

    /// Applies a contract.
    pub(crate) async fn apply(&self, text: &str) {
        let request = ApplyContractRequest { text: text.to_owned(), validate_only: false };
        self.service.apply(request, &Change::default()).await.unwrap();
    }

    /// A segment with some usage of a tenant in an hour: SKU, unit and quantity.
    pub(crate) async fn use_up(
        &self,
        tenant: &str,
        (sku, unit, quantity): (&str, &str, &str),
        hour: &str,
    ) {
        let start = {
            let mut offset = self.offset.lock().unwrap();
            *offset += 1;
            Offset(*offset - 1)
        };
        let (log_id, partition, epoch) = (LOG, Partition(0), Epoch(0));
        let segment = SegmentId { log_id, partition, epoch, start };
        let window_start: Timestamp = hour.parse().unwrap();
        let resource = ResourceKey {
            tenant: Tenant::new(tenant).unwrap(),
            product_sku: Sku::new(sku).unwrap(),
            use_unity: Unit::new(unit).unwrap(),
            dimensions: Dimensions::from_pairs([]),
        };
        let aggregate = Aggregate::of(quantity.parse::<Quantity>().unwrap(), window_start);
        let row = UsageRow {
            key: RowKey { resource, window_start, segment },
            cell: Cell { offset_last: start, aggregate },
        };
        let progress = Progress {
            log_id,
            partition,
            epoch,
            folded_to: start.next(),
            eff_ts: *self.now.lock().unwrap(),
            counts: Conservation::default(),
            anchor: None,
            caught_up_at: None,
        };
        let flush = Flush {
            segment,
            rows: vec![row],
            stored_before: Vec::new(),
            dead_letters: Vec::new(),
            close: None,
            progress: Some(progress),
        };
        self.usage.flush(Arc::new(flush)).await.unwrap();
    }

    /// Opens a run with its cut.
    pub(crate) async fn open(&self, request: RunRequest) -> Run {
        self.open_with(request, |_| ()).await
    }

    /// Opens a run with a cut that the test changes.
    pub(crate) async fn open_with(&self, request: RunRequest, change: impl Fn(&mut Cut)) -> Run {
        let books = &self.service.parts.books;
        let run = self.service.parts.driver.open(request).await.unwrap();
        if run.cut.is_some() {
            return run;
        }
        let (taken_at, end) = (*self.now.lock().unwrap(), *self.offset.lock().unwrap());
        let mut cut = Cut {
            taken_at,
            log_events: 0,
            ends: vec![CutEnd { log_id: LOG.to_string(), partition: 0, end }],
            catalogues: books.catalogues.versions().await.unwrap(),
            contracts: books.contracts.all().await.unwrap().len() as u64,
        };
        change(&mut cut);
        books.runs.set_cut(&run, cut).await.unwrap();
        books.runs.get(run.number).await.unwrap()
    }

    /// Bills a month and gives the results.
    pub(crate) async fn bill(&self, request: RunRequest) -> Results {
        let number = self.open(request).await.number;
        let run = self.service.parts.driver.execute(number).await.unwrap();
        results(run)
    }
}

/// What came of a run that has closed.
pub(crate) fn results(run: Run) -> Results {
    match run.ended {
        Some(Ended::Closed(results, _)) => results,
        _ => panic!("{run:?}"),
    }
}

/// The run of a month for all tenants.
pub(crate) fn month(month: &str) -> RunRequest {
    RunRequest {
        month: month.parse().unwrap(),
        tenants: Vec::new(),
        deltas: false,
        threshold: Threshold::default(),
        request_id: String::new(),
    }
}

/// The run for deltas of a month for all tenants.
pub(crate) fn deltas(of: &str, threshold: &str) -> RunRequest {
    RunRequest { deltas: true, threshold: threshold.parse().unwrap(), ..month(of) }
}

fn clock(now: &Arc<Mutex<Timestamp>>) -> impl Fn() -> Timestamp + Send + Sync + 'static {
    let now = Arc::clone(now);
    move || *now.lock().unwrap()
}

fn serve(
    (usage, store, log): (&MemoryUsageStore, &MemoryBillingStore, &MemoryLog),
    now: &Arc<Mutex<Timestamp>>,
    config: &BillingConfig,
) -> Service {
    BillingApi::new(
        Arc::new(usage.clone()),
        Arc::new(store.clone()),
        Arc::new(log.clone()),
        no_log(),
        Arc::new(clock(now)),
        config.clone(),
        Compute::default(),
    )
}
