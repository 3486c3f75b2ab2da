//! The HTTP door: the routes of the running stages and of the process itself, and what holds for
//! every answer.
//!
//! Every answer carries `x-request-id`, and every error, whoever found it, is an RFC 9457 document.

mod problems;
mod probes;
mod openapi;
mod index;

use std::sync::Arc;

use axum::{Router, http::header, middleware, response::IntoResponse, routing::get};
use runtime::Health;
use utoipa::openapi::OpenApi;

pub use self::openapi::described;
pub(crate) use self::openapi::methods;
pub use crate::access::pages::Hosts;
use crate::{
    access::{
        Access, AccessLayer, Roles, Rule, TenantRule,
        browser::{self, Origin, Transport},
        pages::Guests,
    },
    correlation::CorrelationLayer,
    doors::Routes,
    listen::pace,
    requests::{Methods, RequestsLayer},
};

/// Most bytes of a body that a read may carry. Reads need none; clients that send one by habit
/// send a small one.
pub const BODY_BYTES_MAX: usize = 16 * 1_024;

/// Gives all metrics of the process in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Who may ask the process itself: machines look whether it runs, people and scrapers what it measures.
pub const OWN_RULES: [Rule; 5] = [
    Rule::open("GET /"),
    Rule::open("GET /livez"),
    Rule::open("GET /readyz"),
    Rule::open("GET /openapi.json"),
    Rule::read("GET /metrics", Roles::ALL, TenantRule::Any),
];

/// What the HTTP door shows of the process, and to whom.
pub struct Front {
    /// Its checks, for the probes.
    pub health: Health,
    /// Its metrics.
    pub render_metrics: RenderMetrics,
    /// Who may call what.
    pub access: Access,
    /// Pages of which origins may read answers.
    pub origins: Vec<Origin>,
    /// How the door is reached.
    pub transport: Transport,
    /// By which names.
    pub hosts: Hosts,
}

/// All of HTTP in one router.
///
/// # Panics
/// When two stages have the same route.
pub fn router(
    routes: impl IntoIterator<Item = Routes>,
    description: OpenApi,
    front: Front,
) -> Router {
    let Front { health, render_metrics, access, origins, transport, hosts } = front;
    let description = Arc::new(description);
    let index = index::page(&description);
    let own = Router::new()
        .route("/", get(async move || index))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(async move |query| probes::readyz(&health, query)))
        .route("/metrics", get(async move || probes::metrics(&render_metrics)))
        .route("/openapi.json", get(async move || openapi::serve(&description)));
    let own = Routes::new(own, BODY_BYTES_MAX).router;
    let router = routes
        .into_iter()
        .fold(own, |all, routes| all.merge(routes.router))
        .fallback(problems::route_not_found);
    let guests = Guests { hosts, origins: origins.clone().into(), transport };
    let router =
        router.layer(middleware::from_fn(pace::hold)).layer(AccessLayer::http(access, guests));
    let router = router
        .layer(middleware::from_fn(problems::dress))
        .layer(RequestsLayer::new(Methods::Http))
        .layer(CorrelationLayer);
    browser::guard(router, &origins, transport)
}

/// A body with its media type.
fn typed(media_type: &'static str, body: impl IntoResponse) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, media_type)], body)
}
