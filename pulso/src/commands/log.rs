//! `pulso log`: the generations of the log on Kafka, and how it gets more partitions or shorter windows.
//!
//! A generation has a fixed number of partitions, because what was known of a client stands in the
//! partition that its batches went to, and windows of a fixed length, because its rows are stored. To
//! grow is to begin the next generation, with more partitions, shorter windows or both: servers turn to
//! it, each partition of the old one is ended by a SEAL, and the consumer goes on in the new one with
//! all that was known. Every step may be repeated, and a command that was killed goes on when it is run
//! again.

mod rebase;

use std::{io::Write, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use domain::{
    Offset, Partition, PulseLog as _, UsageStore as _, WindowLength,
    epochs::Journal,
    generation::Generation,
    store::{PartitionKey, StoreError},
};
use edge::access::Change;
use ingestor_consumer::sealing;
use proto::record;
use runtime::Backoff;
use serde_json::{Value, json};
use storage::{
    choice::{Billing, Usage},
    identity,
    kafka::{KafkaLog, topics},
};

use self::rebase::RebaseArgs;
use super::wire;
use crate::{
    cli::Globals,
    config::{Loaded, log_window::LogWindow, urls::Servers, value::Setting as _},
    exit::{Exit, Failure},
    output::{Answer, Printer, counted},
    serve::{
        backends::{OpenStores, kafka, store_failure},
        recorded::recorded,
    },
};

/// `pulso log`.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "Examples:
  pulso log show
  pulso log grow --partitions 12
  pulso log grow --window 15m
  pulso log seal
  pulso log rebase --reason 'NTP was off on broker 2'")]
pub enum LogCommand {
    /// Show the generations of the log: their topics, and where those that have ended did.
    Show,
    /// Give the log more partitions or shorter windows, beside a running pipeline.
    Grow(GrowArgs),
    /// Only the last step of `grow`: end the generations before the newest. Pulses that a server
    /// still appends to them are dead letters from then on.
    Seal,
    /// Take back append times of a clock that was ahead, on any log.
    Rebase(RebaseArgs),
}

/// `pulso log grow`.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "Examples:
  pulso log grow --partitions 12
  pulso log grow --window 15m

It waits until every server must have seen the growth, some 50 s by default, and then ends the old
partitions. Run it again after it was interrupted: it goes on.")]
pub struct GrowArgs {
    /// How many it is to have, more than now. A multiple of now keeps the consumer's memory small
    /// for the time that ids are remembered. As many as now, if only --window is given.
    #[arg(long, value_name = "N", required_unless_present = "window",
          value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub partitions: Option<u16>,
    /// Windows of its totals from then on, shorter than now: 30m or 15m, for contracts in zones off by
    /// 30 or 45 minutes. What was counted before keeps its windows.
    #[arg(long, value_name = "LENGTH", value_parser = LogWindow::parse)]
    pub window: Option<LogWindow>,
}

/// What the log is to have, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    partitions: u16,
    window: WindowLength,
}

impl GrowArgs {
    /// What is not asked for stays as it is.
    fn wanted(self, newest: &Generation) -> Wanted {
        Wanted {
            partitions: self.partitions.unwrap_or(newest.partitions),
            window: self.window.map_or(newest.window, LogWindow::length),
        }
    }
}

impl Wanted {
    const fn of(generation: &Generation) -> Self {
        Self { partitions: generation.partitions, window: generation.window }
    }

    /// Refuses fewer partitions and windows that are not made of whole new ones.
    fn check(self, present: Self) -> Result<(), Failure> {
        let Self { partitions, window } = present;
        if self.partitions < partitions {
            return Err(Failure::data(format_args!(
                "--partitions {}: the log has {partitions}, and partitions cannot be taken away",
                self.partitions
            )));
        }
        if !self.window.divides(window) {
            return Err(Failure::data(format_args!(
                "--window {}: the log has windows of {window}, and windows can only become shorter",
                self.window
            )));
        }
        Ok(())
    }

    /// As the options of the command that asks for it.
    fn options(self) -> String {
        format!("--partitions {} --window {}", self.partitions, self.window)
    }

    fn words(self) -> String {
        format!("{} and windows of {}", counted(self.partitions, "partition"), self.window)
    }
}

/// What may be slower than the configuration says: clocks, schedulers, a broker's own queue.
const MARGIN: Duration = Duration::from_secs(2);
/// How often a SEAL is appended before giving up; twice in the log does no harm.
const SEAL_TRIES: u32 = 5;

