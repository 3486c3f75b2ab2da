//! Answer: what a client is told about a batch, on a stream as an ack and on a single call as a
//! status.

use std::time::Duration;

use edge::{Problem, problem::reasons};
use prost_types::Duration as WireDuration;
use proto::v1::{IngestAck, PulseError};

use crate::{
    batch::{Plan, Refusal},
    metrics::Metrics,
    outcome::{Outcome, Receipt},
};

/// A message above the limit.
pub(crate) fn message_too_large(bytes_max: usize) -> Problem {
    let message = format!("the message is larger than {bytes_max} bytes; send smaller batches");
    Problem::new(tonic::Code::InvalidArgument, reasons::BATCH_TOO_LARGE, message)
}

/// A batch on its way to an answer.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Nothing of it goes to the log.
    Refused(Box<Refusal>),
    /// Its parts are queued, or it is known without them what becomes of it.
    Planned {
        /// The client's number for it.
        batch: u64,
        /// Pulses that went on.
        accepted: u32,
        /// Pulses that did not.
        rejected: u32,
        /// The reason for each pulse that did not.
        errors: Vec<PulseError>,
        /// What became of the parts.
        fate: Fate,
    },
}

/// What becomes of a batch's parts.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is known.
    Known(Outcome),
    /// The log will tell.
    Pending(Receipt),
}

/// Why a batch is not acknowledged: its number and the problem.
#[derive(Debug)]
pub(crate) struct NotTaken {
    pub(crate) batch: u64,
    pub(crate) problem: Problem,
}

impl Taken {
    /// A planned batch with its fate.
    pub(crate) fn planned(plan: Plan, fate: Fate) -> Self {
        let Plan { batch, accepted, rejected, errors, parts: _ } = plan;
        Self::Planned { batch, accepted, rejected, errors, fate }
    }

    /// Waits until it is known what became of the batch, counts it, and says it.
    pub(crate) async fn answer(
        self,
        metrics: &Metrics,
        retry_after: Duration,
    ) -> Result<IngestAck, Box<NotTaken>> {
        let (batch, accepted, rejected, errors, fate) = match self {
            Self::Refused(refusal) => {
                let Refusal { batch, pulses, problem } = *refusal;
                metrics.refused(pulses);
                return Err(Box::new(NotTaken { batch, problem }));
            }
            Self::Planned { batch, accepted, rejected, errors, fate } => {
                (batch, accepted, rejected, errors, fate)
            }
        };
        let outcome = match fate {
            Fate::Known(outcome) => outcome,
            Fate::Pending(receipt) => receipt.outcome().await,
        };
        metrics.answered(outcome, accepted, rejected);
        match problem_of(outcome, retry_after) {
            None => Ok(IngestAck { batch, accepted, rejected, errors, ..IngestAck::default() }),
            Some(problem) => Err(Box::new(NotTaken { batch, problem })),
        }
    }
}

/// The one table from outcomes to codes. `None` is success.
fn problem_of(outcome: Outcome, retry_after: Duration) -> Option<Problem> {
    match outcome {
        Outcome::Durable => None,
        Outcome::Overloaded => Some(Problem::overloaded(retry_after)),
        Outcome::Unavailable => {
            let message = "the log takes no records now and nothing of this was taken; send it \
                           again unchanged after the given wait";
            let problem = Problem::unavailable(reasons::LOG_UNAVAILABLE, message);
            Some(problem.with_retry_after(retry_after))
        }
        Outcome::ShuttingDown => Some(Problem::shutting_down()),
        Outcome::Unknown => {
            let message = "outcome unknown, resend unchanged: the log did not say whether it has \
                           all of this batch, and its identity keeps what it has from counting \
                           twice";
            Some(Problem::outcome_unknown(message))
        }
    }
}

impl From<NotTaken> for IngestAck {
    /// Says on a stream what a single call says as its status.
    fn from(NotTaken { batch, problem }: NotTaken) -> Self {
        Self {
            batch,
            code: problem.code.into(),
            reason: problem.reason.to_owned(),
            message: problem.message,
            retry_after: problem.retry_after.and_then(|wait| WireDuration::try_from(wait).ok()),
            ..Self::default()
        }
    }
}
