//! `pulso replay`: the log folded again into an epoch of its own, compared, and put to use.
//!
//! It works on log and store themselves, beside a running pipeline where those are servers. An
//! embedded directory has one user at a time, so its server is stopped first.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use domain::{
    BillingStore as _, Epoch, NoFeed, Offset, PulseLog as _, Timestamp, Total, UsageStore as _,
    epochs::Declared,
};
use edge::access::Change;
use ingestor_consumer::{
    Consumer, ConsumerPorts, Work,
    replay::{self, Comparison, Difference, ReplayError, ReplayFrom, ReplayPlan},
};
use runtime::clock;
use serde_json::{Value, json};
use storage::choice::{Log, Usage};
use tokio::time::Instant;

use super::wire;
use crate::{
    cli::{Globals, serving::Stage},
    config::Loaded,
    exit::{Exit, Failure},
    output::{Answer, Printer, counted},
    serve::{
        backends::{self, Backends},
        consuming,
        recorded::recorded,
        scratch::sort_room,
    },
};

/// `pulso replay`.
#[derive(Clone, Debug, Args)]
#[command(
    subcommand_negates_reqs = true,
    after_help = "Examples:
  pulso replay --from-start --into 1                   fold the whole log again
  pulso replay --from 2024-09-18T22:00:00Z --into 2    only what came since then
  pulso replay --from-start --into 3 --dimensions-of 2024-10
  pulso replay compare 1                               exits with 1 when anything differs
  pulso replay swap 1                                  from now on these are the totals
  pulso replay list
  pulso replay drop 2                                  forget an epoch that nobody needs

An embedded data directory has one user at a time: stop its server first. On Kafka and ScyllaDB the
pipeline goes on meanwhile."
)]
pub struct ReplayArgs {
    /// What to do instead of folding.
    #[command(subcommand)]
    pub command: Option<ReplayCommand>,
    /// Where to begin.
    #[command(flatten)]
    pub from: ReplayStart,
    /// The epoch to fold into: greater than every one before, or one to go on with.
    #[arg(long, value_name = "EPOCH", required = true)]
    pub into: Option<u16>,
    /// Let the dimensions of this published catalogue count from the beginning of the replay, as
    /// if they had been declared there.
    #[arg(long, value_name = "VERSION")]
    pub dimensions_of: Option<String>,
    /// Generation of a log that has grown, from 1. Default: the newest. Each has epochs of its own.
    #[arg(long, global = true, value_name = "N")]
    pub generation: Option<usize>,
}

impl ReplayArgs {
    const fn names_a_fold(&self) -> bool {
        let ReplayStart { from_start, from } = self.from;
        from_start || from.is_some() || self.into.is_some() || self.dimensions_of.is_some()
    }
}

/// Where a replay begins.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ReplayStart {
    /// The start of the log.
    #[arg(long)]
    pub from_start: bool,
    /// What reached the log at or after this moment is folded again, and the closed segments before
    /// it stay as they are. RFC 3339, a day or a month.
    #[arg(long, value_name = "TIME", value_parser = wire::parse_moment)]
    pub from: Option<Timestamp>,
}

/// `pulso replay ...`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ReplayCommand {
    /// Name every resource and window whose totals differ between two epochs.
    Compare {
        /// The epoch to compare with the one in use.
        epoch: u16,
        /// Compare with this one instead.
        #[arg(long, value_name = "EPOCH")]
        with: Option<u16>,
    },
    /// Make an epoch's totals the ones in use. Every query sees it from its next page on.
    Swap {
        /// An epoch that a replay has folded up to date.
        epoch: u16,
    },
    /// Forget an epoch: it cannot be put to use any more, and what is stored of it is deleted (embedded
    /// directories). Refused for
    /// one that totals in use, invoices or another epoch stand on.
    Drop {
        /// An epoch that is not in use.
        epoch: u16,
    },
    /// Show the epochs there are.
    List,
}

/// A replay is caught up when what came meanwhile took less than this.
const CAUGHT_UP: Duration = Duration::from_secs(1);

/// How often a swap folds what came meanwhile: segments end every few seconds at the most.
const SWAP_TRIES: usize = 20;

