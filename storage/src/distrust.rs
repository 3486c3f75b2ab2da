//! Distrust: why a server's certificate is not taken, for an error that an operator reads.
//!
//! The clients of Kafka and of CQL pass on that verification failed, and not why: Kafka's even blames
//! the authority when the name is wrong. So once a start has failed for that, one more handshake asks
//! the same library for its verdict.

use std::{
    net::{TcpStream, ToSocketAddrs},
    path::Path,
    time::Duration,
};

use openssl::{
    ssl::{HandshakeError, SslConnector, SslMethod},
    x509::X509VerifyResult,
};

/// How long a server may take for each step of that handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
/// Most servers that are asked.
const SERVERS_MAX: usize = 3;

/// What OpenSSL says when verification fails, without its reason.
const VERIFY_FAILED: &str = "certificate verify failed";

/// What a certificate has to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // One for each of two features.
pub(crate) enum Names {
    /// The host as it is written.
    Host,
    /// The address that it is reached at.
    Address,
}

/// The cause of a failed start with the verdict behind it, where there is one. Blocks, for some seconds
/// at most.
pub(crate) fn explained(
    cause: String,
    servers: &[&str],
    ca_file: Option<&Path>,
    names: Names,
) -> String {
    if !cause.contains(VERIFY_FAILED) {
        return cause;
    }
    let mut verdicts = servers.iter().take(SERVERS_MAX).filter_map(|server| {
        let verdict = verdict(server, ca_file, names)?;
        Some(format!("the certificate of {server} is not trusted: {verdict}"))
    });
    verdicts.next().unwrap_or(cause)
}

/// Why a server's certificate is not taken; `None` where it is, or nobody answers.
fn verdict(server: &str, ca_file: Option<&Path>, names: Names) -> Option<X509VerifyResult> {
    let (host, _) = server.rsplit_once(':')?;
    let address = server.to_socket_addrs().ok()?.next()?;
    let name = match names {
        Names::Host => host.trim_matches(['[', ']']).to_owned(),
        Names::Address => address.ip().to_string(),
    };
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    if let Some(file) = ca_file {
        connector.set_ca_file(file).ok()?;
    }
    let stream = TcpStream::connect_timeout(&address, STEP_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(STEP_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(STEP_TIMEOUT)).ok()?;
    match connector.build().connect(&name, stream) {
        Err(HandshakeError::Failure(broken)) => {
            Some(broken.ssl().verify_result()).filter(|verdict| *verdict != X509VerifyResult::OK)
        }
        _ => None,
    }
}
