//! Publishing, showing and previewing, on stores in memory.

use std::{sync::Arc, time::Duration};

use domain::{
    Aggregate, Cell, DeadLetterGroup, DeadLetterKey, DeadLetterReason, DeadLetterSample,
    Dimensions, Epoch, LogId, Offset, Partition, Quantity, ResourceKey, RowKey, SegmentId, Sku,
    Tenant, Timestamp, Unit, UsageRow, UsageStore as _, WindowLength,
    billing::CatalogueVersion,
    generation::Generation,
    log::{LogDrain, LogRecord},
    segment::{Conservation, Progress},
    store::Flush,
};
use edge::Compute;
use proto::v1::{
    billing_service_server::BillingService, catalog_service_server::CatalogService,
    control::Kind::DeclareDimensions,
};
use serde_json::{Value, json};
use storage::memory::{AppendFault, MemoryBillingStore, MemoryLog, MemoryUsageStore};
use tonic::{Code, Request, Status};

use super::*;
use crate::{
    BillingConfig, RunConfig,
    testing::{local, no_log},
};

const TEXT: &str = r#"
catalogue: "2024-09"
currency: USD
skus:
  - sku: vm
    unit: hour
    dimensions: [size, region]
    prices:
      - {valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.25"}
  - sku: vm
    unit: GB
    dimensions: [region, disk]
    prices: []
  - sku: plain
    unit: call
    prices: []
tests:
  - {name: four hours, sku: vm, unit: hour, quantity: "4", expect: "1.00"}
"#;

type Service = BillingApi<MemoryUsageStore, MemoryBillingStore, MemoryLog>;

struct Setup {
    usage: MemoryUsageStore,
    billing: MemoryBillingStore,
    log: MemoryLog,
    service: Service,
}

fn moment() -> Timestamp {
    "2024-10-01T00:00:00Z".parse().unwrap()
}

fn config() -> BillingConfig {
    BillingConfig {
        declare_backoff_first: Duration::from_micros(1),
        declare_backoff_max: Duration::from_micros(10),
        declare_tries_max: 3,
        runs: RunConfig { page_rows: 2, ..RunConfig::default() },
        ..BillingConfig::default()
    }
}

fn setup() -> Setup {
    let generation = Generation::new(LogId([3; 16]), 3, 11);
    let (usage, billing) = (MemoryUsageStore::new(), MemoryBillingStore::new());
    let log = MemoryLog::new(generation, Arc::new(moment));
    let service = BillingApi::new(
        Arc::new(usage.clone()),
        Arc::new(billing.clone()),
        Arc::new(log.clone()),
        no_log(),
        Arc::new(moment),
        config(),
        Compute::default(),
    );
    Setup { usage, billing, log, service }
}

impl Setup {
    async fn publish(&self, text: &str) -> Result<v1::PublishCatalogueResponse, Status> {
        let request = v1::PublishCatalogueRequest { text: text.into(), ..Default::default() };
        self.service.publish_catalogue(local(request)).await.map(tonic::Response::into_inner)
    }

    async fn preview(&self, tenant: &str, period: &str, version: &str) -> Result<Value, Status> {
        let request = v1::PreviewBillRequest {
            tenant: tenant.into(),
            period: period.into(),
            catalogue_version: version.into(),
        };
        let answer = self.service.preview_bill(local(request)).await?;
        let preview = PreviewAnswer::of_message(answer.into_inner()).unwrap();
        Ok(serde_json::to_value(preview).unwrap())
    }

    async fn is_active(&self, version: &str) -> bool {
        self.billing.catalogue(version).await.unwrap().unwrap().active
    }

    /// The declarations that stand in a partition.
    fn declared(&self, partition: Partition) -> Vec<v1::DeclareDimensions> {
        let mut found = Vec::new();
        let log_id = self.log.generation().log_id;
        let mut drain = self.log.drain(partition, Offset(0)).unwrap();
        let mut visit = |record: LogRecord<'_>| {
            let control = proto::record::open(log_id, record.body).unwrap().envelope.control;
            if let Some(DeclareDimensions(declare)) = control.and_then(|control| control.kind) {
                found.push(declare);
            }
        };
        drain.read(Offset(1_000), usize::MAX, &mut visit).unwrap();
        found
    }

    async fn use_hours(&self, hours: u64) {
        self.usage.register(self.log.generation(), None).await.unwrap();
        self.flush((0..hours).map(usage_row).collect(), Vec::new()).await;
    }

    async fn set_aside(&self, groups: Vec<DeadLetterGroup>) {
        self.flush(Vec::new(), groups).await;
    }

    async fn flush(&self, rows: Vec<UsageRow>, dead_letters: Vec<DeadLetterGroup>) {
        let (log_id, partition, epoch) = (LogId([3; 16]), Partition(0), Epoch(0));
        let flush = Flush {
            segment: SegmentId { log_id, partition, epoch, start: Offset(0) },
            rows,
            stored_before: Vec::new(),
            dead_letters,
            close: None,
            progress: Some(Progress {
                log_id,
                partition,
                epoch,
                folded_to: Offset(1),
                eff_ts: moment(),
                counts: Conservation::default(),
                anchor: None,
                caught_up_at: None,
            }),
        };
        self.usage.flush(flush.into()).await.unwrap();
    }
}

