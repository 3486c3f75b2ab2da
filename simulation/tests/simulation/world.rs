//! The world of one run: what there is, drawn from the seed, and how time and trace are kept.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::{
    Clock, FoldLimits, LogId, Partition, Timestamp, UsageStore as _, WindowLength,
    generation::Generation,
};
use ingestor_consumer::{ConsumerConfig, Work, fold::IdsMemory};
use storage::memory::{MemoryLog, MemoryUsageStore};
use tokio::task::yield_now;

use crate::{
    clients::{Arrival, Client, Ledger, Times},
    consuming::{Consuming, Standing, is_expected},
    ports::{SimFeed, SimLog, SimStore},
    process::Process,
    random::Random,
    serving::Serving,
    swarm::Swarm,
    watch::{Publishes, Watch},
};

/// When every world begins: on a whole hour, by no clock.
const START_MICROS: i64 = 2_000_001_600 * 1_000_000;

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) swarm: Swarm,
    /// The true time.
    now_micros: i64,
    /// What the log's clock says.
    log_clock: Arc<AtomicI64>,
    pub(crate) log_ahead_micros: i64,
    /// One a generation, oldest first.
    pub(crate) logs: Vec<MemoryLog>,
    /// By generation, the partitions that got a SEAL.
    pub(crate) sealed: Vec<Vec<bool>>,
    pub(crate) store: MemoryUsageStore,
    pub(crate) feed: SimFeed,
    pub(crate) watch: Arc<Watch>,
    pub(crate) consumers: Vec<Consuming>,
    pub(crate) servings: Vec<Serving>,
    pub(crate) clients: Vec<Client>,
    pub(crate) ledger: Ledger,
    /// Whether ingest refuses negative amounts of a SKU.
    pub(crate) refuses_negative: Arc<AtomicBool>,
    pub(crate) limits: FoldLimits,
    pub(crate) scratch: Arc<Path>,
    pub(crate) declarations: u64,
    processes: usize,
    trace: Trace,
}

/// What happened; printed too where somebody asks.
struct Trace {
    lines: Vec<String>,
    prints: bool,
}

struct LogClock(Arc<AtomicI64>);

impl Clock for LogClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

fn generation(random: &mut Random) -> Generation {
    let seconds = |seconds| Duration::from_secs(seconds);
    let log_id = LogId(
        [random.next().to_be_bytes(), random.next().to_be_bytes()].concat().try_into().unwrap(),
    );
    let mut generation = Generation::new(log_id, random.between(1, 4) as u16, random.next());
    generation.segment_records_max = random.between(2, 12);
    let span = random.pick(&[60, 120, 600]);
    generation.segment_span = seconds(span);
    generation.horizon = seconds(span * random.between(4, 12));
    generation.future_tolerance = seconds(random.between(10, span));
    let room = generation.horizon - generation.segment_span - generation.future_tolerance;
    generation.lateness = if random.one_in(3) { room / 2 } else { room };
    generation.window = WindowLength::new(seconds(random.pick(&[300, 3_600]))).unwrap();
    generation.check().unwrap();
    generation
}

impl World {
    pub(crate) async fn new(seed: u64, scratch: &Path, prints: bool) -> Self {
        let mut random = Random::new(seed);
        let swarm = Swarm::new(&mut random);
        let store = MemoryUsageStore::new();
        let feed = SimFeed::default();
        let first = generation(&mut random);
        store.register(&first, None).await.unwrap();
        let clients = random.between(1, 6);
        let clients =
            (0..clients).map(|number| Client::new(&mut random, number as usize)).collect();
        let mut world = Self {
            random,
            swarm,
            now_micros: START_MICROS,
            log_clock: Arc::new(START_MICROS.into()),
            log_ahead_micros: 0,
            logs: Vec::new(),
            sealed: Vec::new(),
            watch: Watch::new(store.clone(), feed.clone()),
            store,
            feed,
            consumers: Vec::new(),
            servings: Vec::new(),
            clients,
            ledger: BTreeMap::new(),
            refuses_negative: Arc::default(),
            limits: FoldLimits::FIRST,
            scratch: scratch.into(),
            declarations: 0,
            processes: 0,
            trace: Trace { lines: Vec::new(), prints },
        };
        world.add_log(first);
        world.note(format_args!("{first:?}"));
        world
    }

    pub(crate) fn add_log(&mut self, generation: Generation) {
        let clock = Arc::new(LogClock(Arc::clone(&self.log_clock)));
        self.logs.push(MemoryLog::new(generation, clock));
        self.sealed.push(vec![false; usize::from(generation.partitions)]);
    }

    pub(crate) fn newest(&self) -> usize {
        self.logs.len() - 1
    }

    pub(crate) fn generation(&self, of: usize) -> Generation {
        *domain::PulseLog::generation(&self.logs[of])
    }

    pub(crate) fn any_partition(&mut self, of: usize) -> Partition {
        let partitions = self.generation(of).partitions;
        Partition(self.random.below(partitions.into()) as u16)
    }

