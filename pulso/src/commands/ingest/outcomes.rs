//! What became of the rows that a transfer sent, said by the log itself: the consumer has to have
//! folded them, and then their records are folded once more and looked at.

use std::{collections::BTreeMap, time::Duration};

use domain::{DeadLetterReason, Timestamp, refold::SetAside};
use proto::{
    convert::timestamp,
    v1::{self, CountOutcomesRequest, operations_service_client::OperationsServiceClient},
};
use serde_json::{Value, json};
use service::CorrelationId;
use tonic::transport::Channel;

use crate::{
    client,
    commands::{
        status::{self, Ends},
        wire,
    },
    exit::Failure,
};

/// Offsets in one question, the most that a server takes.
const OFFSETS_MAX: u64 = 1 << 20;

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

    /// Waits until everything is folded and counts what became of it.
    pub(super) async fn outcomes(mut self, wait: Duration) -> Result<Outcomes, Failure> {
        let now = status::get(&mut self.client).await?;
        let ends = status::ends(&now);
        status::wait_drained(&mut self.client, now, wait).await?;
        let mut outcomes = Outcomes::default();
        for ((generation, partition), end) in ends {
            let mut offset = self.start.get(&(generation, partition)).copied().unwrap_or(0);
            while offset < end {
                let offset_end = end.min(offset.saturating_add(OFFSETS_MAX));
                let request = CountOutcomesRequest {
                    request_id: self.request_id.to_string(),
                    partition,
                    offset_start: offset,
                    offset_end,
                    generation,
                };
                let answered = self.client.count_outcomes(request).await;
                let found = answered.map_err(|status| Failure::status(&status))?.into_inner();
                outcomes.counted += found.counted;
                outcomes.duplicate += found.duplicate;
                found.set_aside.into_iter().for_each(|set_aside| outcomes.add(set_aside));
                offset = offset_end;
            }
        }
        Ok(outcomes)
    }
}

impl Outcomes {
    /// Rows that count in no total and are no duplicates.
    pub(crate) fn not_counted(&self) -> u64 {
        self.set_aside.values().map(|set_aside| set_aside.count).sum()
    }

    /// Greatest time of a row that was too late, if any was.
    pub(crate) fn late_last(&self) -> Option<Timestamp> {
        let too_late = self.set_aside.get(DeadLetterReason::TooLate.as_str())?;
        too_late.times.map(|(_, last)| last)
    }

    fn add(&mut self, more: v1::SetAside) {
        let v1::SetAside { reason, count, time_first, time_last, message } = more;
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
