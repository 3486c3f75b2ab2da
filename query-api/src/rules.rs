//! Rules: who may call the reads. A method and its route over HTTP have the same.

use edge::access::{Role, Roles, Rule, TenantRule};

const READERS: Roles = Roles::of(&[Role::Admin, Role::Operator, Role::Analyst, Role::Viewer]);
const OPERATORS: Roles = Roles::of(&[Role::Admin, Role::Operator]);

/// One rule for each method and route of this stage.
pub const RULES: [Rule; 9] = [
    Rule::read("/pulso.v1.QueryService/QueryUsage", READERS, TenantRule::FromRequest),
    Rule::read("GET /v1/usage", READERS, TenantRule::FromRequest),
    // Partitions and sums over all tenants, no tenant's name.
    Rule::read("/pulso.v1.OperationsService/GetStatus", READERS, TenantRule::Any),
    Rule::read("GET /v1/status", READERS, TenantRule::Any),
    Rule::read("/pulso.v1.OperationsService/ListDeadLetters", READERS, TenantRule::FromRequest),
    Rule::read("GET /v1/dlq", READERS, TenantRule::FromRequest),
    Rule::read("/pulso.v1.OperationsService/GetDeadLetter", READERS, TenantRule::FromRequest),
    Rule::read("GET /v1/dlq/{partition}/{offset}/{index}", READERS, TenantRule::FromRequest),
    // A request id is the client's own and may be anybody's.
    Rule::read("/pulso.v1.OperationsService/CountOutcomes", OPERATORS, TenantRule::AllTenants),
];
