//! Server: the doors of a process's stages behind its two listeners, within the bounds that both
//! share.

use axum::Router;
use runtime::{Health, Shutdown};
use tokio::net::TcpListener;

use crate::{
    doors::Doors,
    grpc::{self, GrpcError, Services},
    http::{self, RenderMetrics},
    listen::{EdgeLimits, Gate, Listener, Tls, calls::Calls, http::HttpDoor, tls::Protocols},
};

/// The bounds on clients that both listeners share. Clones share them.
#[derive(Clone, Debug)]
pub struct Edge {
    calls: Calls,
    gate: Gate,
    tls: Option<Tls>,
}

/// What the edge shows of the process itself.
pub struct Process {
    /// Its checks, for the probes and for gRPC health.
    pub health: Health,
    /// Its metrics.
    pub render_metrics: RenderMetrics,
    /// Encoded descriptors of every service, for reflection.
    pub descriptors: &'static [u8],
}

/// The doors of all stages, put together.
pub struct Served {
    services: Services,
    router: Router,
    body_bytes_max: usize,
    health: Health,
    descriptors: &'static [u8],
}

impl Served {
    /// Puts the doors of a process's stages together.
    ///
    /// # Panics
    /// When two stages serve the same route or service.
    #[must_use]
    pub fn new(stages: impl IntoIterator<Item = Doors>, process: Process) -> Self {
        let (mut services, mut http) = (Services::default(), Vec::new());
        for doors in stages {
            services = services.and(doors.grpc);
            http.push((doors.http, doors.openapi));
        }
        let body_bytes_max = http.iter().map(|(routes, _)| routes.body_bytes_max).max();
        let router = http::router(http, process.health.clone(), process.render_metrics);
        Self {
            services,
            router,
            body_bytes_max: body_bytes_max.unwrap_or(0).max(http::BODY_BYTES_MAX),
            health: process.health,
            descriptors: process.descriptors,
        }
    }

    /// Every route as one router, for tests without a listener.
    pub fn router(&self) -> Router {
        self.router.clone()
    }
}

impl Edge {
    /// Takes the bounds, and what secures both listeners, if anything does.
    #[must_use]
    pub fn new(limits: &EdgeLimits, tls: Option<Tls>) -> Self {
        Self { calls: Calls::new(limits), gate: Gate::new(limits), tls }
    }

    /// Serves both doors until shutdown is requested and every call and request is answered.
    ///
    /// # Errors
    /// When the gRPC listener fails.
    pub async fn serve(
        &self,
        served: Served,
        [grpc, http]: [TcpListener; 2],
        shutdown: &Shutdown,
    ) -> Result<(), GrpcError> {
        let Served { services, router, body_bytes_max, health, descriptors } = served;
        let body_bytes_max = u32::try_from(body_bytes_max).unwrap_or(u32::MAX);
        let http = HttpDoor::new(router, self.calls.clone(), body_bytes_max)
            .serve(self.listener(http, Protocols::Http), shutdown.clone());
        let grpc = grpc::serve(
            services,
            (self.listener(grpc, Protocols::Http2), self.calls.clone()),
            (health, descriptors),
            shutdown.clone(),
        );
        tokio::join!(grpc, http).0
    }

    fn listener(&self, socket: TcpListener, protocols: Protocols) -> Listener {
        let listener = Listener::new(socket, &self.gate);
        match &self.tls {
            Some(tls) => listener.under_tls(tls.clone(), protocols),
            None => listener,
        }
    }
}
