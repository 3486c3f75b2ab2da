//! One entry of the audit trail.

use domain::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    CorrelationId, Problem,
    access::{
        journal::moment,
        principal::{Principal, Roles},
    },
};

/// Most bytes of a text that an entry holds as it is.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// What somebody did, or tried to do. As JSON it is one line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When it was answered.
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// Tells entries apart.
    pub id: String,
    /// Who.
    pub who: Who,
    /// What was called, as the rule table names it.
    pub method: String,
    /// The request's id, which logs have too.
    pub request_id: String,
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
    pub outcome: Outcome,
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

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused or failed.
    Refused {
        /// A word of the table of reasons.
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
        let sha256 = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self::Digest { sha256, bytes: text.len() as u64 }
    }
}

impl AuditEntry {
    /// What a principal called, and that it was done.
    #[must_use]
    pub fn new(
        at: Timestamp,
        principal: &Principal,
        method: impl Into<String>,
        request_id: &CorrelationId,
    ) -> Self {
        let who = Who {
            id: principal.id.clone(),
            name: principal.name.clone(),
            kind: principal.kind.as_str().to_owned(),
            roles: principal.roles,
        };
        Self {
            at,
            id: Uuid::new_v4().to_string(),
            who,
            method: method.into(),
            request_id: request_id.as_str().to_owned(),
            target: None,
            before: None,
            after: None,
            outcome: Outcome::Done,
        }
    }

    /// The same, about something. Beyond a kibibyte the name of it is cut.
    #[must_use]
    pub fn about(mut self, target: &str) -> Self {
        self.target = Some(target[..target.floor_char_boundary(1_024)].to_owned());
        self
    }

    /// The same, with the configuration before and after.
    #[must_use]
    pub fn changing(mut self, before: Option<&str>, after: Option<&str>) -> Self {
        (self.before, self.after) = (before.map(Evidence::of), after.map(Evidence::of));
        self
    }

    /// The same, with what became of it.
    #[must_use]
    pub fn ended<T>(mut self, answer: &Result<T, Problem>) -> Self {
        self.outcome = match answer {
            Ok(_) => Outcome::Done,
            Err(problem) => Outcome::Refused { reason: problem.reason.to_owned() },
        };
        self
    }
}
