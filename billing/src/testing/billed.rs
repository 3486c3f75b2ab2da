//! A service in memory with one invoice of as many lines as a test wants.

use std::{sync::Arc, time::Duration};

use domain::{
    Aggregate, BillingStore as _, Cell, Dimensions, Epoch, LogId, Offset, Partition, Quantity,
    ResourceKey, RowKey, SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, UsageStore as _,
    billing::CatalogueVersion,
    generation::Generation,
    segment::{Conservation, Progress},
    store::Flush,
};
use edge::{Compute, access::Change, compute::ComputeConfig};
use proto::v1::ApplyContractRequest;
use storage::memory::{MemoryBillingStore, MemoryLog, MemoryUsageStore};

use super::no_log;
use crate::{
    BillingApi,
    books::runs::{Cut, CutEnd, Ended, RunRequest, results::Outcomes},
    config::BillingConfig,
    threshold::Threshold,
};

/// A catalogue with a price for each line of [`usage`].
pub(crate) fn text(lines: usize) -> String {
    let cells = (0..lines).map(|line| format!("{{when: {{res: r{line}}}, unit_price: \"0.25\"}}"));
    let cells: Vec<String> = cells.collect();
    format!(
        r#"
catalogue: "1"
currency: USD
skus:
  - sku: mx
    unit: u
    dimensions: [res]
    prices:
      - valid_from: 2024-01-01T00:00:00Z
        model: matrix
        prices: [{}]
"#,
        cells.join(", ")
    )
}

const LOG: LogId = LogId([3; 16]);

pub(crate) fn now() -> Timestamp {
    "2024-10-05T00:00:00Z".parse().unwrap()
}

/// Usage that makes an invoice of as many lines, of two hours each.
pub(crate) fn usage(lines: usize) -> Vec<UsageRow> {
    let start: Timestamp = "2024-09-01T00:00:00Z".parse().unwrap();
    let row = |line: usize, hour: u64| {
        let time = start.plus(Duration::from_secs(3_600 * hour));
        let resource = ResourceKey {
            tenant: Tenant::new("acme").unwrap(),
            product_sku: Sku::new("mx").unwrap(),
            use_unity: Unit::new("u").unwrap(),
            dimensions: Dimensions::from_pairs([("res", format!("r{line}").as_str())]),
        };
        let (partition, epoch, start) = (Partition(0), Epoch(0), Offset(0));
        let segment = SegmentId { log_id: LOG, partition, epoch, start };
        UsageRow {
            key: RowKey { resource, window_start: time, segment },
            cell: Cell { offset_last: Offset(0), aggregate: Aggregate::of(Quantity::ONE, time) },
        }
    };
    (0..lines).flat_map(|line| [row(line, 0), row(line, 1)]).collect()
}

pub(crate) type Service = BillingApi<MemoryUsageStore, MemoryBillingStore, MemoryLog>;

/// A service with an invoice of as many lines, and its pool.
pub(crate) async fn service(lines: usize, config: ComputeConfig) -> (Service, Compute) {
    let (service, compute) = unbilled(lines, config).await;
    bill(&service, 0).await;
    (service, compute)
}

/// A service with an invoice under a contract: lines of usage, of a discount and of a tax, and what a
/// credit pays.
pub(crate) async fn service_under(contract: &str) -> Service {
    let (service, _) = unbilled(2, ComputeConfig::default()).await;
    let (text, validate_only) = (contract.to_owned(), false);
    let request = ApplyContractRequest { text, validate_only };
    service.apply(request, &Change::default()).await.unwrap();
    bill(&service, 1).await;
    service
}

async fn unbilled(lines: usize, config: ComputeConfig) -> (Service, Compute) {
    let (usage_store, billing) = (MemoryUsageStore::new(), MemoryBillingStore::new());
    let log = MemoryLog::new(Generation::new(LOG, 1, 11), Arc::new(now));
    let compute = Compute::new(config);
    let version = CatalogueVersion {
        version: "1".into(),
        sequence: 0,
        text: text(lines),
        published_at: now(),
        active: false,
    };
    billing.publish_catalogue(&version).await.unwrap();
    billing.activate_catalogue("1").await.unwrap();
    usage_store.register(domain::PulseLog::generation(&log), None).await.unwrap();
    usage_store.flush(Arc::new(flush(lines))).await.unwrap();
    let service = BillingApi::new(
        Arc::new(usage_store),
        Arc::new(billing),
        Arc::new(log),
        no_log(),
        Arc::new(now),
        BillingConfig::default(),
        compute.clone(),
    );
    (service, compute)
}

fn flush(lines: usize) -> Flush {
    let (log_id, partition, epoch) = (LOG, Partition(0), Epoch(0));
    Flush {
        segment: SegmentId { log_id, partition, epoch, start: Offset(0) },
        rows: usage(lines),
        stored_before: Vec::new(),
        dead_letters: Vec::new(),
        close: None,
        progress: Some(Progress {
            log_id,
            partition,
            epoch,
            folded_to: Offset(1),
            eff_ts: now(),
            counts: Conservation::default(),
            anchor: None,
            caught_up_at: None,
        }),
    }
}

/// Bills the one tenant under so many contracts, below a cut that no consumer had to prove.
async fn bill(service: &Service, contracts: u64) {
    assert_eq!(bill_under(service, contracts, false).await.invoices, 1);
}

/// Bills what changed about the tenant's invoice, under so many contracts and amendments.
pub(crate) async fn bill_deltas(service: &Service, contracts: u64) -> Outcomes {
    bill_under(service, contracts, true).await
}

async fn bill_under(service: &Service, contracts: u64, deltas: bool) -> Outcomes {
    let books = &service.parts.books;
    let month = "2024-09".parse().unwrap();
    let (tenants, request_id) = (Vec::new(), String::new());
    let threshold = Threshold::default();
    let request = RunRequest { month, tenants, deltas, threshold, request_id };
    let run = books.runs.open(request).await.unwrap();
    let end = CutEnd { log_id: LOG.to_string(), partition: 0, end: 1 };
    let log_events = 0;
    let catalogues = books.catalogues.versions().await.unwrap();
    let cut = Cut { taken_at: now(), log_events, ends: vec![end], catalogues, contracts };
    books.runs.set_cut(&run, cut).await.unwrap();
    let run = service.parts.driver.execute(run.number).await.unwrap();
    let Some(Ended::Closed(results, _)) = run.ended else { panic!("{run:?}") };
    results.outcomes
}
