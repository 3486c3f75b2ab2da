//! `pulso status`: where the pipeline stands, and waiting until it has caught up.

use std::{collections::BTreeMap, time::Duration};

use crate::client::Channel;
use clap::Args;
use proto::v1::{
    GetStatusRequest, GetStatusResponse, PartitionStatus, PulseCounts,
    operations_service_client::OperationsServiceClient,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::wire;
use crate::{
    cli::Globals,
    client,
    config::value::{duration_text, parse_duration},
    exit::{Exit, Failure},
    output::{Answer, Printer, counted},
};

/// `pulso status`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso status
  pulso status --wait-drained 30s && pulso query usage --from 2024-09 --to 2024-10 --window total

Exits with 10 when the pipeline is not healthy, with 75 when it was not drained in time.")]
pub struct StatusArgs {
    /// Return once what is in the log now is folded and stored, or fail after this long.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub wait_drained: Option<Duration>,
}

/// How often a wait looks again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

const COLUMNS: [&str; 6] =
    ["generation", "partition", "log_end", "folded_to", "lag_records", "folded_time"];

type Client = OperationsServiceClient<Channel>;

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached, or was not drained in time.
pub async fn run(globals: &Globals, args: StatusArgs) -> Result<Exit, Failure> {
    let channel = globals.connect().await?;
    let mut client =
        OperationsServiceClient::new(channel).max_decoding_message_size(client::ANSWER_BYTES_MAX);
    let mut status = get(&mut client).await?;
    if let Some(wait) = args.wait_drained {
        status = wait_drained(&mut client, status, wait).await?;
    }
    Printer::new(globals.output).print(&answer(&status))?;
    Ok(if status.healthy { Exit::Success } else { Exit::Unhealthy })
}

/// Asks for the status.
///
/// # Errors
/// When the server cannot be reached or runs no query stage.
pub(super) async fn get(client: &mut Client) -> Result<GetStatusResponse, Failure> {
    let answered = client.get_status(GetStatusRequest {}).await;
    answered.map(tonic::Response::into_inner).map_err(|status| Failure::status(&status))
}

/// Waits until every partition is folded up to where its log ended at `start`.
///
/// # Errors
/// `Retry` when that took longer than `wait`; as [`get`].
pub(super) async fn wait_drained(
    client: &mut Client,
    start: GetStatusResponse,
    wait: Duration,
) -> Result<GetStatusResponse, Failure> {
    let deadline = Instant::now() + wait;
    let ends = ends(&start);
    let mut status = start;
    loop {
        let behind = behind(&status.partitions, &ends);
        if behind == 0 {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            let message = format!(
                "not drained within {}: {} of the log not stored yet; is a consumer running?",
                duration_text(wait),
                counted(behind, "record")
            );
            return Err(Failure::new(Exit::Retry, message));
        }
        tokio::time::sleep(POLL_INTERVAL.min(wait)).await;
        status = get(client).await?;
    }
}

/// Offsets by generation and partition.
pub(super) type Ends = BTreeMap<(u32, u32), u64>;

/// Where each partition of the log ended.
pub(super) fn ends(status: &GetStatusResponse) -> Ends {
    status.partitions.iter().map(|partition| (place(partition), partition.log_end)).collect()
}

const fn place(partition: &PartitionStatus) -> (u32, u32) {
    (partition.generation, partition.partition)
}

/// Records below the given ends that are not folded; a partition that is not listed counts whole.
fn behind(partitions: &[PartitionStatus], ends: &Ends) -> u64 {
    let folded: Ends =
        partitions.iter().map(|partition| (place(partition), partition.folded_to)).collect();
    let missing = |(place, end): (&(u32, u32), &u64)| {
        end.saturating_sub(folded.get(place).copied().unwrap_or(0))
    };
    ends.iter().map(missing).sum()
}

fn answer(status: &GetStatusResponse) -> Answer {
    let counts = status.pulses.unwrap_or_default();
    let versions: BTreeMap<_, _> = status.versions.iter().collect();
    let document = json!({
        "healthy": status.healthy,
        "partitions": status.partitions.iter().map(partition).collect::<Vec<_>>(),
        "pulses": pulses(&counts),
        "versions": versions,
        "problems": status.problems,
    });
    let health = if status.healthy { "healthy" } else { "NOT HEALTHY" };
    let summary = format!(
        "{health}; pulses: {} read, {} accepted, {} duplicate, {} late, {} dead-lettered, {} erased ({})",
        counts.read,
        counts.accepted,
        counts.duplicate,
        counts.late,
        counts.dead_lettered,
        counts.erased,
        counted(counts.control, "control record")
    );
    let set_aside = (counts.late > 0 || counts.dead_lettered > 0).then(|| {
        let PulseCounts { late, dead_lettered, .. } = counts;
        format!("{} late, {dead_lettered} dead-lettered: pulso dlq list", counted(late, "pulse"))
    });
    let problems = status.problems.iter().map(|problem| format!("problem: {problem}"));
    let notes = [summary].into_iter().chain(set_aside).chain(problems).collect();
    Answer { notes, ..Answer::list(document, "partitions", &COLUMNS) }
}

fn partition(status: &PartitionStatus) -> Value {
    json!({
        "generation": status.generation,
        "partition": status.partition,
        "log_end": wire::integer(status.log_end),
        "folded_to": wire::integer(status.folded_to),
        "lag_records": wire::integer(status.lag_records),
        "folded_time": wire::moment(status.folded_time.as_ref()),
    })
}

fn pulses(counts: &PulseCounts) -> Value {
    json!({
        "read": wire::integer(counts.read),
        "control": wire::integer(counts.control),
        "accepted": wire::integer(counts.accepted),
        "duplicate": wire::integer(counts.duplicate),
        "late": wire::integer(counts.late),
        "dead_lettered": wire::integer(counts.dead_lettered),
        "erased": wire::integer(counts.erased),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_aside_is_said_in_a_line_of_its_own() {
        let notes = |late, dead_lettered| {
            let pulses = Some(PulseCounts { late, dead_lettered, ..PulseCounts::default() });
            answer(&GetStatusResponse { pulses, ..GetStatusResponse::default() }).notes
        };
        assert_eq!(notes(0, 0).len(), 1);
        assert_eq!(notes(7, 0)[1], "7 pulses late, 0 dead-lettered: pulso dlq list");
        assert_eq!(notes(0, 9)[1], "0 pulses late, 9 dead-lettered: pulso dlq list");
    }

    #[test]
    fn a_partition_is_behind_by_what_was_in_its_log_at_the_call() {
        let at = |partition, folded_to, log_end| PartitionStatus {
            partition,
            folded_to,
            log_end,
            ..Default::default()
        };
        let ends = BTreeMap::from([((0, 0), 10), ((0, 1), 5), ((0, 2), 0)]);
        assert_eq!(behind(&[at(0, 4, 99), at(1, 5, 99), at(2, 0, 99)], &ends), 6);
        assert_eq!(behind(&[at(0, 12, 99), at(1, 5, 5), at(2, 0, 9)], &ends), 0);
        assert_eq!(behind(&[at(0, 10, 10)], &ends), 5);
    }
}