    /// Writes down what happens. Everything that the seed decides goes through here.
    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        let line = format!("{} {what}", self.now());
        if self.trace.prints {
            println!("{:5} {line}", self.trace.lines.len());
        }
        self.trace.lines.push(line);
    }

    /// All that happened.
    pub(crate) fn history(&self) -> &[String] {
        &self.trace.lines
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now_micros).unwrap()
    }

    /// What the log would stamp now, and what is timely by it.
    pub(crate) fn times(&self) -> Times {
        let generation = self.generation(0);
        Times {
            log_now: self.log_clock.load(Ordering::SeqCst),
            lateness: generation.lateness.as_micros() as i64,
            tolerance: generation.future_tolerance.as_micros() as i64,
        }
    }

    pub(crate) fn pass(&mut self, micros: i64) {
        self.now_micros += micros;
        self.set_log_ahead(self.log_ahead_micros);
        // A process that stands still in the middle of something reads no clock.
        let now = self.now_micros;
        self.consumers
            .iter()
            .filter(|one| one.is_idle())
            .for_each(|one| one.process.set_clock(now));
        self.servings.iter().for_each(|one| one.process.set_clock(now));
    }

    pub(crate) fn set_log_ahead(&mut self, micros: i64) {
        self.log_ahead_micros = micros;
        self.log_clock.store(self.now_micros + micros, Ordering::SeqCst);
    }

    fn new_process(&mut self) -> Arc<Process> {
        self.processes += 1;
        let is_wrong = self.swarm.has_wrong_clocks && self.random.one_in(3);
        let skew =
            if is_wrong { self.random.below(7_200_000_000) as i64 - 3_600_000_000 } else { 0 };
        Process::new(self.processes, self.now_micros, skew)
    }

    fn log_of(&self, of: usize, process: &Arc<Process>) -> SimLog {
        let (inner, watch) = (self.logs[of].clone(), Arc::clone(&self.watch));
        SimLog { inner, process: Arc::clone(process), watch }
    }

    pub(crate) fn add_serving(&mut self, of: usize) {
        let process = self.new_process();
        let refuses = Arc::clone(&self.refuses_negative);
        self.servings.push(Serving::start(self.log_of(of, &process), refuses));
        self.note(format_args!("ingest {} starts on log {of}", process.number));
    }

    /// Makes a consumer process that has not started.
    pub(crate) fn add_consumer(&mut self, of: usize, work: Work) -> usize {
        let process = self.new_process();
        let publishes = match work {
            Work::Live if self.swarm.publishes => Publishes::Final,
            _ => Publishes::Nothing,
        };
        let log = self.log_of(of, &process);
        let watch = Arc::clone(&self.watch);
        let store = SimStore { inner: self.store.clone(), process, watch, publishes };
        let feed = (publishes == Publishes::Final).then(|| self.feed.clone());
        let config = self.config(work);
        self.consumers.push(Consuming::new(of, (log, store), feed, config));
        self.consumers.len() - 1
    }

    /// Bounded memory for ids, in a world that has it.
    pub(crate) fn ids_memory(&self, bytes_max: usize) -> Option<IdsMemory> {
        let scratch = Arc::clone(&self.scratch);
        self.swarm.has_cold_ids.then_some(IdsMemory { bytes_max, scratch })
    }

    fn config(&mut self, work: Work) -> ConsumerConfig {
        let ids_bytes_max = self.swarm.has_cold_ids.then(|| self.random.pick(&[0, 1 << 12]));
        let ids = ids_bytes_max.and_then(|bytes_max| self.ids_memory(bytes_max));
        let random = &mut self.random;
        ConsumerConfig {
            chunk_bytes: random.pick(&[1, 300, 4_096]),
            flush_rows_max: random.pick(&[1, 2, 5, 1 << 15]),
            memory_bytes: if self.swarm.has_little_memory { 5_000 } else { 1 << 30 },
            idle_flush_interval: Duration::from_secs(random.pick(&[0, 60, 600])),
            limits: self.limits,
            ids,
            work,
            // See consuming.rs: one lane is what makes a run repeatable.
            ..ConsumerConfig::for_cores(1)
        }
    }

    /// Takes how a process stands after a step.
    pub(crate) fn stands(&mut self, place: usize, standing: &Standing) {
        let number = self.consumers[place].process.number;
        match standing {
            Standing::Done(Err(error)) if !is_expected(error) => {
                self.watch.violated("a consumer fails", format!("{number}: {error}"));
            }
            Standing::Done(Ok(())) => {
                let owes = std::mem::take(&mut self.consumers[place].owes);
                for (key, end) in owes {
                    self.watch.is_folded(key, end);
                }
            }
            Standing::Panicked => {
                self.watch.violated("a consumer panics", number.to_string());
            }
            Standing::Died => {
                let dead = self.consumers.remove(place);
                dead.kill();
            }
            Standing::Waits | Standing::Done(Err(_)) => {}
        }
        match standing {
            Standing::Done(Ok(())) => self.note(format_args!("consumer {number} is done")),
            other => self.note(format_args!("consumer {number}: {other:?}")),
        }
    }

    /// Lets all that goes on by itself on this thread go on, and takes the answers of ingest.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..12 {
            yield_now().await;
        }
        for place in 0..self.servings.len() {
            for ((client, batch), answer) in self.servings[place].answers().await {
                let is_lost = self.random.one_in(self.swarm.lost_acks_one_in);
                let arrival = if is_lost { Arrival::Lost } else { Arrival::Heard };
                match &answer {
                    Ok(ack) => self.note(format_args!(
                        "ack {client}.{batch}: {} of it, {arrival:?}",
                        ack.accepted
                    )),
                    Err(problem) => {
                        self.note(format_args!("no ack {client}.{batch}: {}", problem.reason))
                    }
                }
                self.clients[client].answered(&mut self.ledger, batch, answer, arrival);
            }
        }
    }
}
