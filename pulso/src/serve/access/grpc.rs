//! The gRPC door of the API keys and the audit trail, `AccessService`.

use std::sync::Arc;

use domain::{Name, Timestamp};
use edge::{
    Doors, Problem, Violation,
    access::{
        Change, Principal, Role, Roles, Rule, TenantRule, Tenants,
        api_key::KeyId,
        keys::{KeyInfo, Keys, KeysError, NewKey},
    },
    grpc::Services,
    paging,
    problem::reasons,
};
use proto::{
    convert::{timestamp, wire_time},
    v1::{
        self,
        access_service_server::{AccessService, AccessServiceServer},
    },
};
use storage::choice::Billing;
use tonic::{Request, Response, Status};

use super::audit_log::{self, AuditLog};

/// Most bytes of a request: 64 tenants of 128 bytes, and what is around them.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Who may manage keys.
const ADMINS: Roles = Roles::of(&[Role::Admin]);

/// Who may read what others did.
const OPERATORS: Roles = Roles::of(&[Role::Admin, Role::Operator]);

/// Who may call what.
pub const RULES: [Rule; 5] = [
    Rule::write("/pulso.v1.AccessService/CreateKey", ADMINS, TenantRule::AllTenants),
    Rule::read("/pulso.v1.AccessService/ListKeys", ADMINS, TenantRule::AllTenants),
    Rule::write("/pulso.v1.AccessService/RevokeKey", ADMINS, TenantRule::AllTenants),
    Rule::read("/pulso.v1.AccessService/ListAuditLog", OPERATORS, TenantRule::AllTenants),
    Rule::read("GET /v1/audit-log", OPERATORS, TenantRule::AllTenants),
];

struct AccessGrpc {
    /// Absent where no credentials are asked for: whoever reaches such a process is not thereby one who
    /// may make keys for others.
    keys: Option<Arc<Keys<Billing>>>,
    audit_log: Arc<AuditLog>,
}

impl AccessGrpc {
    fn keys(&self) -> Result<&Keys<Billing>, Problem> {
        self.keys.as_deref().ok_or_else(|| {
            let message = "API keys are managed through a server where access.mode = `required`; `pulso key create --local` makes one in the store";
            Problem::failed_precondition(reasons::KEYS_OFF, message)
        })
    }
}

/// What serves the keys, where there are any, and the audit trail.
pub(super) fn doors(keys: Option<Arc<Keys<Billing>>>, audit_log: Arc<AuditLog>) -> Doors {
    let http = audit_log::routes(&audit_log);
    let service = AccessServiceServer::new(AccessGrpc { keys, audit_log });
    Doors {
        grpc: Services::default().with(service, REQUEST_BYTES_MAX),
        http,
        openapi: audit_log::openapi(),
        rules: RULES.to_vec(),
    }
}

#[tonic::async_trait]
impl AccessService for AccessGrpc {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let principal = Principal::of(request.extensions())?;
        let change = Change::of(request.extensions())?;
        let (keys, new) = (self.keys()?, new_key(&request.into_inner())?);
        let (key, info) = keys.create(new, &principal.name).await.map_err(problem_of)?;
        change.about(&info.id);
        tracing::info!(id = info.id, name = info.name, by = principal.name, "an API key was made");
        let text = key.reveal();
        Ok(Response::new(v1::CreateKeyResponse { key: Some(key_document(info, None)), text }))
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let v1::ListKeysRequest { page_size, page_token } = request.into_inner();
        let size = paging::size(&paging::size_text(page_size))
            .map_err(|(reason, message)| Problem::invalid("page_size", reason, message))?;
        let book = self.keys()?;
        let page = book.page(&page_token, size).await.map_err(|error| match error {
            KeysError::NotFound(_) | KeysError::NotAnId => {
                let message = "not a token of this list; leave it out to start from the first page";
                Problem::invalid("page_token", reasons::PAGE_TOKEN_INVALID, message)
            }
            error => problem_of(error),
        })?;
        let mut keys = Vec::new();
        for info in page.keys {
            let used = book.last_used(&info.id).await.map_err(Problem::from)?;
            keys.push(key_document(info, used));
        }
        let next_page_token = page.next.unwrap_or_default();
        Ok(Response::new(v1::ListKeysResponse { keys, next_page_token }))
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::Key>, Status> {
        let principal = Principal::of(request.extensions())?;
        let change = Change::of(request.extensions())?;
        let (keys, id) = (self.keys()?, request.into_inner().id);
        // Any other text may be a whole key, whose secret no trail may hold.
        if id.parse::<KeyId>().is_ok() {
            change.about(&id);
        }
        let info = keys.revoke(&id, &principal.name).await.map_err(problem_of)?;
        tracing::info!(id = info.id, by = principal.name, "an API key was revoked");
        Ok(Response::new(key_document(info, None)))
    }

