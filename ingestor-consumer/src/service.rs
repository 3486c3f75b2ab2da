//! gRPC `AuditService`: the audit, asked of a running process.

use std::sync::Arc;

use domain::{PulseLog, UsageStore};
use proto::v1;
use service::Problem;
use tonic::{Request, Response, Status};

use crate::audit::{self, Mismatch};

/// Serves audits over a log and a store.
pub struct AuditService<L, U> {
    log: Arc<L>,
    store: Arc<U>,
    /// One audit at a time: it reads all there is.
    turn: tokio::sync::Mutex<()>,
}

impl<L: PulseLog, U: UsageStore> AuditService<L, U> {
    /// Takes what is to be audited.
    #[must_use]
    pub fn new(log: Arc<L>, store: Arc<U>) -> Self {
        Self { log, store, turn: tokio::sync::Mutex::new(()) }
    }
}

#[tonic::async_trait]
impl<L: PulseLog, U: UsageStore> v1::audit_service_server::AuditService for AuditService<L, U> {
    async fn audit(
        &self,
        _request: Request<v1::AuditRequest>,
    ) -> Result<Response<v1::AuditResponse>, Status> {
        let _turn = self.turn.lock().await;
        let report = audit::audit(Arc::clone(&self.log), Arc::clone(&self.store))
            .await
            .map_err(|error| Status::from(Problem::internal(error.to_string())))?;
        let mismatches = report.mismatches.into_iter().map(|mismatch| {
            let Mismatch { partition, segment_start, invariant, message } = mismatch;
            v1::AuditMismatch {
                partition: partition.0.into(),
                segment_start: segment_start.0,
                invariant: invariant.to_owned(),
                message,
            }
        });
        Ok(Response::new(v1::AuditResponse {
            segments: report.segments,
            refolded: report.refolded,
            mismatches: mismatches.collect(),
        }))
    }
}