/// Runs the command.
///
/// # Errors
/// When log or store cannot be opened, or the epoch cannot be what was asked for.
pub async fn run(globals: &Globals, args: ReplayArgs) -> Result<Exit, Failure> {
    if args.command.is_some() && args.names_a_fold() {
        let message = "--from-start, --from, --into and --dimensions-of say what to fold: leave them out beside compare, swap, drop and list";
        return Err(Failure::new(Exit::Usage, message));
    }
    let loaded = globals.serving.load()?;
    // As a stage that reads every generation and drains none.
    let backends = backends::open(&loaded, &[Stage::Query]).await?;
    let newest = backends.older.len() + 1;
    let number = args.generation.unwrap_or(newest);
    let done = match generation(&backends, number) {
        Ok(log) => {
            let of = Of { number, newest };
            run_on(&Replay { loaded: &loaded, backends: &backends, log, of }, args).await
        }
        Err(failure) => Err(failure),
    };
    backends.close().await;
    let (answer, exit) = done?;
    Printer::new(globals.output).print(&answer)?;
    Ok(exit)
}

/// What a replay works on.
struct Replay<'a> {
    loaded: &'a Loaded,
    backends: &'a Backends,
    /// The generation of the log.
    log: Arc<Log>,
    of: Of,
}

/// Which generation of how many, from 1.
#[derive(Clone, Copy)]
struct Of {
    number: usize,
    newest: usize,
}

fn generation(backends: &Backends, number: usize) -> Result<Arc<Log>, Failure> {
    let newest = backends.older.len() + 1;
    match number {
        number if number == newest => Ok(Arc::clone(&backends.log)),
        number => {
            let older = number.checked_sub(1).and_then(|place| backends.older.get(place));
            let log = older.and_then(|older| older.log.clone());
            log.ok_or_else(|| {
                Failure::data(format_args!(
                    "--generation {number}: there are generations 1 to {newest}, and this one is none of them or its topic is gone"
                ))
            })
        }
    }
}

async fn run_on(replay: &Replay<'_>, args: ReplayArgs) -> Result<(Answer, Exit), Failure> {
    match args.command {
        None => {
            let folding = async |change: &Change| replay.fold(args, change).await;
            recorded(&replay.backends.billing, "pulso replay", folding).await
        }
        Some(ReplayCommand::Compare { epoch, with }) => replay.compare(epoch, with).await,
        Some(ReplayCommand::Swap { epoch }) => {
            let swapping = async |change: &Change| replay.swap(epoch, change).await;
            recorded(&replay.backends.billing, "pulso replay swap", swapping).await
        }
        Some(ReplayCommand::Drop { epoch }) => {
            let dropping = async |change: &Change| replay.drop(epoch, change).await;
            recorded(&replay.backends.billing, "pulso replay drop", dropping).await
        }
        Some(ReplayCommand::List) => replay.list().await,
    }
}

