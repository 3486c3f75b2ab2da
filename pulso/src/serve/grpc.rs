//! The gRPC door: the services of the running stages behind one listener, with health and
//! reflection.

use std::sync::Arc;

use billing::BillingApi;
use edge::{
    correlation::CorrelationLayer,
    listen::{
        calls::{Calls, Metered},
        frames::Quiet,
    },
    problem::RefusalLayer,
};
use ingestor_api::Ingest;
use ingestor_consumer::service::AuditService;
use proto::v1::audit_service_server::AuditServiceServer;
use query_api::{
    QueryApi,
    grpc::{operations_service, query_service},
};
use runtime::{Health, Shutdown};
use storage::choice::{Billing, Log, Usage};
use tokio::net::TcpListener;
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::doors::{Doors, REQUEST_BYTES_MAX};
use crate::exit::Failure;

/// What the running stages serve; absent ones are not registered.
#[derive(Default)]
pub(super) struct Services {
    pub(super) ingest: Option<Ingest<Log>>,
    pub(super) audit: Option<AuditService<Log, Usage>>,
    pub(super) pricing: Option<BillingApi<Usage, Billing, Log>>,
    pub(super) query: Option<Arc<QueryApi<Usage, Log>>>,
}

impl Services {
    /// The names of those that are served, as a health check asks for them.
    fn names(&self) -> Vec<&'static str> {
        let ingest = ["pulso.v1.IngestService", "pulso.v1.UsageService"];
        let pricing = ["pulso.v1.CatalogService", "pulso.v1.BillingService"];
        let query = ["pulso.v1.QueryService", "pulso.v1.OperationsService"];
        let mut names = Vec::new();
        names.extend(self.ingest.iter().flat_map(|_| ingest));
        names.extend(self.audit.iter().map(|_| "pulso.v1.AuditService"));
        names.extend(self.pricing.iter().flat_map(|_| pricing));
        names.extend(self.query.iter().flat_map(|_| query));
        names
    }

    fn routes(self, calls: &Calls) -> Result<Routes, Failure> {
        let mut routes = RoutesBuilder::default();
        if let Some(ingest) = self.ingest {
            // Counts its messages itself, until they are in the log.
            routes.add_service(ingest.ingest_server());
            routes.add_service(metered(calls, ingest.usage_server()));
        }
        if let Some(audit) = self.audit {
            routes.add_service(metered(calls, AuditServiceServer::new(audit)));
        }
        if let Some(pricing) = self.pricing {
            routes.add_service(metered(calls, pricing.catalog_server()));
            routes.add_service(metered(calls, pricing.billing_server()));
        }
        if let Some(query) = self.query {
            routes.add_service(metered(calls, query_service(Arc::clone(&query))));
            routes.add_service(metered(calls, operations_service(query)));
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // A stream of questions, on which a person at a tool may be quiet.
        let newer = reflection().build_v1().map_err(Failure::internal)?;
        routes.add_service(calls.metered(newer, REQUEST_BYTES_MAX, Quiet::Honest));
        // Most tools and libraries still ask under the older name.
        let older = reflection().build_v1alpha().map_err(Failure::internal)?;
        routes.add_service(calls.metered(older, REQUEST_BYTES_MAX, Quiet::Honest));
        Ok(routes.routes())
    }
}

/// A service of calls with one message each.
fn metered<S>(calls: &Calls, service: S) -> Metered<S> {
    calls.metered(service, REQUEST_BYTES_MAX, Quiet::Counted)
}

/// Serves until shutdown is requested and every call has ended.
///
/// # Errors
/// When the listener fails.
pub(super) async fn serve(
    services: Services,
    socket: TcpListener,
    doors: Doors,
    health: Health,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let names = services.names();
    let routes = services.routes(&doors.calls)?;
    // Known before the first call comes: a service that is not ready yet is not one that is not there.
    for name in names.iter().copied().chain([""]) {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    let following = tokio::spawn(follow(health, reporter, names, shutdown.clone()));
    let limits = &doors.limits;
    let incoming = doors.listener(socket).into_stream();
    let served = Server::builder()
        .layer(CorrelationLayer)
        .layer(RefusalLayer)
        .layer(doors.calls.clone())
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
        .add_service(metered(&doors.calls, health_service))
        .serve_with_incoming_shutdown(incoming, shutdown.requested())
        .await;
    following.abort();
    served.map_err(Failure::internal)
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