    async fn list_audit_log(
        &self,
        request: Request<v1::ListAuditLogRequest>,
    ) -> Result<Response<v1::ListAuditLogResponse>, Status> {
        Ok(Response::new(self.audit_log.list(&request.into_inner()).await?))
    }
}

/// Reads a key to be made.
///
/// # Errors
/// INVALID_ARGUMENT with all that is wrong.
pub(crate) fn new_key(request: &v1::CreateKeyRequest) -> Result<NewKey, Problem> {
    let v1::CreateKeyRequest { name, roles, tenants, expires_at } = request;
    let mut violations = Vec::new();
    let mut refuse = |field: &str, reason, message: String| {
        violations.push(Violation::new(field, reason, message));
    };
    let name = Name::new(name).map_err(|error| {
        refuse("name", reasons::of_name(error), error.to_string());
    });
    let roles = roles.iter().map(|word| word.parse::<Role>()).collect::<Result<Roles, _>>();
    let roles = roles.map_err(|error| {
        refuse("roles", reasons::PARAMETER_INVALID, error.to_string());
    });
    let tenants: Vec<_> = tenants.iter().map(String::as_str).collect();
    let tenants = Tenants::of_words(&tenants).map_err(|error| {
        refuse("tenants", reasons::PARAMETER_INVALID, error.to_string());
    });
    let expires_at = expires_at.as_ref().map(|time| {
        timestamp(time).ok_or_else(|| {
            let message = "no moment of the years 1 to 9999";
            refuse("expires_at", reasons::TIME_OUT_OF_RANGE, message.to_owned());
        })
    });
    Problem::check(violations)?;
    match (name, roles, tenants, expires_at.transpose()) {
        (Ok(name), Ok(roles), Ok(tenants), Ok(expires_at)) => {
            Ok(NewKey { name, roles, tenants, expires_at })
        }
        _ => Err(Problem::internal("a key was refused without a reason")),
    }
}

/// A key as answers show it.
pub(crate) fn key_document(info: KeyInfo, last_used: Option<Timestamp>) -> v1::Key {
    let tenants = info.tenants.named().map_or_else(
        || vec!["*".to_owned()],
        |named| named.iter().map(ToString::to_string).collect(),
    );
    let (revoked_at, revoked_by) = info.revoked.map(|revoked| (revoked.at, revoked.by)).unzip();
    v1::Key {
        id: info.id,
        name: info.name,
        roles: info.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        tenants,
        created_at: Some(wire_time(info.created_at)),
        created_by: info.created_by,
        expires_at: info.expires_at.map(wire_time),
        revoked_at: revoked_at.map(wire_time),
        revoked_by: revoked_by.unwrap_or_default(),
        last_used_at: last_used.map(wire_time),
    }
}

/// What a client is told of an error.
pub(crate) fn problem_of(error: KeysError) -> Problem {
    let message = error.to_string();
    match error {
        KeysError::NoRole => Problem::invalid("roles", reasons::PARAMETER_INVALID, message),
        KeysError::Expired(_) => {
            Problem::invalid("expires_at", reasons::PARAMETER_INVALID, message)
        }
        KeysError::TooFar(_) => Problem::invalid("expires_at", reasons::TIME_OUT_OF_RANGE, message),
        KeysError::OtherTenants { .. } => {
            Problem::invalid("tenants", reasons::PARAMETER_INVALID, message)
        }
        KeysError::TooMany | KeysError::TooManyMade => {
            Problem::failed_precondition(reasons::RESULT_TOO_LARGE, message)
        }
        KeysError::NotFound(_) | KeysError::NotAnId => {
            Problem::not_found(reasons::KEY_NOT_FOUND, message)
        }
        KeysError::Store(error) => error.into(),
    }
}