impl Replay<'_> {
    fn failure(&self, error: ReplayError) -> Failure {
        failure(&error, self.of)
    }

    async fn fold(&self, args: ReplayArgs, change: &Change) -> Result<(Answer, Exit), Failure> {
        let into = Epoch(args.into.unwrap_or_default());
        change.about(&self.epoch(into));
        let of = args.generation.map_or_else(String::new, |of| format!(" --generation {of}"));
        let from = args.from.from.map_or(ReplayFrom::Start, ReplayFrom::Time);
        let declared = match &args.dimensions_of {
            Some(version) => self.dimensions_of(version).await?,
            None => Vec::new(),
        };
        let plan = ReplayPlan { into, from, declared };
        let opened = replay::open(&*self.log, &*self.backends.usage, &plan)
            .await
            .map_err(|error| self.failure(error))?;
        let started = Instant::now();
        let mut consumer = self.rebuilding(into).await?;
        let mut records = 0;
        let mut folded_to = loop {
            let tick_started = Instant::now();
            let tick = consumer.tick().await.map_err(consuming::failure)?;
            records += tick.records;
            if tick_started.elapsed() < CAUGHT_UP {
                break tick.partitions;
            }
        };
        consumer.shutdown().await;
        folded_to.sort_by_key(|report| report.partition);
        let partitions = folded_to.iter().zip(&opened.starts).map(|(report, start)| {
            json!({
                "partition": report.partition.0,
                "start": wire::integer(start.0),
                "folded_to": wire::integer(report.folded_to.0),
                "pulses": wire::integer(report.counts.accepted),
            })
        });
        let document = json!({
            "epoch": into.0,
            "base": opened.base.0,
            "records": wire::integer(records),
            "seconds": format!("{:.1}", started.elapsed().as_secs_f64()),
            "partitions": partitions.collect::<Vec<_>>(),
        });
        let answer =
            Answer::list(document, "partitions", &["partition", "start", "folded_to", "pulses"])
                .note(format!(
                    "epoch {into}: {} folded in {:.1} s, beside epoch {} which is in use",
                    counted(records, "record"),
                    started.elapsed().as_secs_f64(),
                    opened.base
                ))
                .note(format!(
                    "next: pulso replay compare {into}{of}, then pulso replay swap {into}{of}"
                ));
        Ok((answer, Exit::Success))
    }

    /// An epoch as the audit trail names it.
    fn epoch(&self, epoch: Epoch) -> String {
        format!("epoch {epoch} of generation {}", self.of.number)
    }

    /// The epoch in use.
    async fn active(&self) -> Result<Epoch, Failure> {
        let journal = self.backends.usage.journal().await.map_err(Failure::internal)?;
        Ok(journal.log(self.log.generation().log_id).active())
    }

    /// A consumer that folds one epoch.
    async fn rebuilding(&self, epoch: Epoch) -> Result<Consumer<Log, Usage>, Failure> {
        let ports = ConsumerPorts {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.backends.usage),
            feed: None::<Arc<NoFeed>>,
            clock: Arc::new(clock::system()),
        };
        let config = consuming::consumer_config(&self.loaded.config, Work::Rebuild(epoch));
        Consumer::start(ports, config).await.map_err(consuming::failure)
    }

    /// The dimensions of a catalogue that was published here.
    async fn dimensions_of(&self, version: &str) -> Result<Vec<Declared>, Failure> {
        let found = self.backends.billing.catalogue(version).await.map_err(Failure::internal)?;
        let found = found.ok_or_else(|| {
            Failure::data(format_args!(
                "--dimensions-of {version}: no such catalogue was published here; `pulso catalog list` shows those that were"
            ))
        })?;
        let file =
            pricing::file::parse(version, found.text.as_bytes()).map_err(Failure::internal)?;
        Ok(file.catalogue.declared(found.sequence))
    }

    async fn compare(&self, epoch: u16, with: Option<u16>) -> Result<(Answer, Exit), Failure> {
        let active = self.active().await?;
        let epochs = [with.map_or(active, Epoch), Epoch(epoch)];
        let mut differences = Vec::new();
        let visit = |found: Difference| differences.push(difference(&found));
        let room = sort_room(&self.loaded.config);
        let compared =
            replay::compare(&*self.log, &*self.backends.usage, epochs, room, visit).await;
        let compared = compared.map_err(|error| self.failure(error))?;
        let accounts = compared.accounts.iter().map(|(partition, before, after)| {
            json!({
                "partition": partition.0,
                "before": format!("{before:?}"),
                "after": format!("{after:?}"),
            })
        });
        let document = json!({
            "before": epochs[0].0,
            "after": epochs[1].0,
            "compared": wire::integer(compared.compared),
            "different": wire::integer(compared.different),
            "cut": compared.cut.iter().map(|cut| wire::integer(cut.0)).collect::<Vec<_>>(),
            "accounts": accounts.collect::<Vec<_>>(),
            "differences": differences,
        });
        const COLUMNS: [&str; 9] = [
            "tenant",
            "window",
            "product_sku",
            "use_unity",
            "dimensions",
            "count_before",
            "count_after",
            "sum_before",
            "sum_after",
        ];
        let answer = Answer::list(document, "differences", &COLUMNS);
        let answer = notes(answer, &compared, epochs);
        let exit = if compared.is_equal() { Exit::Success } else { Exit::CheckFailed };
        Ok((answer, exit))
    }

    async fn swap(&self, epoch: u16, change: &Change) -> Result<(Answer, Exit), Failure> {
        let epoch = Epoch(epoch);
        change.about(&self.epoch(epoch));
        change.before(&self.epoch(self.active().await?));
        let mut swapped = replay::swap(&*self.log, &*self.backends.usage, epoch).await;
        if matches!(swapped, Err(ReplayError::Behind { .. })) {
            // Segments were closed since it was folded.
            let mut consumer = self.rebuilding(epoch).await?;
            for _ in 0..SWAP_TRIES {
                consumer.tick().await.map_err(consuming::failure)?;
                swapped = replay::swap(&*self.log, &*self.backends.usage, epoch).await;
                if !matches!(swapped, Err(ReplayError::Behind { .. })) {
                    break;
                }
            }
            consumer.shutdown().await;
        }
        swapped.map_err(|error| self.failure(error))?;
        change.after(&self.epoch(epoch));
        let answer = Answer::single(json!({ "epoch": epoch.0 }), &["epoch"]).note(format!(
        "epoch {epoch} is in use: queries and bills see it now, and the consumer folds it from its next tick on"
    ));
        Ok((answer, Exit::Success))
    }

    async fn drop(&self, epoch: u16, change: &Change) -> Result<(Answer, Exit), Failure> {
        let epoch = Epoch(epoch);
        change.about(&self.epoch(epoch));
        let (usage, log_id) = (&*self.backends.usage, self.log.generation().log_id);
        let (billing, clock) = (Arc::clone(&self.backends.billing), Arc::new(clock::system()));
        let billed =
            billing::billed_epochs(usage, billing, clock).await.map_err(Failure::internal)?;
        let billed = billed.into_iter().filter(|(of, _)| *of == log_id).map(|(_, epoch)| epoch);
        let dropped = replay::drop(&*self.log, usage, epoch, &billed.collect()).await;
        dropped.map_err(|error| self.failure(error))?;
        let answer = Answer::single(json!({ "epoch": epoch.0 }), &["epoch"]).note(format!(
            "epoch {epoch} is dropped. In an embedded directory the process that consumes deletes what is stored of it within the hour; on CQL it stays stored and counts in nothing"
        ));
        Ok((answer, Exit::Success))
    }

    async fn list(&self) -> Result<(Answer, Exit), Failure> {
        let journal = self.backends.usage.journal().await.map_err(Failure::internal)?;
        let history = journal.log(self.log.generation().log_id);
        let entry = |epoch: Epoch| {
            let opened = history.opened(epoch);
            let starts = opened.map_or_else(
                || "the start".to_owned(),
                |opened| {
                    let starts: Vec<String> = opened.starts.iter().map(Offset::to_string).collect();
                    starts.join(", ")
                },
            );
            json!({
                "epoch": epoch.0,
                "in_use": epoch == history.active(),
                "base": opened.map(|opened| opened.base.0),
                "starts": starts,
                "skus_with_dimensions": opened.map_or(0, |opened| opened.declared.len()),
            })
        };
        let epochs: Vec<Value> = history.epochs().map(entry).collect();
        let columns = ["epoch", "in_use", "base", "starts", "skus_with_dimensions"];
        Ok((Answer::list(json!({ "epochs": epochs }), "epochs", &columns), Exit::Success))
    }
}

