//! `pulso doctor`: what an embedded directory holds by kind, how old it is, and what to change.
//!
//! It reads the files themselves, also beside the server that uses them.

use std::{fmt::Display, path::PathBuf, time::Duration};

use clap::Args;
use domain::Clock as _;
use runtime::clock;
use serde_json::{Value, json};
use storage::embedded::{
    OpenError,
    inventory::{self, Holding, StoreInventory},
};

use super::wire;
use crate::{
    cli::Globals,
    config::{
        Config, Loaded,
        urls::{LogUrl, StoreUrl},
        value::duration_text,
    },
    exit::{Exit, Failure},
    output::{Answer, Printer},
    serve::backends::embedded,
};

/// `pulso doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso doctor
  pulso doctor --data-dir /var/lib/pulso -o json

Reads the files whole, a gigabyte in some seconds; the server may go on meanwhile. Exits with 1 when it
has advice.")]
pub struct DoctorArgs {}

const COLUMNS: [&str; 5] = ["file", "kind", "bytes", "entries", "oldest"];

/// How much longer than it is to be kept a log may be before that is told: it goes by weeks.
const SLACK: Duration = Duration::from_hours(9 * 24);

/// Runs the command.
///
/// # Errors
/// When neither log nor store is in a directory, or a file is not of this version.
pub fn run(globals: &Globals, DoctorArgs {}: DoctorArgs) -> Result<Exit, Failure> {
    let loaded = globals.serving.load()?;
    let (mut holdings, mut advice) = (Vec::new(), Vec::new());
    let (log, store) = (directory_of_log(&loaded), directory_of_store(&loaded));
    if log.is_none() && store.is_none() {
        let message = "neither log nor store is in a directory: brokers and servers of CQL have tools of their own for what they hold";
        return Err(Failure::new(Exit::Config, message));
    }
    let stored = match &store {
        Some(directory) => Some(opened(inventory::of_store(directory))?),
        None => None,
    };
    if let Some(directory) = &log {
        let found = opened(inventory::of_log(directory))?;
        advice.extend(about_log(&loaded.config, &found, stored.as_ref()));
        holdings.extend(found.iter().map(|holding| row("log.db", holding)));
    }
    if let Some(stored) = &stored {
        advice.extend(about_epochs(stored));
        advice.extend(about_space(&stored.holdings));
        holdings.extend(stored.holdings.iter().map(|holding| row("store.db", holding)));
    }
    let document = json!({ "holdings": holdings, "advice": advice });
    let answer = Answer::list(document, "holdings", &COLUMNS);
    let (answer, exit) = match advice.is_empty() {
        true => (answer.note("nothing to change"), Exit::Success),
        false => (advice.into_iter().fold(answer, Answer::note), Exit::CheckFailed),
    };
    Printer::new(globals.output).print(&answer)?;
    Ok(exit)
}

fn directory_of_log(loaded: &Loaded) -> Option<PathBuf> {
    match &loaded.config.log.url {
        LogUrl::Embedded(place) => embedded::directory(loaded, place),
        LogUrl::Kafka(_) => None,
    }
}

fn directory_of_store(loaded: &Loaded) -> Option<PathBuf> {
    match &loaded.config.store.url {
        StoreUrl::Embedded(place) => embedded::directory(loaded, place),
        StoreUrl::Scylla { .. } => None,
    }
}

fn opened<T>(found: Result<T, OpenError>) -> Result<T, Failure> {
    found.map_err(|error| Failure::new(Exit::Data, error))
}

fn row(file: &str, holding: &Holding) -> Value {
    let Holding { kind, bytes, entries, oldest } = holding;
    let text = |of: Option<&dyn Display>| of.map(ToString::to_string);
    json!({
        "file": file,
        "kind": kind,
        "bytes": wire::integer(*bytes),
        "entries": text(entries.as_ref().map(|entries| entries as &dyn Display)),
        "oldest": text(oldest.as_ref().map(|oldest| oldest as &dyn Display)),
    })
}

/// A log that is longer than it is to be kept, and why.
fn about_log(config: &Config, log: &[Holding], stored: Option<&StoreInventory>) -> Option<String> {
    let keep = config.log.keep.duration();
    let oldest = log.iter().find_map(|holding| holding.oldest)?;
    if keep == Duration::ZERO || oldest > clock::system().now().minus(keep + SLACK) {
        return None;
    }
    let why = match stored {
        Some(stored) if !stored.is_billed => {
            "nothing was billed, and what is behind the cut of a bill stays: run `pulso bill run`"
        }
        Some(stored) if !stored.unused.is_empty() => "an epoch that is not in use begins there",
        _ => "is the server running? It trims the log once an hour, behind blocks and bills",
    };
    let keep = duration_text(keep);
    Some(format!("the log has records since {oldest}, and log.keep is {keep}: {why}"))
}

fn about_epochs(stored: &StoreInventory) -> impl Iterator<Item = String> + '_ {
    stored.unused.iter().map(|(log_id, epoch)| {
        format!(
            "epoch {epoch} of log {log_id} is not in use and keeps records of the log: `pulso replay swap {epoch}` puts it to use, `pulso replay drop {epoch}` deletes it"
        )
    })
}

/// A file that is mostly free shrinks by itself, but not where nothing is deleted any more.
fn about_space(holdings: &[Holding]) -> Option<String> {
    let all: u64 = holdings.iter().map(|holding| holding.bytes).sum();
    let free = holdings.iter().find(|holding| holding.kind == inventory::FREE)?.bytes;
    (free > all / 2 && free > LEAST_FREE).then(|| {
        format!("{free} of the {all} bytes of store.db are free: stop the server and run `VACUUM` on it with an SQLite shell to give them back")
    })
}

/// Free bytes that are not worth a word.
const LEAST_FREE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use domain::{Epoch, LogId, Timestamp};

    use super::*;

    fn holding(kind: &'static str, bytes: u64, oldest: Option<Timestamp>) -> Holding {
        Holding { kind, bytes, entries: None, oldest }
    }

    #[test]
    fn a_log_that_is_too_long_says_why_it_is() {
        let (config, now) = (Config::default(), clock::system().now());
        let keep = config.log.keep.duration();
        let log = |age| [holding("records of the log", 5, Some(now.minus(age)))];
        let none = StoreInventory { holdings: vec![], unused: vec![], is_billed: true };
        assert_eq!(about_log(&config, &log(keep), Some(&none)), None);
        let old = log(keep + 2 * SLACK);
        assert!(about_log(&config, &old, Some(&none)).unwrap().contains("running"));
        let unused = StoreInventory { unused: vec![(LogId([1; 16]), Epoch(7))], ..none.clone() };
        assert!(about_log(&config, &old, Some(&unused)).unwrap().contains("epoch"));
        let unbilled = StoreInventory { is_billed: false, ..none };
        assert!(about_log(&config, &old, Some(&unbilled)).unwrap().contains("billed"));
        assert!(about_epochs(&unused).next().unwrap().contains("replay drop 7"));
    }

    #[test]
    fn free_space_is_told_where_it_is_most_of_a_large_file() {
        for (used, free, is_told) in
            [(1, 1 << 20, false), (1 << 30, 1 << 29, false), (1, 1 << 27, true)]
        {
            let holdings =
                [holding("fold states", used, None), holding(inventory::FREE, free, None)];
            assert_eq!(about_space(&holdings).is_some(), is_told, "{used} {free}");
        }
    }
}
