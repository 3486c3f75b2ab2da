//! Doors: what a stage serves over gRPC and HTTP, as values.
//!
//! A stage hands its doors over and nothing else. The process puts those of its stages behind the
//! listeners ([`crate::server`]), so a stage that does not run has no address.

use axum::{Router, extract::DefaultBodyLimit};
use tower_http::limit::RequestBodyLimitLayer;
use utoipa::openapi::OpenApi;

use crate::{access::Rule, grpc::Services};

/// What one stage serves.
#[derive(Default)]
pub struct Doors {
    /// Its gRPC services.
    pub grpc: Services,
    /// Its HTTP routes, which overlap with those of no other stage.
    pub http: Routes,
    /// The description of these routes.
    pub openapi: OpenApi,
    /// Who may call each method of both.
    pub rules: Vec<Rule>,
}

/// HTTP routes with the bound on their bodies.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    pub(crate) router: Router,
    pub(crate) body_bytes_max: usize,
}

impl Routes {
    /// Takes routes without a fallback, and the most bytes that a request's body may have. A handler
    /// may return an [`HttpProblem`](crate::problem::http::HttpProblem); any other error answer
    /// becomes one with its text as the detail.
    #[must_use]
    pub fn new(router: Router, body_bytes_max: usize) -> Self {
        let router = router
            .layer(DefaultBodyLimit::disable())
            .layer(RequestBodyLimitLayer::new(body_bytes_max));
        Self { router, body_bytes_max }
    }
}
