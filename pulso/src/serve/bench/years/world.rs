//! A world in simulated time: an embedded log and store, and the stages over them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use billing::{BillingApi, BillingConfig};
use domain::{
    BillingStore as _, Clock, Epoch, LogId, NoFeed, PulseLog as _, Timestamp,
    billing::CatalogueVersion, generation::Generation,
};
use edge::Compute;
use ingestor_consumer::{
    Consumer, ConsumerPorts, Work,
    blocks::{BlockMaker, BlocksConfig},
    refold::Refolder,
    replay,
    retention::{Retention, RetentionConfig},
};
use runtime::Shutdown;
use storage::{
    choice::{Billing, Log, Usage},
    embedded::{
        DataDirectory, EmbeddedLog, EmbeddedStore, FatalHook, LogOptions, OpenOptions, StoreOptions,
    },
    memory::{MemoryBillingStore, MemoryLog, MemoryUsageStore},
};

use crate::{
    cli::serving::YearsArgs,
    config::Config,
    exit::Failure,
    serve::{consuming, scratch},
};

/// A clock that is set by hand.
#[derive(Clone)]
pub(super) struct SimulatedClock(Arc<AtomicI64>);

impl SimulatedClock {
    pub(super) fn pass(&self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).expect("a step is short");
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
            .expect("a bench ends before year 9999")
    }
}

/// All that runs, and what it cost so far.
pub(super) struct World {
    path: PathBuf,
    config: Config,
    partitions: u16,
    pub(super) clock: SimulatedClock,
    pub(super) log: Arc<Log>,
    pub(super) usage: Arc<Usage>,
    billing: Arc<Billing>,
    store: Option<EmbeddedStore>,
    /// Taken while it is started again.
    consumer: Option<Consumer<Log, Usage>>,
    maker: BlockMaker<Usage>,
    pub(super) cost: Cost,
}

/// What was done since it was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) hours: u64,
    pub(super) making: Duration,
    pub(super) longest_making: Duration,
    pub(super) blocks: u64,
    pub(super) consuming: Duration,
    pub(super) billing: Duration,
}

impl World {
    pub(super) async fn open(
        path: &Path,
        config: &Config,
        args: &YearsArgs,
        start: Timestamp,
    ) -> Result<Self, Failure> {
        let clock = SimulatedClock(Arc::new(AtomicI64::new(start.micros())));
        let partitions = args.partitions.get();
        let (log, store) = open_files(path, partitions, &clock)?;
        let (log, usage) = (Arc::new(Log::Embedded(log)), Arc::new(Usage::Embedded(store.usage())));
        let billing = Arc::new(Billing::Embedded(store.billing()));
        let consumer = start_consumer(config, &clock, (&log, &usage)).await?;
        let maker = maker(config, &clock, &log, &usage);
        Ok(Self {
            path: path.to_owned(),
            config: config.clone(),
            partitions,
            clock,
            log,
            usage,
            billing,
            store: Some(store),
            consumer: Some(consumer),
            maker,
            cost: Cost::default(),
        })
    }

    pub(super) async fn publish(&self, text: String) -> Result<(), Failure> {
        let version = CatalogueVersion {
            version: "bench".to_owned(),
            sequence: 0,
            text,
            published_at: self.clock.now(),
            active: false,
        };
        self.billing.publish_catalogue(&version).await.map_err(Failure::internal)?;
        self.billing_api().resume_activation().await.map_err(Failure::internal).map(drop)
    }

    fn billing_api(&self) -> BillingApi<Usage, Billing, Log> {
        let refolder = Refolder::new(vec![Arc::clone(&self.log)], Arc::clone(&self.usage));
        BillingApi::new(
            Arc::clone(&self.usage),
            Arc::clone(&self.billing),
            Arc::clone(&self.log),
            Arc::new(refolder),
            Arc::new(self.clock.clone()),
            BillingConfig::default(),
            Compute::default(),
        )
    }

    fn consumer(&mut self) -> &mut Consumer<Log, Usage> {
        self.consumer.as_mut().expect("it is started again at once")
    }

    pub(super) async fn consume(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        self.consumer().tick().await.map_err(consuming::failure)?;
        self.cost.consuming += started.elapsed();
        self.cost.hours += 1;
        Ok(())
    }

    pub(super) async fn close_segments(&mut self) -> Result<(), Failure> {
        self.consumer().close_segments("bench").await.map(drop).map_err(consuming::failure)
    }

    pub(super) async fn make_blocks(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let made = self.maker.run().await.map_err(Failure::internal)?;
        let took = started.elapsed();
        self.cost.making += took;
        self.cost.longest_making = self.cost.longest_making.max(took);
        self.cost.blocks += made.blocks;
        Ok(())
    }

    /// Deletes what is not needed any more.
    pub(super) async fn retain(&self) -> Result<(), Failure> {
        let (usage, log) = (Arc::clone(&self.usage), Arc::clone(&self.log));
        let keep = self.config.log.keep.duration();
        let config = RetentionConfig { log: (keep > Duration::ZERO).then_some(keep) };
        let (generations, clock) = (vec![*self.log.generation()], Arc::new(self.clock.clone()));
        let mut retention = Retention::new(usage, generations, vec![log], clock, config);
        retention.run().await.map(drop).map_err(Failure::internal)
    }

