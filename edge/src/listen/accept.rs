//! Accept: connections come in one by one, within the bounds, and never faster than it can be said
//! why one does not.
//!
//! Accepting fails when the process or the system has no descriptor left, or when a connection was
//! gone before it was taken. The first ends when something closes, so trying again at once would
//! only burn a core; the listener waits, longer each time, and what waits in the kernel's queue is
//! taken once there is room.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, future::BoxFuture};
use metrics::{Gauge, counter, gauge};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::warn;

use super::{
    EdgeLimits,
    budget::{Budget, Full, Held, Peer},
    connection::Connection,
    rarely::Rarely,
    socket::Socket,
    tls::{Handshake, Protocols, Tls},
};
use runtime::Backoff;

/// Delays between tries while accepting fails. The longest is how long a connection may wait after
/// the first descriptor is free again.
const FIRST_DELAY: Duration = Duration::from_millis(5);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// The bounds on connections that all doors of a process share.
#[derive(Clone, Debug)]
pub struct Gate {
    connections: Budget,
    limits: EdgeLimits,
    said: Arc<Mutex<Rarely<Full>>>,
}

impl Gate {
    /// A gate with nothing open.
    #[must_use]
    pub fn new(limits: &EdgeLimits) -> Self {
        let open: Gauge = gauge!("pulso_edge_connections");
        let connections =
            Budget::new(limits.connections_max, limits.connections_per_peer_max, open);
        let said = Arc::new(Mutex::new(Rarely::new()));
        Self { connections, limits: limits.clone(), said }
    }

    /// A place for one more connection of a peer, or `None` when it is to be closed.
    fn admit(&self, peer: Peer) -> Option<Held> {
        let full = match self.connections.share(peer).try_take(1) {
            Ok(held) => return Some(held),
            Err(full) => full,
        };
        let (outcome, bound) = match full {
            Full::Peer => ("over_peer_bound", self.limits.connections_per_peer_max),
            Full::All => ("over_bound", self.limits.connections_max),
        };
        counter!("pulso_edge_accepts_total", "outcome" => outcome).increment(1);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = said.due(full, std::time::Instant::now()) {
            warn!(?peer, outcome, bound, times, "a connection over the bound was closed");
        }
        None
    }
}

/// Where sockets come from: the kernel, or a test.
pub trait Source: Send + Sync + 'static {
    /// The next one. Cancel-safe.
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Source for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        Self::accept(self)
    }
}

/// Takes connections of one door, within the bounds of a [`Gate`].
#[derive(Debug)]
pub struct Listener<S = TcpListener> {
    source: S,
    gate: Gate,
    backoff: Backoff,
    /// When accepting is tried again after it failed.
    again_at: Option<Instant>,
    said: Rarely<Option<i32>>,
    security: Option<Security>,
    /// Those on their way to [`Listener::accept`], each with its place among connections. They end with
    /// the listener.
    handshakes: JoinSet<Option<Connection>>,
}

/// What secures the connections of a listener.
#[derive(Debug)]
struct Security {
    tls: Tls,
    protocols: Protocols,
    handshake: Handshake,
}

impl<S: Source> Listener<S> {
    /// A listener on a bound socket, in the clear.
    #[must_use]
    pub fn new(source: S, gate: &Gate) -> Self {
        Self {
            source,
            gate: gate.clone(),
            backoff: Backoff::new(FIRST_DELAY, MAX_DELAY),
            again_at: None,
            said: Rarely::new(),
            security: None,
            handshakes: JoinSet::new(),
        }
    }

    /// The same under TLS, for a door that speaks `protocols`.
    #[must_use]
    pub fn under_tls(mut self, tls: Tls, protocols: Protocols) -> Self {
        self.security = Some(Security { tls, protocols, handshake: Handshake::new() });
        self
    }

    /// The next connection that has a place and, under TLS, whose handshake is done. Those over the
    /// bounds are closed on the way; a handshake never holds up another connection. Cancel-safe: a
    /// connection is given out, on its way within the listener, or still in the kernel's queue.
    pub async fn accept(&mut self) -> Connection {
        loop {
            let (source, again_at) = (&self.source, self.again_at);
            let accepting = async {
                if let Some(again_at) = again_at {
                    sleep_until(again_at).await;
                }
                source.accept().await
            };
            let accepted = tokio::select! {
                accepted = accepting => accepted,
                // One that panicked or came to nothing has given its place back.
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Some(connection)) => return connection,
                    _ => continue,
                },
            };
            match accepted {
                Ok((stream, address)) => {
                    self.backoff.reset();
                    self.again_at = None;
                    if let Some(connection) = self.admit(stream, address) {
                        return connection;
                    }
                }
                Err(error) => self.wait_after(&error),
            }
        }
    }

    /// A connection in the clear; under TLS none yet, but its handshake has begun.
    fn admit(&mut self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        let peer = Peer::of(address.ip());
        let place = self.gate.admit(peer)?;
        counter!("pulso_edge_accepts_total", "outcome" => "accepted").increment(1);
        // Acks are small and must not wait for one another. A socket that is gone already says so
        // at its first read.
        let _ = stream.set_nodelay(true);
        let limits = &self.gate.limits;
        let deadline = Instant::now() + limits.first_byte_timeout;
        let socket = Socket::new(stream, limits.write_timeout);
        let Some(Security { tls, protocols, handshake }) = &self.security else {
            return Some(Connection::plain(socket, peer, place, deadline));
        };
        let securing = handshake.clone().secure(socket, tls.config(*protocols), peer, deadline);
        self.handshakes.spawn(async move {
            let secured = securing.await?;
            Some(Connection::tls(secured, peer, place, deadline))
        });
        None
    }

    fn wait_after(&mut self, error: &io::Error) {
        counter!("pulso_edge_accepts_total", "outcome" => "failed").increment(1);
        if let Some(times) = self.said.due(error.raw_os_error(), std::time::Instant::now()) {
            warn!(%error, times, "connections cannot be accepted now; they wait and it is tried again");
        }
        self.again_at = Some(Instant::now() + self.backoff.next_delay());
    }

    /// Its connections as a stream, as tonic takes them. It never ends and never fails.
    #[must_use]
    pub fn into_stream(self) -> Incoming<S> {
        Incoming { next: next(self) }
    }
}

fn next<S: Source>(mut listener: Listener<S>) -> BoxFuture<'static, (Connection, Listener<S>)> {
    Box::pin(async move { (listener.accept().await, listener) })
}

/// The connections of a [`Listener`].
pub struct Incoming<S = TcpListener> {
    next: BoxFuture<'static, (Connection, Listener<S>)>,
}

impl<S: Source> Stream for Incoming<S> {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.next.as_mut().poll(context).map(|(connection, listener)| {
            self.next = next(listener);
            Some(Ok(connection))
        })
    }
}

#[cfg(test)]
mod tests;
