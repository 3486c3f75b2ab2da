//! The HTTP door of billing: catalogues, contracts, runs and invoices, with the same answers and the
//! same refusals as over gRPC.
//!
//! | route | what it does |
//! | --- | --- |
//! | `GET, POST /v1/catalog`, `GET /v1/catalog/{version}` | list, publish (YAML body), show |
//! | `GET, POST /v1/contracts`, `GET /v1/contracts/{name}` | list, apply (YAML body), show |
//! | `GET /v1/billing:preview?tenant=&period=` | a tenant's invoices as they would be now |
//! | `GET, POST /v1/billing/runs`, `GET /v1/billing/runs/{number}` | list, start (JSON body), show |
//! | `POST /v1/billing/runs/{number}:resume`, `:cancel` | go on, end |
//! | `GET /v1/invoices?tenant=`, `GET /v1/invoices/{number}` | list, show |
//! | `GET /v1/invoices/{number}:explain?line=&pulses=&hour=`, `:verify?from_log=`, `:html`, `:pdf` | why, compute again, print |
//! | `POST /v1/invoices/{number}:void`, `:credit` | take back, give back a part (JSON body) |
//! | `GET, POST /v1/billing/rejections` | list, add (JSON body with `message`, `consumer`, `reason`) |
//! | `POST /v1/billing/rejections/{number}:replay` | put the message into the outbox again |
//!
//! Writes of YAML take `?validate_only=true`.

use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, State},
    routing::{get, post},
};
use domain::{BillingStore, PulseLog, UsageStore};
use edge::{
    Problem, Routes,
    access::Principal,
    parameters::Parameters,
    problem::{http::HttpProblem, reasons},
};
use pricing::file;
use proto::v1;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoResponses, OpenApi};

use crate::{
    answers::{self, preview::PreviewAnswer},
    api::BillingApi,
};

mod invoices;

type Answer = Result<Json<Value>, HttpProblem>;

/// What every route answers; docs/interfaces.md has the documents.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
enum Answers {
    #[response(status = 200, description = "The document, or a page.")]
    Document,
    #[response(status = "default", description = "An RFC 9457 problem with its reason.")]
    Problem,
}

/// What every route answers that refuses.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described")]
enum Problems {
    #[response(status = "default", description = "An RFC 9457 problem with its reason.")]
    Problem,
}

#[derive(OpenApi)]
#[openapi(
    paths(
        catalogues, publish, catalogue, contracts, apply, contract, preview, runs, start, run, act_on_run, rejections, reject, replay, invoices::list, invoices::show, invoices::act
    ),
    tags((name = "billing", description = "What usage costs.")),
)]
struct Description;

/// The description of these routes.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Routes of every operation that HTTP has.
pub(crate) fn routes<U: UsageStore, B: BillingStore, L: PulseLog>(
    api: BillingApi<U, B, L>,
) -> Routes {
    let router = Router::new()
        .route("/v1/catalog", get(catalogues::<U, B, L>).post(publish::<U, B, L>))
        .route("/v1/catalog/{version}", get(catalogue::<U, B, L>))
        .route("/v1/contracts", get(contracts::<U, B, L>).post(apply::<U, B, L>))
        .route("/v1/contracts/{name}", get(contract::<U, B, L>))
        .route("/v1/billing:preview", get(preview::<U, B, L>))
        .route("/v1/billing/runs", get(runs::<U, B, L>).post(start::<U, B, L>))
        .route("/v1/billing/runs/{run}", get(run::<U, B, L>).post(act_on_run::<U, B, L>))
        .route("/v1/billing/rejections", get(rejections::<U, B, L>).post(reject::<U, B, L>))
        .route("/v1/billing/rejections/{rejection}", post(replay::<U, B, L>))
        .route("/v1/invoices", get(invoices::list::<U, B, L>))
        .route(
            "/v1/invoices/{invoice}",
            get(invoices::show::<U, B, L>).post(invoices::act::<U, B, L>),
        )
        .with_state(api);
    Routes::new(router, file::BYTES_MAX)
}

/// Published catalogues, newest first.
#[utoipa::path(get, path = "/v1/catalog", tag = "billing", responses(Answers))]
async fn catalogues<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
) -> Answer {
    let listed = api.catalogues().await?.catalogues;
    let listed: Vec<Value> = listed.iter().map(answers::catalogue).collect();
    Ok(Json(json!({"catalogues": listed})))
}