/// A segment's pulses of a tenant that were too late.
fn set_aside(
    tenant: &str,
    start: u64,
    count: u64,
    (time_first, time_last): (Option<Timestamp>, Option<Timestamp>),
) -> DeadLetterGroup {
    let segment = SegmentId {
        log_id: LogId([3; 16]),
        partition: Partition(0),
        epoch: Epoch(0),
        start: Offset(start),
    };
    let reason = DeadLetterReason::TooLate;
    DeadLetterGroup {
        key: DeadLetterKey { segment, reason, tenant: tenant.to_owned() },
        offset_last: Offset(start),
        count,
        time_first,
        time_last,
        sample: DeadLetterSample {
            offset: Offset(start),
            index: 0,
            product_sku: "vm".to_owned(),
            time: time_first,
            message: "late".to_owned(),
        },
    }
}

/// One hour of `vm`, the given number of hours into September 2024.
fn usage_row(hour: u64) -> UsageRow {
    let start: Timestamp = "2024-09-01T00:00:00Z".parse().unwrap();
    let time = start.plus(Duration::from_secs(3_600 * hour));
    let resource = ResourceKey {
        tenant: Tenant::new("acme").unwrap(),
        product_sku: Sku::new("vm").unwrap(),
        use_unity: Unit::new("hour").unwrap(),
        dimensions: Dimensions::none(),
    };
    let segment = SegmentId {
        log_id: LogId([3; 16]),
        partition: Partition(0),
        epoch: Epoch(0),
        start: Offset(0),
    };
    UsageRow {
        key: RowKey { resource, window_start: WindowLength::HOUR.start_of(time), segment },
        cell: Cell { offset_last: Offset(0), aggregate: Aggregate::of(Quantity::ONE, time) },
    }
}

fn reason(status: &Status) -> String {
    edge::problem::reason_of(status).unwrap()
}

#[tokio::test]
async fn publishing_declares_dimensions_in_every_partition_before_the_catalogue_is_active() {
    let setup = setup();
    let answer = setup.publish(TEXT).await.unwrap();
    assert!(!answer.already_published);
    let catalogue = answer.catalogue.unwrap();
    assert_eq!((catalogue.version.as_str(), catalogue.skus), ("2024-09", 3));
    assert_eq!(catalogue.published_at.unwrap().seconds, 1_727_740_800);
    assert!(setup.is_active("2024-09").await);
    for partition in setup.log.generation().partitions() {
        let declared = setup.declared(partition);
        assert_eq!(declared.len(), 1, "one for the SKU with dimensions, whatever its units");
        assert_eq!(declared[0].product_sku, "vm");
        assert_eq!(declared[0].dimensions, ["disk", "region", "size"]);
        assert_eq!(declared[0].version, 1);
    }
}

#[tokio::test]
async fn the_same_text_again_is_answered_as_before_and_other_text_is_refused() {
    let setup = setup();
    let first = setup.publish(TEXT).await.unwrap();
    let again = setup.publish(TEXT).await.unwrap();
    assert!(again.already_published);
    assert_eq!(again.catalogue, first.catalogue);
    assert_eq!(setup.declared(Partition(0)).len(), 1, "nothing is declared a second time");
    let status = setup.publish(&TEXT.replace("0.25", "0.250")).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::AlreadyExists, "CATALOGUE_EXISTS")
    );
}

#[tokio::test]
async fn a_catalogue_with_mistakes_or_failing_tests_is_not_stored() {
    let setup = setup();
    for (good, bad, part) in [
        ("unit_price: \"0.25\"", "unit_price: 0.25", "skus[0].prices[0].unit_price"),
        ("expect: \"1.00\"", "expect: \"2.00\"", "expects 2.00, but rating gives 1.00"),
    ] {
        let status = setup.publish(&TEXT.replace(good, bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), "CATALOGUE_INVALID");
        assert!(status.message().contains(part), "{}", status.message());
    }
    assert_eq!(setup.billing.catalogues().await.unwrap(), []);
}

