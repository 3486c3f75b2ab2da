//! What is said about the times of rows before they are sent, and what to do about them.

use std::time::Duration;

use crate::client::Channel;
use domain::Timestamp;
use proto::v1::{self, GetTimeBoundsRequest, ingest_service_client::IngestServiceClient};
use tokio::time::timeout;

use super::{IngestArgs, report::Late};
use crate::{
    config::value::duration_text,
    ingest::times::{Finding, Notice, TimeBounds, TimeRule},
    output,
};

/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A server's bounds, and the words that go with them.
pub(super) struct Notices {
    pub(super) bounds: Option<TimeBounds>,
    future_tolerance: Duration,
    lateness: Duration,
}

impl Notices {
    /// Asks the server. One that does not answer is no reason to send nothing: it is said, and the
    /// rows go unchecked.
    pub(super) async fn ask(channel: Channel) -> Self {
        let mut client = IngestServiceClient::new(channel);
        let asking = timeout(ANSWER_MAX, client.get_time_bounds(GetTimeBoundsRequest {})).await;
        let answered = match asking {
            Ok(Ok(answer)) => read(&answer.into_inner()).ok_or_else(|| "no bounds".to_owned()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer within {}", duration_text(ANSWER_MAX))),
        };
        match answered {
            Ok((server_time, lateness, future_tolerance)) => {
                let bounds = Some(TimeBounds::new(server_time, lateness, future_tolerance));
                Self { bounds, future_tolerance, lateness }
            }
            Err(why) => {
                output::say(format_args!(
                    "times are not checked: the server did not answer GetTimeBounds: {why}"
                ));
                Self { bounds: None, future_tolerance: Duration::ZERO, lateness: Duration::ZERO }
            }
        }
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
        output::say(format_args!("warning: {}", self.words(notice)));
    }

    fn words(&self, Notice { finding, row, time }: Notice) -> String {
        match finding {
            Finding::TooLate => format!(
                "row {row} has time {time}, more than {} before the server's clock. Such rows become dead letters and count in no total. {}",
                duration_text(self.lateness),
                self.bounds.as_ref().map(|bounds| remedy(bounds.earliest)).unwrap_or_default()
            ),
            Finding::InTheFuture => format!(
                "row {row} has time {time}, more than {} ahead of the server's clock. Such rows become dead letters and count in no total. Mend their times, or send them later",
                duration_text(self.future_tolerance)
            ),
            Finding::Recent => format!(
                "row {row} has time {time}, which is recent enough to count without --backfill. If this input was sent without --backfill before, rows that counted then count again. Leave them out by --before TIME, with the time that its first sending printed"
            ),
        }
    }

    /// What the report says of rows that are too late, where rows are judged by their times.
    pub(super) fn late(&self, rule: TimeRule) -> Option<Late> {
        let earliest = self.bounds.filter(|_| rule == TimeRule::Judged)?.earliest;
        Some(Late { earliest, remedy: remedy(earliest) })
    }
}

/// How rows that are too late are counted, and no other row twice.
fn remedy(earliest: Timestamp) -> String {
    format!(
        "If this input was never sent before, count them by sending it again with `--backfill NAME --before {earliest}` added: only rows before that time are sent. If it was, put the rows that never counted into a file of their own, and send that as a backfill"
    )
}

fn read(bounds: &v1::TimeBounds) -> Option<(Timestamp, Duration, Duration)> {
    let server_time = proto::convert::timestamp(bounds.server_time.as_ref()?)?;
    let lateness = Duration::try_from(bounds.lateness?).ok()?;
    let future_tolerance = Duration::try_from(bounds.future_tolerance?).ok()?;
    Some((server_time, lateness, future_tolerance))
}
