//! `pulso bench drain`: how fast a full log is drained and aggregated, and nothing else.
//!
//! The log is filled by way of ingest first, unmeasured. Then a consumer folds all of it in one
//! tick into a store that only adds up what it is given, so what is measured is reading, decoding,
//! judging and aggregating. It counts only if every SKU's total equals the generator's ledger.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use domain::{
    DeadLetterGroup, DeadLetterKey, LogId, Manifest, NoFeed, Offset, PulseLog, RowKey, SegmentId,
    Tenant, UsageRow, UsageStore,
    epochs::LogEvent,
    generation::Generation,
    segment::Progress,
    store::{DeadLetterFilter, Flush, PartitionKey, StoreError, UsageFilter},
};
use ingestor_consumer::{Consumer, ConsumerPorts, Work};
use runtime::{Schedule, clock, telemetry::Metrics};
use serde_json::{Value, json};

use super::{Ledger, Load, cpu::CpuTimes, settings, target};
use crate::{
    cli::serving::{PipelineArgs, Stage},
    exit::{Exit, Failure},
    output::Answer,
    serve::{
        Serving, consuming,
        process::{Plan, Process},
    },
};

/// Runs the bench.
///
/// # Errors
/// When a step fails; totals that do not match are an exit code, not an error.
pub async fn run(serving: Serving, args: PipelineArgs) -> Result<Exit, Failure> {
    crate::serve::start_logs(&serving.loaded.config)?;
    let fresh = tempfile::tempdir().map_err(Failure::internal)?;
    let loaded = settings(&serving.loaded, &args, fresh.path())?;
    // Without a consumer of its own, which would drain all of it at its end.
    let plan = Plan::new(&loaded, &[Stage::Ingest, Stage::Query], Schedule::Once);
    let process = Process::start(plan, Metrics::start().map_err(Failure::internal)?).await?;
    let measured = measure(&process, &serving, &args).await;
    let ended = process.end("bench").await;
    let document = measured?;
    ended?;
    let matches = document["totals_match"] == Value::Bool(true);
    let columns =
        ["pulses", "pulses_per_second", "cpu_ns_per_pulse", "rows", "rss_mib", "totals_match"];
    serving.printer.print(&Answer::single(document, &columns))?;
    Ok(if matches { Exit::Success } else { Exit::CheckFailed })
}

#[allow(clippy::float_arithmetic, clippy::cast_precision_loss)] // Rates, not amounts.
async fn measure(
    process: &Process,
    serving: &Serving,
    args: &PipelineArgs,
) -> Result<Value, Failure> {
    check_empty(&*process.backends.log).await?;
    let load = Load::new(target(process, &serving.loaded.config).await?, args);
    let report =
        tokio::task::spawn_blocking(move || load.run()).await.map_err(Failure::internal)??;
    let store = Arc::new(Sums::default());
    let ports = ConsumerPorts {
        log: Arc::clone(&process.backends.log),
        store: Arc::clone(&store),
        feed: None::<Arc<NoFeed>>,
        clock: Arc::new(clock::system()),
    };
    let config = consuming::consumer_config(&serving.loaded.config, Work::Live);
    let mut consumer = Consumer::start(ports, config).await.map_err(consuming::failure)?;
    let (before, started) = (CpuTimes::now()?, Instant::now());
    consumer.tick().await.map_err(consuming::failure)?;
    let (elapsed, spent) = (started.elapsed(), CpuTimes::now()?.since(&before));
    consumer.shutdown().await;
    let found = std::mem::take(&mut *store.0.lock().unwrap_or_else(PoisonError::into_inner));
    let pulses = report.pulses as f64;
    let per_pulse = |nanos: u64| (nanos as f64 / pulses * 10.0).round() / 10.0;
    let steps: serde_json::Map<String, Value> =
        spent.steps.iter().map(|(step, nanos)| (step.clone(), per_pulse(*nanos).into())).collect();
    Ok(json!({
        "identity": format!("{:?}", args.identity).to_lowercase(),
        "keys": args.keys,
        "hours": args.hours,
        "pulses": report.pulses.to_string(),
        "pulses_per_second": (pulses / elapsed.as_secs_f64()).round(),
        "cpu_ns_per_pulse": per_pulse(spent.total()),
        "cpu_ns_per_pulse_by_step": steps,
        "rows": found.rows.to_string(),
        "rss_mib": super::cpu::resident_mib().unwrap_or_default(),
        "totals_match": found.ledger == report.ledger,
    }))
}

/// What others have put into the log would be drained too, and measured.
async fn check_empty(log: &impl PulseLog) -> Result<(), Failure> {
    for partition in log.generation().partitions() {
        let bounds = log.bounds(partition).await;
        let bounds = bounds.map_err(|error| Failure::new(Exit::Unavailable, error))?;
        if bounds.end > bounds.low {
            return Err(Failure::new(
                Exit::Config,
                format_args!(
                    "partition {partition} of the log holds records, which would be measured too: give this run topics of its own with kafka.topic_prefix and `pulso topics apply`"
                ),
            ));
        }
    }
    Ok(())
}

/// What a store was given in a single tick, in which each row comes once.
#[derive(Default)]
struct Found {
    rows: u64,
    ledger: Ledger,
}

/// A store that only adds up.
#[derive(Default)]
struct Sums(Mutex<Found>);

impl UsageStore for Sums {
    async fn register(&self, _: &Generation, _: Option<LogId>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        Ok(Vec::new())
    }

    async fn flush(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.rows += flush.rows.len() as u64;
        for row in &flush.rows {
            let aggregate = &row.cell.aggregate;
            let sku = row.key.resource.product_sku.as_str();
            found.ledger.add(sku, aggregate.count, aggregate.sum);
        }
        Ok(())
    }

    async fn newest_manifest(&self, _: PartitionKey) -> Result<Option<Manifest>, StoreError> {
        Ok(None)
    }

    async fn manifests(
        &self,
        _: PartitionKey,
        _: Offset,
        _: usize,
    ) -> Result<Vec<Manifest>, StoreError> {
        Ok(Vec::new())
    }

    async fn progress(&self, _: PartitionKey) -> Result<Option<Progress>, StoreError> {
        Ok(None)
    }

    async fn state_head(&self, _: u128, _: usize) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    async fn state(&self, _: u128) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    async fn run(&self, _: SegmentId) -> Result<Vec<u8>, StoreError> {
        Ok(Vec::new())
    }

    async fn segment_rows(
        &self,
        _: SegmentId,
        _: &[(Tenant, i32)],
    ) -> Result<Vec<UsageRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn scan(
        &self,
        _: &UsageFilter,
        _: Option<&RowKey>,
        _: usize,
    ) -> Result<Vec<UsageRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn tenants(&self, _: Option<&Tenant>, _: usize) -> Result<Vec<Tenant>, StoreError> {
        Ok(Vec::new())
    }

    async fn scan_dead_letters(
        &self,
        _: LogId,
        _: &DeadLetterFilter,
        _: Option<&DeadLetterKey>,
        _: usize,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        Ok(Vec::new())
    }

    async fn log_events(&self) -> Result<Vec<LogEvent>, StoreError> {
        Ok(Vec::new())
    }

    async fn append_log_event(&self, _: u64, _: &LogEvent) -> Result<(), StoreError> {
        Ok(())
    }
}
