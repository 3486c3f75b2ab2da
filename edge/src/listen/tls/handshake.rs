//! Handshake: one accepted socket on its way to a secured stream, within a time and a number of bytes.
//!
//! It runs in a task of its own beside accepting, and holds a place among connections meanwhile, so as
//! many can be under way as connections may be open, and as many of one peer.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant as StdInstant,
};

use metrics::counter;
use rustls::{AlertDescription, Error, ServerConfig};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use super::{TlsPeer, plain};
use crate::listen::{
    budget::Peer,
    rarely::Rarely,
    socket::{Socket, TooManyBytes},
};

/// Most bytes that a client may send before its handshake is done. Its hello takes 0.2 to 2 KiB, a
/// chain of certificates some KiB more.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// What the first byte of a TLS handshake is: the type of its record.
const HANDSHAKE_RECORD: u8 = 22;

/// Whether the first bytes of a connection are of a TLS handshake.
pub(in crate::listen) fn is_client_hello(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE_RECORD)
}

/// What became of a handshake, in the words of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    Completed,
    PlainText,
    NoCertificate,
    BadCertificate,
    Distrusted,
    TooLarge,
    TimedOut,
    Failed,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::PlainText => "plain_text",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate => "bad_certificate",
            Self::Distrusted => "distrusted",
            Self::TooLarge => "too_large",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
        }
    }

    /// What an operator may have to do about it; `None` where nothing is.
    const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::PlainText => Some("clients that use http:// have to use https:// here"),
            Self::NoCertificate => Some("clients need a certificate of listen.tls_client_ca"),
            Self::BadCertificate => {
                Some("clients show certificates that listen.tls_client_ca does not vouch for")
            }
            Self::Distrusted => Some(
                "clients do not trust listen.tls_cert: give them its authority, and ask for names that it holds",
            ),
            Self::Completed | Self::TooLarge | Self::TimedOut | Self::Failed => None,
        }
    }

    fn of(error: &io::Error) -> Self {
        let Some(cause) = error.get_ref() else { return Self::Failed };
        if cause.is::<TooManyBytes>() {
            return Self::TooLarge;
        }
        match cause.downcast_ref() {
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidCertificate(_)) => Self::BadCertificate,
            Some(Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown,
            )) => Self::Distrusted,
            _ => Self::Failed,
        }
    }
}

/// What all handshakes of a listener share. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::listen) struct Handshake {
    said: Arc<Mutex<Rarely<Outcome>>>,
}

impl Handshake {
    pub(in crate::listen) fn new() -> Self {
        Self { said: Arc::new(Mutex::new(Rarely::new())) }
    }

    /// Secures a socket before `deadline`, or answers and closes it.
    pub(in crate::listen) async fn secure(
        self,
        mut socket: Socket,
        config: Arc<ServerConfig>,
        peer: Peer,
        deadline: Instant,
    ) -> Option<(TlsStream<Socket>, Option<TlsPeer>)> {
        socket.bound_reads(HANDSHAKE_BYTES_MAX);
        let ended = timeout_at(deadline, secure(socket, config)).await;
        let (outcome, error, socket) = match ended {
            Ok(Ok(secured)) => {
                count(Outcome::Completed);
                return Some(secured);
            }
            Ok(Err(Refused { outcome, error, socket })) => (outcome, error, Some(socket)),
            Err(_) => (Outcome::TimedOut, None, None),
        };
        count(outcome);
        self.tell(outcome, peer, error);
        if let Some(socket) = socket {
            socket.linger().await;
        }
        None
    }

    fn tell(&self, outcome: Outcome, peer: Peer, error: Option<io::Error>) {
        let why = error.map_or_else(|| outcome.word().to_owned(), |error| error.to_string());
        debug!(?peer, why, "a TLS handshake came to nothing");
        let Some(remedy) = outcome.remedy() else { return };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = said.due(outcome, StdInstant::now()) {
            warn!(?peer, why, times, "TLS handshakes came to nothing: {remedy}");
        }
    }
}

fn count(outcome: Outcome) {
    counter!("pulso_edge_handshakes_total", "outcome" => outcome.word()).increment(1);
}

/// A handshake that came to nothing.
struct Refused {
    outcome: Outcome,
    error: Option<io::Error>,
    socket: Socket,
}

impl Refused {
    fn by(error: io::Error, socket: Socket) -> Self {
        Self { outcome: Outcome::of(&error), error: Some(error), socket }
    }
}

async fn secure(
    mut socket: Socket,
    config: Arc<ServerConfig>,
) -> Result<(TlsStream<Socket>, Option<TlsPeer>), Refused> {
    match begins_tls(&mut socket).await {
        Ok(true) => {}
        Ok(false) => return Err(Refused { outcome: Outcome::PlainText, error: None, socket }),
        Err(error) => return Err(Refused::by(error, socket)),
    }
    let accepted = TlsAcceptor::from(config).accept(socket).into_fallible().await;
    let mut stream = accepted.map_err(|(error, socket)| Refused::by(error, socket))?;
    let (socket, session) = stream.get_mut();
    socket.unbound_reads();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let tls = certificate.map(TlsPeer::of);
    Ok((stream, tls))
}

/// Whether a client speaks TLS. One that speaks plain text is told.
async fn begins_tls(socket: &mut Socket) -> io::Result<bool> {
    let mut first = [0];
    if socket.stream().peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let begins_tls = is_client_hello(&first);
    if !begins_tls {
        plain::answer(socket).await?;
    }
    Ok(begins_tls)
}