#[tokio::test]
async fn validate_only_stores_and_declares_nothing() {
    let setup = setup();
    let request = v1::PublishCatalogueRequest {
        text: TEXT.into(),
        validate_only: true,
        ..Default::default()
    };
    let answer = setup.service.publish_catalogue(local(request)).await.unwrap();
    assert_eq!(answer.into_inner().catalogue.unwrap().skus, 3);
    assert_eq!(setup.billing.catalogues().await.unwrap(), []);
    assert_eq!(setup.declared(Partition(0)), []);
}

#[tokio::test]
async fn declarations_are_sent_again_until_every_partition_has_them() {
    let setup = setup();
    for fault in [
        AppendFault::Overloaded,
        AppendFault::UnknownAndLost,
        AppendFault::UnknownButAppended,
        AppendFault::Unavailable,
    ] {
        setup.log.fail_next_append(fault);
    }
    let status = setup.publish(TEXT).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "LOG_UNAVAILABLE"));
    assert!(!setup.is_active("2024-09").await, "published, but no partition is left out silently");
    let status = setup.preview("acme", "2024-09", "2024-09").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    // The same text again goes on where the first call gave up.
    assert!(setup.publish(TEXT).await.unwrap().already_published);
    assert!(setup.is_active("2024-09").await);
    for partition in setup.log.generation().partitions() {
        assert!(!setup.declared(partition).is_empty(), "partition {partition}");
    }
}

#[tokio::test]
async fn a_restart_finishes_what_was_published_but_not_active() {
    let setup = setup();
    let published = CatalogueVersion {
        version: "2024-09".into(),
        sequence: 0,
        text: TEXT.into(),
        published_at: moment(),
        active: false,
    };
    setup.billing.publish_catalogue(&published).await.unwrap();
    assert_eq!(setup.service.resume_activation().await, Ok(vec!["2024-09".to_owned()]));
    assert!(setup.is_active("2024-09").await);
    assert_eq!(setup.declared(Partition(2)).len(), 1);
    assert_eq!(setup.service.resume_activation().await, Ok(vec![]));
}

#[tokio::test]
async fn a_server_that_missed_a_growth_activates_nothing_and_the_next_start_does() {
    let setup = setup();
    let old = *setup.log.generation();
    let next = old.grown(LogId([4; 16]), 5);
    setup.usage.register(&old, None).await.unwrap();
    setup.usage.register(&next, Some(old.log_id)).await.unwrap();
    // What it declares may stand behind the old log's end, where nobody inherits it.
    let status = setup.publish(TEXT).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "LOG_UNAVAILABLE"));
    assert!(!setup.is_active("2024-09").await);
    let service = BillingApi::new(
        Arc::new(setup.usage.clone()),
        Arc::new(setup.billing.clone()),
        Arc::new(MemoryLog::new(next, Arc::new(moment))),
        no_log(),
        Arc::new(moment),
        BillingConfig::default(),
        Compute::default(),
    );
    assert_eq!(service.resume_activation().await, Ok(vec!["2024-09".to_owned()]));
}

#[tokio::test]
async fn versions_are_listed_newest_first_and_found_by_name() {
    let setup = setup();
    let get = |version: &str| {
        let request = v1::GetCatalogueRequest { version: version.into() };
        setup.service.get_catalogue(Request::new(request))
    };
    assert_eq!(get("").await.unwrap_err().code(), Code::NotFound);
    setup.publish(TEXT).await.unwrap();
    setup.publish(&TEXT.replace("\"2024-09\"", "\"2024-10\"")).await.unwrap();
    let listed = setup.service.list_catalogues(Request::new(v1::ListCataloguesRequest {}));
    let listed = listed.await.unwrap().into_inner().catalogues;
    let names: Vec<_> = listed.iter().map(|version| version.version.as_str()).collect();
    assert_eq!(names, ["2024-10", "2024-09"]);
    assert!(listed.iter().all(|version| version.text.is_empty() && version.digest.len() == 32));
    assert_eq!(get("").await.unwrap().into_inner().version, "2024-10");
    assert_eq!(get("2024-09").await.unwrap().into_inner().text, TEXT);
    let status = get("2023").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "CATALOGUE_NOT_FOUND"));
}