/// Runs the command.
///
/// # Errors
/// When brokers or store cannot be reached, or the log cannot be what was asked for.
pub async fn run(globals: &Globals, command: LogCommand) -> Result<Exit, Failure> {
    match command {
        LogCommand::Rebase(args) => rebase::run(globals, args).await,
        LogCommand::Show => on_growth(globals, async |growth| growth.show().await).await,
        LogCommand::Grow(args) => {
            let grow = async |growth: &Growth<'_>| {
                recorded(growth.billing, "pulso log grow", async |change| {
                    growth.grow(args, change).await
                })
                .await
            };
            on_growth(globals, grow).await
        }
        LogCommand::Seal => {
            let seal = async |growth: &Growth<'_>| {
                recorded(growth.billing, "pulso log seal", async |_| growth.seal().await).await
            };
            on_growth(globals, seal).await
        }
    }
}

async fn on_growth(
    globals: &Globals,
    work: impl AsyncFn(&Growth<'_>) -> Result<Answer, Failure>,
) -> Result<Exit, Failure> {
    let loaded = globals.serving.load()?;
    let brokers = kafka::brokers(&loaded)?;
    let store = OpenStores::open(&loaded).await?;
    let (usage, billing) = (&store.usage, &store.billing);
    let done = work(&Growth { loaded: &loaded, brokers, usage, billing }).await;
    store.close().await;
    Printer::new(globals.output).print(&done?)?;
    Ok(Exit::Success)
}

/// What the command works on.
struct Growth<'a> {
    loaded: &'a Loaded,
    brokers: &'a Servers,
    usage: &'a Usage,
    billing: &'a Arc<Billing>,
}

/// What the registry and the journal say.
struct Known {
    /// Oldest first, at least one.
    generations: Vec<Generation>,
    journal: Journal,
}

impl Known {
    fn is_sealed(&self, generation: &Generation) -> bool {
        self.journal.log(generation.log_id).sealed().is_some()
    }

    fn newest(&self) -> &Generation {
        self.generations.last().expect("`Growth::known` refuses none")
    }

    /// Generations before the newest that have not ended, with their numbers.
    fn ending(&self) -> impl Iterator<Item = (usize, &Generation)> {
        let older = &self.generations[..self.generations.len() - 1];
        (1..).zip(older).filter(|(_, generation)| !self.is_sealed(generation))
    }
}

