//! `pulso bench pipeline`: measures the true way of a pulse on this machine.
//!
//! Everything is what production runs: gRPC over loopback TCP, validation, the log with its syncs,
//! drain, lanes, store. The load generator runs in the same process on threads of its own, so its
//! cost is known and is not the server's. A run counts only if the stored totals equal the
//! generator's ledger to the last unit.

mod cpu;
mod ledger;
mod load;
pub mod drain;
pub mod rate;
pub mod years;

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{Clock as _, Name};
use edge::access::{Role, Roles, Tenants, keys::NewKey};
use ingestor_api::Packing;
use runtime::{Schedule, clock, telemetry::Metrics};
use serde_json::{Value, json};

use super::{
    ALL_STAGES, Serving, access,
    process::{Plan, Process},
    scratch,
};
use crate::{
    cli::serving::{Mode, PipelineArgs},
    client::Target,
    config::{Config, Loaded, access_mode::AccessMode},
    exit::{Exit, Failure},
    output::Answer,
};
use cpu::CpuTimes;
use ledger::Ledger;
use load::{Load, LoadReport};

/// How long the load's key counts: longer than any run.
const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Runs the bench.
///
/// # Errors
/// When a step fails; totals that do not match are an exit code, not an error.
pub async fn run(serving: Serving, args: PipelineArgs) -> Result<Exit, Failure> {
    super::start_logs(&serving.loaded.config)?;
    let fresh = tempfile::tempdir().map_err(Failure::internal)?;
    let loaded = settings(&serving.loaded, &args, fresh.path())?;
    let mut plan = Plan::new(
        &loaded,
        &ALL_STAGES,
        Schedule::Follow(loaded.config.consumer.follow_interval.duration()),
    );
    if args.mode == Mode::Unary {
        plan.packing = Packing::Off;
    }
    let process = Process::start(plan, Metrics::start().map_err(Failure::internal)?).await?;
    let measured = measure(&process, &loaded.config, &args).await;
    let ended = process.end("bench").await;
    let document = measured?;
    ended?;
    let matches = document["totals_match"] == Value::Bool(true);
    serving.printer.print(&answer(document))?;
    Ok(if matches { Exit::Success } else { Exit::CheckFailed })
}

/// The user's settings on a fresh directory and free ports, unless the user named others.
fn settings(
    loaded: &Loaded,
    args: &PipelineArgs,
    directory: &std::path::Path,
) -> Result<Loaded, Failure> {
    let directory = directory.display().to_string();
    let connections = (args.in_flight.get() + 16).to_string();
    let mut settings = vec![
        ("data_dir", directory.as_str()),
        ("listen.grpc", "127.0.0.1:0"),
        ("listen.http", "127.0.0.1:0"),
    ];
    if args.mode == Mode::Unary {
        // One partition, so that no two calls share a commit.
        settings.push(("log.partitions", "1"));
        // Each caller has a connection of its own, and all are one peer.
        settings.push(("edge.connections_per_peer_max", connections.as_str()));
        settings.push(("edge.connections_max", connections.as_str()));
    }
    let mut loaded = loaded.clone().in_plain_text();
    for (key, value) in settings {
        loaded = loaded.with_default(key, value).map_err(Failure::internal)?;
    }
    Ok(loaded)
}

async fn measure(
    process: &Process,
    config: &Config,
    args: &PipelineArgs,
) -> Result<Value, Failure> {
    let load = Load::new(target(process, config).await?, args);
    let before = CpuTimes::now()?;
    let start = Instant::now();
    let report =
        tokio::task::spawn_blocking(move || load.run()).await.map_err(Failure::internal)??;
    let acknowledged = start.elapsed();
    let consuming = process.consuming().expect("the bench runs every stage");
    let closed = consuming.close_segments("bench").await.map_err(super::consuming::failure)?;
    let counts: Vec<_> = closed.partitions.iter().map(|partition| partition.counts).collect();
    let stored = start.elapsed();
    let mut spent = CpuTimes::now()?.since(&before);
    spent.steps.insert("load".to_owned(), report.cpu_nanos);
    let found = Ledger::of_store(&*process.backends.usage).await?;
    let totals_match = found == report.ledger;
    if !totals_match {
        let differs = report.ledger.differences(&found);
        tracing::error!(sent = ?report.ledger.total(), stored = ?found.total(), ?counts, ?differs, "totals differ");
        // Says on which side of the log the fault lies, while the files are still there.
        let (log, usage) = (Arc::clone(&process.backends.log), Arc::clone(&process.backends.usage));
        let audit = ingestor_consumer::audit::audit(log, usage, None, scratch::sort_room(config))
            .await
            .map_err(super::consuming::failure)?;
        tracing::error!(?audit, "what the log says against what is stored");
    }
    Ok(document(args, &report, acknowledged, stored, &spent, totals_match))
}

