//! The client's side of the wire: connections, and the [`Sender`] of pulses.

pub mod frame;
pub mod sender;

use std::{error::Error, time::Duration};

use tonic::transport::{Channel, Endpoint};

use crate::exit::{Exit, Failure};

pub use frame::{Batch, Identity, Pulses};
pub use sender::{Receipt, SendError, Sender, SenderOptions, Sent};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead peer is noticed within twice this, however long a call may rightly take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes of answers that may be under way. They are large because of the small ones: HTTP/2 libraries
/// bound how many small frames may lie unread by a part of the connection's window, and end the
/// connection beyond. Acks are small; with an adaptive window, which starts at 64 KiB, some 130 of
/// them that came before their task ran were too many.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Greatest answer that is read: a page of 1,000 rows or a bill with its reasons is far smaller.
pub const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Connects to a server.
///
/// # Errors
/// `Usage` for an address that is none, `Unavailable` when nobody answers there.
pub async fn connect(server: &str) -> Result<Channel, Failure> {
    let endpoint = endpoint(server)?;
    endpoint.connect().await.map_err(|error| {
        let cause = root_cause(&error);
        let hint = "Is `pulso dev` running? --server or PULSO_SERVER gives another address.";
        Failure::new(Exit::Unavailable, format_args!("cannot reach {server}: {cause}\n{hint}"))
    })
}

fn endpoint(server: &str) -> Result<Endpoint, Failure> {
    let refuse = |why: &str| {
        let needs = "needs an address such as http://127.0.0.1:7070";
        Failure::new(Exit::Usage, format_args!("--server `{server}`: {why}; {needs}"))
    };
    if server.starts_with("https:") {
        return Err(refuse("TLS comes with a later release"));
    }
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let endpoint = Endpoint::from_shared(url).map_err(|_| refuse("not an address"))?;
    let uri = endpoint.uri();
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(refuse("not an http:// address"));
    }
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .user_agent(concat!("pulso/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| refuse("not an address"))
}

fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_connecting() {
        for good in ["http://127.0.0.1:7070", "127.0.0.1:7070", "localhost:7070", "http://[::1]:1"]
        {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "https://a:1", "kafka://a:1", "http://", "a b:1"] {
            assert_eq!(endpoint(bad).map(|_| ()).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
