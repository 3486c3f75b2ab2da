//! Rules: who may call billing's methods. A method and its route over HTTP have the same.

use edge::access::{Role, Roles, Rule, TenantRule};

const READERS: Roles = Roles::of(&[Role::Admin, Role::Operator, Role::Analyst, Role::Viewer]);
const ANALYSTS: Roles = Roles::of(&[Role::Admin, Role::Operator, Role::Analyst]);
const OPERATORS: Roles = Roles::of(&[Role::Admin, Role::Operator]);
const ADMINS: Roles = Roles::of(&[Role::Admin]);

/// One rule for each method and route of this stage.
pub const RULES: [Rule; 44] = [
    // Prices are the same for everybody.
    shown("/pulso.v1.CatalogService/GetCatalogue", READERS),
    shown("/pulso.v1.CatalogService/ListCatalogues", READERS),
    written("/pulso.v1.CatalogService/PublishCatalogue", ADMINS),
    shown("GET /v1/catalog", READERS),
    shown("GET /v1/catalog/{version}", READERS),
    written("POST /v1/catalog", ADMINS),
    // Contracts and runs are read and written with a credential for all tenants.
    written("/pulso.v1.BillingService/ApplyContract", ADMINS),
    written("/pulso.v1.BillingService/AmendContract", ADMINS),
    of_all("/pulso.v1.BillingService/GetContract", READERS),
    of_all("/pulso.v1.BillingService/ListContracts", READERS),
    written("POST /v1/contracts", ADMINS),
    written("POST /v1/contracts:amend", ADMINS),
    of_all("GET /v1/contracts/{name}", READERS),
    of_all("GET /v1/contracts", READERS),
    narrowed("/pulso.v1.BillingService/PreviewBill", READERS),
    of_all("/pulso.v1.BillingService/Simulate", ANALYSTS),
    narrowed("GET /v1/billing:preview", READERS),
    written("/pulso.v1.BillingService/StartRun", OPERATORS),
    written("/pulso.v1.BillingService/ResumeRun", OPERATORS),
    written("/pulso.v1.BillingService/CancelRun", OPERATORS),
    of_all("/pulso.v1.BillingService/GetRun", READERS),
    of_all("/pulso.v1.BillingService/ListRuns", READERS),
    of_all("/pulso.v1.BillingService/ListDuePeriods", READERS),
    written("POST /v1/billing/runs", OPERATORS),
    written("POST /v1/billing/runs/{run}", OPERATORS),
    of_all("GET /v1/billing/runs/{run}", READERS),
    of_all("GET /v1/billing/runs", READERS),
    of_all("GET /v1/billing/due", READERS),
    narrowed("/pulso.v1.BillingService/ListInvoices", READERS),
    narrowed("/pulso.v1.BillingService/GetInvoice", READERS),
    narrowed("/pulso.v1.BillingService/ExplainInvoice", READERS),
    narrowed("/pulso.v1.BillingService/VerifyInvoice", READERS),
    of_all("/pulso.v1.BillingService/WatchInvoices", READERS),
    narrowed("GET /v1/invoices", READERS),
    narrowed("GET /v1/invoices/{invoice}", READERS),
    written("/pulso.v1.BillingService/VoidInvoice", OPERATORS),
    written("/pulso.v1.BillingService/CreditInvoice", OPERATORS),
    written("POST /v1/invoices/{invoice}", OPERATORS),
    written("/pulso.v1.BillingService/RejectMessage", OPERATORS),
    of_all("/pulso.v1.BillingService/ListRejections", READERS),
    written("/pulso.v1.BillingService/ReplayRejection", OPERATORS),
    written("POST /v1/billing/rejections", OPERATORS),
    of_all("GET /v1/billing/rejections", READERS),
    written("POST /v1/billing/rejections/{rejection}", OPERATORS),
];

const fn shown(method: &'static str, roles: Roles) -> Rule {
    Rule::read(method, roles, TenantRule::Any)
}

/// What a credential of a tenant reads of it.
const fn narrowed(method: &'static str, roles: Roles) -> Rule {
    Rule::read(method, roles, TenantRule::FromRequest)
}

const fn of_all(method: &'static str, roles: Roles) -> Rule {
    Rule::read(method, roles, TenantRule::AllTenants)
}

/// What a call changes concerns all tenants.
const fn written(method: &'static str, roles: Roles) -> Rule {
    Rule::write(method, roles, TenantRule::AllTenants)
}
