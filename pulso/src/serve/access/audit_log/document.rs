//! Entries of the audit trail as JSON, over HTTP and from `pulso audit-log` alike. What is absent is
//! null.

use proto::{convert::timestamp, v1};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Calls that write, oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditLog)]
pub(super) struct Page {
    entries: Vec<Entry>,
    /// For the page after this; empty on the last.
    next_page_token: String,
}

/// One call that writes.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct Entry {
    /// When it was let in, before anything was written.
    #[schema(format = DateTime, required)]
    at: Option<String>,
    /// When it was answered; null while it is under way, and where its process ended before.
    #[schema(format = DateTime, required)]
    ended_at: Option<String>,
    /// Tells entries apart.
    id: String,
    who: Client,
    /// As the table of rules names it, such as `POST /v1/catalog`.
    method: String,
    /// The request's id, which the logs have too.
    request_id: String,
    /// What it was about: a key's id, a catalogue's version, a run's number.
    #[schema(required)]
    target: Option<String>,
    /// Configuration before.
    #[schema(required)]
    before: Option<Text>,
    /// Configuration after.
    #[schema(required)]
    after: Option<Text>,
    /// `done`, `checked` (nothing was to be written), `refused` or `unknown`.
    outcome: String,
    /// Why it was refused.
    #[schema(required)]
    reason: Option<String>,
}

/// Who called, as the credential said at the time.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditClient)]
pub(super) struct Client {
    /// Of the key, or the subject of the token.
    id: String,
    name: String,
    /// `api_key`, `token`, `certificate`, `session`, or `local` where nobody was asked.
    kind: String,
    roles: Vec<String>,
}

/// A text as it was, or the digest of a long one.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditText)]
#[serde(untagged)]
pub(super) enum Text {
    /// As it was.
    Whole { text: String },
    /// Of one that is longer than 64 KiB.
    Digest {
        /// In hexadecimal.
        sha256: String,
        /// Its length, as a decimal integer.
        bytes: String,
    },
}

impl Page {
    pub(super) fn of(page: v1::ListAuditLogResponse) -> Self {
        let entries = page.entries.into_iter().map(Entry::of).collect();
        Self { entries, next_page_token: page.next_page_token }
    }
}

impl Entry {
    pub(crate) fn of(entry: v1::AuditEntry) -> Self {
        let time = |time: Option<prost_types::Timestamp>| {
            time.as_ref().and_then(timestamp).map(|time| time.to_string())
        };
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        let v1::AuditClient { id, name, kind, roles } = entry.who.unwrap_or_default();
        Self {
            at: time(entry.at),
            ended_at: time(entry.ended_at),
            id: entry.id,
            who: Client { id, name, kind, roles },
            method: entry.method,
            request_id: entry.request_id,
            target: named(entry.target),
            before: entry.before.map(Text::of),
            after: entry.after.map(Text::of),
            outcome: entry.outcome,
            reason: named(entry.reason),
        }
    }
}

impl Text {
    fn of(text: v1::AuditText) -> Self {
        match text.sha256.is_empty() {
            true => Self::Whole { text: text.text },
            false => Self::Digest { sha256: text.sha256, bytes: text.bytes.to_string() },
        }
    }
}

/// What the description shows.
pub(super) fn example() -> Value {
    json!({
        "entries": [{
            "at": "2026-11-30T11:00:00Z",
            "ended_at": "2026-11-30T11:00:00.004217Z",
            "id": "1f0f8a0e-4a0c-4d5e-9f43-6c1c3d1d2a11",
            "who": {"id": "0123456789abcdef", "name": "ops", "kind": "api_key", "roles": ["admin"]},
            "method": "POST /v1/catalog",
            "request_id": "f6169ca0752f4762b47bfd1799eb9418",
            "target": "2026-12",
            "before": null,
            "after": {"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "bytes": "81234"},
            "outcome": "done",
            "reason": null,
        }],
        "next_page_token": "",
    })
}
