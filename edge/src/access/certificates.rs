//! Certificates: which client a verified client certificate names, from one JSON file.
//!
//! ```json
//! {"clients": [{
//!     "client": "meter",
//!     "names": ["uri:spiffe://example.org/meter", "dns:meter.example.org"],
//!     "roles": ["writer"],
//!     "tenants": ["acme"]
//! }]}
//! ```
//!
//! Names are written with their kind, as [`PeerName`] prints them, and compared exactly: nothing is a
//! pattern. The file is read again every few seconds, so removing a name revokes what shows it. A file
//! that cannot be used changes nothing. The handshake verifies certificates; this module only reads
//! their names.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use domain::{Name, Timestamp};
use runtime::{Shutdown, health::Check};
use serde::Deserialize;
use tracing::{info, warn};

use super::{
    principal::{CredentialKind, IdentityScope, Parts, Principal, Roles, Tenants},
    refusal::Refusal,
};
use crate::listen::{PeerName, TlsPeer};

/// Most names in the file, of all clients together.
pub const NAMES_MAX: usize = 1_000;

/// Most bytes of the file.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// How often the file is read again. A name that was removed counts for as long.
pub const READ_EVERY: Duration = Duration::from_secs(5);

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// It cannot be read.
    #[error("`{path}` cannot be read: {error}")]
    Read {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It has too many bytes.
    #[error("`{0}` has more than {FILE_BYTES_MAX} bytes; name at most {NAMES_MAX} names")]
    TooLarge(PathBuf),
    /// It is not the JSON that it should be.
    #[error(
        "`{path}`: {error}; write {{\"clients\": [{{\"client\": \"meter\", \"names\": [\"dns:meter.example.org\"], \"roles\": [\"writer\"], \"tenants\": [\"acme\"]}}]}}"
    )]
    Json {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, with line and column.
        error: serde_json::Error,
    },
    /// One of its values cannot be used.
    #[error("`{path}`: {place}: {problem}")]
    Value {
        /// Where it is.
        path: PathBuf,
        /// Which value, such as `clients[0].names[1]`.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// The clients that are known by names in their certificates. Share it by `Arc`.
pub struct Certificates {
    path: PathBuf,
    current: RwLock<Current>,
}

struct Current {
    document: Vec<u8>,
    clients: Arc<Clients>,
}

/// The principal of each name.
type Clients = HashMap<PeerName, Principal>;

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the file for the first time. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be used; a server that knows no client by its certificate does not start.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, CertificatesError> {
        let path = path.into();
        let document = read(&path)?;
        let clients = Arc::new(parse(&path, &document)?);
        Ok(Self { path, current: RwLock::new(Current { document, clients }) })
    }

    /// Reads the file again. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be used; what was read before stays.
    pub fn reload(&self) -> Result<(), CertificatesError> {
        let document = read(&self.path)?;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).document == document {
            return Ok(());
        }
        let clients = Arc::new(parse(&self.path, &document)?);
        info!(path = %self.path.display(), names = clients.len(), "names of client certificates changed");
        // Holds whole values only, so it is sound whoever panicked.
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current { document, clients };
        Ok(())
    }

    /// Reads the file every few seconds until shutdown. While it cannot be used, the check is degraded.
    pub async fn keep(self: Arc<Self>, check: Check, shutdown: &Shutdown) {
        check.ready();
        // What was wrong at the last look, so that it is logged once.
        let mut trouble = None;
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(READ_EVERY) => {}
            }
            let certificates = Arc::clone(&self);
            let reloaded = tokio::task::spawn_blocking(move || certificates.reload()).await;
            let error = match reloaded {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            match &error {
                None => check.ready(),
                Some(error) => check.degraded(format!("{error}; names read before stay in use")),
            }
            if let Some(error) = error.as_ref().filter(|_| error != trouble) {
                warn!(
                    error,
                    "names of client certificates cannot be read; those from before count"
                );
            }
            trouble = error;
        }
    }

    /// Finds the client of a verified certificate.
    ///
    /// # Errors
    /// `Expired`; `Invalid` when none of its names is in the file, or two are of different clients.
    pub fn principal(&self, peer: &TlsPeer, now: Timestamp) -> Result<Principal, Refusal> {
        if peer.expires_at().is_none_or(|expires_at| expires_at <= now) {
            return Err(Refusal::Expired);
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let mut known = peer.names().iter().filter_map(|name| current.clients.get(name));
        let first = known.next().ok_or(Refusal::Invalid(UNKNOWN))?;
        // To take one of them would let the order of names decide for whom a client acts.
        match known.all(|other| other.scope == first.scope) {
            true => Ok(first.clone()),
            false => Err(Refusal::Invalid(AMBIGUOUS)),
        }
    }
}

