//! What machines ask: probes and metrics.

use axum::{
    Extension,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use runtime::Health;

use super::{RenderMetrics, problems::NoError, typed};
use crate::{
    parameters::Parameters,
    problem::{ProblemJson, http::HttpProblem},
};

const TEXT: &str = "text/plain; charset=utf-8";

/// Tells that the process runs and answers.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "getLiveness",
    tag = "probes",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain", example = "ok\n")),
)]
pub(super) async fn livez() -> impl IntoResponse {
    typed(TEXT, "ok\n")
}

/// Tells whether every part of the process can do its work.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "getReadiness",
    tag = "probes",
    params(
        ("verbose" = Option<String>, Query, description = "A line for each check also when all pass. Its value does not matter.", example = ""),
    ),
    responses(
        (status = 200, description = "Every part can.", body = String, content_type = "text/plain", example = "ready\n"),
        (status = 400, description = "A parameter is unknown.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "Some cannot; a line for each check says which and why.", body = String, content_type = "text/plain", example = "[-]store failed: disk full\nnot ready\n"),
    ),
)]
pub(super) fn readyz(health: &Health, RawQuery(query): RawQuery) -> Result<Response, HttpProblem> {
    let parameters = Parameters::parse(query.as_deref(), &[], &["verbose"])?;
    let report = health.report();
    if !report.is_ready() {
        let answer = typed(TEXT, report.to_string());
        return Ok((StatusCode::SERVICE_UNAVAILABLE, Extension(NoError), answer).into_response());
    }
    let text = match parameters.get("verbose") {
        Some(_) => report.to_string(),
        None => "ready\n".to_owned(),
    };
    Ok(typed(TEXT, text).into_response())
}

/// All metrics of the process.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "getMetrics",
    tag = "probes",
    responses((status = 200, description = "Prometheus' text format, version 0.0.4.", body = String, content_type = "text/plain", example = "pulso_edge_calls 1\n")),
)]
pub(super) fn metrics(render: &RenderMetrics) -> Response {
    typed("text/plain; version=0.0.4; charset=utf-8", render()).into_response()
}
