//! Packer: parts that wait for a partition leave together, in few and full records.
//!
//! One task a partition takes whatever is queued, packs it into a record, and appends it, a few
//! appends at a time. While those are under way more parts queue, so records grow with the load by
//! themselves and nobody waits for a timer. Parts keep the order in which they were offered: one
//! task packs them in that order, and each append is polled once before the next one is made,
//! which is where the log takes its place in line.

use std::{fmt, future::poll_fn, sync::Arc, task::Poll};

use domain::{PulseLog, generation::Generation};
use edge::listen::{Budget, Held, Peer, Share};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use metrics::Gauge;
use proto::record;
use runtime::health::Trouble;
use tokio::{
    sync::mpsc::{self, error::SendError},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug_span};

use crate::{
    append::append_then_settle,
    batch::Part,
    config::{ENVELOPE_BYTES, Limits, Packing},
    metrics::Metrics,
    outcome::{Outcome, Pledge, Receipt, pledges},
};

/// What a queued part takes besides its bytes in the record, so that tiny parts are bounded too.
const PART_OVERHEAD_BYTES: usize = 256;

/// The way into the packers.
pub(crate) struct Queues {
    queues: Box<[Queue]>,
}

struct Queue {
    room: Share,
    parts: mpsc::UnboundedSender<Queued>,
}

/// A part in line, with its promise, its room in the queue, and the room of the message it lends
/// from, which may be far larger than the part.
struct Queued {
    part: Part,
    pledge: Pledge,
    room: Held,
    message_room: Arc<Held>,
}

/// The packers' tasks. Dropping it ends them at once; what was not answered is then unknown.
pub struct Packers {
    tasks: JoinSet<()>,
    closing: CancellationToken,
}

/// Starts one packer for each partition of the log.
pub(crate) fn start<L: PulseLog>(
    log: &Arc<L>,
    limits: &Limits,
    metrics: &Metrics,
    trouble: &Trouble,
) -> (Queues, Packers) {
    let closing = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let queues = log.generation().partitions().map(|partition| {
        // Bounded by `room`, in bytes: a bound in parts would be too low for single pulses or too
        // high for batches.
        let (sender, parts) = mpsc::unbounded_channel();
        let packer = Packer {
            log: Arc::clone(log),
            generation: *log.generation(),
            limits: limits.clone(),
            metrics: metrics.clone(),
            trouble: trouble.clone(),
            parts,
            left_over: None,
            closing: closing.clone(),
            partition,
        };
        tasks.spawn(packer.run());
        let bytes_max = limits.partition_queue_bytes_max;
        // A queue is everybody's: what a peer may have is bounded before.
        let room = Budget::new(bytes_max, bytes_max, Gauge::noop()).share(Peer::default());
        Queue { room, parts: sender }
    });
    let queues = Queues { queues: queues.collect() };
    (queues, Packers { tasks, closing })
}

impl Packers {
    /// Takes no more parts, appends what is queued, answers it, and ends.
    pub async fn finish(mut self) {
        self.closing.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a packer ended by itself; its batches were answered as unknown");
            }
        }
    }
}

impl Queues {
    /// Queues all parts of a batch or none of them. `message_room` is kept until the last of them
    /// is copied into its record.
    ///
    /// # Errors
    /// `Overloaded` when one of their partitions has no room.
    pub(crate) fn offer(
        &self,
        parts: Vec<Part>,
        message_room: &Arc<Held>,
    ) -> Result<Receipt, Outcome> {
        let room = |part: &Part| {
            let queue = &self.queues[usize::from(part.partition.0)];
            let bytes = u32::try_from(part.bytes + PART_OVERHEAD_BYTES).ok()?;
            queue.room.try_take(bytes).ok()
        };
        let rooms: Option<Vec<Held>> = parts.iter().map(room).collect();
        let rooms = rooms.ok_or(Outcome::Overloaded)?;
        let (pledges, receipt) = pledges(parts.len());
        for ((part, room), pledge) in parts.into_iter().zip(rooms).zip(pledges) {
            let queue = &self.queues[usize::from(part.partition.0)];
            let message_room = Arc::clone(message_room);
            let queued = Queued { part, pledge, room, message_room };
            if let Err(SendError(back)) = queue.parts.send(queued) {
                back.pledge.settle(Outcome::ShuttingDown);
            }
        }
        Ok(receipt)
    }
}

