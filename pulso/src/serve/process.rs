//! A process: the stages it runs, started in the order of a pulse's way and ended in the same
//! order, so that what one has taken reaches the next.
//!
//! Ending: ingest takes no more and answers what is in flight; the servers close, and cut off calls
//! that would not end; the consumer drains what is in the log and closes its segments; the files
//! are tidied. A kill at any point of that is harmless and only leaves the same work to the next
//! start.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::PulseLog as _;

use billing::{BillingApi, BillingConfig, ScheduleConfig, ScheduledDeltas};
use edge::{
    Compute, Served,
    access::browser::Transport,
    compute::{self, ComputeConfig},
    paging::TokenKey,
};
use ingestor_api::{Ingest, Packers, Packing, Ports};
use ingestor_consumer::{ConsumerError, grpc::AuditService, refold::Refolder, restart::anchors};
use query_api::{QueryApi, QueryConfig, ReadGeneration};
use runtime::{
    Health, Schedule, Shutdown, clock,
    health::{Check, Trouble},
    telemetry::Metrics,
};
use storage::choice::{Log, Usage};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use super::{
    access,
    backends::{self, Backends},
    consuming::{self, Consuming},
    doors,
    growth::{self, Listeners},
    negative::RefusingSkus,
    scratch, tls,
};
use crate::{
    cli::serving::Stage,
    config::{Config, Loaded, deltas, keys, value::BillingSchedule},
    exit::{Exit, Failure},
};

/// Why a process ended in order.
pub enum Ended {
    /// It was asked to.
    Asked,
    /// The log has grown, and the process is to start again on its next generation, behind the same
    /// sockets.
    Grown(Arc<Listeners>),
}

/// What a process is to run.
pub struct Plan<'a> {
    /// Every setting, and where it was set.
    pub loaded: &'a Loaded,
    /// The stages to start.
    pub stages: &'a [Stage],
    /// When the consumer ticks.
    pub schedule: Schedule,
    /// Whether ingest packs batches into records; off only for benches.
    pub packing: Packing,
    /// Its sockets; without, it binds those of the configuration.
    pub listeners: Option<Arc<Listeners>>,
    /// What asks it to end.
    pub shutdown: Shutdown,
}

impl<'a> Plan<'a> {
    /// A plan with packing on.
    #[must_use]
    pub fn new(loaded: &'a Loaded, stages: &'a [Stage], schedule: Schedule) -> Self {
        let shutdown = Shutdown::new();
        Self { loaded, stages, schedule, packing: Packing::On, listeners: None, shutdown }
    }

    fn runs(&self, stage: Stage) -> bool {
        self.stages.contains(&stage)
    }
}

/// Running stages.
pub struct Process {
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// The log and the stores that the stages use.
    pub backends: Backends,
    shutdown: Shutdown,
    /// Set before it is asked to end because the log has grown.
    grown: Arc<AtomicBool>,
    listeners: Arc<Listeners>,
    timeout: Duration,
    calls_timeout: Duration,
    packers: Option<Packers>,
    /// The two servers, and what runs beside them until shutdown.
    tasks: Vec<JoinHandle<Result<(), Failure>>>,
    consuming: Option<Arc<Consuming>>,
    /// Ends the consumer's schedule, after the servers have ended.
    consumer_shutdown: Shutdown,
    consumer_task: Option<JoinHandle<()>>,
}