/// Publishes a catalogue, once and for ever.
#[utoipa::path(
    post,
    path = "/v1/catalog",
    tag = "billing",
    params(("validate_only" = Option<bool>, Query, description = "Check only, write nothing.")),
    request_body(content = String, content_type = "application/yaml", description = "The catalogue's file."),
    responses(Answers),
)]
async fn publish<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    RawQuery(query): RawQuery,
    text: String,
) -> Answer {
    let validate_only = validate_only(query.as_deref())?;
    let published = api.publish(v1::PublishCatalogueRequest { text, validate_only }).await?;
    let mut document = answers::catalogue(&published.catalogue.unwrap_or_default());
    document["already_published"] = published.already_published.into();
    document["validate_only"] = validate_only.into();
    Ok(Json(document))
}

/// One catalogue.
#[utoipa::path(
    get,
    path = "/v1/catalog/{version}",
    tag = "billing",
    params(("version" = String, Path, description = "Its version.")),
    responses(Answers),
)]
async fn catalogue<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(version): Path<String>,
) -> Answer {
    Ok(Json(answers::catalogue(&api.find_catalogue(&version).await?)))
}

/// Contracts in the order in which they were applied.
#[utoipa::path(
    get,
    path = "/v1/contracts",
    tag = "billing",
    params(("tenant" = Option<String>, Query, description = "Only this tenant's.")),
    responses(Answers),
)]
async fn contracts<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    RawQuery(query): RawQuery,
) -> Answer {
    let tenant = Parameters::parse(query.as_deref(), &["tenant"], &[])?.text("tenant");
    let listed = api.contracts(&tenant).await?.contracts;
    let listed: Vec<Value> = listed.iter().map(answers::contract).collect();
    Ok(Json(json!({"contracts": listed})))
}

/// Applies a contract, once and for ever.
#[utoipa::path(
    post,
    path = "/v1/contracts",
    tag = "billing",
    params(("validate_only" = Option<bool>, Query, description = "Check only, write nothing.")),
    request_body(content = String, content_type = "application/yaml", description = "The contract's file."),
    responses(Answers),
)]
async fn apply<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    RawQuery(query): RawQuery,
    text: String,
) -> Answer {
    let validate_only = validate_only(query.as_deref())?;
    let applied = api.apply(v1::ApplyContractRequest { text, validate_only }).await?;
    let mut document = answers::contract(&applied.contract.unwrap_or_default());
    document["already_applied"] = applied.already_applied.into();
    document["validate_only"] = validate_only.into();
    Ok(Json(document))
}

/// One contract.
#[utoipa::path(
    get,
    path = "/v1/contracts/{name}",
    tag = "billing",
    params(("name" = String, Path, description = "Its name.")),
    responses(Answers),
)]
async fn contract<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(name): Path<String>,
) -> Answer {
    Ok(Json(answers::contract(&api.contract(&name).await?)))
}

/// A tenant's invoices as they would be now, with the reason for every number.
#[utoipa::path(
    get,
    path = "/v1/billing:preview",
    tag = "billing",
    params(
        ("tenant" = String, Query, description = "Whose bill."),
        ("period" = String, Query, description = "The month in which periods begin, such as 2024-09."),
        ("catalogue" = Option<String>, Query, description = "The version that stands for the latest."),
    ),
    responses((status = 200, body = PreviewAnswer), Problems),
)]
async fn preview<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(principal): Extension<Principal>,
    RawQuery(query): RawQuery,
) -> Result<Json<PreviewAnswer>, HttpProblem> {
    let parameters = Parameters::parse(query.as_deref(), &["tenant", "period", "catalogue"], &[])?;
    let request = v1::PreviewBillRequest {
        tenant: parameters.text("tenant"),
        period: parameters.text("period"),
        catalogue_version: parameters.text("catalogue"),
    };
    Ok(Json(api.preview(&request, &principal).await?))
}

/// Billing runs, newest first.
#[utoipa::path(get, path = "/v1/billing/runs", tag = "billing", responses(Answers))]
async fn runs<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
) -> Answer {
    let listed: Vec<Value> = api.runs().await?.runs.iter().map(answers::run).collect();
    Ok(Json(json!({"runs": listed})))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Started {
    period: String,
    tenants: Vec<String>,
    deltas: bool,
    request_id: String,
}

/// Opens a billing run and works on it after the answer.
#[utoipa::path(
    post,
    path = "/v1/billing/runs",
    tag = "billing",
    request_body(content = Object, content_type = "application/json", description = "`period`, and `tenants`, `deltas`, `request_id` where wanted."),
    responses(Answers),
)]
async fn start<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Json(Started { period, tenants, deltas, request_id }): Json<Started>,
) -> Answer {
    let request = v1::StartRunRequest { period, tenants, deltas, request_id };
    Ok(Json(answers::run(&api.start(request).await?)))
}

