//! How long a tenant's month takes over HTTP on the embedded store: `cargo bench -p query-api`.
//!
//! One tenant among twenty has ten resources with usage in every hour of a month. The store keeps a
//! row for each segment that added to an hour: one where usage comes in bulk, six where it comes
//! all the time (a segment ends every ten minutes).

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench's own report")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use domain::{
    Aggregate, Cell, Clock, Conservation, Dimensions, Epoch, LogId, Offset, Partition, Quantity,
    ResourceKey, RowKey, SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, UsageStore,
    generation::Generation, segment::Progress, store::Flush,
};
use edge::{
    access::{
        Access, Rules,
        browser::Transport,
        rate::{RateLimits, Rates},
        trail::Trail,
    },
    http::{Front, Hosts},
    paging::TokenKey,
};
use query_api::{QueryApi, QueryConfig};
use runtime::{Health, clock};
use storage::{
    embedded::{
        DataDirectory, EmbeddedStore, EmbeddedUsageStore, FatalHook, OpenOptions, StoreOptions,
    },
    memory::{MemoryBillingStore, MemoryLog},
};
use tower::ServiceExt as _;

const LOG: LogId = LogId([7; 16]);
const SEPTEMBER: i64 = 1_725_148_800;
const HOURS: i64 = 720;
const TENANTS: usize = 20;
const RESOURCES: usize = 10;
const REQUESTS: usize = 500;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("{TENANTS} tenants, {RESOURCES} resources each, a row per hour and segment");
    for segments_per_hour in [1, 6] {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(directory.path(), OpenOptions::default()).unwrap();
        let fatal = FatalHook::new(|message| panic!("{message}"));
        let store = EmbeddedStore::open(&data, &StoreOptions::new(fatal)).unwrap();
        runtime.block_on(measure(store.usage(), segments_per_hour));
        store.close();
    }
}

async fn measure(store: EmbeddedUsageStore, segments_per_hour: u64) {
    fill(&store, segments_per_hour).await;
    let clock: Arc<dyn Clock> = Arc::new(|| Timestamp::EPOCH);
    let log = MemoryLog::new(generation(), clock);
    let config = QueryConfig::new(TokenKey::new([3; 16]));
    let api = Arc::new(QueryApi::new(
        (Arc::new(store), Arc::new(log)),
        Arc::new(clock::system()),
        Health::new(),
        config,
    ));
    let router =
        edge::http::router([query_api::http::routes(api)], query_api::http::openapi(), front());
    println!("{segments_per_hour} segments an hour:");
    for question in [
        "window=PT1H&sku=sku-3&page_size=1000",
        "window=PT1H&page_size=1000",
        "window=P1D&page_size=1000",
        "window=total",
    ] {
        let address = format!("/v1/usage?tenant=tenant-7&from=2024-09-01&to=2024-10-01&{question}");
        let mut times: Vec<Duration> = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let request = Request::get(&address).body(Body::empty()).unwrap();
            let start = Instant::now();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            times.push(start.elapsed());
            assert!(body.len() > 1_000);
        }
        times.sort_unstable();
        let (p50, p99) = (times[REQUESTS / 2], times[REQUESTS * 99 / 100]);
        println!("  {question:<40} p50 {p50:>10.2?}  p99 {p99:>10.2?}");
    }
}

fn front() -> Front {
    let clock: Arc<dyn Clock> = Arc::new(|| Timestamp::EPOCH);
    let rates = Rates::new(&RateLimits::default(), &clock);
    Front {
        health: Health::new(),
        render_metrics: Arc::new(String::new),
        access: Access::off(
            Rules::new([]).unwrap(),
            rates,
            Arc::new(Trail::new(Arc::new(MemoryBillingStore::new()), clock)),
        ),
        origins: Vec::new(),
        transport: Transport::Plain,
        hosts: Hosts::Any,
    }
}

fn generation() -> Generation {
    Generation::new(LOG, 2, 99)
}

async fn fill(store: &EmbeddedUsageStore, segments_per_hour: u64) {
    store.register(&generation(), None).await.unwrap();
    for hour in 0..HOURS {
        for part in 0..segments_per_hour {
            let start = Offset(u64::try_from(hour).unwrap() * segments_per_hour + part);
            let segment =
                SegmentId { log_id: LOG, partition: Partition(0), epoch: Epoch(0), start };
            let flush = Flush {
                segment,
                rows: rows(hour, segment),
                dead_letters: Vec::new(),
                close: None,
                stored_before: Vec::new(),
                progress: Some(progress(start)),
            };
            store.flush(flush.into()).await.unwrap();
        }
    }
}

fn rows(hour: i64, segment: SegmentId) -> Vec<UsageRow> {
    let window_start = Timestamp::from_parts(SEPTEMBER + hour * 3_600, 0).unwrap();
    let amount = Quantity::from_raw(1_234_567_890_123_456_789);
    let cell = Cell { offset_last: segment.start, aggregate: Aggregate::of(amount, window_start) };
    let places = (0..TENANTS).flat_map(|tenant| (0..RESOURCES).map(move |sku| (tenant, sku)));
    places
        .map(|(tenant, sku)| {
            let resource = ResourceKey {
                tenant: Tenant::new(&format!("tenant-{tenant}")).unwrap(),
                product_sku: Sku::new(&format!("sku-{sku}")).unwrap(),
                use_unity: Unit::new("hour").unwrap(),
                dimensions: Dimensions::from_pairs([("region", "br-se1")]),
            };
            UsageRow { key: RowKey { resource, window_start, segment }, cell }
        })
        .collect()
}

fn progress(offset: Offset) -> Progress {
    Progress {
        log_id: LOG,
        partition: Partition(0),
        epoch: Epoch(0),
        folded_to: offset.next(),
        eff_ts: Timestamp::from_parts(SEPTEMBER, 0).unwrap(),
        counts: Conservation::default(),
        anchor: None,
        caught_up_at: None,
    }
}
