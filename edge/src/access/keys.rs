//! Keys: the API keys of a deployment, in the billing store's journal `access-keys`.
//!
//! Every process holds all keys in memory and reads on every few seconds, so that checking one costs
//! a hash, and a key that any process revokes stops counting everywhere within [`KeyOptions::every`].
//! While the store does not answer, the keys that were read last count, for [`KeyOptions::stale_max`].
//! Of a key's secret a keyed hash is stored, and the text is given once, when the key is made.

mod record;
mod book;
mod page;

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{BillingStore, Clock, Name, Timestamp, billing::Appended, store::StoreError};
use runtime::Shutdown;
use serde::{Deserialize, Serialize};
use tracing::warn;

use self::{
    book::{Book, UNKNOWN},
    record::{Created, Event, Expiry},
};
use super::{
    api_key::{ApiKey, KeyId, ServerSecret},
    journal::{self, moment},
    principal::{Roles, Tenants},
    refusal::Refusal,
};

pub use self::{
    book::{Known, Usage},
    page::{KEYS_PAGE_MAX, KeyPage},
    record::{KeyInfo, Revoked},
};

/// Most keys of a deployment that count at once.
pub const KEYS_MAX: usize = 10_000;

/// Most keys that a deployment may make, those included that were revoked or expired: every process
/// holds them all, some 500 bytes each.
pub const KEYS_MADE_MAX: usize = 100_000;

/// Tries to add one key while other processes add theirs.
const CREATE_TRIES_MAX: u32 = 32;

const KEYS: &str = "access-keys";
const SECRET: &str = "access-secret";

/// Journal of a key's uses.
fn uses(id: &str) -> String {
    format!("access-used/{id}")
}

/// How keys are kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOptions {
    /// How often the journal is read on; 5 seconds. A key that another process revoked counts for as
    /// long. Below a second it is a burden on the store.
    pub every: Duration,
    /// The least time between two reads for the sake of unknown ids; one second. A key that another
    /// process made is unknown for as long in the worst case.
    pub unknown_every: Duration,
    /// How long keys count while the store does not answer; one hour. Beyond, requests with API keys
    /// are refused as unavailable: a key that was revoked meanwhile would count.
    pub stale_max: Duration,
    /// The least time between two entries on the use of one key; 15 minutes, at least one. Each entry
    /// stays for ever.
    pub used_every: Duration,
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            unknown_every: Duration::from_secs(1),
            stale_max: Duration::from_secs(3_600),
            used_every: Duration::from_secs(900),
        }
    }
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// As [`KeyInfo::name`].
    pub name: Name,
    /// What it may do; at least one role.
    pub roles: Roles,
    /// For whom.
    pub tenants: Tenants,
    /// First moment at which it does not count any more; `None` for never.
    pub expires_at: Option<Timestamp>,
}

/// What cannot be done with keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key without a role could do nothing.
    #[error("the key has no role; give at least one")]
    NoRole,
    /// It would never count.
    #[error("the key would expire at {0}, which is past; give a later time")]
    Expired(Timestamp),
    /// Keys are stored with moments up to there.
    #[error(
        "the key would expire at {0}, beyond the year 9998; leave the time out for a key without end"
    )]
    TooFar(Timestamp),
    /// A name is a client, and a client has one set of tenants.
    #[error(
        "a key of the name {name:?} is for {tenants}: keys of one name are one client, whose batches are known by one identity; give another name, or the same tenants"
    )]
    OtherTenants {
        /// As it was asked for.
        name: String,
        /// Of the key that has it.
        tenants: Tenants,
    },
    /// Too many keys.
    #[error("the deployment has {KEYS_MAX} keys that count; revoke one to make another")]
    TooMany,
    /// Too many entries.
    #[error(
        "the deployment has made {KEYS_MADE_MAX} keys, revoked ones included; no more can be made"
    )]
    TooManyMade,
    /// No such key.
    #[error("no API key has the id {0}; `pulso key list` shows all")]
    NotFound(KeyId),
    /// It may be a whole key, so no error repeats it.
    #[error(
        "that is not the id of an API key, which is the 16 hexadecimal digits after `pulso_`; `pulso key list` shows all"
    )]
    NotAnId,
    /// The store failed; it may have been done all the same.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys of a deployment. Share it by `Arc`.
pub struct Keys<S> {
    store: Arc<S>,
    secret: ServerSecret,
    options: KeyOptions,
    clock: Arc<dyn Clock>,
    book: RwLock<Book>,
    /// Rises with each entry that is read; what an older state of the keys allowed is checked again.
    generation: AtomicU64,
    /// Held while the journal is read on, so that one read serves all who wait for it.
    turn: tokio::sync::Mutex<Option<Duration>>,
}

