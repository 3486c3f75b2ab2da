//! Listen: what every byte of a client passes before a stage sees it.
//!
//! Both doors, gRPC and HTTP, accept through one [`Listener`] and share its bounds, so that neither
//! can use up what the other needs. In reading order: [`descriptors`] says how many connections the
//! process can hold at all; [`budget`] divides what is bounded among peers; [`accept`] takes
//! connections, [`tls`] secures them where it is configured, and [`connection`] watches each for
//! silence; [`origin`] tells each request its peer; [`pace`] holds a client to its bytes per second;
//! [`calls`] bounds what is under way; [`frames`] counts the bytes of a gRPC message from its header
//! on; [`http`] serves HTTP.
//!
//! Nothing that a client sends decides how much memory is held: each bound is a field of
//! [`EdgeLimits`], which the configuration sets.

pub mod budget;
mod patience;
mod rarely;
mod socket;
pub mod tls;
pub mod origin;
pub mod connection;
pub mod descriptors;
pub mod pace;
pub mod frames;
pub mod calls;
pub mod accept;
pub mod http;

use std::time::Duration;

pub use accept::{Gate, Listener};
pub use budget::{Budget, Full, Held, Peer, Share};
pub use connection::Connection;
pub use origin::{Origin, OriginLayer};
pub use pace::Pace;
pub use tls::{PeerName, Tls, TlsPeer};

/// What clients may take of a process, at both doors together.
///
/// The bytes that clients have sent and nobody has read yet are at most `connections_max` times
/// `connection_window_bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Most open connections. One more is closed at once.
    pub connections_max: usize,
    /// Most open connections of one peer address.
    pub connections_per_peer_max: usize,
    /// How long a new connection may stay silent: under TLS until its handshake is done, and for HTTP/2
    /// until its preface is complete.
    pub first_byte_timeout: Duration,
    /// How long the head of an HTTP/1 request may take, from the end of the request before.
    pub header_timeout: Duration,
    /// How long the server waits, in all, for the bytes of one message or of one HTTP body.
    pub message_timeout: Duration,
    /// How long a connection may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// How often a silent HTTP/2 peer is pinged, and how long it may take to answer.
    pub keep_alive: Duration,
    /// Bytes that one HTTP/2 connection may have sent unread.
    pub connection_window_bytes: u32,
    /// The same of one stream. The HTTP/2 library ends a connection whose unread small DATA frames
    /// fill more than half of its window, each counted as 256 bytes; a stream's window that is far
    /// smaller keeps a client that merely waits from getting there.
    pub stream_window_bytes: u32,
    /// Most concurrent HTTP/2 streams of one connection.
    pub streams_per_connection_max: u32,
    /// Most calls and requests under way.
    pub calls_max: usize,
    /// The same of one peer address.
    pub calls_per_peer_max: usize,
    /// Most bytes of a request's headers, at least 8 KiB.
    pub header_bytes_max: u32,
    /// Streams that a client may reset before they were taken up; one more ends its connection.
    pub resets_pending_max: usize,
    /// Most bytes of requests, other than batches, that are held at once; half of it by one peer.
    pub request_bytes_in_flight_max: usize,
    /// How long a client that is refused for want of room is asked to wait.
    pub retry_after: Duration,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            connections_per_peer_max: 128,
            first_byte_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            message_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(30),
            connection_window_bytes: 2 << 20,
            stream_window_bytes: 128 << 10,
            streams_per_connection_max: 128,
            calls_max: 4_096,
            calls_per_peer_max: 2_048,
            header_bytes_max: 16 << 10,
            resets_pending_max: 20,
            request_bytes_in_flight_max: 64 << 20,
            retry_after: Duration::from_millis(250),
        }
    }
}
