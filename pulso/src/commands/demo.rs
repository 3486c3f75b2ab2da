//! `pulso demo`: the whole way on real usage, in one process on a fresh directory, then the end.
//!
//! Every step is the one a user would take: the price list is published over gRPC, the usage goes
//! through `IngestStream` as `pulso ingest` sends it, and the bills are those of `pulso bill
//! preview`. Only waiting for the next tick is cut short.

mod story;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::client::Channel;
use billing::answers::preview::PreviewAnswer;
use clap::Parser;
use domain::{BlockStore, SegmentId, Timestamp, UsageCursor, UsageRow, store::UsageFilter};
use pricing::{
    document::InvoiceDocument,
    focus::{self, Basis, Comparison, FocusRow, Imported},
};
use proto::v1::{
    GetStatusRequest, PreviewBillRequest, PublishCatalogueRequest,
    billing_service_client::BillingServiceClient, catalog_service_client::CatalogServiceClient,
    operations_service_client::OperationsServiceClient,
};
use runtime::{Schedule, telemetry::Metrics};

use super::{
    Cli, Command,
    ingest::{IngestArgs, Report, transfer},
};
use crate::{
    cli::serving::DemoArgs,
    client,
    config::Loaded,
    exit::{Exit, Failure},
    output::Format,
    serve::{
        self, ALL_STAGES, Serving,
        process::{Plan, Process},
    },
};

/// Bills that are shown: those of the tenants that cost most.
const BILLS_SHOWN: usize = 3;