impl Growth<'_> {
    async fn known(&self) -> Result<Known, Failure> {
        let generations = self.usage.generations().await.map_err(|e| store_failure(&e))?;
        let journal = self.usage.journal().await.map_err(|e| store_failure(&e))?;
        if generations.is_empty() {
            let message = "there is no log yet: the first server makes it, with log.partitions";
            return Err(Failure::data(message));
        }
        Ok(Known { generations, journal })
    }

    async fn show(&self) -> Result<Answer, Failure> {
        let known = self.known().await?;
        let options = kafka::options(self.loaded, self.brokers);
        let names = topics::names(&options).await.map_err(|e| kafka::topics_failure(&e))?;
        let mut listed = Vec::new();
        for (number, generation) in (1..).zip(&known.generations) {
            let topic = kafka::generation_options(self.loaded, self.brokers, number).topic;
            let state = match known.is_sealed(generation) {
                true => "ended",
                false if number < known.generations.len() => "ending",
                false if known.ending().next().is_some() => "takes pulses, not yet counted",
                false => "takes pulses",
            };
            let ends = self.ends(&known, generation).await?;
            listed.push(json!({
                "generation": number,
                "log_id": generation.log_id.to_string(),
                "topic": if names.contains(&topic) { Value::from(topic) } else { Value::Null },
                "partitions": generation.partitions,
                "window": generation.window.to_string(),
                "state": state,
                "ends": ends.map(|end| end.map(|end| wire::integer(end.0))).collect::<Vec<_>>(),
            }));
        }
        let document = json!({ "generations": listed });
        let columns = ["generation", "topic", "partitions", "window", "state", "ends", "log_id"];
        Ok(Answer::list(document, "generations", &columns))
    }

    /// By partition the offset behind its SEAL, as far as the consumer has closed that.
    async fn ends(
        &self,
        known: &Known,
        generation: &Generation,
    ) -> Result<impl Iterator<Item = Option<Offset>> + use<>, Failure> {
        let mut ends = Vec::new();
        for partition in generation.partitions() {
            ends.push(self.end(known, generation, partition).await?);
        }
        Ok(ends.into_iter())
    }

    async fn end(
        &self,
        known: &Known,
        generation: &Generation,
        partition: Partition,
    ) -> Result<Option<Offset>, Failure> {
        let history = known.journal.log(generation.log_id);
        if let Some(sealed) = history.sealed() {
            return Ok(sealed.ends.get(usize::from(partition.0)).copied());
        }
        let epoch = history.active();
        let key = PartitionKey { log_id: generation.log_id, partition, epoch };
        sealing::sealed_at(self.usage, history, key).await.map_err(Failure::data)
    }

    async fn grow(&self, args: GrowArgs, change: &Change) -> Result<Answer, Failure> {
        let known = loop {
            let known = self.known().await?;
            let present = Wanted::of(known.newest());
            let wanted = args.wanted(known.newest());
            change.about(&wanted.words());
            wanted.check(present)?;
            if known.ending().next().is_some() {
                if wanted == present {
                    break known;
                }
                return Err(Failure::data(format_args!(
                    "{}: the growth to {} has not ended yet; `pulso log grow {}` goes on with it, and `pulso log show` says where it stands",
                    wanted.options(),
                    present.words(),
                    present.options(),
                )));
            }
            if wanted == present {
                let document = json!({ "partitions": present.partitions, "window": present.window.to_string() });
                let answer = Answer::single(document, &["partitions", "window"]);
                return Ok(answer.note(format!("the log has {} already", present.words())));
            }
            self.register(&known, wanted).await?;
        };
        let wait = self.servers_wait();
        tell(&format!(
            "generation {} takes pulses; the one before ends in {} s, when every server has turned to it",
            known.generations.len(),
            wait.as_secs()
        ));
        tokio::time::sleep(wait).await;
        self.seal().await
    }

    /// Makes the topic, then the generation: whoever sees the generation finds its topic.
    async fn register(&self, known: &Known, wanted: Wanted) -> Result<(), Failure> {
        let Wanted { partitions, window } = wanted;
        let number = known.generations.len() + 1;
        let options = kafka::generation_options(self.loaded, self.brokers, number);
        let kept = Some(self.loaded.config.kafka.retention.duration());
        let spec = kafka::topic_spec(self.loaded, options.topic.clone(), partitions, kept);
        topics::apply(&options, &[spec]).await.map_err(|e| kafka::topics_failure(&e))?;
        let next = known.newest().grown(identity::fresh_log_id(), partitions).with_windows(window);
        match self.usage.register(&next, Some(known.newest().log_id)).await {
            // Another command was first: what it registered stands.
            Ok(()) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(store_failure(&error)),
        }
    }

    /// How long a server that can reach the store may go on appending to a generation after the next
    /// one was registered: until it looks, until it is answered, until its clients are, and until the
    /// last append is over.
    fn servers_wait(&self) -> Duration {
        let config = &self.loaded.config;
        config.log.watch_interval.duration()
            + config.scylla.request_timeout.duration()
            + config.shutdown.calls_timeout.duration()
            + config.kafka.delivery_timeout.duration()
            + MARGIN
    }

    async fn seal(&self) -> Result<Answer, Failure> {
        let known = self.known().await?;
        let mut sealed = Vec::new();
        for (number, generation) in known.ending() {
            sealed.push(json!({
                "generation": number,
                "sealed": self.seal_one(&known, number, generation).await?,
            }));
        }
        let note = match sealed.is_empty() {
            true => "nothing is to be sealed".to_owned(),
            false => format!(
                "generation {} counts once the consumer has read the others to their ends: `pulso log show`",
                known.generations.len()
            ),
        };
        let document = json!({ "generations": sealed });
        Ok(Answer::list(document, "generations", &["generation", "sealed"]).note(note))
    }

    /// Appends a SEAL to every partition that the consumer has not seen one in; gives how many.
    async fn seal_one(
        &self,
        known: &Known,
        number: usize,
        generation: &Generation,
    ) -> Result<u32, Failure> {
        let options = kafka::generation_options(self.loaded, self.brokers, number);
        let log = KafkaLog::open(options, *generation).await;
        let log = log.map_err(|error| kafka::log_failure(&error))?;
        let mut sealed = 0;
        for partition in generation.partitions() {
            if self.end(known, generation, partition).await?.is_none() {
                append_seal(&log, partition).await?;
                sealed += 1;
            }
        }
        // Its clients wait for their threads.
        tokio::task::spawn_blocking(move || drop(log)).await.map_err(Failure::internal)?;
        Ok(sealed)
    }
}

async fn append_seal(log: &KafkaLog, partition: Partition) -> Result<(), Failure> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    let mut tries = 0;
    loop {
        let seal = record::encode_seal(log.generation(), "pulso log seal");
        match log.append(partition, vec![seal]).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                tries += 1;
                if tries == SEAL_TRIES {
                    let message = format_args!(
                        "partition {partition} did not take its SEAL: {error}; run the command again"
                    );
                    return Err(Failure::new(Exit::Unavailable, message));
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

fn tell(message: &str) {
    // Nothing is left to do when stderr itself is gone.
    let _ = writeln!(std::io::stderr(), "{message}");
}
