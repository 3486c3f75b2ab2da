//! Frames: room for a gRPC message is taken when its length is known, before its bytes are kept.
//!
//! A gRPC message is framed by five bytes, a flag and its length. The library buffers a whole
//! message before anyone sees it, so a budget that counts whole messages counts nothing while
//! hundreds of them are almost complete. [`Framed`] stands in front of the library: it reads the
//! lengths as they pass, takes room for each, and while there is none it reads no further, so that
//! HTTP/2's flow control holds the client. It also ends a message that does not come in time.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame};
use tonic::{Code, Status};

use super::{
    budget::{Full, Held, Share},
    pace::{Pace, Pacer},
    patience::Patience,
};
use crate::problem::{Problem, reasons};

/// Bytes of a frame's head: a flag and a length of four bytes, most significant first.
const HEAD_BYTES: usize = 5;

/// How a call's messages are counted.
#[derive(Clone, Debug)]
pub struct Counting {
    /// Where room is taken.
    pub share: Share,
    /// A greater message passes uncounted: the library refuses it by its length. No more than a
    /// peer may have of the budget, or it would wait for ever.
    pub message_bytes_max: usize,
    /// How long its bytes may keep the server waiting.
    pub message_timeout: Duration,
    /// What happens while there is no room.
    pub when_full: WhenFull,
    /// When room goes back.
    pub handover: Handover,
    /// Whether its client may be quiet between messages.
    pub quiet: Quiet,
    /// How fast its client may send. A call of one message is refused while the client is ahead of that,
    /// and others are read later.
    pub pace: Option<Pace>,
}

/// What a call's silence between messages means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// The next message comes when there is something to say; the time counts message by message.
    Honest,
    /// The call is one message: all of its silence counts, and no further message renews the time.
    Counted,
}

/// What happens to a message for which there is no room.
#[derive(Clone, Debug)]
pub enum WhenFull {
    /// It is not read until there is.
    Wait,
    /// The call ends with this.
    Refuse(Problem),
}

/// Until when a message is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// Until its owner has split it off [`Room`] and dropped it.
    Split,
    /// Until the next message begins or the call ends.
    Next,
}

/// The room of a call's messages. Clones share it, and it goes back with the last of them.
#[derive(Clone, Debug, Default)]
pub struct Room {
    shared: Arc<RoomShared>,
}

#[derive(Debug, Default)]
struct RoomShared {
    held: Mutex<Option<Held>>,
    is_reading_paused: AtomicBool,
}

impl Room {
    /// Takes off the room of one message, which has as many bytes.
    ///
    /// # Panics
    /// When more bytes are split off than messages have passed.
    #[must_use]
    pub fn split(&self, bytes: usize) -> Held {
        let mut held = self.held();
        let part = held.as_mut().and_then(|held| held.split(bytes));
        part.expect("every message was counted when its head passed")
    }

    /// Says that its owner does not read now for reasons of its own, so that the time until it reads
    /// again is not the client's.
    pub fn pause(&self) {
        self.shared.is_reading_paused.store(true, Ordering::Relaxed);
    }

