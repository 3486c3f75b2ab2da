//! Explaining: an explanation leaves in chunks, no faster than its reader takes them.
//!
//! A chunk is made on a thread for computing, a few wait for the client, and one that does not read
//! for `compute.stall_timeout` is cut off: it holds a billing period in memory.

use std::time::Duration;

use domain::{BillingStore, BlockStore, PulseLog};
use edge::{Compute, Problem, compute::Call, problem::reasons};
use futures_util::{Stream, stream};
use proto::v1;
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

/// What a door makes of the parts of an explanation, where it is computed.
pub(crate) trait Form: Send + 'static {
    /// What is made of a part.
    type Piece: Send + 'static;

    /// Makes a piece of a part.
    fn piece(&mut self, part: Part) -> Self::Piece;

    /// Makes the piece behind the last part, if there is one.
    fn end(&mut self) -> Option<Self::Piece>;

    /// Bytes that a piece takes on the wire.
    fn bytes(piece: &Self::Piece) -> usize;
}

enum Sent<P> {
    Chunk(Vec<P>),
    Failed(Problem),
    End,
}

/// An explanation that is being given in a form.
pub(crate) struct Giving<F> {
    explanation: Explanation,
    /// None once its end was given.
    form: Option<F>,
}

impl<F: Form> Giving<F> {
    /// Takes what is given, and in which form.
    pub(crate) const fn new(explanation: Explanation, form: F) -> Self {
        Self { explanation, form: Some(form) }
    }

    /// The next pieces, as many as make `bytes_max` bytes full and at least one; none at the end.
    pub(crate) fn chunk(&mut self, bytes_max: usize) -> Vec<F::Piece> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while let Some(form) = self.form.as_mut().filter(|_| bytes < bytes_max) {
            match self.explanation.next() {
                Some(part) => {
                    let piece = form.piece(part);
                    bytes += F::bytes(&piece);
                    pieces.push(piece);
                }
                None => {
                    pieces.extend(form.end());
                    self.form = None;
                }
            }
        }
        pieces
    }
}

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Explains an invoice, piece by piece. What can be refused is refused before the first piece.
    pub(crate) async fn explain<F: Form>(
        &self,
        request: &v1::ExplainInvoiceRequest,
        form: F,
    ) -> Result<impl Stream<Item = Result<Vec<F::Piece>, Problem>> + Send + use<U, B, L, F>, Problem>
    {
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
        let giving = Giving::new(explained.map_err(problems::of_billing)?, form);
        Ok(chunks(giving, compute, call))
    }
}

/// The pieces of an explanation, while its client reads them. Dropped, it ends the work.
fn chunks<F: Form>(
    giving: Giving<F>,
    compute: Compute,
    call: Call,
) -> impl Stream<Item = Result<Vec<F::Piece>, Problem>> + Send {
    let stall = compute.config().stall_timeout;
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let mut sending = JoinSet::new();
    sending.spawn(send(giving, compute, call, sender));
    let next = move |(mut receiver, sending): (Receiver<Sent<F::Piece>>, JoinSet<()>)| async move {
        match receiver.recv().await {
            Some(Sent::Chunk(parts)) => Ok(Some((parts, (receiver, sending)))),
            Some(Sent::End) => Ok(None),
            Some(Sent::Failed(problem)) => Err(problem),
            None => Err(stalled(stall)),
        }
    };
    stream::try_unfold((receiver, sending), next)
}

async fn send<F: Form>(
    mut giving: Giving<F>,
    compute: Compute,
    _call: Call,
    to: Sender<Sent<F::Piece>>,
) {
    let stall = compute.config().stall_timeout;
    loop {
        let made = compute.run(move || (giving.chunk(CHUNK_BYTES), giving)).await;
        let (sent, rest) = match made {
            Ok((pieces, _)) if pieces.is_empty() => (Sent::End, None),
            Ok((pieces, rest)) => (Sent::Chunk(pieces), Some(rest)),
            Err(problem) => (Sent::Failed(problem), None),
        };
        let is_taken = matches!(timeout(stall, to.send(sent)).await, Ok(Ok(())));
        match rest.filter(|_| is_taken) {
            Some(rest) => giving = rest,
            None => return,
        }
    }
}

fn stalled(after: Duration) -> Problem {
    let message = format!(
        "nothing of the answer was read for {after:?} (compute.stall_timeout), so it was cut off; \
         ask again and read to its end"
    );
    Problem::exhausted(reasons::COMPUTE_EXHAUSTED, message)
}
