//! The ring of keys: the current key set of an issuer, loaded again when it rotates.
//!
//! It loads at the start, every few minutes, and at once when a token names a key that it does not
//! hold; the last at most once in an interval, so that made-up ids cost the issuer nothing. While the
//! issuer does not answer, the keys that were read last stay.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use domain::Clock;
use jsonwebtoken::Algorithm;
use runtime::Shutdown;
use tracing::{error, info, warn};

use super::{
    keys::{Key, KeySet, KeySetError},
    source::{KeySource, SourceError},
};

/// How keys are loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadOptions {
    /// How often they are loaded anyhow; 5 minutes. A key that the issuer removed is trusted for as
    /// long. Below a few seconds it is a burden on the issuer.
    pub every: Duration,
    /// The least time between two loads for the sake of unknown ids; 10 seconds. A new key is unknown
    /// for as long in the worst case.
    pub unknown_every: Duration,
    /// How long one load may take; 5 seconds. Requests with a new key wait for it.
    pub timeout: Duration,
}

impl Default for ReloadOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(300),
            unknown_every: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }
}

/// Keys that could not be loaded; those from before stay.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The document cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The document cannot be used.
    #[error("{place}: {error}")]
    Keys {
        /// Where it comes from.
        place: String,
        /// What is wrong with the document.
        error: KeySetError,
    },
}

impl ReloadError {
    /// Tells whether another try may succeed, with nothing changed here.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Source(error) if error.may_pass())
    }
}

/// How long the first load waits between two tries.
const FIRST_LOAD_EVERY: Duration = Duration::from_secs(1);

/// The current keys of one issuer.
pub struct KeyRing {
    source: Box<dyn KeySource>,
    options: ReloadOptions,
    clock: Arc<dyn Clock>,
    current: RwLock<Current>,
    /// When keys were last loaded for an unknown id. Held over the load, so that all who wait for one
    /// new key share it instead of being refused.
    turn: tokio::sync::Mutex<Option<Duration>>,
}

struct Current {
    keys: Arc<KeySet>,
    document: Vec<u8>,
    generation: u64,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("place", &self.source.place()).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Loads the keys for the first time.
    ///
    /// # Errors
    /// When there is no usable document; a server that cannot check tokens does not start.
    pub async fn load(
        source: impl KeySource,
        options: ReloadOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ReloadError> {
        Self::load_within(Duration::ZERO, source, options, clock).await
    }

    /// The same where the issuer may be away for a moment: what [may pass](ReloadError::may_pass) is
    /// tried again every second, until the time is over.
    ///
    /// # Errors
    /// As [`KeyRing::load`], with what the last try failed at.
    pub async fn load_within(
        wait: Duration,
        source: impl KeySource,
        options: ReloadOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ReloadError> {
        let begun = tokio::time::Instant::now();
        let (document, keys) = loop {
            match read(&source, options.timeout).await {
                Ok(read) => break read,
                Err(error) if error.may_pass() && begun.elapsed() + FIRST_LOAD_EVERY <= wait => {
                    warn!(%error, "token keys cannot be loaded yet; it is tried again");
                    tokio::time::sleep(FIRST_LOAD_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        };
        let current = RwLock::new(Current { keys: Arc::new(keys), document, generation: 0 });
        let turn = tokio::sync::Mutex::new(None);
        Ok(Self { source: Box::new(source), options, clock, current, turn })
    }

    /// Rises whenever the document changes: what an older set has verified is verified again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// The key that a token names, with the generation of its set. One that is not there is looked
    /// for in the issuer's document once more, if that was not done just now.
    pub async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<(Key, u64)> {
        if let Some(found) = self.held(kid, algorithm) {
            return Some(found);
        }
        let mut loaded_at = self.turn.lock().await;
        // Whoever had the turn before may have brought it.
        let found = self.held(kid, algorithm);
        let now = self.clock.elapsed();
        let is_due =
            loaded_at.is_none_or(|at| now.saturating_sub(at) >= self.options.unknown_every);
        if found.is_some() || !is_due {
            return found;
        }
        *loaded_at = Some(now);
        self.reload_or_warn().await;
        self.held(kid, algorithm)
    }

    /// Loads the keys now.
    ///
    /// # Errors
    /// When there is no usable document; the keys stay as they were.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let (document, keys) = match read(&*self.source, self.options.timeout).await {
            // A document without any is the issuer's word that the ones before do not count any more.
            Err(ReloadError::Keys { place, error: error @ KeySetError::Empty(_) }) => {
                error!(%place, %error, "no token counts until the issuer has keys again");
                (Vec::new(), KeySet::default())
            }
            read => read?,
        };
        // Whole values are replaced, so the state is sound whoever panicked.
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.document != document {
            info!(place = self.source.place(), keys = keys.keys().len(), "token keys changed");
            let generation = current.generation + 1;
            *current = Current { keys: Arc::new(keys), document, generation };
        }
        Ok(())
    }

    /// Loads the keys every now and then until shutdown.
    pub async fn keep(&self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(self.options.every) => self.reload_or_warn().await,
            }
        }
    }

    async fn reload_or_warn(&self) {
        if let Err(error) = self.reload().await {
            warn!(%error, "token keys cannot be loaded; those from before stay");
        }
    }

    fn held(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<(Key, u64)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.keys.find(kid, algorithm).map(|key| (key.clone(), current.generation))
    }
}

async fn read(source: &dyn KeySource, timeout: Duration) -> Result<(Vec<u8>, KeySet), ReloadError> {
    let place = || source.place().to_owned();
    let document = tokio::time::timeout(timeout, source.load()).await;
    let document = document.map_err(|_| SourceError::Timeout(place()))??;
    let keys =
        KeySet::parse(&document).map_err(|error| ReloadError::Keys { place: place(), error })?;
    for left_out in keys.left_out() {
        warn!(place = source.place(), kid = ?left_out.kid, why = left_out.why, "token key left out");
    }
    Ok((document, keys))
}