/// The process, with a key of the load's own where the settings ask for one.
async fn target(process: &Process, config: &Config) -> Result<Target, Failure> {
    let target = Target::from(&format!("http://{}", process.grpc));
    if config.access.mode != AccessMode::Required {
        return Ok(target);
    }
    let keys = access::open_keys(config, Arc::clone(&process.backends.billing)).await?;
    let (name, roles) =
        (Name::new("bench").map_err(Failure::internal)?, Roles::of(&[Role::Writer]));
    let expires_at = Some(clock::system().now().plus(KEY_LIFETIME));
    let new = NewKey { name, roles, tenants: Tenants::ALL, expires_at };
    let (key, _) = keys.create(new, "pulso bench").await.map_err(Failure::internal)?;
    let key = key.reveal().parse().map_err(Failure::internal)?;
    Ok(Target { key: Some(key), ..target })
}

#[allow(clippy::float_arithmetic, clippy::cast_precision_loss)] // Rates, not amounts.
fn document(
    args: &PipelineArgs,
    report: &LoadReport,
    acknowledged: Duration,
    stored: Duration,
    spent: &CpuTimes,
    totals_match: bool,
) -> Value {
    let pulses = report.pulses as f64;
    let rate = |elapsed: Duration| (pulses / elapsed.as_secs_f64()).round();
    let per_pulse = |nanos: u64| (nanos as f64 / pulses * 10.0).round() / 10.0;
    let millis = |latency: Duration| (latency.as_secs_f64() * 1e5).round() / 100.0;
    let steps: serde_json::Map<String, Value> =
        spent.steps.iter().map(|(step, nanos)| (step.clone(), per_pulse(*nanos).into())).collect();
    json!({
        "mode": format!("{:?}", args.mode).to_lowercase(),
        "identity": format!("{:?}", args.identity).to_lowercase(),
        "keys": args.keys,
        "pulses": report.pulses.to_string(),
        "pulses_per_second": rate(stored),
        "acknowledged_per_second": rate(acknowledged),
        "cpu_ns_per_pulse": per_pulse(spent.total()),
        "cpu_ns_per_pulse_by_step": steps,
        "ack_p50_ms": millis(report.latency(500)),
        "ack_p99_ms": millis(report.latency(990)),
        "resends": report.resends.to_string(),
        "rss_mib": cpu::resident_mib().unwrap_or_default(),
        "totals_match": totals_match,
    })
}

fn answer(document: Value) -> Answer {
    let steps = document["cpu_ns_per_pulse_by_step"].as_object().into_iter().flatten();
    let mut lines: Vec<String> =
        steps.map(|(step, nanos)| format!("  {step:<14} {nanos:>8} ns of CPU a pulse")).collect();
    lines.sort();
    let columns = [
        "pulses",
        "pulses_per_second",
        "cpu_ns_per_pulse",
        "ack_p50_ms",
        "ack_p99_ms",
        "rss_mib",
        "totals_match",
    ];
    lines.into_iter().fold(Answer::single(document, &columns), Answer::note)
}

/// Batches in flight that a mode can use.
fn in_flight(args: &PipelineArgs) -> NonZeroUsize {
    let wanted = usize::try_from(args.in_flight.get()).unwrap_or(usize::MAX);
    NonZeroUsize::new(wanted).unwrap_or(NonZeroUsize::MIN)
}
