//! What is said about the times of rows before they are sent, and what to do about them.

use std::time::Duration;

use domain::Timestamp;
use proto::v1::{self, GetTimeBoundsRequest, ingest_service_client::IngestServiceClient};
use tonic::transport::Channel;

use super::{IngestArgs, report::Late};
use crate::{
    config::value::duration_text,
    ingest::times::{Finding, Notice, TimeBounds, TimeRule},
};

/// A server's bounds, and the words that go with them.
pub(super) struct Notices {
    pub(super) bounds: Option<TimeBounds>,
    future_tolerance: Duration,
    lateness: Duration,
    /// The command that was given, without the options that matter here.
    command: String,
}

impl Notices {
    /// Asks the server. One that does not answer is no reason to send nothing: it is said, and the
    /// rows go unchecked.
    pub(super) async fn ask(channel: Channel, args: &IngestArgs) -> Self {
        let mut client = IngestServiceClient::new(channel);
        let answered = client.get_time_bounds(GetTimeBoundsRequest {}).await;
        let read = answered.map_err(|status| status.message().to_owned()).and_then(|answer| {
            read(&answer.into_inner()).ok_or_else(|| "its answer has no bounds".to_owned())
        });
        let command = format!("pulso ingest {} --format {}", args.file, args.format.name());
        let (server_time, lateness, future_tolerance) = match read {
            Ok(read) => read,
            Err(why) => {
                eprintln!(
                    "times are not checked before sending: the server does not tell which it counts: {why}"
                );
                let zero = Duration::ZERO;
                return Self { bounds: None, future_tolerance: zero, lateness: zero, command };
            }
        };
        let bounds = Some(TimeBounds::new(server_time, lateness, future_tolerance));
        Self { bounds, future_tolerance, lateness, command }
    }

    /// How the rows of this command are sent.
    pub(super) fn rule(args: &IngestArgs) -> TimeRule {
        match (&args.backfill, args.before) {
            (None, _) => TimeRule::Judged,
            (Some(_), None) => TimeRule::Backfill,
            (Some(_), Some(end)) => TimeRule::BackfillBefore(end),
        }
    }

    /// Says what was found, on stderr.
    pub(super) fn say(&self, notice: Notice) {
        eprintln!("warning: {}", self.words(notice));
    }

    fn words(&self, Notice { finding, row, time }: Notice) -> String {
        match finding {
            Finding::TooLate => format!(
                "row {row} is of {time}, more than {} before the server's clock: such rows become dead letters and count in no total. {}",
                duration_text(self.lateness),
                self.remedy().unwrap_or_default()
            ),
            Finding::InTheFuture => format!(
                "row {row} is of {time}, more than {} ahead of the server's clock: such rows become dead letters and count in no total. Mend the times, or send them when it is time",
                duration_text(self.future_tolerance)
            ),
            Finding::Recent => format!(
                "row {row} is of {time}, young enough to count without --backfill: if this file was sent so before, rows that counted then count again. --before TIME leaves them out, where TIME is what that command printed"
            ),
        }
    }

    /// How rows that are too late are counted, once, and those that are not too late not twice.
    fn remedy(&self) -> Option<String> {
        let earliest = self.bounds.as_ref()?.earliest;
        let command = &self.command;
        Some(format!(
            "To count them, without counting the others twice: {command} --backfill NAME --before {earliest}"
        ))
    }

    /// The same for the report.
    pub(super) fn late(&self) -> Option<Late> {
        Some(Late { earliest: self.bounds?.earliest, remedy: self.remedy()? })
    }
}

fn read(bounds: &v1::TimeBounds) -> Option<(Timestamp, Duration, Duration)> {
    let server_time = proto::convert::timestamp(bounds.server_time.as_ref()?)?;
    let lateness = Duration::try_from(bounds.lateness?).ok()?;
    let future_tolerance = Duration::try_from(bounds.future_tolerance?).ok()?;
    Some((server_time, lateness, future_tolerance))
}
