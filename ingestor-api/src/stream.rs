//! Stream: many batches in flight on one call, acks as they are ready.
//!
//! The stream of acks drives everything: asked for the next ack, it reads batches until one is
//! answered. So there is no task and no channel of its own. A client that does not read its acks
//! closes its flow-control window, the connection stops asking, and with that the reading stops; a
//! client that goes away drops the whole, while what it had queued still goes to the log.

use std::sync::Arc;

use bytes::Bytes;
use domain::PulseLog;
use edge::{
    Problem,
    listen::{Full, Held, frames::Room},
    problem::reasons,
};
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{FuturesUnordered, Stream, unfold},
};
use proto::v1::IngestAck;
use tonic::{Code, Status, Streaming};

use crate::{
    answer::message_too_large,
    ingest::{Ingest, Origin},
};

/// Answers a stream of batches.
///
/// # Errors
/// `STREAMS_EXHAUSTED` when as many streams are open as there may be, `SHUTTING_DOWN` when no new
/// ones are taken.
pub(crate) fn acks<L: PulseLog>(
    ingest: Ingest<L>,
    origin: Origin,
    requests: Streaming<Bytes>,
    room: Room,
) -> Result<impl Stream<Item = Result<IngestAck, Status>> + Send + use<L>, Problem> {
    if ingest.shutdown().is_requested() {
        return Err(Problem::shutting_down());
    }
    let slot = ingest.streams().share(origin.peer).try_take(1).map_err(|full| {
        let limits = ingest.limits();
        let (limit, whose) = match full {
            Full::All => (limits.streams_max, ""),
            Full::Peer => (limits.streams_per_peer_max, " from your address"),
        };
        let message = format!(
            "{limit} streams{whose} are open, as many as may be; send over fewer, or later"
        );
        Problem::exhausted(reasons::STREAMS_EXHAUSTED, message).with_retry_after(limits.retry_after)
    })?;
    let shutdown = ingest.shutdown().clone();
    let connection = Connection {
        shutdown_requested: Box::pin(async move { shutdown.requested().await }),
        ingest,
        origin,
        requests,
        room,
        input: Input::Open,
        in_flight: FuturesUnordered::new(),
        bytes_in_flight: 0,
        _slot: slot,
    };
    Ok(unfold(connection, |mut connection| async move {
        let item = connection.next().await?;
        Some((item, connection))
    }))
}

/// What is still to be read.
enum Input {
    /// More may come.
    Open,
    /// The server is shutting down: what still comes is refused, and the stream ends once nothing
    /// is in flight.
    Stopping,
    /// Nothing more comes. The status, if any, is the stream's last word.
    Ended(Option<Status>),
}

/// A batch's answer and the bytes it no longer takes.
type Answer = (IngestAck, usize);

struct Connection<L: PulseLog> {
    ingest: Ingest<L>,
    origin: Origin,
    requests: Streaming<Bytes>,
    /// Taken for messages that are on their way in.
    room: Room,
    input: Input,
    shutdown_requested: BoxFuture<'static, ()>,
    in_flight: FuturesUnordered<BoxFuture<'static, Answer>>,
    bytes_in_flight: usize,
    _slot: Held,
}

/// What happened next on a connection.
enum Event {
    Answered(Answer),
    Read(Result<Option<Bytes>, Status>),
    ShutdownRequested,
}

impl<L: PulseLog> Connection<L> {
    /// The next ack, the final error, or the end.
    async fn next(&mut self) -> Option<Result<IngestAck, Status>> {
        loop {
            if self.in_flight.is_empty() {
                match &mut self.input {
                    Input::Open => {}
                    Input::Stopping => {
                        self.input = Input::Ended(None);
                        return Some(Err(Problem::shutting_down().into()));
                    }
                    Input::Ended(status) => return status.take().map(Err),
                }
            }
            match self.event().await {
                Event::Answered((ack, bytes)) => {
                    self.bytes_in_flight -= bytes;
                    return Some(Ok(ack));
                }
                Event::Read(read) => self.read(read),
                Event::ShutdownRequested => self.input = Input::Stopping,
            }
        }
    }

    /// Waits for one event. Acks come before reading, so that a busy client's acks do not wait for
    /// its next batches. Every branch may be dropped and asked again without loss.
    async fn event(&mut self) -> Event {
        let may_read = self.may_read();
        if !may_read {
            self.room.pause();
        }
        let stoppable = matches!(self.input, Input::Open);
        tokio::select! {
            biased;
            Some(answer) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                Event::Answered(answer)
            }
            () = &mut self.shutdown_requested, if stoppable => Event::ShutdownRequested,
            message = self.requests.message(), if may_read => Event::Read(message),
        }
    }

    /// Whether this stream has room for another batch. Bytes are overshot by one message, because
    /// its size is not known before it is read.
    fn may_read(&self) -> bool {
        let limits = self.ingest.limits();
        !matches!(self.input, Input::Ended(_))
            && self.in_flight.len() < limits.stream_batches_in_flight_max
            && self.bytes_in_flight < limits.stream_bytes_in_flight_max
    }

    fn read(&mut self, read: Result<Option<Bytes>, Status>) {
        match read {
            Ok(Some(message)) => {
                let room = self.room.split(message.len());
                self.take(message, room);
            }
            Ok(None) => self.input = Input::Ended(None),
            Err(status) => {
                let bytes_max = self.ingest.limits().message_bytes_max;
                self.input = Input::Ended(Some(explain(status, bytes_max)));
            }
        }
    }

    fn take(&mut self, message: Bytes, room: Held) {
        let (ingest, bytes, room) = (self.ingest.clone(), message.len(), Arc::new(room));
        let taken = ingest.take(&message, &self.origin, &room);
        self.bytes_in_flight += bytes;
        self.in_flight.push(Box::pin(async move {
            let retry_after = ingest.limits().retry_after;
            let answer = taken.answer(ingest.metrics(), retry_after).await;
            // Kept until the ack leaves, so that unread acks count too.
            drop(room);
            (answer.unwrap_or_else(|not_taken| (*not_taken).into()), bytes)
        }));
    }
}

/// Says what ended a stream in our words where it is ours to say.
pub(crate) fn explain(status: Status, message_bytes_max: usize) -> Status {
    match status.code() {
        // The transport's word for a frame whose length is above the limit it was given.
        Code::OutOfRange => message_too_large(message_bytes_max).into(),
        // Its word for bytes that are no frames, or end inside one. The fault is the client's.
        Code::Internal => {
            let words = status.message();
            let message = format!("the call's bytes are not framed messages: {words}");
            Problem::new(Code::InvalidArgument, reasons::REQUEST_UNDECODABLE, message).into()
        }
        _ => status,
    }
}
