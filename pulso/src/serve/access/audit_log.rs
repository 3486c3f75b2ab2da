//! The audit trail at both doors: pages of it over gRPC, and the same answer as JSON under
//! `GET /v1/audit-log`.

mod document;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::HeaderMap,
    routing::get,
};
use domain::{TimeTextError, Timestamp, hash};
use edge::{
    Problem, Routes,
    accept::{self, JSON},
    access::trail::{
        AuditEntry, Ended, Evidence, Outcome, Record as _, Trail, TrailError, TrailPlace,
        TrailQuery,
    },
    http::BODY_BYTES_MAX,
    paging::{self, TokenKey},
    parameters::Parameters,
    problem::{http::HttpProblem, reasons},
};
use proto::{
    convert::{timestamp, wire_time},
    v1,
};
use storage::choice::Billing;
use utoipa::OpenApi;

pub(crate) use document::Entry;
use document::Page;

/// How far back a question goes that does not say: a year and a month, so that it reads 15 journals at
/// most. `docs/access.md` and `access.proto` say it too.
const BACK_DEFAULT: Duration = Duration::from_secs(400 * 24 * 3_600);

/// What the clock of another process may be ahead of this one.
const AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// The audit trail of a deployment, for questions.
pub(crate) struct AuditLog {
    trail: Arc<Trail<Billing>>,
    tokens: TokenKey,
}

impl AuditLog {
    pub(super) fn new(trail: Arc<Trail<Billing>>) -> Self {
        Self { trail, tokens: TokenKey::new(uuid::Uuid::new_v4().into_bytes()) }
    }

