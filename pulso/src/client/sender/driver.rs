//! The task behind a sender: one stream at a time, and every batch without a final ack.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    time::Duration,
};

use edge::{CorrelationId, correlation::HEADER_NAME};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use proto::v1;
use runtime::retry::Backoff;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tracing::debug;

use super::{PLACES_MAX, SendError, SenderOptions, Sent, Work};
use crate::{
    client::{
        Channel,
        frame::{Frame, FrameCodec},
    },
    exit::is_not_grpc,
};

const PATH: PathAndQuery = PathAndQuery::from_static("/pulso.v1.IngestService/IngestStream");
const DELAY_FIRST: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(2);

type Acks = Pin<Box<dyn Stream<Item = Result<v1::IngestAck, Status>> + Send>>;

/// A batch without a final ack.
struct Pending {
    frame: Frame,
    receipt: oneshot::Sender<Result<Sent, SendError>>,
    sent_at: Instant,
    resends: u32,
    /// Made when the server first asks for a resend without saying when.
    backoff: Option<Backoff>,
}

/// How a stream ended.
enum End {
    /// Everything is acknowledged and no more comes.
    Done,
    /// It broke; another may do.
    Broken(String),
    /// Nothing further will be tried.
    Fatal(SendError),
}

pub(super) struct Driver {
    channel: Channel,
    options: SenderOptions,
    pending: BTreeMap<u64, Pending>,
    /// Pending batches that wait to be sent again on this stream.
    due: BTreeSet<(Instant, u64)>,
    next_number: u64,
    /// When the last final ack came, or when waiting began.
    progress_at: Instant,
    trouble: String,
    streams_backoff: Backoff,
}

impl Driver {
    pub(super) fn new(channel: Channel, options: SenderOptions) -> Self {
        Self {
            channel,
            options,
            pending: BTreeMap::new(),
            due: BTreeSet::new(),
            next_number: 0,
            progress_at: Instant::now(),
            trouble: "none".to_owned(),
            streams_backoff: backoff(),
        }
    }

    /// Sends all that comes, until the handle is dropped and everything is acknowledged.
    pub(super) async fn run(mut self, mut work: mpsc::Receiver<Work>) {
        loop {
            // A stream is only opened to send something on it: some servers answer the call
            // itself only after the first message, and none needs to hold an idle stream.
            if self.pending.is_empty() {
                match work.recv().await {
                    Some(work) => drop(self.admit(work)),
                    None => return,
                }
            }
            match self.one_stream(&mut work).await {
                End::Done => return,
                End::Broken(trouble) => {
                    debug!(%trouble, "the stream broke");
                    self.trouble = trouble;
                    self.settle_unsafe();
                }
                End::Fatal(error) => return self.fail_all(work, &error),
            }
            let again_at = Instant::now() + self.streams_backoff.next_delay();
            if !self.pending.is_empty() && again_at > self.deadline() {
                let error = self.gave_up();
                return self.fail_all(work, &error);
            }
            sleep_until(again_at).await;
        }
    }

    /// Opens a stream, sends everything pending on it, and goes on until it ends.
    async fn one_stream(&mut self, work: &mut mpsc::Receiver<Work>) -> End {
        // Every pending batch is in the queue at most once, so that it always has room and this
        // task never waits to write while it has acks to read.
        let (outbound, frames) = mpsc::channel(self.options.in_flight.get());
        self.due.clear();
        for pending in self.pending.values() {
            if let Err(end) = enqueue(&outbound, &pending.frame) {
                return end;
            }
        }
        let mut acks = open(self.channel.clone(), frames, self.options.request_id.as_ref());
        let mut more_work = true;
        loop {
            if !more_work && self.pending.is_empty() {
                drop(outbound);
                // Lets the server see the end of the stream instead of a reset.
                let _ = timeout(DELAY_MAX, acks.next()).await;
                return End::Done;
            }
            let due_at = self.due.first().map(|(at, _)| *at);
            let stepped = tokio::select! {
                ack = acks.next() => self.receive(ack),
                next = work.recv(), if more_work && self.has_room() => match next {
                    Some(work) => enqueue(&outbound, &self.admit(work)),
                    None => { more_work = false; Ok(()) }
                },
                () = sleep_until(due_at.unwrap_or_else(Instant::now)), if due_at.is_some() => {
                    self.resend_due(&outbound)
                }
                () = sleep_until(self.deadline()), if !self.pending.is_empty() => {
                    Err(End::Fatal(self.gave_up()))
                }
            };
            if let Err(end) = stepped {
                return end;
            }
        }
    }

    fn has_room(&self) -> bool {
        let oldest = self.pending.first_key_value().map_or(self.next_number, |(number, _)| *number);
        self.pending.len() < self.options.in_flight.get() && self.next_number - oldest < PLACES_MAX
    }

    fn deadline(&self) -> Instant {
        self.progress_at + self.options.patience
    }

    fn gave_up(&self) -> SendError {
        let (waited, trouble) = (self.options.patience, self.trouble.clone());
        SendError::GaveUp { waited, trouble }
    }

    /// Numbers a batch and keeps it until its final ack.
    fn admit(&mut self, work: Work) -> Frame {
        let now = Instant::now();
        if self.pending.is_empty() {
            self.progress_at = now;
        }
        let frame = Frame { number: self.next_number, batch: work.batch };
        self.next_number += 1;
        let (receipt, frame_kept) = (work.receipt, frame.clone());
        let pending =
            Pending { frame: frame_kept, receipt, sent_at: now, resends: 0, backoff: None };
        self.pending.insert(frame.number, pending);
        frame
    }

