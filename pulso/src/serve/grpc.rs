//! The gRPC door: the services of the running stages behind one listener, with health and
//! reflection.

use std::{sync::Arc, time::Duration};

use ingestor_api::Ingest;
use ingestor_consumer::service::AuditService;
use pricing::PricingService;
use proto::v1::audit_service_server::AuditServiceServer;
use query_api::{
    QueryApi,
    grpc::{operations_service, query_service},
};
use service::{Health, Shutdown, correlation::CorrelationLayer, problem::RefusalLayer};
use storage::choice::{Billing, Log, Usage};
use tokio::net::TcpListener;
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::exit::Failure;

/// Bytes that a client may have under way before the server reads on: enough for a fast stream,
/// while what is taken and not yet durable has limits of its own.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A peer that answers no ping within twice this is gone, and the streams it held with it: a client
/// whose machine or network died closes nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What the running stages serve; absent ones are not registered.
#[derive(Default)]
pub(super) struct Services {
    pub(super) ingest: Option<Ingest<Log>>,
    pub(super) audit: Option<AuditService<Log, Usage>>,
    pub(super) pricing: Option<PricingService<Usage, Billing, Log>>,
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

    fn routes(self) -> Result<Routes, Failure> {
        let mut routes = RoutesBuilder::default();
        if let Some(ingest) = self.ingest {
            routes.add_service(ingest.ingest_server());
            routes.add_service(ingest.usage_server());
        }
        if let Some(audit) = self.audit {
            routes.add_service(AuditServiceServer::new(audit));
        }
        if let Some(pricing) = self.pricing {
            routes.add_service(pricing.catalog_server());
            routes.add_service(pricing.billing_server());
        }
        if let Some(query) = self.query {
            routes.add_service(query_service(Arc::clone(&query)));
            routes.add_service(operations_service(query));
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        routes.add_service(reflection().build_v1().map_err(Failure::internal)?);
        // Most tools and libraries still ask under the older name.
        routes.add_service(reflection().build_v1alpha().map_err(Failure::internal)?);
        Ok(routes.routes())
    }
}

/// Serves until shutdown is requested and every call has ended.
///
/// # Errors
/// When the listener fails.
pub(super) async fn serve(
    services: Services,
    listener: TcpListener,
    health: Health,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let names = services.names();
    let routes = services.routes()?;
    // Known before the first call comes: a service that is not ready yet is not one that is not there.
    for name in names.iter().copied().chain([""]) {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    let following = tokio::spawn(follow(health, reporter, names, shutdown.clone()));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .layer(CorrelationLayer)
        .layer(RefusalLayer)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_routes(routes)
        .add_service(health_service)
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
