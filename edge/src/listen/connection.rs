//! Connection: an accepted socket with its place among all, in the clear or under TLS, cut when it is
//! silent from the start or takes nothing of what is written to it.
//!
//! Silence later on is not its matter: a stream may be quiet for hours, and HTTP/2 pings tell
//! whether its peer is still there.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{
    budget::{Held, Peer},
    origin::Origin,
    socket::{Socket, cut},
    tls::{TlsPeer, is_client_hello, plain},
};

/// What HTTP/2 begins with. A server waits for the whole of it without a clock. Other first bytes are
/// of HTTP/1, whose head has a deadline of its own, or are refused at once.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An accepted connection. Its place is given back when it is dropped.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    origin: Origin,
    start: Option<Start>,
    _place: Held,
}

/// How its bytes travel.
#[derive(Debug)]
enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// What is still awaited of the first bytes.
#[derive(Debug)]
struct Start {
    preface: &'static [u8],
    deadline: Pin<Box<Sleep>>,
}

impl Start {
    fn until(deadline: Instant) -> Self {
        Self { preface: PREFACE, deadline: Box::pin(sleep_until(deadline)) }
    }

    /// Whether none of the first bytes has come yet.
    const fn is_silent(&self) -> bool {
        self.preface.len() == PREFACE.len()
    }

    /// Whether these bytes are the last that were awaited.
    fn is_over_with(&mut self, bytes: &[u8]) -> bool {
        let (expected, rest) = self.preface.split_at(bytes.len().min(self.preface.len()));
        self.preface = rest;
        rest.is_empty() || !bytes.starts_with(expected)
    }
}

impl Connection {
    /// One in the clear, whose first bytes have to come before `deadline`.
    pub(super) fn plain(socket: Socket, peer: Peer, place: Held, deadline: Instant) -> Self {
        let origin = Origin { peer, tls: None };
        let start = Some(Start::until(deadline));
        Self { transport: Transport::Plain(socket), origin, start, _place: place }
    }

    /// One whose handshake is done; its first bytes under TLS have the rest of the same time.
    pub(super) fn tls(
        (stream, tls): (TlsStream<Socket>, Option<TlsPeer>),
        peer: Peer,
        place: Held,
        deadline: Instant,
    ) -> Self {
        let origin = Origin { peer, tls };
        let start = Some(Start::until(deadline));
        Self { transport: Transport::Tls(Box::new(stream)), origin, start, _place: place }
    }

    /// Whose it is.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.origin.peer
    }

    /// Whose it is, and under which names its certificate was verified.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Connected for Connection {
    /// Every request on it carries this among its extensions.
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin.clone()
    }
}

impl Transport {
    /// Tells a client that speaks TLS where nobody does, as far as it can be told.
    fn refuse_tls(&self) -> io::Error {
        if let Self::Plain(socket) = self {
            // Whatever the socket does not take at once is not worth waiting for.
            let _ = socket.stream().try_write(plain::NO_TLS_HERE);
        }
        tracing::debug!("a client speaks TLS to a port in plain text");
        cut(io::ErrorKind::InvalidData, "tls_on_plain")
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.transport).poll_read(context, buffer);
        if let Some(start) = &mut this.start {
            let bytes = &buffer.filled()[before..];
            let is_plain = matches!(this.transport, Transport::Plain(_));
            if is_plain && start.is_silent() && is_client_hello(bytes) {
                return Poll::Ready(Err(this.transport.refuse_tls()));
            }
            if start.is_over_with(bytes) {
                this.start = None;
            } else if start.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(cut(io::ErrorKind::TimedOut, "silent")));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
