//! Explaining: an explanation leaves in chunks, no faster than its reader takes them.
//!
//! A chunk is made on a thread for computing, a few wait for the client, and one that does not read
//! for `compute.stall_timeout` is cut off: it holds a billing period in memory.

use std::time::Duration;

use domain::{BillingStore, PulseLog, UsageStore};
use edge::{Compute, Problem, compute::Call, problem::reasons};
use futures_util::{Stream, stream};
use proto::v1::{self, explanation_part};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinSet,
    time::timeout,
};

use super::{BillingApi, problems};
use crate::{
    evidence::PulsesWanted,
    explain::explanation::{Explanation, Part},
};

/// Bytes that make a chunk full. A part is longer only where one line or hour is.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for the client.
const CHUNKS_WAITING: usize = 2;

type Parts = Vec<v1::ExplanationPart>;

enum Sent {
    Chunk(Parts),
    Failed(Problem),
    End,
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Explains an invoice, part by part. What can be refused is refused before the first part.
    pub(crate) async fn explain(
        &self,
        request: &v1::ExplainInvoiceRequest,
    ) -> Result<impl Stream<Item = Result<Parts, Problem>> + Send + use<U, B, L>, Problem> {
        let line = usize::try_from(request.line).unwrap_or(usize::MAX);
        let hour = request.hour.as_ref().map(|hour| {
            proto::convert::timestamp(hour).ok_or_else(|| {
                Problem::invalid("hour", reasons::PARAMETER_INVALID, "is no time of year 1 to 9999")
            })
        });
        let hour = hour.transpose()?;
        if hour.is_some() && !request.pulses {
            let message = "chooses among pulses, which were not asked for";
            return Err(Problem::invalid("hour", reasons::PARAMETER_INVALID, message));
        }
        let max = self.config.explained_pulses_max;
        let pulses = request.pulses.then_some(PulsesWanted { hour, max });
        let compute = self.compute.clone();
        let call = compute.admit_period().await?;
        let explained = self.parts.explainer.explain(&request.number, line, pulses).await;
        Ok(chunks(explained.map_err(problems::of_billing)?, compute, call))
    }
}

/// The parts of an explanation, while its client reads them. Dropped, it ends the work.
fn chunks(
    explanation: Explanation,
    compute: Compute,
    call: Call,
) -> impl Stream<Item = Result<Parts, Problem>> + Send {
    let stall = compute.config().stall_timeout;
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let mut sending = JoinSet::new();
    sending.spawn(send(explanation, compute, call, sender));
    let next = move |(mut receiver, sending): (Receiver<Sent>, JoinSet<()>)| async move {
        match receiver.recv().await {
            Some(Sent::Chunk(parts)) => Ok(Some((parts, (receiver, sending)))),
            Some(Sent::End) => Ok(None),
            Some(Sent::Failed(problem)) => Err(problem),
            None => Err(stalled(stall)),
        }
    };
    stream::try_unfold((receiver, sending), next)
}

async fn send(mut explanation: Explanation, compute: Compute, _call: Call, to: Sender<Sent>) {
    let stall = compute.config().stall_timeout;
    loop {
        let made = compute.run(move || (explanation.chunk(CHUNK_BYTES), explanation)).await;
        let (sent, rest) = match made {
            Ok((parts, _)) if parts.is_empty() => (Sent::End, None),
            Ok((parts, rest)) => (Sent::Chunk(parts.into_iter().map(part).collect()), Some(rest)),
            Err(problem) => (Sent::Failed(problem), None),
        };
        let is_taken = matches!(timeout(stall, to.send(sent)).await, Ok(Ok(())));
        match rest.filter(|_| is_taken) {
            Some(rest) => explanation = rest,
            None => return,
        }
    }
}

fn part(part: Part) -> v1::ExplanationPart {
    let part = match part {
        Part::Head(text) => explanation_part::Part::HeadJson(text),
        Part::Line(text) => explanation_part::Part::LineJson(text),
        Part::Hour(text) => explanation_part::Part::HourJson(text),
    };
    v1::ExplanationPart { part: Some(part) }
}

fn stalled(after: Duration) -> Problem {
    let message = format!(
        "nothing of the answer was read for {after:?} (compute.stall_timeout), so it was cut off; \
         ask again and read to its end"
    );
    Problem::exhausted(reasons::COMPUTE_EXHAUSTED, message)
}
