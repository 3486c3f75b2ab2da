//! Serving: the stages put together in one process, on the adapters that the configuration names.
//!
//! Stages never call one another; this is the only place that knows them all. In reading order:
//! [`backends`] opens log and stores, [`consuming`] is the consumer with its schedule, [`process`] starts stages and ends them in order,
//! [`addresses`] says where they are; then the commands that run on top.

pub mod addresses;
pub mod backends;
pub mod bench;
pub mod consuming;
pub mod demo;
mod grpc;
mod negative;
pub mod process;

use std::path::PathBuf;

use service::{Schedule, Shutdown, telemetry};

use crate::{
    cli::serving::{ConsumeArgs, DemoArgs, DevArgs, PipelineArgs, ServeArgs, Stage},
    config::{Config, Loaded, value},
    exit::{Exit, Failure},
    output::Printer,
};
use process::{Plan, Process};

/// What every serving command is given.
pub struct Serving {
    /// The configuration in effect.
    pub loaded: Loaded,
    /// Where to write the bound addresses once ready.
    pub print_addresses: Option<PathBuf>,
    /// Where answers go.
    pub printer: Printer,
}

const ALL_STAGES: [Stage; 4] = [Stage::Ingest, Stage::Consume, Stage::Price, Stage::Query];

/// `pulso dev`: everything in this process, until it is told to end.
///
/// # Errors
/// When it cannot start; the failure names the key or the file.
pub async fn dev(serving: Serving, _args: DevArgs) -> Result<Exit, Failure> {
    let config = &serving.loaded.config;
    for (key, address) in [("listen.grpc", config.listen.grpc), ("listen.http", config.listen.http)]
    {
        if !address.ip().is_loopback() {
            return Err(Failure::new(
                Exit::Config,
                format_args!(
                    "{key} = `{address}`: `pulso dev` has no authentication and listens on loopback only; use 127.0.0.1, or `pulso serve` behind a gateway"
                ),
            ));
        }
    }
    let process = start(&serving, &ALL_STAGES, schedule(config)?).await?;
    addresses::print_table(&process, config);
    process.run_to_end().await
}

/// `pulso serve`: the chosen stages, until it is told to end.
///
/// # Errors
/// As [`dev`].
pub async fn serve(serving: Serving, args: ServeArgs) -> Result<Exit, Failure> {
    let process = start(&serving, &args.stages, schedule(&serving.loaded.config)?).await?;
    process.run_to_end().await
}

/// `pulso consume`: drains the log into totals on its own schedule, without serving anything else.
///
/// # Errors
/// As [`dev`].
pub async fn consume(serving: Serving, args: ConsumeArgs) -> Result<Exit, Failure> {
    let config = &serving.loaded.config;
    let schedule = match (args.when.once, args.when.schedule, args.when.follow) {
        (true, ..) => Schedule::Once,
        (_, Some(expression), _) => parse_schedule("--schedule", &expression)?,
        (_, _, true) => Schedule::Follow(config.consumer.follow_interval.duration()),
        _ => schedule(config)?,
    };
    start_logs(config)?;
    let backends = backends::open(&serving.loaded, &[Stage::Consume]).await?;
    let once = matches!(schedule, Schedule::Once);
    let asked_by = if once { "consume --once" } else { "shutdown" };
    let shutdown = Shutdown::new();
    let _signals = shutdown.on_signals().map_err(Failure::internal)?;
    let consuming = consuming::Consuming::start(&backends, config, &service::Health::new())
        .await
        .map_err(consuming::failure)?;
    if once {
        consuming.assigned().await.map_err(consuming::failure)?;
    }
    consuming.run(&schedule, &shutdown).await;
    let ended = consuming.finish(asked_by).await.map_err(consuming::failure);
    backends.close().await;
    ended.map(|()| Exit::Success)
}

/// `pulso demo`: see the module [`mod@demo`].
///
/// # Errors
/// When a step fails.
pub async fn demo(serving: Serving, args: DemoArgs) -> Result<Exit, Failure> {
    demo::run(serving, args).await
}

/// `pulso bench pipeline`: see the module [`mod@bench`].
///
/// # Errors
/// When a step fails.
pub async fn bench(serving: Serving, args: PipelineArgs) -> Result<Exit, Failure> {
    bench::run(serving, args).await
}

async fn start(
    serving: &Serving,
    stages: &[Stage],
    schedule: Schedule,
) -> Result<Process, Failure> {
    let config = &serving.loaded.config;
    start_logs(config)?;
    let metrics = telemetry::Metrics::start().map_err(Failure::internal)?;
    let plan = Plan::new(&serving.loaded, stages, schedule);
    let mut process = Process::start(plan, metrics).await?;
    process.watch_signals()?;
    if let Some(path) = &serving.print_addresses {
        addresses::write(&process, path)?;
    }
    Ok(process)
}

fn start_logs(config: &Config) -> Result<(), Failure> {
    let format = match config.telemetry.format {
        value::LogFormat::Auto => telemetry::LogFormat::Auto,
        value::LogFormat::Text => telemetry::LogFormat::Text,
        value::LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::start_logs(format, config.telemetry.filter.as_str(), "telemetry.filter")
        .map_err(|error| Failure::new(Exit::Config, error))
}

fn schedule(config: &Config) -> Result<Schedule, Failure> {
    match &config.consumer.schedule {
        value::Schedule::Follow => Ok(Schedule::Follow(config.consumer.follow_interval.duration())),
        value::Schedule::Cron(expression) => parse_schedule("consumer.schedule", expression),
    }
}

fn parse_schedule(name: &str, expression: &str) -> Result<Schedule, Failure> {
    Schedule::parse(expression)
        .map_err(|error| Failure::new(Exit::Config, format_args!("{name}: {error}")))
}