impl<S> fmt::Debug for Keys<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A use of a key, as its journal holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Used(#[serde(with = "moment")] Timestamp);

impl<S: BillingStore> Keys<S> {
    /// Opens the keys of a store. Without a configured secret the one in the store is used, which the
    /// first process makes; it then protects only backups that leave its journal out.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(
        store: Arc<S>,
        secret: Option<ServerSecret>,
        options: KeyOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let secret = match secret {
            Some(secret) => secret,
            None => stored_secret(&*store).await?,
        };
        let keys = Self {
            store,
            secret,
            options,
            clock,
            book: RwLock::default(),
            generation: AtomicU64::new(0),
            turn: tokio::sync::Mutex::new(None),
        };
        keys.refresh().await?;
        Ok(keys)
    }

    /// The server secret of the deployment, the same in every process.
    #[must_use]
    pub const fn secret(&self) -> &ServerSecret {
        &self.secret
    }

    /// Makes a key. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// `NoRole`, `Expired` or `TooMany`: nothing was made. `Store`: an unusable entry may be there.
    pub async fn create(&self, new: NewKey, by: &str) -> Result<(ApiKey, KeyInfo), KeysError> {
        let at = self.clock.now();
        if new.roles.is_empty() {
            return Err(KeysError::NoRole);
        }
        if let Some(expires) = new.expires_at.filter(|expires| *expires <= at) {
            return Err(KeysError::Expired(expires));
        }
        if let Some(far) = new.expires_at.filter(|expires| expires.of_usage().is_none()) {
            return Err(KeysError::TooFar(far));
        }
        let key = ApiKey::mint();
        let created = Created {
            id: key.id().to_string(),
            name: new.name.as_str().to_owned(),
            hash: self.secret.hash(&key),
            secret: self.secret.fingerprint(),
            roles: new.roles,
            tenants: new.tenants.clone(),
            at,
            by: by.to_owned(),
            expires: new.expires_at.map(Expiry),
        };
        let info = KeyInfo::from(&created);
        let event = Event::Created(created);
        for _ in 0..CREATE_TRIES_MAX {
            self.refresh().await?;
            // Behind all that was looked at, or not at all: keys that are made at the same moment cannot
            // pass the bounds together.
            let place = self.check_room(&new, at)?;
            if journal::add_at(&*self.store, KEYS, place, &event).await? == Appended::Added {
                self.refresh().await?;
                return Ok((key, info));
            }
        }
        let message = format!("many processes add to {KEYS} at once");
        Err(StoreError::Unavailable(message).into())
    }

    /// Takes a key back, from now on. Repeating it changes nothing.
    ///
    /// # Errors
    /// `NotFound`, or `Store`.
    pub async fn revoke(&self, id: &str, by: &str) -> Result<KeyInfo, KeysError> {
        self.refresh().await?;
        let known = self.info(id)?;
        if known.revoked.is_some() {
            return Ok(known);
        }
        let event = Event::Revoked { id: id.to_owned(), at: self.clock.now(), by: by.to_owned() };
        self.add(&event).await?;
        self.info(id)
    }

    /// Every key, oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self) -> Result<Vec<KeyInfo>, KeysError> {
        Ok(self.some("", usize::MAX).await?.keys)
    }

    /// When a key was last used, as far as it was written; `None` for never. Finds the end of the
    /// key's journal of uses, so it costs some twenty reads of one entry.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn last_used(&self, id: &str) -> Result<Option<Timestamp>, StoreError> {
        let journal = uses(id);
        let end = journal::end(&*self.store, &journal, 0).await?;
        let Some(last) = end.checked_sub(1) else { return Ok(None) };
        let uses: Vec<Used> = journal::page(&*self.store, &journal, last, 1).await?;
        Ok(uses.first().map(|used| used.0))
    }

    /// Checks a key. One that is not known is looked for in the store, if that was not done just now.
    ///
    /// # Errors
    /// `Invalid`, `Expired`, `Revoked`; `Unavailable` when the store has not answered for too long.
    pub async fn verify(&self, key: &ApiKey) -> Result<Known, Refusal> {
        if let Some(answer) = self.check(key)? {
            return answer;
        }
        let mut read_at = self.turn.lock().await;
        let now = self.clock.elapsed();
        let is_due = read_at.is_none_or(|at| now.saturating_sub(at) >= self.options.unknown_every);
        if is_due {
            *read_at = Some(now);
            self.refresh_or_warn().await;
        }
        drop(read_at);
        self.check(key)?.unwrap_or(Err(Refusal::Invalid(UNKNOWN)))
    }

    fn check(&self, key: &ApiKey) -> Result<Option<Result<Known, Refusal>>, Refusal> {
        let book = self.book();
        let age = self.clock.elapsed().saturating_sub(book.read_at);
        if age > self.options.stale_max {
            return Err(Refusal::Unavailable("the store with the API keys does not answer"));
        }
        Ok(book.check(key, &self.secret, self.clock.now()))
    }

    /// Rises whenever a key is made or revoked, as far as this process knows.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Reads the journal on.
    ///
    /// # Errors
    /// Those of the store; the keys stay as they were.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        loop {
            let (from, asked_at) = (self.book().next, self.clock.elapsed());
            let events: Vec<Event> = journal::page(&*self.store, KEYS, from, journal::PAGE).await?;
            let is_last = events.len() < journal::PAGE;
            // Whole entries are applied, so the book is sound whoever panicked.
            let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
            // Another refresh may have read a part of these already.
            let known = usize::try_from(book.next - from).unwrap_or(usize::MAX);
            let rises = events.len() > known;
            events.into_iter().skip(known).for_each(|event| book.apply(event));
            if is_last {
                book.read_at = book.read_at.max(asked_at);
            }
            drop(book);
            if rises {
                self.generation.fetch_add(1, Ordering::Release);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Writes the uses that are due, one entry a key.
    ///
    /// # Errors
    /// Those of the store; what was not written is due again.
    pub async fn write_uses(&self) -> Result<(), StoreError> {
        let due: Vec<_> = {
            let book = self.book();
            let due = book.keys.iter().filter_map(|(id, key)| {
                let used = key.usage.due(self.options.used_every)?;
                Some((*id, Arc::clone(&key.usage), used))
            });
            due.collect()
        };
        for (id, usage, used) in due {
            journal::add(&*self.store, &uses(&id.to_string()), 0, &Used(used)).await?;
            usage.wrote(used);
        }
        Ok(())
    }

    /// Reads on and writes uses every now and then, until shutdown.
    pub async fn keep(&self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(self.options.every) => {}
            }
            self.refresh_or_warn().await;
            if let Err(error) = self.write_uses().await {
                warn!(%error, "the last use of API keys cannot be written; it is tried again");
            }
        }
    }

    async fn refresh_or_warn(&self) {
        if let Err(error) = self.refresh().await {
            warn!(%error, "API keys cannot be read; those from before count");
        }
    }

    /// Checks that a key fits beside the existing ones, and gives the place behind them.
    fn check_room(&self, new: &NewKey, at: Timestamp) -> Result<u64, KeysError> {
        let book = self.book();
        let infos = || book.keys.values().map(|key| &key.info);
        let is_other =
            |info: &&KeyInfo| info.name == new.name.as_str() && info.tenants != new.tenants;
        if let Some(KeyInfo { name, tenants, .. }) = infos().find(is_other) {
            return Err(KeysError::OtherTenants { name: name.clone(), tenants: tenants.clone() });
        }
        if book.keys.len() >= KEYS_MADE_MAX {
            return Err(KeysError::TooManyMade);
        }
        let counts = |info: &&KeyInfo| {
            info.revoked.is_none() && info.expires_at.is_none_or(|expires| at < expires)
        };
        match infos().filter(counts).count() {
            KEYS_MAX.. => Err(KeysError::TooMany),
            _ => Ok(book.next),
        }
    }

    async fn add(&self, event: &Event) -> Result<(), StoreError> {
        let known_end = self.book().next;
        journal::add(&*self.store, KEYS, known_end, event).await?;
        self.refresh().await
    }

    fn info(&self, id: &str) -> Result<KeyInfo, KeysError> {
        let id = id.parse().map_err(|_| KeysError::NotAnId)?;
        let book = self.book();
        book.keys.get(&id).map(|key| key.info.clone()).ok_or(KeysError::NotFound(id))
    }

    fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secret in the store, made by whoever comes first.
async fn stored_secret(store: &impl BillingStore) -> Result<ServerSecret, StoreError> {
    let mut found: Vec<String> = journal::page(store, SECRET, 0, 1).await?;
    if found.is_empty() {
        // Of several that are added the first counts, so it is read again.
        journal::add(store, SECRET, 0, &ServerSecret::mint()).await?;
        found = journal::page(store, SECRET, 0, 1).await?;
    }
    let text = found.first().map_or("", String::as_str);
    ServerSecret::new(text.as_bytes())
        .map_err(|error| StoreError::Damaged(format!("{SECRET}: {error}")))
}

#[cfg(test)]
mod tests;