struct Packer<L> {
    log: Arc<L>,
    generation: Generation,
    limits: Limits,
    metrics: Metrics,
    trouble: Trouble,
    partition: domain::Partition,
    parts: mpsc::UnboundedReceiver<Queued>,
    /// A part that was taken off the queue and did not fit the record before.
    left_over: Option<Queued>,
    closing: CancellationToken,
}

impl<L: PulseLog> Packer<L> {
    async fn run(mut self) {
        let appends_max = match self.limits.packing {
            Packing::On => self.limits.appends_in_flight_max,
            Packing::Off => 1,
        };
        let mut appends: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        let mut open = true;
        while open || self.left_over.is_some() || !appends.is_empty() {
            let may_append = appends.len() < appends_max;
            if may_append && let Some(first) = self.left_over.take() {
                self.append_from(first, &mut appends).await;
                continue;
            }
            tokio::select! {
                biased;
                Some(()) = appends.next(), if !appends.is_empty() => {}
                part = self.parts.recv(), if open && may_append => match part {
                    Some(first) => self.append_from(first, &mut appends).await,
                    None => open = false,
                },
                // Closing the receiver lets what is queued through and then ends the queue.
                () = self.closing.cancelled(), if !self.parts.is_closed() => self.parts.close(),
            }
        }
    }

    /// Packs a record that starts with `first` and takes its place in the log's line.
    async fn append_from(
        &mut self,
        first: Queued,
        appends: &mut FuturesUnordered<BoxFuture<'static, ()>>,
    ) {
        let mut queued = self.take_what_fits(first);
        let span = debug_span!("record", request_ids = %RequestIds(&queued));
        let record = encode(&self.generation, &mut queued);
        let append = self.append(record, queued).instrument(span);
        let mut append: BoxFuture<'static, ()> = Box::pin(append);
        let first_poll = poll_fn(|context| Poll::Ready(append.as_mut().poll(context))).await;
        if first_poll.is_pending() {
            appends.push(append);
        }
    }

    /// Takes parts off the queue up to the record's target.
    fn take_what_fits(&mut self, first: Queued) -> Vec<Queued> {
        let mut bytes = ENVELOPE_BYTES + first.part.bytes;
        let mut taken = vec![first];
        while self.limits.packing == Packing::On
            && let Ok(next) = self.parts.try_recv()
        {
            bytes += next.part.bytes;
            if bytes > self.limits.record_bytes_target {
                self.left_over = Some(next);
                break;
            }
            taken.push(next);
        }
        taken
    }

    /// The append of a record, which answers the parts in it.
    fn append(
        &self,
        record: Vec<u8>,
        queued: Vec<Queued>,
    ) -> impl Future<Output = ()> + Send + use<L> {
        let log = Arc::clone(&self.log);
        let (metrics, trouble) = (self.metrics.clone(), self.trouble.clone());
        let partition = self.partition;
        // The messages are copied and go now, with their room. The room in the queue goes back
        // with the answer, so that it bounds the records under way too.
        let (pledges, rooms): (Vec<_>, Vec<_>) = queued
            .into_iter()
            .map(|Queued { part, pledge, room, message_room }| {
                drop((part, message_room));
                (pledge, room)
            })
            .unzip();
        async move {
            append_then_settle(&*log, &metrics, &trouble, partition, record, pledges).await;
            drop(rooms);
        }
    }
}

/// The requests that a record is packed from, each once, for the log line of its append.
struct RequestIds<'a>(&'a [Queued]);

impl fmt::Display for RequestIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.0.iter().map(|queued| queued.part.source.correlation_id.as_str());
        let mut before = None;
        // A request's parts stand beside one another.
        for id in ids {
            match before.replace(id) {
                Some(same) if same == id => {}
                Some(_) => write!(f, ", {id}")?,
                None => f.write_str(id)?,
            }
        }
        Ok(())
    }
}

/// Copies the parts' pulses behind their common envelope: the one copy between message and log.
fn encode(generation: &Generation, queued: &mut [Queued]) -> Vec<u8> {
    let sources = queued.iter_mut().map(|queued| std::mem::take(&mut queued.part.source)).collect();
    let pulses = queued.iter().map(|queued| queued.part.pulses).sum();
    let stretches = queued.iter().flat_map(|queued| {
        queued.part.stretches.iter().map(|stretch| &queued.part.message[stretch.clone()])
    });
    record::encode(generation, sources, pulses, stretches)
}