impl Process {
    /// Opens the backends, binds the ports, and starts the stages.
    ///
    /// # Errors
    /// When anything of that fails; whatever had started is ended.
    pub async fn start(plan: Plan<'_>, metrics: Metrics) -> Result<Self, Failure> {
        let loaded = plan.loaded;
        let config = &loaded.config;
        // First, because what follows opens files.
        let tls = match &plan.listeners {
            Some(listeners) => listeners.tls(),
            None => tls::load(config)?,
        };
        let edge = doors::edge(loaded, tls.clone())?;
        let backends = backends::open(loaded, plan.stages).await?;
        let listeners = match &plan.listeners {
            Some(listeners) => Arc::clone(listeners),
            None => Arc::new(Listeners::bind(config, tls.clone()).await?),
        };
        let sockets = listeners.lend()?;
        let grpc = sockets[0].local_addr().map_err(Failure::internal)?;
        let http = sockets[1].local_addr().map_err(Failure::internal)?;
        let (health, shutdown, consumer_shutdown) =
            (Health::new(), plan.shutdown.clone(), Shutdown::new());
        let mut stages = Vec::new();
        let mut tasks = Vec::new();

        let mut packers = None;
        if plan.runs(Stage::Ingest) {
            check_log(&backends).await?;
            let (ingest, started) = start_ingest(&plan, &backends, &shutdown)?;
            let (billing, until) = (Arc::clone(&backends.billing), shutdown.clone());
            tasks.push(tokio::spawn(async move {
                let clock = Arc::new(clock::system());
                started.refusing.follow(billing, clock, until).await;
                Ok(())
            }));
            tasks.push(follow(ingest.trouble(), health.register("log"), &shutdown));
            stages.push(ingest.doors());
            packers = Some(started.packers);
        }
        let (mut consuming, mut consumer_task) = (None, None);
        if plan.runs(Stage::Consume) {
            let started = Consuming::start(&backends, config, &plan.schedule, &health).await;
            let started = Arc::new(started.map_err(consuming::failure)?);
            tasks.push(follow(started.trouble(), health.register("store"), &shutdown));
            let (schedule, until) = (plan.schedule.clone(), consumer_shutdown.clone());
            let running = Arc::clone(&started);
            consumer_task = Some(tokio::spawn(async move { running.run(&schedule, &until).await }));
            consuming = Some(started);
            let (usage, ids) = (Arc::clone(&backends.usage), scratch::ids_memory(config));
            let room = scratch::sort_room(config);
            stages.push(AuditService::new(backends.logs(), usage, ids, room).doors());
        }
        let access = access::open(config, &backends.billing, &shutdown).await?;
        stages.extend(access.doors());
        tasks.extend(access.keep(&health, &shutdown));
        let compute = Compute::new(compute_config(config));
        if plan.runs(Stage::Price) {
            let api = start_billing(&backends, (config, &compute), &health, &shutdown, &mut tasks)?;
            stages.push(billing::doors(&api));
        }
        if plan.runs(Stage::Query) {
            let query = Arc::new(query_api(&backends, (config, &compute), &health));
            stages.push(query_api::doors(&query));
        }
        let is_secure = tls.is_some();
        if let Some(tls) = tls {
            let (every, check) =
                (config.listen.tls_reload_interval.duration(), health.register("tls"));
            tasks.push(tokio::spawn(tls::keep(tls, every, check, shutdown.clone())));
        }
        let serving = health.register("serving");
        let kept = metrics.clone();
        let shown = edge::Process {
            health,
            render_metrics: Arc::new(move || metrics.render()),
            descriptors: proto::DESCRIPTORS,
            authenticator: access.authenticator,
            rates: access.rates,
            quotas: access.quotas,
            trail: access.trail,
            origins: access.origins,
            transport: if is_secure { Transport::Tls } else { Transport::Plain },
            hosts: access.hosts,
        };
        let served = Served::new(stages, shown).map_err(Failure::internal)?;
        let until = shutdown.clone();
        tasks.push(tokio::spawn(async move {
            edge.serve(served, sockets, &until).await.map_err(Failure::internal)
        }));
        let until = shutdown.clone();
        tasks.push(tokio::spawn(async move {
            serving.ready();
            kept.keep(&until).await;
            drop(serving);
            Ok(())
        }));
        let grown = Arc::new(AtomicBool::new(false));
        if backends.can_grow() {
            tasks.push(watch_growth(&backends, config, &grown, &shutdown));
        }
        info!(%grpc, %http, stages = ?plan.stages, "serving");
        let timeout = config.shutdown.timeout.duration();
        let calls_timeout = config.shutdown.calls_timeout.duration();
        Ok(Self {
            grpc,
            http,
            backends,
            shutdown,
            grown,
            listeners,
            timeout,
            calls_timeout,
            packers,
            tasks,
            consuming,
            consumer_shutdown,
            consumer_task,
        })
    }

    /// Runs until it is asked to end or the log has grown, then ends in order.
    ///
    /// # Errors
    /// When ending fails or takes longer than `shutdown.timeout`.
    pub async fn run_to_end(self) -> Result<Ended, Failure> {
        self.shutdown.requested().await;
        if !self.grown.load(Ordering::Acquire) {
            return self.end("shutdown").await.map(|()| Ended::Asked);
        }
        let listeners = Arc::clone(&self.listeners);
        self.end("growth").await.map(|()| Ended::Grown(listeners))
    }

    /// Ends in order, within the configured time.
    ///
    /// # Errors
    /// As [`Process::run_to_end`].
    pub async fn end(self, asked_by: &str) -> Result<(), Failure> {
        let timeout = self.timeout;
        info!("shutting down");
        tokio::time::timeout(timeout, self.end_in_order(asked_by)).await.unwrap_or_else(|_| {
            let message = format!(
                "not finished within shutdown.timeout ({timeout:?}); nothing acknowledged is lost, the next start goes on"
            );
            Err(Failure::new(Exit::Retry, message))
        })
    }

