//! Serving: the stages put together in one process, on the adapters that the configuration names.
//!
//! Stages never call one another; this is the only place that knows them all. In reading order:
//! [`backends`] opens log and stores, `recorded` puts into the audit trail what the program changes there
//! without a call, [`consuming`] is the consumer with its schedule, [`process`] starts stages and ends
//! them in order behind `doors`, which `tls` secures; `growth` starts them again when the log has grown,
//! `first_key` is made by `pulso dev`, [`addresses`] says where all is; then the commands that run on
//! top.

pub mod backends;
pub(crate) mod recorded;
pub(crate) mod scratch;
mod blocks;
pub mod consuming;
pub(crate) mod tls;
pub mod access;
pub mod description;
mod doors;
mod growth;
mod negative;
pub mod process;
mod first_key;
pub mod addresses;
pub mod bench;

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::PulseLog as _;
use runtime::{Schedule, Shutdown, telemetry};
use tracing::warn;

use crate::{
    cli::serving::{ConsumeArgs, DevArgs, PipelineArgs, ServeArgs, Stage},
    config::{Config, Loaded, access_mode::AccessMode, value},
    exit::{Exit, Failure},
    output::Printer,
};
use backends::Backends;
use consuming::Consuming;
use process::{Ended, Plan, Process};

/// What every serving command is given.
pub struct Serving {
    /// The configuration in effect.
    pub loaded: Loaded,
    /// Where to write the bound addresses once ready.
    pub print_addresses: Option<PathBuf>,
    /// Where answers go.
    pub printer: Printer,
}

pub(crate) const ALL_STAGES: [Stage; 4] =
    [Stage::Ingest, Stage::Consume, Stage::Price, Stage::Query];

/// `pulso dev`: everything in this process, until it is told to end.
///
/// # Errors
/// When it cannot start; the failure names the key or the file.
pub async fn dev(serving: Serving, _args: DevArgs) -> Result<Exit, Failure> {
    let config = &serving.loaded.config;
    if config.access.mode == AccessMode::Open {
        let message = "access.mode = `open`: `pulso dev` asks for no credentials on loopback only; use `off` or `required`";
        return Err(Failure::new(Exit::Config, message));
    }
    access::check_listen(config)?;
    let announce = async |process: &Process| {
        let key = first_key::first_key(config, &process.backends.billing).await;
        addresses::print_table(process, config, &key);
    };
    run(&serving, &ALL_STAGES, announce).await
}

/// `pulso serve`: the chosen stages, until it is told to end.
///
/// # Errors
/// As [`dev`].
pub async fn serve(serving: Serving, args: ServeArgs) -> Result<Exit, Failure> {
    access::check_listen(&serving.loaded.config)?;
    run(&serving, &args.stages, async |_: &Process| {}).await
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
    doors::raise_open_files()?;
    let once = matches!(schedule, Schedule::Once);
    let shutdown = Shutdown::new();
    let _signals = shutdown.on_signals().map_err(Failure::internal)?;
    loop {
        let backends = backends::open(&serving.loaded, &[Stage::Consume]).await?;
        let consuming = Consuming::start(&backends, config, &schedule, &runtime::Health::new())
            .await
            .map_err(consuming::failure)?;
        if once {
            consuming.assigned().await.map_err(consuming::failure)?;
        }
        let has_grown = consume_until_grown(&consuming, &backends, config, &schedule, &shutdown);
        let has_grown = has_grown.await;
        let asked_by = if once { "consume --once" } else { "shutdown" };
        let ended = consuming.finish(asked_by).await.map_err(consuming::failure);
        backends.close().await;
        ended?;
        if !has_grown {
            return Ok(Exit::Success);
        }
    }
}

async fn consume_until_grown(
    consuming: &Consuming,
    backends: &Backends,
    config: &Config,
    schedule: &Schedule,
    shutdown: &Shutdown,
) -> bool {
    let until = shutdown.child();
    let every = config.log.watch_interval.duration();
    let watching = async {
        if !backends.can_grow() {
            return false;
        }
        let log_id = backends.log.generation().log_id;
        let has_grown = growth::has_grown(&backends.usage, log_id, every, &until).await;
        until.request();
        has_grown
    };
    let running = async {
        consuming.run(schedule, &until).await;
        until.request();
    };
    tokio::join!(running, watching).1
}

/// `pulso bench pipeline`: see the module [`mod@bench`].
///
/// # Errors
/// When a step fails.
pub async fn bench(serving: Serving, args: PipelineArgs) -> Result<Exit, Failure> {
    bench::run(serving, args).await
}

/// `pulso bench drain`: see the module [`mod@bench::drain`].
///
/// # Errors
/// When a step fails.
pub async fn bench_drain(serving: Serving, args: PipelineArgs) -> Result<Exit, Failure> {
    bench::drain::run(serving, args).await
}

/// Runs the stages until they are told to end, on one generation of the log after the other.
async fn run(
    serving: &Serving,
    stages: &[Stage],
    announce: impl AsyncFnOnce(&Process),
) -> Result<Exit, Failure> {
    let config = &serving.loaded.config;
    start_logs(config)?;
    let metrics = telemetry::Metrics::start().map_err(Failure::internal)?;
    let (shutdown, schedule) = (Shutdown::new(), schedule(config)?);
    let plan = |listeners| {
        let plan = Plan::new(&serving.loaded, stages, schedule.clone());
        Plan { listeners, shutdown: shutdown.child(), ..plan }
    };
    let mut process = Process::start(plan(None), metrics.clone()).await?;
    // From here on the first SIGTERM or SIGINT asks for an orderly end. Before anybody is told that
    // the process is ready, or a signal that comes in answer would end it out of order.
    let _signals = shutdown.on_signals().map_err(Failure::internal)?;
    if let Some(path) = &serving.print_addresses {
        addresses::write(&process, path)?;
    }
    announce(&process).await;
    loop {
        let Ended::Grown(listeners) = process.run_to_end().await? else { return Ok(Exit::Success) };
        let start = async || {
            let plan = plan(Some(Arc::clone(&listeners)));
            let stages = plan.shutdown.clone();
            let started = Process::start(plan, metrics.clone()).await;
            // What had started before something failed ends.
            started.inspect_err(|_| stages.request())
        };
        process = match start_again(start, &shutdown).await? {
            Some(started) => started,
            None => return Ok(Exit::Success),
        };
    }
}

/// Tries until it works or is told to end: a server that was there a moment ago will be again.
async fn start_again(
    start: impl AsyncFn() -> Result<Process, Failure>,
    shutdown: &Shutdown,
) -> Result<Option<Process>, Failure> {
    const BETWEEN: Duration = Duration::from_secs(1);
    loop {
        if shutdown.is_requested() {
            return Ok(None);
        }
        match start().await {
            Ok(process) => return Ok(Some(process)),
            Err(failure) if matches!(failure.exit, Exit::Unavailable | Exit::Retry) => {
                warn!(%failure, "the stages do not start on the next generation yet");
            }
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = tokio::time::sleep(BETWEEN) => {}
            () = shutdown.requested() => {}
        }
    }
}

pub(crate) fn start_logs(config: &Config) -> Result<(), Failure> {
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