    fn add(&self, more: Held, handover: Handover) {
        let mut held = self.held();
        match &mut *held {
            Some(held) if handover == Handover::Split => held.merge(more),
            _ => *held = Some(more),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        // Each change is one assignment, so it is sound whoever panicked.
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body whose messages are counted from their heads on.
pub struct Framed<B> {
    inner: B,
    counting: Counting,
    room: Room,
    place: Place,
    patience: Patience,
    /// What was read and may not pass before there is room.
    stopped: Bytes,
    waiting: Option<BoxFuture<'static, Held>>,
    pacer: Pacer,
}

/// Where in its frames the body is.
#[derive(Debug)]
enum Place {
    Head {
        bytes: [u8; HEAD_BYTES],
        have: usize,
    },
    Message {
        left: u64,
    },
    /// Behind a frame that the library refuses.
    Refused,
}

const BETWEEN: Place = Place::Head { bytes: [0; HEAD_BYTES], have: 0 };

/// What was found in a chunk.
enum Walk {
    /// All of it may pass.
    Passes,
    /// From this place on it needs room for so many bytes.
    Needs { from: usize, units: u32 },
}

impl<B> Framed<B> {
    /// Counts the messages of a body. The room is kept by the body and by whoever clones it.
    #[must_use]
    pub fn new(inner: B, counting: Counting) -> (Self, Room) {
        let room = Room::default();
        let framed = Self {
            inner,
            patience: Patience::new(counting.message_timeout),
            counting,
            room: room.clone(),
            place: BETWEEN,
            stopped: Bytes::new(),
            waiting: None,
            pacer: Pacer::default(),
        };
        (framed, room)
    }

    /// Walks a chunk and takes room for the messages that begin in it, as far as there is any.
    fn walk(&mut self, chunk: &[u8]) -> Result<Walk, Status> {
        let mut at = 0;
        while at < chunk.len() {
            let rest = &chunk[at..];
            match &mut self.place {
                Place::Refused => return Ok(Walk::Passes),
                Place::Message { left } => {
                    let here =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= here as u64;
                    at += here;
                    if *left == 0 {
                        self.place = BETWEEN;
                    }
                }
                Place::Head { bytes, have } => {
                    if *have == 0 && self.counting.quiet == Quiet::Honest {
                        self.patience.renew();
                    }
                    let here = rest.len().min(HEAD_BYTES - *have);
                    bytes[*have..*have + here].copy_from_slice(&rest[..here]);
                    *have += here;
                    if *have < HEAD_BYTES {
                        return Ok(Walk::Passes);
                    }
                    let [_, length @ ..] = *bytes;
                    if let Some(units) = self.begin(u32::from_be_bytes(length), here)? {
                        return Ok(Walk::Needs { from: at, units });
                    }
                    at += here;
                }
            }
        }
        Ok(Walk::Passes)
    }

    /// Begins a message, of whose head `head_here` bytes are in this chunk. Gives its length when
    /// there is no room for it.
    fn begin(&mut self, length: u32, head_here: usize) -> Result<Option<u32>, Status> {
        if usize::try_from(length).is_ok_and(|length| length > self.counting.message_bytes_max) {
            self.place = Place::Refused;
            return Ok(None);
        }
        if let (Some(pace), Quiet::Counted) = (&self.counting.pace, self.counting.quiet) {
            pace.check(length.into())?;
        }
        let (left, full) = match self.counting.share.try_take(length) {
            Ok(held) => {
                self.room.add(held, self.counting.handover);
                (u64::from(length), None)
            }
            Err(full) => (u64::from(length) + head_here as u64, Some(full)),
        };
        self.place = if left == 0 { BETWEEN } else { Place::Message { left } };
        let Some(full) = full else { return Ok(None) };
        let full = match full {
            Full::Peer => "peer",
            Full::All => "all",
        };
        metrics::counter!("pulso_edge_messages_without_room_total", "bound" => full).increment(1);
        match &self.counting.when_full {
            WhenFull::Wait => Ok(Some(length)),
            WhenFull::Refuse(problem) => Err(problem.clone().into()),
        }
    }
}

impl<B> Body for Framed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some(waiting) = &mut this.waiting {
                let held = ready!(waiting.as_mut().poll(context));
                this.waiting = None;
                this.room.add(held, this.counting.handover);
            }
            let mut chunk = std::mem::take(&mut this.stopped);
            if chunk.is_empty() {
                match ready!(this.poll_inner(context)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => chunk = data,
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                    Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                    None => return Poll::Ready(None),
                }
            }
            if let Walk::Needs { from, units } = this.walk(&chunk)? {
                this.stopped = chunk.split_off(from);
                let share = this.counting.share.clone();
                this.waiting = Some(Box::pin(async move { share.take(units).await }));
                if chunk.is_empty() {
                    continue;
                }
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stopped.is_empty() && self.waiting.is_none() && self.inner.is_end_stream()
    }
}

impl<B> Framed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Reads on, for as long as the client may take.
    fn poll_inner(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let (Some(pace), Quiet::Honest) = (&self.counting.pace, self.counting.quiet)
            && self.pacer.poll_within(pace, context).is_pending()
        {
            self.patience.forgive();
            return Poll::Pending;
        }
        if self.room.shared.is_reading_paused.swap(false, Ordering::Relaxed) {
            self.patience.forgive();
        }
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_frame(context) {
            self.patience.came();
            if let (Some(pace), Some(Ok(frame))) = (&self.counting.pace, &read) {
                pace.count(frame.data_ref().map_or(0, Bytes::len));
            }
            return Poll::Ready(
                read.map(|read| read.map_err(|error| Status::from_error(error.into()))),
            );
        }
        let is_between = matches!(self.place, Place::Head { have: 0, .. });
        if is_between && self.counting.quiet == Quiet::Honest {
            return Poll::Pending;
        }
        ready!(self.patience.poll_used_up(context));
        Poll::Ready(Some(Err(too_slow(self.counting.message_timeout).into())))
    }
}

/// The refusal of a message or body that does not come in time.
#[must_use]
pub fn too_slow(timeout: Duration) -> Problem {
    let message = format!(
        "the request's bytes kept the server waiting for {timeout:?}; send it again, as a whole"
    );
    Problem::new(Code::DeadlineExceeded, reasons::REQUEST_TIMEOUT, message)
}

#[cfg(test)]
mod tests;
