//! A story: one tenant in memory that uses, is billed and gets money back, step by step.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::{
    Aggregate, BillingStore as _, Cell, Dimensions, Epoch, LogId, Offset, Partition, ResourceKey,
    RowKey, SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, UsageStore as _, WindowLength,
    billing::CatalogueVersion,
    contract::Contract,
    generation::Generation,
    segment::{Conservation, Progress},
    store::Flush,
};
use edge::{
    Compute, Problem,
    access::{Change, Principal},
};
use pricing::document::InvoiceDocument;
use proto::v1;
use storage::memory::{MemoryBillingStore, MemoryLog, MemoryUsageStore};

use super::{billed::Service, no_log, town};
use crate::{
    BillingApi,
    answers::preview::PreviewAnswer,
    books::{
        contracts,
        document::Document,
        ledger::Ledger,
        runs::{Cut, CutEnd, RunRequest, results::Outcomes},
    },
    config::BillingConfig,
};

/// Hours at 1.00, GB at 0.10, a flat fee, and two levels.
pub(crate) const CATALOGUE: &str = r#"
catalogue: "1"
currency: USD
skus:
  - {sku: vm, unit: hour, prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "1.00"}]}
  - {sku: disk, unit: GB, prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.10"}]}
  - {sku: seats, unit: seat, meter: max, prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "2.00"}]}
  - {sku: kept, unit: GB, meter: latest, carry: true, prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.05"}]}
  - {sku: support, unit: month, prices: [{valid_from: 2024-01-01T00:00:00Z, model: flat, amount: "30.00"}]}
"#;
const LOG: LogId = LogId([3; 16]);

pub(crate) struct Story {
    pub(crate) service: Service,
    usage: MemoryUsageStore,
    /// Each look at the clock is a second later.
    seconds: Arc<AtomicI64>,
    segments: u64,
}

/// A credit note as it is asked for: lines by place from 1, 0 for the whole, and amounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note<'n> {
    pub(crate) number: &'n str,
    pub(crate) kind: &'n str,
    pub(crate) reason: &'n str,
    pub(crate) request_id: &'n str,
    pub(crate) lines: Vec<(u32, String)>,
}

impl Story {
    pub(crate) async fn new() -> Self {
        let (usage, billing) = (MemoryUsageStore::new(), MemoryBillingStore::new());
        let beginning: Timestamp = "2025-06-01T00:00:00Z".parse().unwrap();
        let seconds = Arc::new(AtomicI64::new(0));
        let ticking = Arc::clone(&seconds);
        let clock = move || {
            let passed = ticking.fetch_add(1, Ordering::Relaxed);
            beginning.plus(Duration::from_secs(passed.unsigned_abs()))
        };
        let log = MemoryLog::new(Generation::new(LOG, 1, 11), Arc::new(clock.clone()));
        let version = CatalogueVersion {
            version: "1".into(),
            sequence: 0,
            text: CATALOGUE.into(),
            published_at: beginning,
            active: false,
        };
        billing.publish_catalogue(&version).await.unwrap();
        billing.activate_catalogue("1").await.unwrap();
        usage.register(domain::PulseLog::generation(&log), None).await.unwrap();
        let service = BillingApi::new(
            Arc::new(usage.clone()),
            Arc::new(billing),
            Arc::new(log),
            no_log(),
            Arc::new(clock),
            BillingConfig::default(),
            Compute::default(),
        );
        Self { service, usage, seconds, segments: 0 }
    }

    pub(crate) fn tenant() -> Tenant {
        Tenant::new("acme").unwrap()
    }

    /// What the tenant's contracts say together.
    pub(crate) async fn contracts(&self) -> Vec<Contract> {
        let files = self.service.parts.books.contracts.all().await.unwrap();
        contracts::agreed(&files.of(&Self::tenant()).unwrap())
    }

    /// Usage by (time, SKU, unit, amount), as a segment of its own.
    pub(crate) async fn use_up(&mut self, rows: &[(&str, &str, &str, &str)]) {
        let (partition, epoch, start) = (Partition(0), Epoch(0), Offset(self.segments));
        let segment = SegmentId { log_id: LOG, partition, epoch, start };
        self.segments += 1;
        let row = |(time, sku, unit, amount): &(&str, &str, &str, &str)| {
            let time: Timestamp = time.parse().unwrap();
            let resource = ResourceKey {
                tenant: Self::tenant(),
                product_sku: Sku::new(sku).unwrap(),
                use_unity: Unit::new(unit).unwrap(),
                dimensions: Dimensions::none(),
            };
            let window_start = WindowLength::HOUR.start_of(time);
            let aggregate = Aggregate::of(amount.parse().unwrap(), time);
            UsageRow {
                key: RowKey { resource, window_start, segment },
                cell: Cell { offset_last: start, aggregate },
            }
        };
        let flush = Flush {
            segment,
            rows: rows.iter().map(row).collect(),
            stored_before: Vec::new(),
            dead_letters: Vec::new(),
            close: None,
            progress: Some(Progress {
                log_id: LOG,
                partition,
                epoch,
                folded_to: Offset(self.segments),
                eff_ts: "2025-06-01T00:00:00Z".parse().unwrap(),
                counts: Conservation::default(),
                anchor: None,
                caught_up_at: None,
            }),
        };
        self.usage.flush(Arc::new(flush)).await.unwrap();
    }

