//! Quotas: what one client may take of a process at once, over all its addresses: streams, and
//! bytes per second.
//!
//! The bounds of `listen` go by address, and clients behind a proxy have one. A stream holds its place
//! until it ends. Bytes are counted by whoever reads a body, at the [`Pace`] that the gate leaves with
//! the request. Both maps are bounded: streams by how many calls there may be, paces by
//! [`QuotaLimits::clients_max`].

use std::{
    collections::{HashMap, HashSet},
    num::{NonZeroU32, NonZeroU64},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::principal::{CredentialKind, IdentityScope, Principal};
use crate::{Problem, listen::Pace, problem::reasons};

/// How long a client that has as many streams as it may is asked to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The least time between two sweeps of paces that nobody needs: each looks at all of them.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// What one client may take. `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Streaming calls at once.
    pub streams: Option<NonZeroU32>,
    /// Bytes of request bodies per second; those of one second at once after a pause.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Most paces that are kept; 10,000. One takes some 100 bytes. Clients beyond share one.
    pub clients_max: usize,
}

impl Default for QuotaLimits {
    fn default() -> Self {
        Self { streams: None, bytes_per_second: None, clients_max: 10_000 }
    }
}

impl Default for Quotas {
    /// No bounds.
    fn default() -> Self {
        Self::new(QuotaLimits::default())
    }
}

/// Counts what clients take.
#[derive(Debug)]
pub struct Quotas {
    limits: QuotaLimits,
    /// Paths of the calls that are streams.
    streaming: HashSet<String>,
    open: Arc<Mutex<HashMap<IdentityScope, u32>>>,
    paces: Mutex<Paces>,
}

#[derive(Debug)]
struct Paces {
    by_client: HashMap<IdentityScope, Pace>,
    /// Of all clients that come when there are as many paces as may be.
    shared: Option<Pace>,
    swept_at: Option<Instant>,
}

/// A stream's place. It goes back when it is dropped.
#[derive(Debug)]
pub struct Place {
    open: Arc<Mutex<HashMap<IdentityScope, u32>>>,
    client: IdentityScope,
}

impl Quotas {
    /// Quotas of which nothing is taken. No call is a stream yet.
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Self {
        let paces = Paces { by_client: HashMap::new(), shared: None, swept_at: None };
        let streaming = HashSet::new();
        Self { limits, streaming, open: Arc::default(), paces: Mutex::new(paces) }
    }

    /// The same, with the gRPC methods that are streams.
    #[must_use]
    pub fn with_streams(self, streaming: impl IntoIterator<Item = String>) -> Self {
        Self { streaming: streaming.into_iter().collect(), ..self }
    }

    /// Takes the place of a call, if it is a stream of a client that has a quota of them.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, `QUOTA_EXCEEDED`, when the client has as many open as it may.
    pub fn place(&self, principal: &Principal, path: &str) -> Result<Option<Place>, Problem> {
        let is_local = principal.kind == CredentialKind::Local;
        let Some(most) = self.limits.streams.filter(|_| !is_local) else { return Ok(None) };
        if !self.streaming.contains(path) {
            return Ok(None);
        }
        // Each change is one assignment, so it is sound whoever panicked.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(principal.scope).or_insert(0);
        if *count >= most.get() {
            let message = format!(
                "{} has {most} streams open here, as many as one client may (access.streams_per_client); close one, or send over those",
                principal.name
            );
            let problem = Problem::exhausted(reasons::QUOTA_EXCEEDED, message);
            return Err(problem.with_retry_after(RETRY_AFTER));
        }
        *count += 1;
        Ok(Some(Place { open: Arc::clone(&self.open), client: principal.scope }))
    }

    /// The pace of a client, if there is a bound on bytes.
    #[must_use]
    pub fn pace(&self, principal: &Principal) -> Option<Pace> {
        let is_local = principal.kind == CredentialKind::Local;
        let rate = self.limits.bytes_per_second.filter(|_| !is_local)?;
        // Holds whole entries only, so it is sound whoever panicked.
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        Some(paces.of(principal.scope, rate, self.limits.clients_max))
    }
}

impl Paces {
    fn of(&mut self, client: IdentityScope, rate: NonZeroU64, clients_max: usize) -> Pace {
        if let Some(pace) = self.by_client.get(&client) {
            return pace.clone();
        }
        if self.by_client.len() >= clients_max {
            self.sweep();
        }
        if self.by_client.len() >= clients_max {
            return self.shared.get_or_insert_with(|| Pace::new(rate)).clone();
        }
        self.by_client.entry(client).or_insert_with(|| Pace::new(rate)).clone()
    }

    fn sweep(&mut self) {
        if self.swept_at.is_none_or(|at| at.elapsed() >= SWEPT_EVERY) {
            self.swept_at = Some(Instant::now());
            self.by_client.retain(|_, pace| !pace.is_idle());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests;
