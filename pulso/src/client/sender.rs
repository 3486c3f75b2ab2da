//! Sender: a stream of batches with many in flight, each sent until its fate is known.
//!
//! One task owns the stream, its queue and every batch that has no final ack; a [`Sender`] is a
//! handle that hands batches over and waits while too many are in flight. Overload and unknown
//! outcomes are answered by sending the same bytes again, on this stream or the next, but only for
//! batches whose identity makes that safe.

mod driver;

use std::{
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use edge::CorrelationId;
use proto::v1;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tonic::Status;

use super::{Channel, frame::Batch};

/// Most places between a producer's oldest unacknowledged batch and its newest. The server
/// remembers this many batches of a producer; an older one that comes again would be refused.
pub const PLACES_MAX: u64 = 256;

/// How a sender behaves.
#[derive(Clone, Debug)]
pub struct SenderOptions {
    /// Batches that may wait for their ack. Beyond [`PLACES_MAX`] it makes no difference.
    pub in_flight: NonZeroUsize,
    /// How long to go on without any final ack before giving up.
    pub patience: Duration,
    /// Correlation id of every stream; without one the server draws one for each.
    pub request_id: Option<CorrelationId>,
}

impl Default for SenderOptions {
    /// 16 in flight, 60 seconds of patience.
    fn default() -> Self {
        let in_flight = NonZeroUsize::new(16).expect("16 is not zero");
        Self { in_flight, patience: Duration::from_secs(60), request_id: None }
    }
}

/// What became of a batch: its final ack, whose code may be a refusal of the whole batch.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The server's last answer about it.
    pub ack: v1::IngestAck,
    /// From the first send to the ack.
    pub latency: Duration,
    /// How often the batch was sent again.
    pub resends: u32,
}

/// Why a batch has no final ack.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// The server refuses the stream itself; sending again would not help.
    #[error("{}", edge::problem::explain(.0))]
    Refused(Status),
    /// It may be in the log or not, and it has no identity that makes sending it again safe.
    #[error("the outcome of a batch without identity is unknown: {0}")]
    OutcomeUnknown(String),
    /// No final ack for too long. The batches may be in the log or not.
    #[error("no batch was acknowledged for {} s, so it is not known what became of those in flight; last trouble: {trouble}", .waited.as_secs())]
    GaveUp {
        /// How long.
        waited: Duration,
        /// What happened last.
        trouble: String,
    },
    /// The sender has ended, because of an earlier error.
    #[error("the sender has ended")]
    Ended,
}

/// A batch on its way, resolved by its final ack.
pub struct Receipt(oneshot::Receiver<Result<Sent, SendError>>);

impl Future for Receipt {
    type Output = Result<Sent, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = Pin::new(&mut self.0).poll(context);
        polled.map(|answer| answer.unwrap_or(Err(SendError::Ended)))
    }
}

/// Sends batches on one stream and, when that breaks, on the next.
pub struct Sender {
    work: mpsc::Sender<Work>,
    task: JoinHandle<()>,
}

struct Work {
    batch: Batch,
    receipt: oneshot::Sender<Result<Sent, SendError>>,
}

impl Sender {
    /// Starts a sender. The stream is opened with the first batch.
    #[must_use]
    pub fn start(channel: Channel, options: SenderOptions) -> Self {
        let (work, batches) = mpsc::channel(1);
        let task = tokio::spawn(driver::Driver::new(channel, options).run(batches));
        Self { work, task }
    }

    /// Hands a batch over, waiting while too many are in flight.
    ///
    /// # Errors
    /// `Ended` after an error that ended the sender; the receipts say which.
    pub async fn send(&self, batch: Batch) -> Result<Receipt, SendError> {
        let (receipt, received) = oneshot::channel();
        let handed = self.work.send(Work { batch, receipt }).await;
        handed.map(|()| Receipt(received)).map_err(|_| SendError::Ended)
    }

    /// Waits until every batch has its receipt, then closes the stream.
    pub async fn finish(self) {
        drop(self.work);
        // It neither panics nor is cancelled; were it so, every receipt would say `Ended`.
        let _ = self.task.await;
    }
}
