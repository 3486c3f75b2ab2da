//! Socket: an accepted TCP stream, cut when it takes nothing of what is written to it.
//!
//! It lies below TLS, because TLS keeps what it cannot write: a library that asks only to flush would
//! otherwise wait for a peer that reads nothing, without a deadline. During a handshake it also bounds
//! how many bytes the peer may send.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};

/// How long a peer whose connection ends may take to close it, and how much it may send meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// A TCP stream with a deadline for its writes.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    stall: Stall,
    /// Bytes that the peer may still send, while a handshake bounds them.
    bytes_left: Option<usize>,
}

/// How long writes have stalled.
#[derive(Debug)]
struct Stall {
    timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// An error that ends a connection because of its peer, counted by its cause.
pub(super) fn cut(kind: io::ErrorKind, cause: &'static str) -> io::Error {
    metrics::counter!("pulso_edge_connections_cut_total", "cause" => cause).increment(1);
    io::Error::new(kind, cause)
}

impl Socket {
    pub(super) const fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        let stall = Stall { timeout: write_timeout, deadline: None };
        Self { stream, stall, bytes_left: None }
    }

    /// Lets the peer send at most so many bytes until the bound is lifted.
    pub(super) const fn bound_reads(&mut self, bytes_max: usize) {
        self.bytes_left = Some(bytes_max);
    }

    /// Lifts the bound on what the peer may send.
    pub(super) const fn unbound_reads(&mut self) {
        self.bytes_left = None;
    }

    /// Ends the connection so that the peer can read what was written to it last: closing with bytes
    /// unread would reset the connection, and take those along. It waits for the peer to close, for at
    /// most a second and 64 KiB.
    pub(super) async fn linger(mut self) {
        let _ = timeout(LINGER, async {
            self.shutdown().await?;
            let (mut bytes, mut unread) = (vec![0; 4 << 10], 0);
            while unread < UNREAD_BYTES_MAX {
                match self.stream.read(&mut bytes).await? {
                    0 => break,
                    read => unread += read,
                }
            }
            Ok::<_, io::Error>(())
        })
        .await;
    }

    /// The stream itself.
    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(left) = &mut self.bytes_left {
            match left.checked_sub(buffer.filled().len() - before) {
                Some(less) => *left = less,
                None => return Poll::Ready(Err(io::Error::other(TooManyBytes))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The peer has sent more than it may.
#[derive(Debug, thiserror::Error)]
#[error("the peer has sent too many bytes before the end of its handshake")]
pub(super) struct TooManyBytes;

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
        Poll::Ready(Err(cut(io::ErrorKind::TimedOut, "unread")))
    }
}

impl AsyncWrite for Socket {
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_bound_on_reads_holds_at_its_edge_until_it_is_lifted() {
        for (sent, is_cut) in [(100, false), (101, true)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let mut socket = Socket::new(accepted.unwrap().0, Duration::from_secs(60));
            socket.bound_reads(100);
            let mut client = client.unwrap();
            client.write_all(&vec![0; sent]).await.unwrap();
            let read = socket.read_exact(&mut vec![0; sent]).await;
            let is_too_many = |error: io::Error| error.get_ref().unwrap().is::<TooManyBytes>();
            assert_eq!(read.is_err_and(is_too_many), is_cut, "{sent} bytes");
            socket.unbound_reads();
            client.write_all(&[0; 200]).await.unwrap();
            socket.read_exact(&mut [0; 200]).await.unwrap();
        }
    }
}
