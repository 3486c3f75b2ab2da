//! What the audit trail keeps of a call: that it has begun, and how it ended.

use domain::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    CorrelationId,
    access::{
        api_key::hex,
        journal::moment,
        principal::{Principal, Roles},
    },
};

/// Most bytes of a text that an entry holds as it is.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Most bytes of the name of what a call is about.
pub const TARGET_BYTES_MAX: usize = 1_024;

/// A call that has begun. It is in the trail before the call changes anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// When it came in.
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// Tells calls apart.
    pub id: String,
    /// Who called.
    pub who: Who,
    /// What was called, as the rule table names it; for a command on the store itself, its words.
    pub method: String,
    /// The request's id, which logs have too.
    pub request_id: String,
    /// How it ended, where that is known at once: the gate refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// Who did something, as the credential said at the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// As [`Parts::id`](crate::access::principal::Parts::id).
    pub id: String,
    /// As [`Parts::name`](crate::access::principal::Parts::name).
    pub name: String,
    /// The word of the kind of credential.
    pub kind: String,
    /// Those of the credential at that moment.
    pub roles: Roles,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// What it was about: a key's id, a catalogue's version, a run's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Configuration before, where the call changes some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Evidence>,
    /// Configuration after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Evidence>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was only checked, as the caller asked; nothing has changed.
    Checked,
    /// It was refused or failed.
    Refused {
        /// A word of the table of reasons; for a command, why it failed.
        reason: String,
    },
}

/// A text that was configuration: as it was, or its digest where it is long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Up to [`TEXT_BYTES_MAX`] bytes, as they were.
    Text(String),
    /// A text of more than [`TEXT_BYTES_MAX`] bytes. What such texts were is in the journals of what
    /// they configure.
    Digest {
        /// SHA-256, in hexadecimal.
        sha256: String,
        /// Its length.
        bytes: u64,
    },
}

impl Evidence {
    /// Keeps a text. It must hold no secret.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.len() <= TEXT_BYTES_MAX {
            return Self::Text(text.to_owned());
        }
        let hash = digest(&SHA256, text.as_bytes());
        Self::Digest { sha256: hex(hash.as_ref()), bytes: text.len() as u64 }
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Digest { sha256, .. } => sha256.len(),
        }
    }
}

impl Who {
    /// Whoever a credential names.
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        Self {
            id: principal.id.clone(),
            name: principal.name.clone(),
            kind: principal.kind.as_str().to_owned(),
            roles: principal.roles,
        }
    }
}

impl Begun {
    /// What a principal has called.
    #[must_use]
    pub fn new(
        at: Timestamp,
        principal: &Principal,
        method: &str,
        request_id: &CorrelationId,
    ) -> Self {
        Self {
            at,
            id: Uuid::new_v4().to_string(),
            who: Who::of(principal),
            method: method.to_owned(),
            request_id: request_id.as_str().to_owned(),
            ended: None,
        }
    }

    /// Bytes of the texts that it holds, without those of its end.
    pub(super) fn bytes(&self) -> usize {
        let Self { at: _, id, who, method, request_id, ended: _ } = self;
        let roles: usize = who.roles.iter().map(|role| role.as_str().len()).sum();
        let names = [id, &who.id, &who.name, &who.kind, method, request_id];
        names.into_iter().map(String::len).sum::<usize>() + roles
    }
}

impl Ended {
    /// A call that ended so, about nothing in particular.
    #[must_use]
    pub const fn new(at: Timestamp, outcome: Outcome) -> Self {
        Self { at, target: None, before: None, after: None, outcome }
    }

    /// Bytes of the texts that it holds.
    pub(super) fn bytes(&self) -> usize {
        let Self { at: _, target, before, after, outcome } = self;
        let texts: usize = [before, after].into_iter().flatten().map(Evidence::bytes).sum();
        let reason = match outcome {
            Outcome::Refused { reason } => reason.len(),
            Outcome::Done | Outcome::Checked => 0,
        };
        texts + target.as_ref().map_or(0, String::len) + reason
    }
}