fn notes(answer: Answer, compared: &Comparison, [before, after]: [Epoch; 2]) -> Answer {
    let cut: Vec<String> = compared.cut.iter().map(Offset::to_string).collect();
    let answer = answer.note(format!(
        "epoch {after} against {before}: {} of {} totals differ, below the offsets {}",
        compared.different,
        compared.compared,
        cut.join(", ")
    ));
    let accounts = compared.accounts.iter();
    accounts.fold(answer, |answer, (partition, before, after)| {
        answer.note(format!(
            "partition {partition}: other things became of the pulses: {before:?} and now {after:?}"
        ))
    })
}

fn difference(found: &Difference) -> Value {
    let count = |total: &Option<Total>| total.map(|total| total.count.to_string());
    let sum = |total: &Option<Total>| total.map(|total| total.sum.to_string());
    json!({
        "tenant": found.resource.tenant.as_str(),
        "window": found.window_start.to_string(),
        "product_sku": found.resource.product_sku.as_str(),
        "use_unity": found.resource.use_unity.as_str(),
        "dimensions": found.resource.dimensions.as_str(),
        "count_before": count(&found.before),
        "count_after": count(&found.after),
        "sum_before": sum(&found.before),
        "sum_after": sum(&found.after),
    })
}

/// What an epoch cannot be, and where the log has grown, in which generation: each has epochs of its
/// own.
fn failure(error: &ReplayError, Of { number, newest }: Of) -> Failure {
    let exit = match error {
        ReplayError::Active(_)
        | ReplayError::Number { .. }
        | ReplayError::OpenedOtherwise(_)
        | ReplayError::Unknown(_)
        | ReplayError::Dropped(_)
        | ReplayError::Needed { .. }
        | ReplayError::Expired { .. } => Exit::Data,
        ReplayError::Behind { .. } => Exit::Retry,
        ReplayError::Log(_) | ReplayError::Store(_) | ReplayError::Sort(_) => Exit::Internal,
    };
    if newest == 1 {
        return Failure::new(exit, error);
    }
    Failure::new(
        exit,
        format_args!(
            "{error}. This is about generation {number} of {newest} of the log; each has epochs of its own, and --generation names one"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_generation_where_there_are_several() {
        let said = |number, newest| failure(&ReplayError::Unknown(Epoch(7)), Of { number, newest });
        assert!(!said(1, 1).message.contains("generation"), "{}", said(1, 1));
        let (grown, of_grown) = (said(2, 3), "generation 2 of 3");
        assert!(grown.message.contains(of_grown) && grown.message.contains("--generation"));
        assert_eq!(grown.exit, Exit::Data);
    }
}