    pub(crate) async fn apply(&self, text: &str) -> Result<(), Problem> {
        let request = v1::ApplyContractRequest { text: text.to_owned(), validate_only: false };
        self.service.apply(request, &Change::default()).await.map(drop)
    }

    pub(crate) async fn amend(&self, text: &str) -> Result<(), Problem> {
        let request = v1::AmendContractRequest { text: text.to_owned(), validate_only: false };
        self.service.amend(request, &Change::default()).await.map(drop)
    }

    /// Publishes a version of the catalogue, about the past or not.
    pub(crate) async fn publish(&self, text: &str) {
        let text = text.to_owned();
        let (validate_only, about_the_past) = (false, true);
        let request = v1::PublishCatalogueRequest { text, validate_only, about_the_past };
        self.service.publish(request, &Change::default()).await.unwrap();
    }

    /// Bills a month, below a cut that no consumer had to prove.
    pub(crate) async fn run(&self, month: &str, deltas: bool) -> Outcomes {
        let books = &self.service.parts.books;
        let request = RunRequest { deltas, ..town::month(month) };
        let run = books.runs.open(request).await.unwrap();
        let end = CutEnd { log_id: LOG.to_string(), partition: 0, end: self.segments };
        let cut = Cut {
            taken_at: self.now(),
            log_events: 0,
            ends: vec![end],
            catalogues: books.catalogues.versions().await.unwrap(),
            contracts: books.contracts.all().await.unwrap().len() as u64,
        };
        books.runs.set_cut(&run, cut).await.unwrap();
        let run = self.service.parts.driver.execute(run.number).await.unwrap();
        let results = town::results(run);
        assert!(results.failures.is_empty(), "{results:?}");
        results.outcomes
    }

    fn now(&self) -> Timestamp {
        let passed = self.seconds.fetch_add(1, Ordering::Relaxed).unsigned_abs();
        let beginning: Timestamp = "2025-06-01T00:00:00Z".parse().unwrap();
        beginning.plus(Duration::from_secs(passed))
    }

    pub(crate) async fn credit(&self, note: Note<'_>) -> Result<v1::Invoice, Problem> {
        self.credit_or_check(note, false).await
    }

    pub(crate) async fn credit_or_check(
        &self,
        Note { number, kind, reason, request_id, lines }: Note<'_>,
        validate_only: bool,
    ) -> Result<v1::Invoice, Problem> {
        let line = |(line, amount): (u32, String)| v1::CreditLine { line, amount };
        let request = v1::CreditInvoiceRequest {
            number: number.to_owned(),
            lines: lines.into_iter().map(line).collect(),
            reason: reason.to_owned(),
            request_id: request_id.to_owned(),
            validate_only,
            kind: kind.to_owned(),
        };
        self.service.credit(request, &Change::default()).await.map(|shown| shown.head)
    }

    pub(crate) async fn void(&self, number: &str) -> Result<v1::Invoice, Problem> {
        self.service.void(number, "a mistake", &Change::default()).await
    }

    /// What is listed of the tenant.
    pub(crate) async fn listed(&self) -> v1::ListInvoicesResponse {
        let request = v1::ListInvoicesRequest { tenant: "acme".into(), ..Default::default() };
        self.service.invoices(&request, &Principal::local()).await.unwrap()
    }

    pub(crate) async fn ledger(&self) -> Ledger {
        self.service.parts.books.documents.ledger(&Self::tenant()).await.unwrap()
    }

    pub(crate) async fn content(&self, document: &Document) -> InvoiceDocument {
        self.service.parts.books.documents.content(document).await.unwrap()
    }

    pub(crate) async fn preview(&self, month: &str) -> PreviewAnswer {
        let (tenant, period) = ("acme".to_owned(), month.to_owned());
        let request = v1::PreviewBillRequest { tenant, period, ..Default::default() };
        self.service.preview(&request, &Principal::local()).await.unwrap()
    }

    /// Every document with a number comes out again as it was issued, and explains itself.
    pub(crate) async fn verify(&self) {
        for document in self.ledger().await.documents() {
            let Some(number) = document.number else { continue };
            let request = v1::VerifyInvoiceRequest { number: number.to_string(), from_log: false };
            let verified = self.service.verify(&request).await.unwrap();
            assert!(verified.matches, "{number}: {:?}", verified.differences);
            let explained = self.service.parts.explainer.explain(&request.number, 0, None).await;
            assert!(explained.is_ok(), "{number}: {:?}", explained.err());
        }
    }
}
