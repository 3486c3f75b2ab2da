//! What operators ask: status, dead letters.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use domain::{BlockStore, PulseLog};
use edge::{
    accept::{self, JSON},
    access::Principal,
    parameters::Parameters,
    problem::{Problem, ProblemJson, Violation, http::HttpProblem, reasons},
};

use super::{
    documents::{DeadLetterEntry, DeadLettersDocument, StatusDocument},
    examples,
};
use crate::{api::QueryApi, dead_letters::DeadLettersRequest};

/// The parameters of `/v1/dlq`.
pub(super) const DEAD_LETTERS_PARAMETERS: [&str; 5] =
    ["generation", "reason", "tenant", "page_size", "page_token"];

/// The parameters of one dead letter, beside its place.
pub(super) const DEAD_LETTER_PARAMETERS: [&str; 1] = ["generation"];

/// Where each partition stands, and what became of every pulse read.
///
/// Answers 200 also when the pipeline is not healthy: `healthy` and `problems` say so.
#[utoipa::path(
    get,
    path = "/v1/status",
    operation_id = "getStatus",
    tag = "operations",
    responses(
        (status = 200, description = "The status at this moment.", body = StatusDocument, example = json!(examples::status())),
        (status = 400, description = "A parameter was given.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 406, description = "JSON is not accepted.", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn status<U: BlockStore, L: PulseLog>(
    State(api): State<Arc<QueryApi<U, L>>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpProblem> {
    accept::choose(&headers, &[JSON])?;
    Parameters::parse(query.as_deref(), &[], &[])?;
    Ok(Json(StatusDocument::of(&api.status().await)).into_response())
}

/// Dead letters in groups, in the order of the log, without their bytes.
///
/// A group is what one segment of the log set aside for one reason and tenant. Each is shown by the
/// first of its dead letters.
#[utoipa::path(
    get,
    path = "/v1/dlq",
    operation_id = "listDeadLetters",
    tag = "operations",
    params(
        ("generation" = Option<u32>, Query, description = "Generation of the log, from 1; the newest when left out.", minimum = 1, example = 1),
        ("reason" = Option<String>, Query, description = "Only groups with this reason, for example `too_late`.", example = "too_late"),
        ("tenant" = Option<String>, Query, description = "Only groups of this tenant.", max_length = 128, example = "acme"),
        ("page_size" = Option<u16>, Query, description = "50 when left out.", minimum = 1, maximum = 1000, example = 50),
        ("page_token" = Option<String>, Query, description = "From the answer before. `generation`, `reason` and `tenant` must stay as they were.", example = "AQAAAAAAAAAq"),
    ),
    responses(
        (status = 200, description = "One page.", body = DeadLettersDocument, example = json!(examples::dead_letters())),
        (status = 400, description = "A parameter is wrong.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 406, description = "JSON is not accepted.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "The store does not answer now.", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn dead_letters<U: BlockStore, L: PulseLog>(
    State(api): State<Arc<QueryApi<U, L>>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpProblem> {
    accept::choose(&headers, &[JSON])?;
    let parameters = Parameters::parse(query.as_deref(), &DEAD_LETTERS_PARAMETERS, &[])?;
    let request = DeadLettersRequest {
        generation: parameters.text("generation"),
        reason: parameters.text("reason"),
        tenant: parameters.text("tenant"),
        page_size: parameters.text("page_size"),
        page_token: parameters.text("page_token"),
    };
    let page = api.dead_letters(&request, &principal).await?;
    Ok(Json(DeadLettersDocument::of(&page)).into_response())
}

/// One dead letter with its bytes, which are read from the log.
#[utoipa::path(
    get,
    path = "/v1/dlq/{partition}/{offset}/{index}",
    operation_id = "getDeadLetter",
    tag = "operations",
    params(
        ("partition" = u32, Path, description = "The partition.", maximum = 65535, example = 0),
        ("offset" = String, Path, description = "The record, a 64-bit integer as answers write it.", pattern = "^[0-9]{1,20}$", example = "42"),
        ("index" = u32, Path, description = "Place of the pulse in the record; 0 for a whole record.", example = 0),
        ("generation" = Option<u32>, Query, description = "Generation of the log, from 1; the newest when left out.", minimum = 1, example = 1),
    ),
    responses(
        (status = 200, description = "The dead letter, with `payload`.", body = DeadLetterEntry, example = json!(examples::dead_letter())),
        (status = 400, description = "The place is not three numbers, a parameter is wrong, or the log cannot be read there.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "No dead letter stands there.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 406, description = "JSON is not accepted.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "The store does not answer now.", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn dead_letter<U: BlockStore, L: PulseLog>(
    State(api): State<Arc<QueryApi<U, L>>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    Path((partition, offset, index)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpProblem> {
    accept::choose(&headers, &[JSON])?;
    let parameters = Parameters::parse(query.as_deref(), &DEAD_LETTER_PARAMETERS, &[])?;
    let place = place_of(&partition, &offset, &index)?;
    let letter = api.dead_letter(place, &parameters.text("generation"), &principal).await?;
    Ok(Json(DeadLetterEntry::of(&letter)).into_response())
}

fn place_of(partition: &str, offset: &str, index: &str) -> Result<(u32, u64, u32), Problem> {
    let mut violations = Vec::new();
    let mut refuse = |field: &str, text: &str| {
        let message = format!("{text:?} is not a whole number in range");
        violations.push(Violation::new(field, reasons::PARAMETER_INVALID, message));
        0
    };
    let place = (
        partition.parse().unwrap_or_else(|_| refuse("partition", partition)),
        offset.parse().unwrap_or_else(|_| refuse("offset", offset).into()),
        index.parse().unwrap_or_else(|_| refuse("index", index)),
    );
    Problem::check(violations).map(|()| place)
}