const UNKNOWN: &str = "the request has no header with one, and access.certificates has no name of its client certificate";
const AMBIGUOUS: &str = "names of the client certificate are of different clients in access.certificates; issue one certificate for each client";

fn read(path: &Path) -> Result<Vec<u8>, CertificatesError> {
    let mut document = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut document));
    match read {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
            Err(CertificatesError::TooLarge(path.to_owned()))
        }
        Ok(_) => Ok(document),
        Err(error) => Err(CertificatesError::Read { path: path.to_owned(), error }),
    }
}

/// The file, as serde reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    clients: Vec<Client>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    client: String,
    names: Vec<String>,
    roles: Roles,
    tenants: Tenants,
}

fn parse(path: &Path, document: &[u8]) -> Result<Clients, CertificatesError> {
    let refuse = |place: String, problem: String| CertificatesError::Value {
        path: path.to_owned(),
        place,
        problem,
    };
    let document: Document = serde_json::from_slice(document)
        .map_err(|error| CertificatesError::Json { path: path.to_owned(), error })?;
    let (mut clients, mut places) = (Clients::new(), HashMap::new());
    for (at, client) in document.clients.into_iter().enumerate() {
        let place = |field: &str| format!("clients[{at}].{field}");
        let Client { client, names, roles, tenants } = client;
        let name = Name::new(&client)
            .map_err(|error| refuse(place("client"), format!("is no name: {error}")))?;
        if let Some(first) = places.insert(name.as_str().to_owned(), at) {
            let problem = format!(
                "{client:?} is that of clients[{first}]; name a client once, with all its names"
            );
            return Err(refuse(place("client"), problem));
        }
        if roles.is_empty() {
            return Err(refuse(place("roles"), "is empty; give at least one role".to_owned()));
        }
        if names.is_empty() {
            let problem = "is empty; give a name, such as dns:meter.example.org".to_owned();
            return Err(refuse(place("names"), problem));
        }
        for (nth, text) in names.iter().enumerate() {
            let place = || place(&format!("names[{nth}]"));
            let peer =
                text.parse::<PeerName>().map_err(|error| refuse(place(), error.to_string()))?;
            if clients.len() == NAMES_MAX {
                let problem =
                    format!("is one more than the {NAMES_MAX} names that a file may have");
                return Err(refuse(place(), problem));
            }
            let principal = principal(&peer, name.as_str(), roles, tenants.clone());
            if clients.insert(peer, principal).is_some() {
                let problem = format!("{text:?} comes twice; a name is that of one client");
                return Err(refuse(place(), problem));
            }
        }
    }
    Ok(clients)
}

fn principal(peer: &PeerName, client: &str, roles: Roles, tenants: Tenants) -> Principal {
    let kind = CredentialKind::Certificate;
    Principal::new(Parts {
        id: peer.to_string(),
        name: client.to_owned(),
        kind,
        roles,
        tenants,
        scope: IdentityScope::of(kind, "", client),
    })
}

#[cfg(test)]
mod tests;
