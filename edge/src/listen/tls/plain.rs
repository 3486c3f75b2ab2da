//! Plain: what clients are told that speak plain text to a TLS port, and TLS to a plain port.
//!
//! The first byte tells TLS from all else: a TLS handshake begins with a record of type 22, a control
//! character that neither HTTP/1 nor HTTP/2 begins with.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use super::super::socket::Socket;
use crate::problem::{Problem, ProblemJson, http::CONTENT_TYPE, reasons};

/// What a client is told that speaks plain text to a TLS port. Over HTTP/2 as debug data of GOAWAY.
pub const TLS_ONLY: &str = "this port speaks TLS only; use https://";

/// The answer in plain text to TLS. A client of TLS takes it for a damaged record, and then commonly
/// says that the server speaks no TLS.
pub(in super::super) const NO_TLS_HERE: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
      This port speaks no TLS; use http://\n";

/// Tells a client that the port speaks TLS, in the protocol that its first bytes are of.
///
/// # Errors
/// Those of the socket.
pub(super) async fn answer(socket: &mut Socket) -> io::Result<()> {
    let mut bytes = [0; 256];
    let read = socket.read(&mut bytes).await?;
    let answer = if bytes[..read].starts_with(b"PRI") { over_http2() } else { over_http1() };
    socket.write_all(&answer).await
}

fn over_http1() -> Vec<u8> {
    let problem = Problem::new(Code::FailedPrecondition, reasons::TLS_REQUIRED, TLS_ONLY);
    let body = ProblemJson::new(problem, None).to_bytes();
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: {CONTENT_TYPE}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// An empty SETTINGS frame, which a server has to send first, and GOAWAY (RFC 9113, 4.1 and 6.8) with
/// the error INADEQUATE_SECURITY.
fn over_http2() -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: u8 = 7;
    const INADEQUATE_SECURITY: u32 = 0xc;
    let last_stream = [0; 4];
    let payload = [&last_stream, &INADEQUATE_SECURITY.to_be_bytes(), TLS_ONLY.as_bytes()].concat();
    let length = u32::try_from(payload.len()).expect("some words").to_be_bytes();
    let header = [length[1], length[2], length[3], GOAWAY, 0, 0, 0, 0, 0];
    [&SETTINGS[..], &header, &payload].concat()
}
