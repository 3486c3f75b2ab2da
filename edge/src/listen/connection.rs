//! Connection: an accepted socket with its place among all, cut when it is silent from the start or
//! takes nothing of what is written to it.
//!
//! Silence later on is not its matter: a stream may be quiet for hours, and HTTP/2 pings tell
//! whether its peer is still there.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tonic::transport::server::Connected;

use super::{
    EdgeLimits,
    budget::{Held, Peer},
};

/// What HTTP/2 begins with. A server waits for the whole of it without a clock. Other first bytes are
/// of HTTP/1, whose head has a deadline of its own, or are refused at once.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An accepted connection. Its place is given back when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    peer: Peer,
    start: Option<Start>,
    stall: Stall,
    _place: Held,
}

/// What is still awaited of the first bytes.
#[derive(Debug)]
struct Start {
    preface: &'static [u8],
    deadline: Pin<Box<Sleep>>,
}

impl Start {
    /// Whether these bytes are the last that were awaited.
    fn is_over_with(&mut self, bytes: &[u8]) -> bool {
        let (expected, rest) = self.preface.split_at(bytes.len().min(self.preface.len()));
        self.preface = rest;
        rest.is_empty() || !bytes.starts_with(expected)
    }
}

/// How long writes have stalled.
#[derive(Debug)]
struct Stall {
    timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: Peer, place: Held, limits: &EdgeLimits) -> Self {
        let deadline = Box::pin(sleep(limits.first_byte_timeout));
        Self {
            stream,
            peer,
            start: Some(Start { preface: PREFACE, deadline }),
            stall: Stall { timeout: limits.write_timeout, deadline: None },
            _place: place,
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }
}

impl Connected for Connection {
    /// Every request on it carries this among its extensions.
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

fn timed_out(what: &'static str) -> io::Error {
    metrics::counter!("pulso_edge_connections_cut_total", "cause" => what).increment(1);
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(start) = &mut self.start {
            if start.is_over_with(&buffer.filled()[before..]) {
                self.start = None;
            } else if start.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(timed_out("silent")));
            }
        }
        read
    }
}

impl Stall {
    /// Passes what a write came to, unless it has come to nothing for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let timeout = self.timeout;
        let deadline = || Box::pin(sleep_until(Instant::now() + timeout));
        ready!(self.deadline.get_or_insert_with(deadline).as_mut().poll(context));
        Poll::Ready(Err(timed_out("unread")))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.stall.watch(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.stall.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