    /// A page.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a time, a range, a size or a token that is none; those of the store.
    pub(super) async fn list(
        &self,
        request: &v1::ListAuditLogRequest,
    ) -> Result<v1::ListAuditLogResponse, Problem> {
        let limit = paging::size(&paging::size_text(request.page_size))
            .map_err(|(reason, message)| Problem::invalid("page_size", reason, message))?;
        let question = question(request);
        let after = paging::position(&self.tokens, question, &request.page_token, place_of)?;
        let to = moment("to", request.to.as_ref())?;
        let to = to.unwrap_or_else(|| self.trail.clock().now().plus(AHEAD));
        let from = moment("from", request.from.as_ref())?;
        let from = from.unwrap_or_else(|| to.minus(BACK_DEFAULT));
        let named = |text: &String| Some(text).filter(|text| !text.is_empty()).cloned();
        let (who, method) = (named(&request.who), named(&request.method));
        let query = TrailQuery { from, to, who, method, after, limit };
        let page = self.trail.page(&query).await.map_err(problem_of)?;
        let next = page.next.map(|next| self.tokens.seal(question, next.to_string().as_bytes()));
        Ok(v1::ListAuditLogResponse {
            entries: page.entries.into_iter().map(entry).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }
}

/// A fingerprint of all that a token is bound to.
fn question(request: &v1::ListAuditLogRequest) -> u128 {
    let v1::ListAuditLogRequest { from, to, who, method, .. } = request;
    hash::bytes128(0, format!("{from:?} {to:?} {who:?} {method:?}").as_bytes())
}

fn place_of(position: &[u8]) -> Option<TrailPlace> {
    std::str::from_utf8(position).ok()?.parse().ok()
}

fn moment(
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Result<Option<Timestamp>, Problem> {
    let Some(time) = time else { return Ok(None) };
    let message = "no moment of the years 1 to 9999";
    let read = timestamp(time)
        .ok_or_else(|| Problem::invalid(field, reasons::TIME_OUT_OF_RANGE, message))?;
    Ok(Some(read))
}

fn problem_of(error: TrailError) -> Problem {
    match error {
        TrailError::Range { .. } => {
            Problem::invalid("from", reasons::RANGE_INVALID, error.to_string())
        }
        TrailError::Store(error) => error.into(),
    }
}

fn entry(entry: AuditEntry) -> v1::AuditEntry {
    let AuditEntry { begun, ended } = entry;
    let mut shown = v1::AuditEntry {
        id: begun.id,
        at: Some(wire_time(begun.at)),
        who: Some(v1::AuditClient {
            id: begun.who.id,
            name: begun.who.name,
            kind: begun.who.kind,
            roles: begun.who.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        }),
        method: begun.method,
        request_id: begun.request_id,
        outcome: "unknown".to_owned(),
        ..v1::AuditEntry::default()
    };
    let Some(Ended { at, target, before, after, outcome }) = ended else { return shown };
    shown.ended_at = Some(wire_time(at));
    shown.target = target.unwrap_or_default();
    (shown.before, shown.after) = (before.map(text), after.map(text));
    let (outcome, reason) = match outcome {
        Outcome::Done => ("done", String::new()),
        Outcome::Checked => ("checked", String::new()),
        Outcome::Refused { reason } => ("refused", reason),
    };
    (shown.outcome, shown.reason) = (outcome.to_owned(), reason);
    shown
}

fn text(evidence: Evidence) -> v1::AuditText {
    match evidence {
        Evidence::Text(text) => v1::AuditText { text, ..v1::AuditText::default() },
        Evidence::Digest { sha256, bytes } => {
            v1::AuditText { sha256, bytes, ..v1::AuditText::default() }
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    paths(show),
    tags((name = "access", description = "Who changed what.")),
)]
struct Description;

/// The description of this route.
pub(in crate::serve) fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

pub(super) fn routes(audit_log: &Arc<AuditLog>) -> Routes {
    let router = Router::new().route("/v1/audit-log", get(show)).with_state(Arc::clone(audit_log));
    Routes::new(router, BODY_BYTES_MAX)
}

const PARAMETERS: [&str; 6] = ["from", "to", "who", "method", "page_size", "page_token"];

/// Calls that write, oldest first: who, what, when, and what became of it.
#[utoipa::path(
    get,
    path = "/v1/audit-log",
    operation_id = "listAuditLog",
    tag = "access",
    params(
        ("from" = Option<String>, Query, description = "First moment at which a call has begun, in RFC 3339. 400 days before `to` when left out.", format = DateTime, example = "2026-11-01T00:00:00Z"),
        ("to" = Option<String>, Query, description = "First moment after, in RFC 3339. A day from now when left out.", format = DateTime, example = "2026-12-01T00:00:00Z"),
        ("who" = Option<String>, Query, description = "Only calls of the client with this id or name.", example = "ops"),
        ("method" = Option<String>, Query, description = "Only calls of this method.", example = "POST /v1/catalog"),
        ("page_size" = Option<i32>, Query, description = "50 when left out.", minimum = 1, maximum = 1000, example = 50),
        ("page_token" = Option<String>, Query, description = "From the answer before. All but `page_size` must stay as it was.", example = "AQAAAAAAAAAq"),
    ),
    responses((status = 200, description = "A page of calls.", body = Page, example = json!(document::example()))),
)]
async fn show(
    State(audit_log): State<Arc<AuditLog>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Page>, HttpProblem> {
    accept::choose(&headers, &[JSON])?;
    let parameters = Parameters::parse(query.as_deref(), &PARAMETERS, &[])?;
    let request = v1::ListAuditLogRequest {
        page_size: parameters.number("page_size", reasons::PAGE_SIZE_INVALID)?,
        page_token: parameters.text("page_token"),
        from: read_moment("from", parameters.get("from"))?,
        to: read_moment("to", parameters.get("to"))?,
        who: parameters.text("who"),
        method: parameters.text("method"),
    };
    Ok(Json(Page::of(audit_log.list(&request).await?)))
}

fn read_moment(field: &str, text: Option<&str>) -> Result<Option<prost_types::Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let read = text.parse().map(|time| Some(wire_time(time)));
    read.map_err(|error: TimeTextError| {
        Problem::invalid(field, reasons::TIME_INVALID, format!("{text:?} is {error}"))
    })
}

#[cfg(test)]
mod tests;
