//! `pulso topics`: the topics of the log and of what is published, made or compared.

use std::time::Duration;

use billing::outbox::Queue;
use clap::Subcommand;
use serde_json::json;
use storage::kafka::{
    OUTLET_BYTES_MAX, TopicOutcome, TopicSpec,
    topics::{self},
};

use crate::{
    cli::Globals,
    config::Loaded,
    exit::{Exit, Failure},
    output::{Answer, Printer},
    serve::backends::kafka::{self, PULSES, TOTALS},
};

/// `pulso topics`.
#[derive(Clone, Copy, Debug, Subcommand)]
#[command(after_help = "Examples:
  pulso topics apply --log kafka://127.0.0.1:9092
  pulso topics check --config pulso.toml -o json")]
pub enum TopicsCommand {
    /// Make the topics that are missing and compare the others; nothing is altered or deleted.
    Apply,
    /// Compare the topics; exits with 78 and names every difference.
    Check,
}

/// Runs the command.
///
/// # Errors
/// When brokers cannot be reached, or a topic differs.
pub async fn run(globals: &Globals, command: TopicsCommand) -> Result<Exit, Failure> {
    let loaded = globals.serving.load()?;
    let options = kafka::options(&loaded, kafka::brokers(&loaded)?);
    let names = topics::names(&options).await.map_err(|error| kafka::topics_failure(&error))?;
    let later = kafka::later_generations(&loaded, &names);
    let specs = specs(&loaded, !later.is_empty());
    let reports = match command {
        TopicsCommand::Apply => topics::apply(&options, &specs).await,
        TopicsCommand::Check => topics::check(&options, &specs).await,
    };
    let reports = reports.map_err(|error| kafka::topics_failure(&error))?;
    let listed = reports.iter().zip(&specs).map(|(report, spec)| {
        let outcome = match report.outcome {
            TopicOutcome::Created => "created",
            TopicOutcome::Verified => "as it must be",
        };
        json!({"topic": report.name, "partitions": spec.partitions, "outcome": outcome})
    });
    let document = json!({ "topics": listed.collect::<Vec<_>>() });
    let mut answer = Answer::list(document, "topics", &["topic", "partitions", "outcome"]);
    if !later.is_empty() {
        answer = answer.note(format!(
            "the log has grown ({}): `pulso log show` says which topics it has",
            later.join(", ")
        ));
    }
    Printer::new(globals.output).print(&answer)?;
    Ok(Exit::Success)
}

/// What each topic must be. Pulses and totals are kept as long as a rebuild may reach back; invoices
/// for ever. A log that has grown has topics of other sizes, and its first one may be gone.
fn specs(loaded: &Loaded, has_grown: bool) -> Vec<TopicSpec> {
    let partitions = u16::try_from(loaded.config.log.partitions.get()).expect("its type bounds it");
    let spec = |name: &str, retention: Option<Duration>| {
        kafka::topic_spec(loaded, kafka::topic(loaded, name), partitions, retention)
    };
    let kept = Some(loaded.config.kafka.retention.duration());
    let consumption = [PULSES, TOTALS].into_iter().filter(|name| *name != PULSES || !has_grown);
    let consumption = consumption.map(|name| spec(name, kept));
    let invoices = Queue::ALL
        .map(|queue| TopicSpec { message_bytes_max: OUTLET_BYTES_MAX, ..spec(queue.name(), None) });
    consumption.chain(invoices).collect()
}