    fn receive(&mut self, ack: Option<Result<v1::IngestAck, Status>>) -> Result<(), End> {
        match ack {
            Some(Ok(ack)) => {
                self.settle(ack);
                Ok(())
            }
            Some(Err(status)) if is_fatal(&status) => Err(End::Fatal(SendError::Refused(status))),
            Some(Err(status)) => Err(End::Broken(edge::problem::explain(&status))),
            None => Err(End::Broken("the server ended the stream".to_owned())),
        }
    }

    /// Takes an ack: a final one resolves its batch, another sends it again later.
    fn settle(&mut self, ack: v1::IngestAck) {
        let Some(pending) = self.pending.get_mut(&ack.batch) else {
            debug!(batch = ack.batch, "an ack for a batch that is not in flight");
            return;
        };
        let safe = pending.frame.batch.identity().makes_resending_safe();
        let wait = match Code::from_i32(ack.code) {
            // Nothing was taken, so this is safe without an identity too.
            Code::ResourceExhausted => Some(retry_after(&ack)),
            Code::Unavailable if safe => Some(None),
            _ => None,
        };
        let Some(wait) = wait else { return self.resolve(ack) };
        let backoff = || pending.backoff.get_or_insert_with(backoff).next_delay();
        let at = Instant::now() + wait.unwrap_or_else(backoff);
        pending.resends += 1;
        self.due.insert((at, ack.batch));
        self.trouble = format!("{} [{}]", ack.message, ack.reason);
    }

    fn resolve(&mut self, ack: v1::IngestAck) {
        let Some(pending) = self.pending.remove(&ack.batch) else { return };
        self.progress_at = Instant::now();
        self.streams_backoff.reset();
        let latency = pending.sent_at.elapsed();
        let unknown = Code::from_i32(ack.code) == Code::Unavailable;
        let answer = if unknown {
            Err(SendError::OutcomeUnknown(ack.message))
        } else {
            Ok(Sent { ack, latency, resends: pending.resends })
        };
        // A caller that no longer waits for its receipt is not told.
        let _ = pending.receipt.send(answer);
    }

    fn resend_due(&mut self, outbound: &mpsc::Sender<Frame>) -> Result<(), End> {
        let now = Instant::now();
        while let Some((at, number)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, number));
            if let Some(pending) = self.pending.get(&number) {
                enqueue(outbound, &pending.frame)?;
            }
        }
        Ok(())
    }

    /// After a stream broke: batches that must not be sent twice get their answer, the others count
    /// one more resend.
    fn settle_unsafe(&mut self) {
        let trouble = &self.trouble;
        let all = std::mem::take(&mut self.pending);
        for (number, mut pending) in all {
            if pending.frame.batch.identity().makes_resending_safe() {
                pending.resends += 1;
                self.pending.insert(number, pending);
            } else {
                let _ = pending.receipt.send(Err(SendError::OutcomeUnknown(trouble.clone())));
            }
        }
    }

    /// Ends the sender: first nothing more is taken, then everything pending is answered, so that
    /// whoever sees the error finds the sender closed.
    fn fail_all(self, mut work: mpsc::Receiver<Work>, error: &SendError) {
        work.close();
        for (_, pending) in self.pending {
            let _ = pending.receipt.send(Err(error.clone()));
        }
    }
}

/// Opens the stream lazily: the call starts when the acks are first asked for.
fn open(
    channel: Channel,
    frames: mpsc::Receiver<Frame>,
    request_id: Option<&CorrelationId>,
) -> Acks {
    let mut request = Request::new(ReceiverStream::new(frames));
    if let Some(id) = request_id {
        let id = id.as_str().parse().expect("printable ASCII is metadata");
        request.metadata_mut().insert(HEADER_NAME, id);
    }
    let call = async move {
        let mut grpc = Grpc::new(channel);
        let ready = grpc.ready().await;
        ready.map_err(Status::from_error)?;
        grpc.streaming(request, PATH.clone(), FrameCodec).await.map(tonic::Response::into_inner)
    };
    Box::pin(stream::once(call).try_flatten())
}

/// Queues a frame. A full queue means that the server acknowledged what it cannot have read.
fn enqueue(outbound: &mpsc::Sender<Frame>, frame: &Frame) -> Result<(), End> {
    outbound.try_send(frame.clone()).map_err(|error| {
        End::Broken(match error {
            mpsc::error::TrySendError::Full(_) => "acks for batches not yet sent".to_owned(),
            mpsc::error::TrySendError::Closed(_) => "the stream is closed".to_owned(),
        })
    })
}

fn retry_after(ack: &v1::IngestAck) -> Option<Duration> {
    let wait = ack.retry_after.and_then(|wait| Duration::try_from(wait).ok())?;
    // A server that asks for minutes is asked again earlier; one that says zero is not spun on.
    Some(wait.clamp(Duration::from_millis(1), DELAY_MAX))
}

fn backoff() -> Backoff {
    Backoff::new(DELAY_FIRST, DELAY_MAX)
}

/// Tells whether a stream that ended so would end so again.
fn is_fatal(status: &Status) -> bool {
    let code = status.code();
    is_not_grpc(status)
        || matches!(
            code,
            Code::InvalidArgument
                | Code::NotFound
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
        )
}
