//! The description of the HTTP door, which `/openapi.json` serves and a snapshot test pins.

use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::{
    documents::{ProblemDocument, ViolationDocument},
    operations, usage,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pulso",
        description = "Usage over time, dead letters, the state of the pipeline, and with the stage that prices also catalogues, contracts, billing runs and invoices. Decimals and 64-bit integers are strings, instants are RFC 3339 in UTC. Every answer carries `x-request-id`; every error is an RFC 9457 problem with a `reason` to branch on.",
    ),
    paths(
        usage::usage,
        operations::status,
        operations::dead_letters,
        operations::dead_letter,
        operations::livez,
        operations::readyz,
        operations::metrics,
        serve,
    ),
    components(schemas(ProblemDocument, ViolationDocument)),
    tags(
        (name = "usage", description = "What was used."),
        (name = "operations", description = "What an operator asks."),
        (name = "probes", description = "What machines ask."),
    ),
)]
struct Description;

/// The description of this stage's routes, for merging with those of others.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "probes",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
)]
pub(super) fn serve(description: &utoipa::openapi::OpenApi) -> impl IntoResponse + use<> {
    axum::Json(description.clone())
}