    async fn end_in_order(self, asked_by: &str) -> Result<(), Failure> {
        self.shutdown.request();
        // Unless another run of the stages is to have them, nobody may wait behind closed doors.
        drop(self.listeners);
        let mut result = end_calls(self.tasks, self.calls_timeout).await;
        if let Some(packers) = self.packers {
            packers.finish().await;
        }
        self.consumer_shutdown.request();
        if let Some(task) = self.consumer_task {
            result = result.and(task.await.map_err(Failure::internal));
        }
        if let Some(consuming) = self.consuming {
            result = result.and(consuming.finish(asked_by).await.map_err(consuming::failure));
        }
        self.backends.close().await;
        info!("shut down");
        result
    }

    /// The consumer, where this process runs it.
    #[must_use]
    pub fn consuming(&self) -> Option<&Consuming> {
        self.consuming.as_deref()
    }
}

/// Waits for the servers to answer what they have in hand. Calls that go on for longer are cut off:
/// a health watch never ends by itself, nor does a client that reads no acks, and the log is still
/// to be drained.
async fn end_calls(
    tasks: Vec<JoinHandle<Result<(), Failure>>>,
    calls_timeout: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + calls_timeout;
    let mut result = Ok(());
    for mut task in tasks {
        match timeout_at(deadline, &mut task).await {
            Ok(ended) => {
                let ended = ended.unwrap_or_else(|error| Err(Failure::internal(error)));
                result = result.and(ended);
            }
            Err(_) => {
                warn!(?calls_timeout, "calls were still open and are cut off");
                task.abort();
            }
        }
    }
    result
}

/// Keeps a check to what a stage fails at.
fn follow(trouble: &Trouble, check: Check, shutdown: &Shutdown) -> JoinHandle<Result<(), Failure>> {
    let (trouble, until) = (trouble.clone(), shutdown.clone());
    tokio::spawn(async move {
        trouble.follow(check, &until).await;
        Ok(())
    })
}

/// Asks the process to end once there is a newer generation of its log.
fn watch_growth(
    backends: &Backends,
    config: &Config,
    grown: &Arc<AtomicBool>,
    shutdown: &Shutdown,
) -> JoinHandle<Result<(), Failure>> {
    let (usage, log_id) = (Arc::clone(&backends.usage), backends.log.generation().log_id);
    let every = config.log.watch_interval.duration();
    let (grown, shutdown) = (Arc::clone(grown), shutdown.clone());
    tokio::spawn(async move {
        if growth::has_grown(&usage, log_id, every, &shutdown).await {
            grown.store(true, Ordering::Release);
            shutdown.request();
        }
        Ok(())
    })
}

/// Nothing is acknowledged into a log that is not the one whose totals the store has.
async fn check_log(backends: &Backends) -> Result<(), Failure> {
    let checked = anchors::check_log(&backends.log, &*backends.usage).await;
    checked.map_err(|error| consuming::failure(ConsumerError::Restart(error)))
}

struct StartedIngest {
    packers: Packers,
    refusing: RefusingSkus,
}

fn start_ingest(
    plan: &Plan<'_>,
    backends: &Backends,
    shutdown: &Shutdown,
) -> Result<(Ingest<Log>, StartedIngest), Failure> {
    let mut limits = plan.loaded.limits();
    limits.packing = plan.packing;
    let refusing = RefusingSkus::default();
    let ports = Ports {
        log: Arc::clone(&backends.log),
        clock: Arc::new(clock::system()),
        negative: Arc::new(refusing.clone()),
        shutdown: shutdown.clone(),
    };
    let (ingest, packers) =
        Ingest::start(limits, ports).map_err(|error| Failure::new(Exit::Config, error))?;
    Ok((ingest, StartedIngest { packers, refusing }))
}

fn compute_config(config: &Config) -> ComputeConfig {
    let compute = &config.compute;
    let spare = compute::cores().saturating_sub(1);
    ComputeConfig {
        threads: compute.threads.on(spare, usize::MAX),
        calls_max: compute.calls_max.as_usize(),
        periods_max: compute.periods_max.as_usize(),
        retry_after: compute.retry_after.duration(),
        stall_timeout: compute.stall_timeout.duration(),
    }
}

