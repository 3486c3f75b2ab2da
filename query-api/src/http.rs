//! The HTTP door: the routes of the reads.

mod documents;
mod examples;
mod operations;
mod usage;

use std::sync::Arc;

use axum::{Router, routing::get};
use domain::{BlockStore, PulseLog};
use edge::Routes;
use utoipa::OpenApi;

use crate::api::QueryApi;

#[derive(OpenApi)]
#[openapi(
    paths(usage::usage, operations::status, operations::dead_letters, operations::dead_letter),
    tags(
        (name = "usage", description = "What was used."),
        (name = "operations", description = "What an operator asks."),
    ),
)]
struct Description;

/// The description of these routes.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Routes of every read.
pub fn routes<U: BlockStore, L: PulseLog>(api: Arc<QueryApi<U, L>>) -> Routes {
    let router = Router::new()
        .route("/v1/usage", get(usage::usage::<U, L>))
        .route("/v1/status", get(operations::status::<U, L>))
        .route("/v1/dlq", get(operations::dead_letters::<U, L>))
        .route("/v1/dlq/{partition}/{offset}/{index}", get(operations::dead_letter::<U, L>))
        .with_state(api);
    Routes::new(router, edge::http::BODY_BYTES_MAX)
}
