//! The description of the HTTP door, which `/openapi.json` serves: that of every running stage and
//! of the process's own routes.

use axum::response::IntoResponse;
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, OpenApi as Document, PathItem, Ref, RefOr, ResponseBuilder, path::Operation,
    },
};

use super::probes;
use crate::problem::{
    ProblemJson,
    http::{CONTENT_TYPE, ViolationJson},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pulso",
        description = "Usage over time, dead letters, the state of the pipeline, and with the stage that prices also catalogues, contracts, billing runs and invoices. Decimals and 64-bit integers are strings, instants are RFC 3339 in UTC. Every answer carries `x-request-id`; every error is an RFC 9457 problem with a `reason` to branch on.",
    ),
    paths(probes::livez, probes::readyz, probes::metrics, serve),
    components(schemas(ProblemJson, ViolationJson)),
    tags((name = "probes", description = "What machines ask.")),
)]
struct Own;

/// Merges the descriptions of stages with that of the process's own routes. Every operation that
/// does not say so itself may answer any other problem.
#[must_use]
pub fn described(stages: impl IntoIterator<Item = Document>) -> Document {
    let mut whole = Document::default();
    whole.info = Own::openapi().info;
    for stage in stages.into_iter().chain([Own::openapi()]) {
        whole.merge(stage);
    }
    let operations = whole.paths.paths.values_mut().flat_map(operations);
    for operation in operations {
        let responses = &mut operation.responses.responses;
        responses.entry("default".to_owned()).or_insert_with(any_other_problem);
    }
    whole
}

/// The operations of a path, whatever their method.
pub(super) fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = path;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

fn any_other_problem() -> RefOr<utoipa::openapi::Response> {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description("Any other problem.")
        .content(CONTENT_TYPE, problem)
        .build();
    RefOr::T(response)
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "probes",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
)]
pub(super) fn serve(description: &Document) -> impl IntoResponse + use<> {
    axum::Json(description.clone())
}
