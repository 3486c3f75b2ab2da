//! What is kept of an API key: entries of the journal of keys, and the key that they add up to.

use domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{
    journal::moment,
    principal::{Roles, Tenants},
};

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// A key was made.
    Created(Created),
    /// A key was taken back.
    Revoked {
        /// Id of the key.
        id: String,
        /// When.
        #[serde(with = "moment")]
        at: Timestamp,
        /// By whom.
        by: String,
    },
}

/// A key as it was made. Of its secret only a hash is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Created {
    pub(super) id: String,
    pub(super) name: String,
    /// [`ServerSecret::hash`](crate::access::api_key::ServerSecret) of the key.
    pub(super) hash: String,
    /// Which server secret that hash was made with.
    pub(super) secret: String,
    pub(super) roles: Roles,
    pub(super) tenants: Tenants,
    #[serde(with = "moment")]
    pub(super) at: Timestamp,
    pub(super) by: String,
    pub(super) expires: Option<Expiry>,
}

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Expiry(#[serde(with = "moment")] pub(super) Timestamp);

/// What there is to know of an API key but its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The public part of the key.
    pub id: String,
    /// The client's name. Keys of one name are one client: their identities are in one scope, so a
    /// client may change its key and send again what is not acknowledged.
    pub name: String,
    /// What the key may do.
    pub roles: Roles,
    /// For whom.
    pub tenants: Tenants,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// First moment at which it does not count any more; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// When and by whom it was taken back, if it was.
    pub revoked: Option<Revoked>,
}

/// When and by whom a key was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
}

impl From<&Created> for KeyInfo {
    fn from(created: &Created) -> Self {
        Self {
            id: created.id.clone(),
            name: created.name.clone(),
            roles: created.roles,
            tenants: created.tenants.clone(),
            created_at: created.at,
            created_by: created.by.clone(),
            expires_at: created.expires.map(|expires| expires.0),
            revoked: None,
        }
    }
}