#[tokio::test]
async fn a_preview_reads_all_pages_of_the_tenants_month() {
    let setup = setup();
    setup.publish(TEXT).await.unwrap();
    setup.use_hours(7).await;
    for version in ["", "2024-09"] {
        let preview = setup.preview("acme", "2024-09", version).await.unwrap();
        assert_eq!(preview["catalogue"], "2024-09");
        let invoice = &preview["invoices"][0];
        // 7 x 0.25
        assert_eq!((&invoice["total"], &invoice["currency"]), (&json!("1.75"), &json!("USD")));
        assert_eq!(invoice["lines"][0]["hours"].as_array().unwrap().len(), 7);
    }
    for (tenant, period) in [("acme", "2024-10"), ("other", "2024-09")] {
        let preview = setup.preview(tenant, period, "").await.unwrap();
        assert_eq!(preview["invoices"], json!([]));
    }
}

#[tokio::test]
async fn a_preview_says_how_many_pulses_of_the_tenant_its_period_lacks() {
    let setup = setup();
    setup.publish(TEXT).await.unwrap();
    setup.use_hours(1).await;
    let at = |text: &str| text.parse::<Timestamp>().ok();
    let mut groups = Vec::new();
    for (tenant, start, count, first, last) in [
        ("acme", 0, 1, at("2024-08-31T00:00:00Z"), at("2024-08-31T23:59:59Z")),
        ("acme", 1, 20, at("2024-08-31T00:00:00Z"), at("2024-09-01T00:00:00Z")),
        ("acme", 2, 300, at("2024-09-30T23:59:59Z"), at("2024-10-02T00:00:00Z")),
        ("acme", 3, 4_000, at("2024-10-01T00:00:00Z"), at("2024-10-02T00:00:00Z")),
        ("acme", 4, 50_000, None, None),
        ("other", 5, 600_000, at("2024-09-02T00:00:00Z"), at("2024-09-02T00:00:00Z")),
    ] {
        groups.push(set_aside(tenant, start, count, (first, last)));
    }
    setup.set_aside(groups).await;
    for (tenant, period, pulses) in
        [("acme", "2024-09", "320"), ("acme", "2024-10", "4300"), ("other", "2024-09", "600000")]
    {
        let preview = setup.preview(tenant, period, "").await.unwrap();
        assert_eq!(preview["set_aside"], json!({"pulses": pulses, "complete": true}), "{period}");
    }
    // More groups than one answer reads: said, and not waited for.
    let many = (10..10_010).map(|start| {
        set_aside("acme", start, 1, (at("2024-09-02T00:00:00Z"), at("2024-09-02T00:00:00Z")))
    });
    setup.set_aside(many.collect()).await;
    let preview = setup.preview("acme", "2024-09", "").await.unwrap();
    // The 5 before, of which two meet the month, are read first.
    let expected = json!({"pulses": (320 + 10_000 - 5).to_string(), "complete": false});
    assert_eq!(preview["set_aside"], expected);
}

#[tokio::test]
async fn a_preview_says_what_is_wrong_with_its_request() {
    let setup = setup();
    for (tenant, period, version, code, word) in [
        ("acme", "2024-09", "", Code::NotFound, "CATALOGUE_NOT_FOUND"),
        ("acme", "2024-09", "x", Code::NotFound, "CATALOGUE_NOT_FOUND"),
        ("acme", "september", "", Code::InvalidArgument, "PERIOD_INVALID"),
        ("", "2024-09", "", Code::InvalidArgument, "NAME_EMPTY"),
        ("a\u{7}", "2024-09", "", Code::InvalidArgument, "NAME_CONTROL_CHARACTER"),
    ] {
        let status = setup.preview(tenant, period, version).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, word));
    }
}

#[tokio::test]
async fn a_preview_of_too_many_rows_is_refused_rather_than_cut() {
    let mut setup = setup();
    let config = BillingConfig { preview_rows_max: 3, ..config() };
    setup.service = BillingApi::new(
        Arc::new(setup.usage.clone()),
        Arc::new(setup.billing.clone()),
        Arc::new(setup.log.clone()),
        no_log(),
        Arc::new(moment),
        config,
        Compute::default(),
    );
    setup.publish(TEXT).await.unwrap();
    setup.use_hours(3).await;
    assert!(setup.preview("acme", "2024-09", "").await.is_ok());
    setup.use_hours(4).await;
    let status = setup.preview("acme", "2024-09", "").await.unwrap_err();
    assert_eq!(reason(&status), "RESULT_TOO_LARGE");
}
