//! What became of the rows that a transfer sent, said by the log itself: the consumer has to have
//! folded them, and then their records are folded once more and looked at.

use std::{collections::BTreeMap, fmt::Display, ops::Range, time::Duration};

use crate::client::Channel;
use domain::{DeadLetterReason, Timestamp, refold::SetAside};
use edge::CorrelationId;
use proto::{
    convert::timestamp,
    v1::{
        self, CountOutcomesRequest, CountOutcomesResponse,
        operations_service_client::OperationsServiceClient,
    },
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    client,
    commands::{
        status::{self, Ends},
        wire,
    },
    config::value::duration_text,
    exit::{Exit, Failure},
};

/// How long until a server that could not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Looks after the rows of one transfer.
pub(super) struct Follower {
    client: OperationsServiceClient<Channel>,
    request_id: CorrelationId,
    /// Where the log ended before the first row was sent.
    start: Ends,
}

/// What became of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcomes {
    pub(crate) counted: u64,
    pub(crate) duplicate: u64,
    /// By reason.
    pub(crate) set_aside: BTreeMap<String, SetAside>,
}

impl Follower {
    /// Notes where the log ends now. Nothing may have been sent yet.
    pub(super) async fn start(
        channel: Channel,
        request_id: CorrelationId,
    ) -> Result<Self, Failure> {
        let client = OperationsServiceClient::new(channel);
        let mut client = client.max_decoding_message_size(client::ANSWER_BYTES_MAX);
        let start = status::ends(&status::get(&mut client).await?);
        Ok(Self { client, request_id, start })
    }

    /// Waits until everything is folded and counts what became of it, all within `wait`; `accepted` rows
    /// at the least are to be found.
    pub(super) async fn outcomes(
        mut self,
        wait: Duration,
        accepted: u64,
    ) -> Result<Outcomes, Failure> {
        let deadline = Instant::now() + wait;
        let outcomes = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match timeout(left, self.look(left)).await {
                Ok(Ok(outcomes)) => break outcomes,
                Ok(Err(failure)) => failure,
                Err(_) => {
                    let within = duration_text(wait);
                    let why = format!("what became of the rows was not known within {within}");
                    return Err(unknown(why));
                }
            };
            // A server that starts again, or is busy, is asked again; nothing was changed by asking.
            let passes = matches!(failure.exit, Exit::Unavailable | Exit::Internal | Exit::Retry);
            if !passes || deadline <= Instant::now() + ASK_AGAIN {
                return Err(failure);
            }
            sleep(ASK_AGAIN).await;
        };
        let found = outcomes.counted + outcomes.duplicate + outcomes.not_counted();
        if found < accepted {
            return Err(unknown(format_args!(
                "of {accepted} accepted rows only {found} were found in the log: a partition cannot be read now, or something between here and the server changes x-request-id"
            )));
        }
        Ok(outcomes)
    }

    async fn look(&mut self, wait: Duration) -> Result<Outcomes, Failure> {
        let now = status::get(&mut self.client).await?;
        let ends = status::ends(&now);
        if let Some((generation, partition)) = self.start.keys().find(|at| !ends.contains_key(at)) {
            return Err(unknown(format_args!(
                "partition {partition} of generation {generation} of the log does not answer now"
            )));
        }
        status::wait_drained(&mut self.client, now, wait).await?;
        let mut outcomes = Outcomes::default();
        for (place, end) in ends {
            let mut offset = self.start.get(&place).copied().unwrap_or(0);
            while offset < end {
                let found = self.ask(place, offset..end).await?;
                // A server that goes nowhere would be asked for ever.
                offset = found.next_offset.max(offset + 1);
                outcomes.add(found);
            }
        }
        Ok(outcomes)
    }

    async fn ask(
        &mut self,
        (generation, partition): (u32, u32),
        offsets: Range<u64>,
    ) -> Result<CountOutcomesResponse, Failure> {
        let request = CountOutcomesRequest {
            request_id: self.request_id.to_string(),
            partition,
            offset_start: offsets.start,
            offset_end: offsets.end,
            generation,
        };
        let answered = self.client.count_outcomes(request).await;
        answered.map(tonic::Response::into_inner).map_err(|status| Failure::status(&status))
    }
}

fn unknown(why: impl Display) -> Failure {
    let ask = "the rows are in the log all the same: ask `pulso status` and `pulso dlq list`";
    Failure::new(Exit::Retry, format_args!("{why}; {ask}"))
}

impl Outcomes {
    /// Rows that count in no total and are no duplicates.
    pub(crate) fn not_counted(&self) -> u64 {
        self.set_aside.values().map(|set_aside| set_aside.count).sum()
    }

    /// How many rows were too late, and the greatest of their times.
    pub(crate) fn late(&self) -> Option<(u64, Timestamp)> {
        let too_late = self.set_aside.get(DeadLetterReason::TooLate.as_str())?;
        too_late.times.map(|(_, last)| (too_late.count, last))
    }

    fn add(&mut self, found: CountOutcomesResponse) {
        self.counted += found.counted;
        self.duplicate += found.duplicate;
        for v1::SetAside { reason, count, time_first, time_last, message } in found.set_aside {
            let times = time_first.zip(time_last);
            let times = times.and_then(|(first, last)| timestamp(&first).zip(timestamp(&last)));
            let new = || SetAside { count: 0, times: None, message };
            let sum = self.set_aside.entry(reason).or_insert_with(new);
            sum.count += count;
            sum.times = match (sum.times, times) {
                (Some((first, last)), Some(more)) => Some((first.min(more.0), last.max(more.1))),
                (known, more) => known.or(more),
            };
        }
    }

    pub(super) fn document(&self) -> Value {
        let set_aside =
            self.set_aside.iter().map(|(reason, SetAside { count, times, message })| {
                json!({
                    "reason": reason,
                    "count": wire::integer(*count),
                    "time_first": times.map(|(first, _)| first.to_string()),
                    "time_last": times.map(|(_, last)| last.to_string()),
                    "message": message,
                })
            });
        json!({
            "counted": wire::integer(self.counted),
            "duplicate": wire::integer(self.duplicate),
            "set_aside": set_aside.collect::<Vec<_>>(),
        })
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let not_counted = self.not_counted();
        let summary = format!(
            "{} counted, {} duplicate, {not_counted} set aside",
            self.counted, self.duplicate
        );
        let reasons = self.set_aside.iter().map(|(reason, SetAside { count, times, message })| {
            let times =
                times.map_or_else(String::new, |(first, last)| format!(" of {first} to {last}"));
            format!("{count} {reason}{times}; the first: {message}")
        });
        [summary].into_iter().chain(reasons).collect()
    }
}
