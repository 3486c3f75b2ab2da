//! The client's side of the wire: connections, and the [`Sender`] of pulses.

mod tls;
mod target;
mod channel;
pub mod frame;
pub mod sender;

use std::{error::Error, time::Duration};

use tonic::{
    codegen::http::{Uri, uri::Scheme},
    transport::Endpoint,
};

use crate::exit::{Exit, Failure};

pub use channel::Channel;
pub use frame::{Batch, Identity, Pulses};
pub use sender::{Receipt, SendError, Sender, SenderOptions, Sent};
pub use target::{Key, Target};

use channel::{Connector, Trouble};
use target::Checked;

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
/// `Usage` for an address that is none, `Unavailable` when nobody answers there, or nobody who can be
/// trusted; as [`Failure::file`] for files that the target names.
pub async fn connect(target: impl Into<Target>) -> Result<Channel, Failure> {
    let target = target.into();
    let (server, Checked { uri, security, authorization }) = (&target.server, target.check()?);
    let endpoint = endpoint(uri);
    let trouble = Trouble::default();
    let connector = Connector::new(security, trouble.clone());
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
        let message = match tls::untrusted(&error) {
            Some(untrusted) => untrusted.to_string(),
            None => {
                let cause = root_cause(&error);
                let hint =
                    "Is `pulso dev` running? --server or PULSO_SERVER gives another address.";
                format!("cannot reach {server}: {cause}\n{hint}")
            }
        };
        Failure::new(Exit::Unavailable, message)
    })?;
    Ok(Channel::new(channel, authorization, trouble))
}

fn endpoint(uri: Uri) -> Endpoint {
    // The connector secures what it opens; with its scheme the library would want to do so again.
    let mut plain = uri.clone().into_parts();
    plain.scheme = Some(Scheme::HTTP);
    if uri.scheme() == Some(&Scheme::HTTPS) && uri.port().is_none() {
        let with_port = format!("{}:443", uri.host().unwrap_or_default());
        plain.authority = with_port.parse().ok();
    }
    let plain = Uri::from_parts(plain).expect("an address with another scheme is an address");
    Endpoint::from(plain)
        .origin(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .user_agent(concat!("pulso/", env!("CARGO_PKG_VERSION")))
        .expect("its name and version are a header's value")
}

fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
