//! Server: the doors of a process's stages behind its two listeners, within the bounds that both
//! share.

use axum::Router;
use runtime::{Health, Shutdown};
use tokio::net::TcpListener;

use crate::{
    access::{
        Access, Authenticator, Rules,
        browser::{Origin, Transport},
        rate::Rates,
        rules::RulesError,
    },
    doors::Doors,
    grpc::{self, GrpcError, Services},
    http::{self, Front, Hosts, RenderMetrics},
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
    /// Who finds the principal of a request; `None` while access is off and everybody may do everything.
    pub authenticator: Option<Authenticator>,
    /// How often anybody may ask.
    pub rates: Rates,
    /// Pages of which origins may read answers over HTTP.
    pub origins: Vec<Origin>,
    /// How the doors are reached.
    pub transport: Transport,
    /// By which names over HTTP.
    pub hosts: Hosts,
}

/// The doors of all stages, put together.
pub struct Served {
    services: Services,
    router: Router,
    body_bytes_max: usize,
    health: Health,
    descriptors: &'static [u8],
    access: Access,
}

impl Served {
    /// Puts the doors of a process's stages together.
    ///
    /// # Errors
    /// When a method or a route has no access rule, or a rule no method: nothing is served.
    ///
    /// # Panics
    /// When two stages serve the same route or service.
    pub fn new(
        stages: impl IntoIterator<Item = Doors>,
        process: Process,
    ) -> Result<Self, RulesError> {
        let (mut services, mut routes, mut descriptions) =
            (Services::default(), Vec::new(), Vec::new());
        let mut rules = [&grpc::OWN_RULES[..], &http::OWN_RULES].concat();
        for doors in stages {
            services = services.and(doors.grpc);
            routes.push(doors.http);
            descriptions.push(doors.openapi);
            rules.extend(doors.rules);
        }
        let rules = Rules::new(rules)?;
        let description = http::described(descriptions, &rules);
        let mut known = services.methods(process.descriptors);
        known.extend(http::methods(&description));
        // The page at `/` is for people and described to nobody else.
        known.push("GET /".to_owned());
        let own = grpc::OWN_RULES.iter().map(|rule| rule.method);
        rules.check(known.iter().map(String::as_str).chain(own))?;
        let access = match process.authenticator {
            Some(authenticator) => Access::new(rules, authenticator, process.rates),
            None => Access::off(rules, process.rates),
        };
        let body_bytes_max = routes.iter().map(|routes| routes.body_bytes_max).max();
        let front = Front {
            health: process.health.clone(),
            render_metrics: process.render_metrics,
            access: access.clone(),
            origins: process.origins,
            transport: process.transport,
            hosts: process.hosts,
        };
        Ok(Self {
            services,
            router: http::router(routes, description, front),
            body_bytes_max: body_bytes_max.unwrap_or(0).max(http::BODY_BYTES_MAX),
            health: process.health,
            descriptors: process.descriptors,
            access,
        })
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
        let Served { services, router, body_bytes_max, health, descriptors, access } = served;
        let body_bytes_max = u32::try_from(body_bytes_max).unwrap_or(u32::MAX);
        let http = HttpDoor::new(router, self.calls.clone(), body_bytes_max)
            .serve(self.listener(http, Protocols::Http), shutdown.clone());
        let grpc = grpc::serve(
            services,
            (self.listener(grpc, Protocols::Http2), self.calls.clone()),
            (health, descriptors, access),
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