    /// Bills what is due, on the third of a month: then the month before is over, and so is its grace.
    pub(super) async fn bill(&mut self) -> Result<(), Failure> {
        if self.clock.now().to_string().get(8..10) != Some("03") {
            return Ok(());
        }
        let (api, until, started) = (self.billing_api(), Shutdown::new(), Instant::now());
        let billing = async { api.bill_what_is_due(&until).await };
        tokio::pin!(billing);
        loop {
            tokio::select! {
                billed = &mut billing => {
                    billed.map_err(Failure::internal)?;
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    self.consumer.as_mut().expect("it is started again at once")
                        .tick().await.map_err(consuming::failure)?;
                }
            }
        }
        self.cost.billing += started.elapsed();
        Ok(())
    }

    /// Folds the log again from this long ago, and puts that to use.
    pub(super) async fn replay(&mut self, ago: Duration) -> Result<(), Failure> {
        self.close_segments().await?;
        let from = replay::ReplayFrom::Time(self.clock.now().minus(ago));
        let into = Epoch(1);
        let plan = replay::ReplayPlan { into, from, declared: Vec::new() };
        replay::open(&*self.log, &*self.usage, &plan).await.map_err(Failure::internal)?;
        let ports = ports(&self.clock, (&self.log, &self.usage));
        let config = consuming::consumer_config(&self.config, Work::Rebuild(into));
        let mut rebuilding = Consumer::start(ports, config).await.map_err(consuming::failure)?;
        rebuilding.tick().await.map_err(consuming::failure)?;
        rebuilding.shutdown().await;
        replay::swap(&*self.log, &*self.usage, into).await.map_err(Failure::internal)
    }

    /// Ends everything and opens it again, as after a restart; gives how long opening took.
    pub(super) async fn restart(&mut self) -> Result<Duration, Failure> {
        if let Some(consumer) = self.consumer.take() {
            consumer.shutdown().await;
        }
        self.close_files();
        // Whoever holds a file holds the directory.
        let generation = *self.log.generation();
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        self.log = Arc::new(Log::Memory(MemoryLog::new(generation, clock)));
        self.usage = Arc::new(Usage::Memory(MemoryUsageStore::new()));
        self.billing = Arc::new(Billing::Memory(MemoryBillingStore::new()));
        self.maker = maker(&self.config, &self.clock, &self.log, &self.usage);
        self.store = None;
        let started = Instant::now();
        let (log, store) = open_files(&self.path, self.partitions, &self.clock)?;
        self.log = Arc::new(Log::Embedded(log));
        self.usage = Arc::new(Usage::Embedded(store.usage()));
        self.billing = Arc::new(Billing::Embedded(store.billing()));
        self.store = Some(store);
        let consumer = start_consumer(&self.config, &self.clock, (&self.log, &self.usage)).await?;
        let took = started.elapsed();
        self.consumer = Some(consumer);
        self.maker = maker(&self.config, &self.clock, &self.log, &self.usage);
        Ok(took)
    }

    fn close_files(&self) {
        if let Log::Embedded(log) = &*self.log {
            log.close();
        }
        self.store.iter().for_each(EmbeddedStore::close);
    }

    /// Bytes of a file of the data directory with its write-ahead log.
    pub(super) fn bytes_of(&self, file: &str) -> u64 {
        let bytes = |name: String| std::fs::metadata(self.path.join(name)).map_or(0, |of| of.len());
        bytes(file.to_owned()) + bytes(format!("{file}-wal"))
    }

    pub(super) async fn close(mut self) {
        if let Some(consumer) = self.consumer.take() {
            consumer.shutdown().await;
        }
        self.close_files();
    }
}

fn open_files(
    path: &Path,
    partitions: u16,
    clock: &SimulatedClock,
) -> Result<(EmbeddedLog, EmbeddedStore), Failure> {
    /// Simulated time passes faster than any.
    const JUMP_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);
    let fatal = || FatalHook::new(|what| panic!("the disk failed: {what}"));
    let directory = DataDirectory::open(path, OpenOptions::default()).map_err(Failure::internal)?;
    let defaults = Generation::new(LogId([0; 16]), partitions, 0);
    let options = LogOptions {
        clock_jump_max: JUMP_MAX,
        ..LogOptions::new(defaults, Arc::new(clock.clone()), fatal())
    };
    let log = EmbeddedLog::open(&directory, options).map_err(Failure::internal)?;
    let store = EmbeddedStore::open(&directory, &StoreOptions::new(fatal()));
    Ok((log, store.map_err(Failure::internal)?))
}

type Ports<'a> = (&'a Arc<Log>, &'a Arc<Usage>);

fn ports(clock: &SimulatedClock, (log, usage): Ports<'_>) -> ConsumerPorts<Log, Usage, NoFeed> {
    ConsumerPorts {
        log: Arc::clone(log),
        store: Arc::clone(usage),
        feed: None,
        clock: Arc::new(clock.clone()),
    }
}

async fn start_consumer(
    config: &Config,
    clock: &SimulatedClock,
    of: Ports<'_>,
) -> Result<Consumer<Log, Usage>, Failure> {
    let config = consuming::consumer_config(config, Work::Live);
    Consumer::start(ports(clock, of), config).await.map_err(consuming::failure)
}

fn maker(
    config: &Config,
    clock: &SimulatedClock,
    log: &Arc<Log>,
    usage: &Arc<Usage>,
) -> BlockMaker<Usage> {
    let room = scratch::sort_room(config);
    let config = BlocksConfig { room: room.clone(), ..BlocksConfig::new(room.scratch) };
    BlockMaker::new(Arc::clone(usage), *log.generation(), Arc::new(clock.clone()), config)
}