fn start_billing(
    backends: &Backends,
    (config, compute): (&Config, &Compute),
    health: &Health,
    shutdown: &Shutdown,
    tasks: &mut Vec<JoinHandle<Result<(), Failure>>>,
) -> Result<BillingApi<Usage, storage::choice::Billing, Log>, Failure> {
    let mut billing_config = BillingConfig::default();
    billing_config.runs.grace = config.billing.grace.duration();
    billing_config.runs.tenants_at_once = config.billing.tenants_at_once.as_usize();
    billing_config.schedule = billing_schedule(&config.billing);
    billing_config.documents.lines_max = config.billing.document_lines_max.as_usize();
    billing_config.documents.inline_bytes_max = config.billing.inline_bytes_max.as_usize();
    let pricing = BillingApi::new(
        Arc::clone(&backends.usage),
        Arc::clone(&backends.billing),
        Arc::clone(&backends.log),
        refolder(backends, config),
        Arc::new(clock::system()),
        billing_config,
        compute.clone(),
    );
    let (resuming, check, until) = (pricing.clone(), health.register("pricing"), shutdown.clone());
    tasks.push(tokio::spawn(async move {
        match resuming.resume_activation().await {
            Ok(_) => check.ready(),
            Err(error) => {
                check.not_ready(format!("a catalogue could not be made effective: {error}"))
            }
        }
        until.requested().await;
        Ok(())
    }));
    let (billing, until) = (pricing.clone(), shutdown.clone());
    tasks.push(tokio::spawn(async move {
        billing.keep_billing(&until).await;
        Ok(())
    }));
    for (queue, outlet) in backends.outlets.clone() {
        let (forwarder, until) = (pricing.forwarder(queue), shutdown.clone());
        let check = health.register(format!("topic {}", queue.name()));
        tasks.push(tokio::spawn(async move {
            forwarder.run(&outlet, &until, &check).await;
            Ok(())
        }));
    }
    if let BillingSchedule::Cron(expression) = &config.billing.schedule {
        let schedule =
            Schedule::parse(expression).map_err(|error| Failure::new(Exit::Config, error))?;
        let (billing, until) = (pricing.clone(), shutdown.clone());
        tasks.push(tokio::spawn(async move { bill_on(&schedule, &until, &billing).await }));
    }
    Ok(pricing)
}

/// What a tick of the schedule bills.
fn billing_schedule(config: &keys::Billing) -> ScheduleConfig {
    let deltas = match config.deltas {
        deltas::ScheduledDeltas::Off => ScheduledDeltas::Off,
        deltas::ScheduledDeltas::Monthly => {
            ScheduledDeltas::Monthly(config.deltas_threshold.0.clone())
        }
    };
    ScheduleConfig { look_back_months: config.look_back_months.as_u32(), deltas }
}

/// Bills what is due at each tick. A tick that fails is made up for by the next.
async fn bill_on(
    schedule: &Schedule,
    until: &Shutdown,
    billing: &BillingApi<Usage, storage::choice::Billing, Log>,
) -> Result<(), Failure> {
    let tick = |_| async {
        if let Err(error) = billing.bill_what_is_due(until).await {
            warn!(%error, "what is due was not billed; the next tick tries again");
        }
        Ok::<(), Failure>(())
    };
    schedule.run(&clock::system(), until, tick).await.map(drop)
}

/// Folds partitions again, each with as much memory for ids as the consumer has for it.
fn refolder(backends: &Backends, config: &Config) -> Arc<Refolder<Log, Usage>> {
    let ids = scratch::ids_memory(config).share_of(backends.log.generation().partitions);
    let refolder = Refolder::new(backends.logs(), Arc::clone(&backends.usage));
    Arc::new(refolder.keeping_ids_in(ids))
}

fn query_api(
    backends: &Backends,
    (config, compute): (&Config, &Compute),
    health: &Health,
) -> QueryApi<Usage, Log> {
    let mut query = QueryConfig::new(TokenKey::new(uuid::Uuid::new_v4().into_bytes()));
    query.compute = compute.clone();
    query.store_page_rows = config.query.store_page_rows.as_usize();
    query.timeout = config.query.timeout.duration();
    query.versions.insert("pulso".into(), env!("CARGO_PKG_VERSION").into());
    query.versions.insert("record_format".into(), proto::record::ENVELOPE_VERSION.to_string());
    let (usage, log) = (Arc::clone(&backends.usage), Arc::clone(&backends.log));
    let older = backends
        .older
        .iter()
        .map(|older| ReadGeneration { generation: older.generation, log: older.log.clone() });
    let refold = refolder(backends, config);
    let clock = Arc::new(clock::system());
    let api = QueryApi::new((usage, log), clock, health.clone(), query);
    api.after(older).folding_again(refold)
}
