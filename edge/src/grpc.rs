//! The gRPC door: the services of the running stages behind one listener, with health and
//! reflection.

use std::convert::Infallible;

use http::{Request, Response};
use runtime::{Health, Shutdown};
use tonic::{
    body::Body,
    codegen::Service,
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    access::{Access, AccessLayer, Roles, Rule, TenantRule},
    correlation::CorrelationLayer,
    listen::{Listener, OriginLayer, calls::Calls, frames::Quiet},
    problem::RefusalLayer,
    requests::{Methods, RequestsLayer, grpc_methods},
};

/// Most bytes of a request for health or reflection.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Who may call health and reflection: whoever looks whether the process runs, and who has any
/// credential.
pub const OWN_RULES: [Rule; 4] = [
    Rule::open("/grpc.health.v1.Health/Check"),
    // It never ends, so nobody unknown may hold it.
    Rule::new("/grpc.health.v1.Health/Watch", Roles::ALL, TenantRule::Any),
    Rule::new(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Roles::ALL,
        TenantRule::Any,
    ),
    Rule::new(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Roles::ALL,
        TenantRule::Any,
    ),
];

/// Why gRPC is not served.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The descriptors cannot be read: a mistake in the program.
    #[error("the descriptors of the services cannot be read: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
    /// The listener failed.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A service as tonic generates it.
pub trait GrpcService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GrpcService for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

type AddService = Box<dyn FnOnce(&mut RoutesBuilder, &Calls) + Send>;

/// The gRPC services of a stage.
#[derive(Default)]
pub struct Services {
    names: Vec<&'static str>,
    add: Vec<AddService>,
}

impl Services {
    /// Adds a service of calls with one message each, of at most `message_bytes_max` bytes. They are
    /// counted against the bytes of requests that may be held.
    #[must_use]
    pub fn with<S: GrpcService>(self, service: S, message_bytes_max: usize) -> Self {
        self.add(S::NAME, move |routes, calls| {
            routes.add_service(calls.metered(service, message_bytes_max, Quiet::Counted));
        })
    }

    /// Adds a service that counts the bytes of its messages itself.
    #[must_use]
    pub fn with_own_count<S: GrpcService>(self, service: S) -> Self {
        self.add(S::NAME, move |routes, _| {
            routes.add_service(service);
        })
    }

    /// Every method of these services, by their encoded descriptors.
    pub(crate) fn methods(&self, descriptors: &[u8]) -> Vec<String> {
        grpc_methods(&self.names, descriptors)
    }

    /// These and others.
    #[must_use]
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.names.extend(others.names);
        self.add.extend(others.add);
        self
    }

    fn add(
        mut self,
        name: &'static str,
        add: impl FnOnce(&mut RoutesBuilder, &Calls) + Send + 'static,
    ) -> Self {
        self.names.push(name);
        self.add.push(Box::new(add));
        self
    }

    fn routes(self, calls: &Calls, descriptors: &'static [u8]) -> Result<Routes, GrpcError> {
        let mut routes = RoutesBuilder::default();
        for add in self.add {
            add(&mut routes, calls);
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // What errors carry, `google.rpc.ErrorInfo` and others: tools print what they know.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        // A stream of questions, on which a person at a tool may be quiet.
        let newer = reflection().build_v1()?;
        routes.add_service(calls.metered(newer, REQUEST_BYTES_MAX, Quiet::Honest));
        // Most tools and libraries still ask under the older name.
        let older = reflection().build_v1alpha()?;
        routes.add_service(calls.metered(older, REQUEST_BYTES_MAX, Quiet::Honest));
        Ok(routes.routes())
    }
}

/// Serves until shutdown is requested and every call has ended.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    services: Services,
    (listener, calls): (Listener, Calls),
    (health, descriptors, access): (Health, &'static [u8], Access),
    shutdown: Shutdown,
) -> Result<(), GrpcError> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let names = services.names.clone();
    let routes = services.routes(&calls, descriptors)?;
    // Known before the first call comes: a service that is not ready yet is not an unknown one.
    for name in names.iter().copied().chain([""]) {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    let following = tokio::spawn(follow(health, reporter, names.clone(), shutdown.clone()));
    let limits = calls.limits();
    let served = Server::builder()
        .layer(OriginLayer)
        .layer(CorrelationLayer)
        .layer(RequestsLayer::new(Methods::of(&names, descriptors)))
        .layer(RefusalLayer)
        .layer(AccessLayer::grpc(access))
        .layer(calls.clone())
        // A peer that answers no ping is gone, and the streams it held with it: a client whose
        // machine or network died closes nothing.
        .http2_keepalive_interval(Some(limits.keep_alive))
        .http2_keepalive_timeout(Some(limits.keep_alive))
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_concurrent_streams(limits.streams_per_connection_max)
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_max_pending_accept_reset_streams(Some(limits.resets_pending_max))
        .add_routes(routes)
        .add_service(calls.metered(health_service, REQUEST_BYTES_MAX, Quiet::Counted))
        .serve_with_incoming_shutdown(listener.into_stream(), shutdown.requested())
        .await;
    following.abort();
    Ok(served?)
}

/// Tells gRPC health what the process's own checks say: for the server as a whole, which is the
/// service named by the empty string, and for each service alike.
async fn follow(
    health: Health,
    reporter: HealthReporter,
    names: Vec<&'static str>,
    shutdown: Shutdown,
) {
    let mut changes = health.changes();
    loop {
        let ready = changes.borrow_and_update().is_ready() && !shutdown.is_requested();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in names.iter().copied().chain([""]) {
            reporter.set_service_status(name, status).await;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = shutdown.requested(), if ready => {}
        }
    }
}