/// What the demo found out.
struct Findings {
    sample: PathBuf,
    imported: Imported,
    accepted: u64,
    took: Duration,
    counts: proto::v1::PulseCounts,
    comparison: Comparison,
    bills: Vec<InvoiceDocument>,
    tenants: usize,
    kept: [(&'static str, String); 2],
    data_dir: PathBuf,
}

/// Runs the demo.
///
/// # Errors
/// When a step fails; a comparison that does not hold is an exit code, not an error.
pub async fn run(serving: Serving, args: DemoArgs) -> Result<Exit, Failure> {
    let loaded = settings(&serving.loaded)?;
    serve::start_logs(&loaded.config)?;
    let bytes =
        fs::read(&args.sample).map_err(|error| Failure::file("read", &args.sample, &error))?;
    let rows = read_sample(&bytes)?;
    let schedule = Schedule::Follow(loaded.config.consumer.follow_interval.duration());
    let plan = Plan::new(&loaded, &ALL_STAGES, schedule);
    let process = Process::start(plan, Metrics::start().map_err(Failure::internal)?).await?;
    let found = play(&process, &loaded, &args.sample, &rows).await;
    let ended = process.end("demo").await;
    let found = found?;
    ended?;
    match serving.printer.format() {
        Format::Table => crate::output::Printer::print_text(&story::tell(&found))?,
        _ => serving.printer.print(&story::answer(&found))?,
    }
    let as_the_provider_says = found.comparison.differences.is_empty();
    Ok(if as_the_provider_says { Exit::Success } else { Exit::CheckFailed })
}

/// The user's settings on a fresh directory and free ports, unless the user named others.
fn settings(loaded: &Loaded) -> Result<Loaded, Failure> {
    let directory = std::env::temp_dir().join(format!("pulso-demo-{}", uuid::Uuid::new_v4()));
    let directory = directory.display().to_string();
    let defaults = [
        ("data_dir", directory.as_str()),
        ("listen.grpc", "127.0.0.1:0"),
        ("listen.http", "127.0.0.1:0"),
        ("telemetry.filter", "warn"),
    ];
    let mut loaded = loaded.clone().in_plain_text();
    for (key, value) in defaults {
        loaded = loaded.with_default(key, value).map_err(Failure::internal)?;
    }
    Ok(loaded)
}

fn read_sample(bytes: &[u8]) -> Result<Vec<FocusRow>, Failure> {
    let rows = focus::read(bytes, Basis::Pricing).map_err(Failure::data)?;
    // Rows that cannot be read are reported by the transfer, which reads them too.
    Ok(rows.into_iter().filter_map(Result::ok).collect())
}

async fn play(
    process: &Process,
    loaded: &Loaded,
    sample: &Path,
    rows: &[FocusRow],
) -> Result<Findings, Failure> {
    let server = format!("http://{}", process.grpc);
    let channel = client::connect(&server).await?;
    let imported = focus::import(rows, None).map_err(Failure::data)?;
    publish(channel.clone(), &imported.text).await?;
    let started = Instant::now();
    let mut report = Report::default();
    transfer(channel.clone(), &ingest_args(sample)?, &mut report).await?;
    let consuming = process.consuming().expect("the demo runs every stage");
    consuming.close_segments("demo").await.map_err(serve::consuming::failure)?;
    let took = started.elapsed();
    let status =
        OperationsServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await;
    let status = status.map_err(|status| Failure::status(&status))?.into_inner();
    let file =
        pricing::file::parse("imported", imported.text.as_bytes()).map_err(Failure::internal)?;
    let usage = all_usage(&*process.backends.usage).await?;
    let comparison = focus::compare(&file.catalogue, &usage, rows);
    let (bills, tenants) = bills(channel, rows).await?;
    Ok(Findings {
        sample: sample.to_owned(),
        imported,
        accepted: report.accepted,
        took,
        counts: status.pulses.unwrap_or_default(),
        comparison,
        bills,
        tenants,
        kept: process.backends.kept.clone(),
        data_dir: loaded.config.data_dir.0.clone(),
    })
}

/// What `pulso ingest SAMPLE --format focus --backfill focus-sample` would be given.
fn ingest_args(sample: &Path) -> Result<IngestArgs, Failure> {
    let sample = sample.display().to_string();
    let line =
        ["pulso", "ingest", sample.as_str(), "--format", "focus", "--backfill", "focus-sample"];
    match Cli::try_parse_from(line).map_err(Failure::internal)?.command {
        Command::Ingest(args) => Ok(args),
        _ => Err(Failure::internal("`pulso ingest` is another command")),
    }
}

async fn publish(channel: Channel, text: &str) -> Result<(), Failure> {
    let request = PublishCatalogueRequest { text: text.to_owned(), ..Default::default() };
    let published = CatalogServiceClient::new(channel).publish_catalogue(request).await;
    published.map(drop).map_err(|status| Failure::status(&status))
}

/// Every row of the store: a sample is small.
async fn all_usage(store: &impl BlockStore) -> Result<Vec<UsageRow>, Failure> {
    let filter = UsageFilter {
        tenant: None,
        product_sku: None,
        use_unity: None,
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };
    let view = store.active_view().await.map_err(Failure::internal)?;
    let wanted = |segment: &SegmentId| view.counts(segment);
    let cursor = UsageCursor::open(store, filter, wanted).await.map_err(Failure::internal)?;
    cursor.all(store).await.map_err(Failure::internal)
}

/// The bills of all tenants for the month of the sample's first row: the greatest ones, and how
/// many there are.
async fn bills(
    channel: Channel,
    rows: &[FocusRow],
) -> Result<(Vec<InvoiceDocument>, usize), Failure> {
    let month = rows.iter().map(|row| row.time).min();
    let period = month.map(|time| time.to_string()[..7].to_owned()).unwrap_or_default();
    let mut tenants: Vec<String> = rows.iter().map(|row| row.tenant.to_string()).collect();
    tenants.sort();
    tenants.dedup();
    let mut client =
        BillingServiceClient::new(channel).max_decoding_message_size(client::ANSWER_BYTES_MAX);
    let mut bills = Vec::with_capacity(tenants.len());
    for tenant in &tenants {
        let request = PreviewBillRequest {
            tenant: tenant.clone(),
            period: period.clone(),
            catalogue_version: String::new(),
        };
        let answer =
            client.preview_bill(request).await.map_err(|status| Failure::status(&status))?;
        let preview = PreviewAnswer::of_message(answer.into_inner()).map_err(Failure::internal)?;
        bills.extend(preview.invoices.into_iter().map(|made| made.document));
    }
    bills.sort_by_key(|bill| std::cmp::Reverse(bill.total().amount()));
    bills.truncate(BILLS_SHOWN);
    Ok((bills, tenants.len()))
}
