//! The book: all keys of the journal, in memory, as the hot path reads them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::Timestamp;

use super::record::{Created, Event, KeyInfo, Revoked};
use crate::access::{
    api_key::{ApiKey, KeyId, ServerSecret, unhex},
    principal::{CredentialKind, IdentityScope, Parts, Principal},
    refusal::Refusal,
};

/// All keys, and how far the journal was read.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) next: u64,
    pub(super) keys: HashMap<KeyId, Key>,
    /// When it was last as the journal is, on the clock that never falls.
    pub(super) read_at: Duration,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) info: KeyInfo,
    pub(super) usage: Arc<Usage>,
    hash: Vec<u8>,
    secret: String,
    principal: Principal,
}

/// When a key was last used. Noting it costs a store of one number.
#[derive(Debug)]
pub struct Usage {
    used: AtomicI64,
    written: AtomicI64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { used: AtomicI64::new(i64::MIN), written: AtomicI64::new(i64::MIN) }
    }
}

impl Usage {
    /// Notes that the key is used now.
    pub fn note(&self, now: Timestamp) {
        self.used.store(now.micros(), Ordering::Relaxed);
    }

    /// The last use, if it has not been written and the last one that was lies an interval back.
    pub(super) fn due(&self, interval: Duration) -> Option<Timestamp> {
        let used = self.used.load(Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);
        let interval = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
        // A clock that was set back would otherwise keep uses unwritten until it has caught up.
        let is_due = used < written || used >= written.saturating_add(interval);
        if used == written || !is_due {
            return None;
        }
        Timestamp::from_micros(used)
    }

    pub(super) fn wrote(&self, used: Timestamp) {
        self.written.store(used.micros(), Ordering::Relaxed);
    }
}

/// A key that counts.
#[derive(Clone, Debug)]
pub struct Known {
    /// Client of the key.
    pub principal: Principal,
    /// First moment at which it does not count any more; `None` for never.
    pub until: Option<Timestamp>,
    /// Where its uses are noted.
    pub usage: Arc<Usage>,
}

impl Book {
    /// Takes an entry of the journal.
    pub(super) fn apply(&mut self, event: Event) {
        self.next += 1;
        match event {
            // An entry that does not read is left out: it can be listed by nobody, and refuses.
            Event::Created(created) => {
                if let (Ok(id), Some(hash)) = (created.id.parse(), unhex(&created.hash)) {
                    self.keys.entry(id).or_insert_with(|| Key::new(created, hash));
                }
            }
            Event::Revoked { id, at, by } => {
                let key = id.parse().ok().and_then(|id: KeyId| self.keys.get_mut(&id));
                if let Some(key) = key {
                    key.info.revoked.get_or_insert(Revoked { at, by });
                }
            }
        }
    }

    /// Checks a key. `None` when there is none of its id.
    pub(super) fn check(
        &self,
        key: &ApiKey,
        secret: &ServerSecret,
        now: Timestamp,
    ) -> Option<Result<Known, Refusal>> {
        self.keys.get(&key.id()).map(|known| known.check(key, secret, now))
    }
}

impl Key {
    fn new(created: Created, hash: Vec<u8>) -> Self {
        let kind = CredentialKind::ApiKey;
        let principal = Principal::new(Parts {
            id: created.id.clone(),
            name: created.name.clone(),
            kind,
            roles: created.roles,
            tenants: created.tenants.clone(),
            scope: IdentityScope::of(kind, "", &created.name),
        });
        let (info, usage) = (KeyInfo::from(&created), Arc::default());
        Self { info, usage, hash, secret: created.secret, principal }
    }

    fn check(&self, key: &ApiKey, secret: &ServerSecret, now: Timestamp) -> Result<Known, Refusal> {
        if !secret.is_hash(key, &self.hash) {
            // Only whoever knows the secret may learn more of the key than that it does not count.
            let why = match self.secret == secret.fingerprint() {
                true => UNKNOWN,
                false => "the API key was made under another server secret; make a new one",
            };
            return Err(Refusal::Invalid(why));
        }
        if self.info.revoked.is_some() {
            return Err(Refusal::Revoked);
        }
        if self.info.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Refusal::Expired);
        }
        Ok(Known {
            principal: self.principal.clone(),
            until: self.info.expires_at,
            usage: Arc::clone(&self.usage),
        })
    }
}

/// The same for an id that is not known and a secret that is wrong.
pub(super) const UNKNOWN: &str = "the API key is not one of this server's";
