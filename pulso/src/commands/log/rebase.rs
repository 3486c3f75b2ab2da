//! `pulso log rebase`: append times from a clock that was ahead are taken back.
//!
//! It works on log and store themselves, beside a running pipeline where those are servers. An
//! embedded directory has one user at a time, so its server is stopped first.

use std::time::Duration;

use clap::Args;
use domain::{
    Clock as _, Epoch, Partition, PulseLog as _, Timestamp, UsageStore as _, rebase::Rebase,
};
use edge::access::Change;
use ingestor_consumer::rebase::{self, Asked};
use runtime::clock;
use serde_json::{Value, json};
use storage::choice::Log;

use crate::{
    cli::{Globals, serving::Stage},
    commands::wire,
    config::value::parse_duration,
    exit::{Exit, Failure},
    output::{Answer, Printer},
    serve::{
        backends::{self, Backends, store_failure},
        consuming,
        recorded::recorded,
    },
};

/// `pulso log rebase`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso log rebase --reason 'NTP was off on broker 2' --validate-only   what it would take back
  pulso log rebase --reason 'NTP was off on broker 2'
  pulso log rebase --list                                               what was taken back

Set this machine's clock first: times more than 10 minutes ahead of it are taken for wrong. Nothing in
the log is changed; the journal says what is believed instead, and every fold reads it. On Kafka and
ScyllaDB, partitions that stopped go on at their consumer's next tick. An embedded data directory has
one user at a time: stop its server first.")]
pub struct RebaseArgs {
    /// One partition. Default: all.
    #[arg(long, value_name = "N")]
    pub partition: Option<u16>,
    /// How far the log's clock was ahead. Default: as far as the last wrong time is ahead of the
    /// record behind it, or of now.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub ahead: Option<Duration>,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    pub reason: Option<String>,
    /// Only say what would be taken back.
    #[arg(long)]
    pub validate_only: bool,
    /// Show what was taken back so far.
    #[arg(long, conflicts_with_all = ["reason", "ahead", "validate_only"])]
    pub list: bool,
}

/// Runs the command.
///
/// # Errors
/// When log or store cannot be opened, read or written.
pub(super) async fn run(globals: &Globals, args: RebaseArgs) -> Result<Exit, Failure> {
    let loaded = globals.serving.load()?;
    // As a stage that reads every generation and drains none.
    let backends = backends::open(&loaded, &[Stage::Query]).await?;
    let done = match args.list {
        true => list(&backends).await,
        false => {
            let taking = async |change: &Change| take_back(&backends, &args, change).await;
            recorded(&backends.billing, "pulso log rebase", taking).await
        }
    };
    backends.close().await;
    Printer::new(globals.output).print(&done?)?;
    Ok(Exit::Success)
}

const COLUMNS: [&str; 8] =
    ["generation", "partition", "from", "to", "ahead_seconds", "epoch", "noted_at", "reason"];

async fn list(backends: &Backends) -> Result<Answer, Failure> {
    let journal = backends.usage.journal().await.map_err(|e| store_failure(&e))?;
    let mut listed = Vec::new();
    for (generation, log) in (1..).zip(backends.logs()) {
        let history = journal.log(log.generation().log_id);
        for partition in log.generation().partitions() {
            let rebases = history.rebases(Epoch(u16::MAX), partition);
            listed.extend(rebases.map(|rebase| document(generation, rebase)));
        }
    }
    Ok(Answer::list(json!({ "rebases": listed }), "rebases", &COLUMNS))
}

async fn take_back(
    backends: &Backends,
    args: &RebaseArgs,
    change: &Change,
) -> Result<Answer, Failure> {
    let about = |partition| format!("partition {partition}");
    change.about(&args.partition.map_or_else(|| "all partitions".to_owned(), about));
    if args.validate_only {
        change.only_checked();
    }
    let now = clock::system().now();
    let reason = args.reason.clone().unwrap_or_default();
    let asked = Asked { now, ahead: args.ahead, reason };
    let journal = backends.usage.journal().await.map_err(|e| store_failure(&e))?;
    let (mut listed, mut notes) = (Vec::new(), Vec::new());
    for (generation, log) in (1..).zip(backends.logs()) {
        let history = journal.log(log.generation().log_id);
        if history.sealed().is_some() {
            continue;
        }
        for partition in partitions(&log, args)? {
            let found = rebase::find(&log, &*backends.usage, partition, &asked).await;
            let found = found.map_err(|error| consuming::failure(error.into()))?;
            if !args.validate_only {
                let noted = rebase::note(&*backends.usage, &found).await;
                noted.map_err(|error| store_failure(&error))?;
                believe_clock(&log, partition).await?;
            }
            notes.extend(found.iter().filter_map(|rebase| counted(rebase, history.active(), now)));
            listed.extend(found.iter().map(|rebase| document(generation, rebase)));
        }
    }
    notes.dedup();
    if listed.is_empty() {
        notes.push("no append time is more than 10 minutes ahead of this machine's clock".into());
    }
    if !args.validate_only {
        change.after(&Value::from(listed.clone()).to_string());
    }
    let answer = Answer::list(json!({ "rebases": listed }), "rebases", &COLUMNS);
    Ok(notes.into_iter().fold(answer, Answer::note))
}

fn partitions(log: &Log, args: &RebaseArgs) -> Result<Vec<Partition>, Failure> {
    let all = log.generation().partitions();
    let Some(wanted) = args.partition else { return Ok(all.collect()) };
    let found: Vec<_> = all.filter(|partition| partition.0 == wanted).collect();
    match found.is_empty() {
        true => Err(Failure::new(Exit::Usage, format_args!("--partition {wanted}: there is none"))),
        false => Ok(found),
    }
}

/// An embedded log takes nothing that is earlier than its last record. So it gets one with the time
/// that is right, here and for the next start.
async fn believe_clock(log: &Log, partition: Partition) -> Result<(), Failure> {
    let Log::Embedded(embedded) = log else { return Ok(()) };
    let bounds = log.bounds(partition).await.map_err(|e| consuming::failure(e.into()))?;
    if bounds.low == bounds.end {
        return Ok(());
    }
    embedded.forget_last_append();
    let boundary = proto::record::encode_boundary(log.generation(), "pulso log rebase");
    let appended = log.append(partition, vec![boundary]).await;
    appended.map(drop).map_err(|error| consuming::failure(error.into()))
}

/// What is left to do where the records were counted at their wrong time.
fn counted(rebase: &Rebase, active: Epoch, now: Timestamp) -> Option<String> {
    (rebase.epoch > active).then(|| {
        let epoch = rebase.epoch;
        format!(
            "some of it was counted at the wrong time: fold it again with `pulso replay --from {now} --into {epoch}`, then `pulso replay swap {epoch}`"
        )
    })
}

fn document(generation: usize, rebase: &Rebase) -> Value {
    json!({
        "generation": generation,
        "partition": rebase.partition.0,
        "from": wire::integer(rebase.from.0),
        "to": wire::integer(rebase.to.0),
        "ahead_seconds": wire::integer(rebase.ahead.as_secs()),
        "epoch": rebase.epoch.0,
        "noted_at": rebase.noted_at.to_string(),
        "reason": rebase.reason,
    })
}
