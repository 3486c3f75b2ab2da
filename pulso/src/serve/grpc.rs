//! The gRPC door: the services of the running stages behind one listener, with health and
//! reflection.

use std::sync::Arc;

use ingestor_api::Ingest;
use ingestor_consumer::service::AuditService;
use pricing::PricingService;
use proto::v1::audit_service_server::AuditServiceServer;
use query_api::{
    QueryApi,
    grpc::{operations_service, query_service},
};
use service::{Health, Shutdown, correlation::CorrelationLayer};
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

/// What the running stages serve; absent ones are not registered.
#[derive(Default)]
pub(super) struct Services {
    pub(super) ingest: Option<Ingest<Log>>,
    pub(super) audit: Option<AuditService<Log, Usage>>,
    pub(super) pricing: Option<PricingService<Usage, Billing, Log>>,
    pub(super) query: Option<Arc<QueryApi<Usage, Log>>>,
}

impl Services {
    fn routes(self, health: HealthReporter) -> Result<(Routes, HealthReporter), Failure> {
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
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(Failure::internal)?;
        routes.add_service(reflection);
        Ok((routes.routes(), health))
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
    let (routes, reporter) = services.routes(reporter)?;
    let following = tokio::spawn(follow(health, reporter, shutdown.clone()));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .layer(CorrelationLayer)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_routes(routes)
        .add_service(health_service)
        .serve_with_incoming_shutdown(incoming, shutdown.requested())
        .await;
    following.abort();
    served.map_err(Failure::internal)
}

/// Tells gRPC health (for the server as a whole, the service named by the empty string) what the
/// process's own checks say.
async fn follow(health: Health, reporter: HealthReporter, shutdown: Shutdown) {
    let mut changes = health.changes();
    loop {
        let ready = changes.borrow_and_update().is_ready() && !shutdown.is_requested();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = shutdown.requested(), if ready => {}
        }
    }
}