/// One run and how far it is.
#[utoipa::path(
    get,
    path = "/v1/billing/runs/{run}",
    tag = "billing",
    params(("run" = String, Path, description = "Its number.")),
    responses(Answers),
)]
async fn run<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(run): Path<String>,
) -> Answer {
    Ok(Json(answers::run(&api.run(run_number(&run)?).await?)))
}

/// Goes on with a run, or ends it.
#[utoipa::path(
    post,
    path = "/v1/billing/runs/{run}:{action}",
    tag = "billing",
    params(
        ("run" = String, Path, description = "Its number."),
        ("action" = String, Path, description = "`resume` or `cancel`."),
    ),
    responses(Answers),
)]
async fn act_on_run<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(run): Path<String>,
) -> Answer {
    let acted = match run.split_once(':') {
        Some((run, "resume")) => api.resume(run_number(run)?).await?,
        Some((run, "cancel")) => api.cancel(run_number(run)?).await?,
        _ => return Err(no_action(&run, ":resume and :cancel")),
    };
    Ok(Json(answers::run(&acted)))
}

fn validate_only(query: Option<&str>) -> Result<bool, Problem> {
    Parameters::parse(query, &[], &["validate_only"])?.is_set("validate_only")
}

/// Size and token of a page; a size that is not given is 0.
fn page_of(parameters: &Parameters<'_>) -> Result<(i32, String), Problem> {
    let size = parameters.number("page_size", reasons::PAGE_SIZE_INVALID)?;
    Ok((size, parameters.text("page_token")))
}

fn run_number(text: &str) -> Result<u64, HttpProblem> {
    number(text, "run", reasons::RUN_NOT_FOUND)
}

/// The number of something in a path, which there is not where the text is none.
fn number(text: &str, of: &str, not_found: &'static str) -> Result<u64, HttpProblem> {
    text.parse().map_err(|_| {
        Problem::not_found(not_found, format!("{text:?} is no number of a {of}")).into()
    })
}

/// Messages that a consumer could not take.
#[utoipa::path(
    get,
    path = "/v1/billing/rejections",
    tag = "billing",
    params(
        ("page_size" = Option<i32>, Query, description = "50 by default, at most 1000."),
        ("page_token" = Option<String>, Query, description = "Of the page before."),
    ),
    responses(Answers),
)]
async fn rejections<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    RawQuery(query): RawQuery,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref(), &["page_size", "page_token"], &[])?;
    let (page_size, page_token) = page_of(&parameters)?;
    let page = api.rejections(&v1::ListRejectionsRequest { page_size, page_token }).await?;
    let listed: Vec<Value> = page.rejections.iter().map(answers::rejection).collect();
    Ok(Json(json!({"rejections": listed, "next_page_token": page.next_page_token})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejected {
    message: u64,
    consumer: String,
    reason: String,
}

/// Says that a consumer cannot take a message.
#[utoipa::path(
    post,
    path = "/v1/billing/rejections",
    tag = "billing",
    request_body(content = Object, content_type = "application/json", description = "`message`, `consumer` and `reason`."),
    responses(Answers),
)]
async fn reject<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Json(Rejected { message, consumer, reason }): Json<Rejected>,
) -> Answer {
    let request = v1::RejectMessageRequest { message, consumer, reason };
    Ok(Json(answers::rejection(&api.reject(request).await?)))
}

/// Puts the message of a rejection into the outbox again, once.
#[utoipa::path(
    post,
    path = "/v1/billing/rejections/{rejection}:replay",
    tag = "billing",
    params(("rejection" = String, Path, description = "Its number.")),
    responses(Answers),
)]
async fn replay<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(rejection): Path<String>,
) -> Answer {
    let Some((number_text, "replay")) = rejection.split_once(':') else {
        return Err(no_action(&rejection, ":replay"));
    };
    let number = number(number_text, "rejection", reasons::REJECTION_NOT_FOUND)?;
    Ok(Json(answers::rejection(&api.replay(number).await?)))
}

fn no_action(path: &str, known: &str) -> HttpProblem {
    let message = format!("{path:?} names no action; there are {known}");
    Problem::not_found(reasons::ROUTE_NOT_FOUND, message).into()
}

#[cfg(test)]
mod tests;
