//! HTTP of billing runs: listed, started, shown, resumed, cancelled.

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use domain::{BillingStore, BlockStore, PulseLog};
use edge::{
    access::Change,
    problem::{http::HttpProblem, reasons},
};
use proto::v1;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Answer, examples, no_action, number};
use crate::{
    answers::{self, Due, Run, Runs},
    api::BillingApi,
};

/// What to bill.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StartRun)]
pub(super) struct Started {
    /// The month in which the periods begin, such as `2024-09`.
    #[schema(required, pattern = "^[0-9]{4}-[0-9]{2}$")]
    #[serde(default)]
    period: String,
    /// Only these; all when left out or empty.
    #[serde(default)]
    tenants: Vec<String>,
    /// Bill what changed about periods that have an invoice.
    #[serde(default)]
    deltas: bool,
    /// Makes the call safe to repeat.
    #[schema(max_length = 128)]
    #[serde(default)]
    request_id: String,
}

/// Billing runs, newest first, each with at most three failures and blocked tenants.
#[utoipa::path(
    get,
    path = "/v1/billing/runs",
    operation_id = "listBillingRuns",
    tag = "billing",
    responses((status = 200, description = "All of them.", body = Runs, example = json!(examples::runs()))),
)]
pub(super) async fn list<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
) -> Answer<Runs> {
    Ok(Json(answers::runs(&api.runs().await?.runs)))
}

/// Opens a billing run and works on it after the answer.
///
/// A run that is open for the same, or that was started with the same `request_id`, is answered
/// instead of a new one.
#[utoipa::path(
    post,
    path = "/v1/billing/runs",
    operation_id = "startBillingRun",
    tag = "billing",
    request_body(content = Started, example = json!({"period": "2024-09", "request_id": "september"})),
    responses((status = 200, description = "The run as it begins.", body = Run, example = json!(examples::run()))),
)]
pub(super) async fn start<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(change): Extension<Change>,
    Json(Started { period, tenants, deltas, request_id }): Json<Started>,
) -> Answer<Run> {
    let request = v1::StartRunRequest { period, tenants, deltas, request_id };
    Ok(Json(answers::run(&api.start(request, &change).await?)))
}

/// One run and how far it is.
#[utoipa::path(
    get,
    path = "/v1/billing/runs/{run}",
    operation_id = "getBillingRun",
    tag = "billing",
    params(("run" = String, Path, description = "Its number.", pattern = "^[0-9]{1,20}$", example = "7")),
    responses((status = 200, description = "The run.", body = Run, example = json!(examples::run()))),
)]
pub(super) async fn show<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(run): Path<String>,
) -> Answer<Run> {
    Ok(Json(answers::run(&api.run(run_number(&run)?).await?)))
}

/// `POST /v1/billing/runs/{run}`, whose action is a part of the placeholder.
pub(super) async fn act<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(change): Extension<Change>,
    Path(run): Path<String>,
) -> Answer<Run> {
    match run.split_once(':') {
        Some((run, "resume")) => resume(&api, run, &change).await,
        Some((run, "cancel")) => cancel(&api, run, &change).await,
        _ => Err(no_action(&run, ":resume and :cancel")),
    }
}

/// Goes on with a run that stopped.
#[utoipa::path(
    post,
    path = "/v1/billing/runs/{run}:resume",
    operation_id = "resumeBillingRun",
    tag = "billing",
    params(("run" = String, Path, description = "Its number.", pattern = "^[0-9]{1,20}$", example = "7")),
    responses((status = 200, description = "The run as it is now.", body = Run, example = json!(examples::run()))),
)]
async fn resume<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    run: &str,
    change: &Change,
) -> Answer<Run> {
    Ok(Json(answers::run(&api.resume(run_number(run)?, change).await?)))
}

/// Ends a run; invoices that it issued stay.
#[utoipa::path(
    post,
    path = "/v1/billing/runs/{run}:cancel",
    operation_id = "cancelBillingRun",
    tag = "billing",
    params(("run" = String, Path, description = "Its number.", pattern = "^[0-9]{1,20}$", example = "7")),
    responses((status = 200, description = "The run at its end.", body = Run, example = json!(examples::run()))),
)]
async fn cancel<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    run: &str,
    change: &Change,
) -> Answer<Run> {
    Ok(Json(answers::run(&api.cancel(run_number(run)?, change).await?)))
}

/// The months and tenants with periods that are over and not billed.
///
/// As a tick of the schedule would find them now.
#[utoipa::path(
    get,
    path = "/v1/billing/due",
    operation_id = "listDuePeriods",
    tag = "billing",
    responses((status = 200, description = "By month, oldest first.", body = Due, example = json!(examples::due()))),
)]
pub(super) async fn due<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
) -> Answer<Due> {
    Ok(Json(answers::due(&api.due().await?)))
}

fn run_number(text: &str) -> Result<u64, HttpProblem> {
    number(text, "run", reasons::RUN_NOT_FOUND)
}
