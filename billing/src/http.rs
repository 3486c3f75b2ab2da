//! The HTTP door of billing: catalogues, contracts, runs and invoices, with the same answers and the
//! same refusals as over gRPC.
//!
//! | route | what it does |
//! | --- | --- |
//! | `GET, POST /v1/catalog`, `GET /v1/catalog/{version}` | list, publish (YAML body), show |
//! | `GET, POST /v1/contracts`, `GET /v1/contracts/{name}` | list, apply (YAML body), show |
//! | `POST /v1/contracts:amend` | amend (YAML body) |
//! | `GET /v1/billing:preview?tenant=&period=` | a tenant's invoices as they would be now |
//! | `GET, POST /v1/billing/runs`, `GET /v1/billing/runs/{number}` | list, start (JSON body), show |
//! | `GET /v1/billing/due` | what is over and not billed |
//! | `POST /v1/billing/runs/{number}:resume`, `:cancel` | go on, end |
//! | `GET /v1/invoices?tenant=`, `GET /v1/invoices/{number}` | list, show |
//! | `GET /v1/invoices/{number}/lines` | list the lines in pages |
//! | `GET /v1/invoices/{number}:explain?line=&pulses=&hour=`, `:verify?from_log=`, `:html`, `:pdf` | why, compute again, print |
//! | `POST /v1/invoices/{number}:void`, `:credit` | take back, give back a part (JSON body) |
//! | `GET, POST /v1/billing/rejections` | list, add (JSON body with `message`, `consumer`, `reason`) |
//! | `POST /v1/billing/rejections/{number}:replay` | put the message into the outbox again |
//!
//! Writes of YAML take `?validate_only=true`.

use axum::{
    Extension, Json, Router,
    extract::{RawQuery, State},
    routing::{get, post},
};
use domain::{BillingStore, BlockStore, PulseLog};
use edge::{
    Problem, Routes,
    access::Principal,
    parameters::Parameters,
    problem::{http::HttpProblem, reasons},
};
use pricing::file;
use proto::v1;
use utoipa::OpenApi;

use crate::{answers::preview::PreviewAnswer, api::BillingApi};

mod examples;

mod catalogues;
mod contracts;
mod runs;
mod rejections;
mod invoices;

type Answer<T> = Result<Json<T>, HttpProblem>;

#[derive(OpenApi)]
#[openapi(
    paths(
        catalogues::list,
        catalogues::publish,
        catalogues::show,
        contracts::list,
        contracts::apply,
        contracts::amend,
        contracts::show,
        preview,
        runs::list,
        runs::start,
        runs::show,
        runs::resume,
        runs::cancel,
        runs::due,
        rejections::list,
        rejections::reject,
        rejections::replay,
        invoices::list,
        invoices::show,
        invoices::lines,
        invoices::explain,
        invoices::verify,
        invoices::html,
        invoices::pdf,
        invoices::void,
        invoices::credit,
    ),
    tags((name = "billing", description = "What usage costs.")),
)]
struct Description;

/// The description of these routes. An action behind a placeholder, such as
/// `/v1/invoices/{invoice}:void`, is an operation of its own and goes by the route that it is behind.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Routes of every operation that HTTP has.
pub(crate) fn routes<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: BillingApi<U, B, L>,
) -> Routes {
    let router = Router::new()
        .route("/v1/catalog", get(catalogues::list::<U, B, L>).post(catalogues::publish::<U, B, L>))
        .route("/v1/catalog/{version}", get(catalogues::show::<U, B, L>))
        .route("/v1/contracts", get(contracts::list::<U, B, L>).post(contracts::apply::<U, B, L>))
        .route("/v1/contracts:amend", post(contracts::amend::<U, B, L>))
        .route("/v1/contracts/{name}", get(contracts::show::<U, B, L>))
        .route("/v1/billing:preview", get(preview::<U, B, L>))
        .route("/v1/billing/runs", get(runs::list::<U, B, L>).post(runs::start::<U, B, L>))
        .route("/v1/billing/runs/{run}", get(runs::show::<U, B, L>).post(runs::act::<U, B, L>))
        .route("/v1/billing/due", get(runs::due::<U, B, L>))
        .route(
            "/v1/billing/rejections",
            get(rejections::list::<U, B, L>).post(rejections::reject::<U, B, L>),
        )
        .route("/v1/billing/rejections/{rejection}", post(rejections::act::<U, B, L>))
        .route("/v1/invoices", get(invoices::list::<U, B, L>))
        .route(
            "/v1/invoices/{invoice}",
            get(invoices::get::<U, B, L>).post(invoices::act::<U, B, L>),
        )
        .route("/v1/invoices/{invoice}/lines", get(invoices::lines::<U, B, L>))
        .with_state(api);
    Routes::new(router, file::BYTES_MAX)
}

/// A tenant's invoices as they would be now, with the reason for every number.
#[utoipa::path(
    get,
    path = "/v1/billing:preview",
    operation_id = "previewBill",
    tag = "billing",
    params(
        ("tenant" = String, Query, description = "Whose bill.", max_length = 128, example = "acme"),
        ("period" = String, Query, description = "The month in which periods begin, such as 2024-09.", pattern = "^[0-9]{4}-[0-9]{2}$", example = "2024-09"),
        ("catalogue" = Option<String>, Query, description = "The version to rate by; the latest when left out.", max_length = 128, example = "2024-09"),
    ),
    responses((status = 200, description = "The invoices, with the hours of usage behind their lines.", body = PreviewAnswer, example = json!(examples::preview()))),
)]
async fn preview<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(principal): Extension<Principal>,
    RawQuery(query): RawQuery,
) -> Answer<PreviewAnswer> {
    let parameters = Parameters::parse(query.as_deref(), &["tenant", "period", "catalogue"], &[])?;
    let request = v1::PreviewBillRequest {
        tenant: parameters.text("tenant"),
        period: parameters.text("period"),
        catalogue_version: parameters.text("catalogue"),
    };
    Ok(Json(api.preview(&request, &principal).await?))
}

fn validate_only(query: Option<&str>) -> Result<bool, Problem> {
    Parameters::parse(query, &[], &["validate_only"])?.is_set("validate_only")
}

/// Size and token of a page; a size that is not given is 0.
fn page_of(parameters: &Parameters<'_>) -> Result<(i32, String), Problem> {
    let size = parameters.number("page_size", reasons::PAGE_SIZE_INVALID)?;
    Ok((size, parameters.text("page_token")))
}

/// The number of something in a path, which there is not where the text is none.
fn number(text: &str, of: &str, not_found: &'static str) -> Result<u64, HttpProblem> {
    text.parse().map_err(|_| {
        Problem::not_found(not_found, format!("{text:?} is no number of a {of}")).into()
    })
}

fn no_action(path: &str, known: &str) -> HttpProblem {
    let message = format!("{path:?} names no action; there are {known}");
    Problem::not_found(reasons::ROUTE_NOT_FOUND, message).into()
}

#[cfg(test)]
mod tests;
