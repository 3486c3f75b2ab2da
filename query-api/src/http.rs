//! The HTTP door: its routes, and what holds for every answer.
//!
//! Every answer carries `x-request-id`, and every error, whoever found it, is an RFC 9457 document.
//! Routes of other stages are merged in here, so that the same holds for them.

mod accept;
mod documents;
mod openapi;
mod operations;
mod parameters;
mod problems;
mod usage;

use std::sync::Arc;

use axum::{
    Router,
    http::header,
    middleware,
    response::{Html, IntoResponse},
    routing::get,
};
use domain::{PulseLog, UsageStore};
use edge::correlation::CorrelationLayer;
use tower_http::limit::RequestBodyLimitLayer;

pub use self::openapi::openapi;
use crate::api::QueryApi;
pub use edge::problem::http::HttpProblem;

/// Most bytes of a body that a read may carry. Reads need none; clients that send one by habit
/// send a small one.
const BODY_BYTES_MAX: usize = 16 * 1_024;

/// Gives all metrics of the process in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Routes of other stages with their description.
#[derive(Default)]
pub struct Others {
    /// They must not overlap with those of this stage and must have no fallback.
    pub router: Router,
    /// What `/openapi.json` says of them; `None` where there are none.
    pub openapi: Option<utoipa::openapi::OpenApi>,
}

/// All of HTTP in one router: the reads of this stage and the routes of `others`.
///
/// A handler of `others` may return an [`HttpProblem`]; any other error answer of theirs is turned
/// into one with its text as the detail.
///
/// # Panics
/// When a route of `others` is also one of this stage.
pub fn router<U: UsageStore, L: PulseLog>(
    api: Arc<QueryApi<U, L>>,
    render_metrics: RenderMetrics,
    others: Others,
) -> Router {
    let mut description = openapi();
    if let Some(others) = others.openapi {
        description.merge(others);
    }
    let description = Arc::new(description);
    let reads = Router::new()
        .route("/", get(async || Html(include_str!("http/index.html"))))
        .route("/livez", get(operations::livez))
        .route("/readyz", get(operations::readyz::<U, L>))
        .route("/metrics", get(async move || operations::metrics(&render_metrics)))
        .route("/openapi.json", get(async move || openapi::serve(&description)))
        .route("/v1/usage", get(usage::usage::<U, L>))
        .route("/v1/status", get(operations::status::<U, L>))
        .route("/v1/dlq", get(operations::dead_letters::<U, L>))
        .route("/v1/dlq/{partition}/{offset}/{index}", get(operations::dead_letter::<U, L>))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .with_state(api);
    reads
        .merge(others.router)
        .fallback(problems::route_not_found)
        .layer(middleware::from_fn(problems::dress))
        .layer(CorrelationLayer)
}

/// A body with its media type.
fn typed(media_type: &'static str, body: impl IntoResponse) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, media_type)], body)
}
