//! gRPC `AuditService`: the audit, asked of a running process.

use std::sync::Arc;

use domain::{BlockStore, PulseLog};
use edge::{
    Doors, Problem,
    access::{Role, Roles, Rule, TenantRule},
    grpc::Services,
};
use proto::v1::{self, audit_service_server::AuditServiceServer};
use tonic::{Request, Response, Status};

use crate::{
    ConsumerError,
    audit::{self, Mismatch},
    blocks::SortRoom,
    fold::IdsMemory,
};

/// Serves audits over every generation of a log and a store.
pub struct AuditService<L, U> {
    logs: Vec<Arc<L>>,
    store: Arc<U>,
    ids: IdsMemory,
    room: SortRoom,
    /// One audit at a time: it reads all there is.
    turn: tokio::sync::Mutex<()>,
}

impl<L: PulseLog, U: BlockStore> AuditService<L, U> {
    /// Takes what is to be audited: the generations whose logs can be read, oldest first; and how much
    /// memory the ids of the horizon may take in all partitions of one, and what sorting blocks may.
    #[must_use]
    pub fn new(logs: Vec<Arc<L>>, store: Arc<U>, ids: IdsMemory, room: SortRoom) -> Self {
        Self { logs, store, ids, room, turn: tokio::sync::Mutex::new(()) }
    }
}

/// Who may call this stage's methods.
pub const RULES: [Rule; 1] = [Rule::read(
    "/pulso.v1.AuditService/Audit",
    Roles::of(&[Role::Admin, Role::Operator]),
    TenantRule::AllTenants,
)];

/// Most bytes of a request, which has no fields yet.
const REQUEST_BYTES_MAX: usize = 1 << 10;

impl<L: PulseLog, U: BlockStore> AuditService<L, U> {
    /// What this stage serves.
    #[must_use]
    pub fn doors(self) -> Doors {
        let service = AuditServiceServer::new(self);
        let grpc = Services::default().with(service, REQUEST_BYTES_MAX);
        Doors { grpc, rules: RULES.to_vec(), ..Doors::default() }
    }
}

#[tonic::async_trait]
impl<L: PulseLog, U: BlockStore> v1::audit_service_server::AuditService for AuditService<L, U> {
    async fn audit(
        &self,
        _request: Request<v1::AuditRequest>,
    ) -> Result<Response<v1::AuditResponse>, Status> {
        let _turn = self.turn.lock().await;
        let mut response = v1::AuditResponse::default();
        for log in &self.logs {
            self.add(log, &mut response)
                .await
                .map_err(|error| Status::from(Problem::internal(error.to_string())))?;
        }
        Ok(Response::new(response))
    }
}

impl<L: PulseLog, U: BlockStore> AuditService<L, U> {
    async fn add(
        &self,
        log: &Arc<L>,
        response: &mut v1::AuditResponse,
    ) -> Result<(), ConsumerError> {
        let ids = self.ids.clone().share_of(log.generation().partitions);
        let room = self.room.clone();
        let report =
            audit::audit(Arc::clone(log), Arc::clone(&self.store), Some(ids), room).await?;
        let log_id = log.generation().log_id;
        let known = self.store.generations().await?;
        let place = known.iter().position(|known| known.log_id == log_id);
        let generation = place.map_or(1, |place| place as u32 + 1);
        response.segments += report.segments;
        response.refolded += report.refolded;
        response.blocks += report.blocks;
        response.blocks_remade += report.blocks_remade;
        response.mismatches.extend(report.mismatches.into_iter().map(|mismatch| {
            let Mismatch { partition, segment_start, invariant, message } = mismatch;
            v1::AuditMismatch {
                generation,
                partition: partition.0.into(),
                segment_start: segment_start.0,
                invariant: invariant.to_owned(),
                message,
            }
        }));
        Ok(())
    }
}
