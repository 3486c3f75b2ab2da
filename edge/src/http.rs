//! The HTTP door: the routes of the running stages and of the process itself, and what holds for
//! every answer.
//!
//! Every answer carries `x-request-id`, and every error, whoever found it, is an RFC 9457 document.

mod index;
mod openapi;
mod probes;
mod problems;

use std::sync::Arc;

use axum::{Router, http::header, middleware, response::IntoResponse, routing::get};
use runtime::Health;
use utoipa::openapi::OpenApi;

pub use self::openapi::described;
use crate::{
    correlation::CorrelationLayer,
    doors::Routes,
    requests::{Methods, RequestsLayer},
};

/// Most bytes of a body that a read may carry. Reads need none; clients that send one by habit
/// send a small one.
pub const BODY_BYTES_MAX: usize = 16 * 1_024;

/// Gives all metrics of the process in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// All of HTTP in one router.
///
/// # Panics
/// When two stages have the same route.
pub fn router(
    stages: impl IntoIterator<Item = (Routes, OpenApi)>,
    health: Health,
    render_metrics: RenderMetrics,
) -> Router {
    let (routes, descriptions): (Vec<_>, Vec<_>) = stages.into_iter().unzip();
    let description = Arc::new(described(descriptions));
    let index = index::page(&description);
    let own = Router::new()
        .route("/", get(async move || index))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(async move |query| probes::readyz(&health, query)))
        .route("/metrics", get(async move || probes::metrics(&render_metrics)))
        .route("/openapi.json", get(async move || openapi::serve(&description)));
    let own = Routes::new(own, BODY_BYTES_MAX).router;
    routes
        .into_iter()
        .fold(own, |all, routes| all.merge(routes.router))
        .fallback(problems::route_not_found)
        .layer(middleware::from_fn(problems::dress))
        .layer(RequestsLayer::new(Methods::Http))
        .layer(CorrelationLayer)
}

/// A body with its media type.
fn typed(media_type: &'static str, body: impl IntoResponse) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, media_type)], body)
}
