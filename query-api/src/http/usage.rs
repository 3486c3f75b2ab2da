//! `GET /v1/usage`: usage as JSON or CSV.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use domain::{BlockStore, PulseLog, Sku, Tenant, Timestamp, Unit};
use edge::{
    accept::{self, CSV, JSON},
    access::Principal,
    parameters::Parameters,
    problem::{Problem, ProblemJson, http::HttpProblem},
};

use super::{documents::UsageDocument, examples};
use crate::{
    api::{QueryApi, UsageAnswer},
    usage::{
        UsageTotal,
        request::{FieldNames, Moment, UsageRequest},
    },
};

/// The parameters of the address, in the order of its description.
pub(super) const PARAMETERS: [&str; 10] = [
    "tenant",
    "sku",
    "unit",
    "from",
    "to",
    "window",
    "group_by",
    "time_zone",
    "page_size",
    "page_token",
];

const NEXT_PAGE_TOKEN: HeaderName = HeaderName::from_static("x-next-page-token");
const AS_OF: HeaderName = HeaderName::from_static("x-as-of");
const COMPLETE_UNTIL: HeaderName = HeaderName::from_static("x-complete-until");

const CSV_HEADER: [&str; 11] = [
    "tenant",
    "product_sku",
    "use_unity",
    "dimensions",
    "window_start",
    "window_end",
    "count",
    "sum",
    "min",
    "max",
    "last",
];

/// Totals per group and window.
///
/// Exact sums of all usage in `[from, to)`, kept apart by `group_by` and by window, sorted by tenant,
/// product_sku, use_unity, dimensions and window_start. Windows at the ends are cut to the range, so
/// each row says exactly what was summed. As CSV, freshness and the next page's token are headers:
/// `x-as-of`, `x-complete-until`, `x-next-page-token`.
#[utoipa::path(
    get,
    path = "/v1/usage",
    operation_id = "queryUsage",
    tag = "usage",
    params(
        ("tenant" = Option<String>, Query, description = "One tenant; all when left out.", max_length = 128, example = "acme"),
        ("sku" = Option<String>, Query, description = "One SKU; all when left out.", max_length = 128, example = "vm.standard"),
        ("unit" = Option<String>, Query, description = "One unit; all when left out.", max_length = 128, example = "hour"),
        ("from" = String, Query, description = "First moment that counts: an RFC 3339 instant on an edge of the store's windows (a whole hour), or a date, which means its start in time_zone.", example = "2024-09-01T00:00:00Z"),
        ("to" = String, Query, description = "First moment that counts no more, written as `from`.", example = "2024-10-01"),
        ("window" = String, Query, description = "`PT1H` (an hour of UTC), `P1D` or `P1M` (a day or month of time_zone), or `total` (the whole range).", example = "P1D", pattern = "^(PT1H|P1D|P1M|total)$"),
        ("group_by" = Option<String>, Query, description = "Comma-separated: any of tenant, product_sku, use_unity and names of dimensions (`dimensions.tenant` where a dimension is called like a field). What is not named is added up. All of them when left out.", example = "product_sku,region"),
        ("time_zone" = Option<String>, Query, description = "IANA name; UTC when left out. Its days and months must start on edges of the store's windows.", example = "Europe/Berlin"),
        ("page_size" = Option<u16>, Query, description = "50 when left out.", minimum = 1, maximum = 1000, example = 50),
        ("page_token" = Option<String>, Query, description = "From the answer before. Every other parameter but page_size must stay as it was.", example = "AQAAAAAAAAAq"),
    ),
    responses(
        (status = 200, description = "One page.", content(
            (UsageDocument = "application/json", example = json!(examples::usage())),
            (String = "text/csv", example = json!(examples::USAGE_CSV)),
        ), headers(
            ("x-next-page-token" = String, description = "CSV only: for the page after this; absent on the last."),
            ("x-as-of" = String, description = "CSV only: all that reached the log before this moment is in the answer."),
            ("x-complete-until" = String, description = "CSV only: windows that end by this moment are final but for backfills."),
        )),
        (status = 400, description = "A parameter is wrong, or the total is beyond an exact amount, or the answer would take too many rows.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 406, description = "Neither JSON nor CSV is accepted.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "The store does not answer now.", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn usage<U: BlockStore, L: PulseLog>(
    State(api): State<Arc<QueryApi<U, L>>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpProblem> {
    let media_type = accept::choose(&headers, &[JSON, CSV])?;
    let request = request_of(&Parameters::parse(query.as_deref(), &PARAMETERS, &[])?);
    let answer = api.usage(&request, FieldNames::HTTP, &principal).await?;
    if media_type == CSV {
        return Ok(csv_response(&answer)?);
    }
    Ok(Json(UsageDocument::of(&answer)).into_response())
}

fn request_of(parameters: &Parameters<'_>) -> UsageRequest {
    let moment = |name| parameters.get(name).map(|text| Moment::Text(text.to_owned()));
    UsageRequest {
        tenant: parameters.text("tenant"),
        product_sku: parameters.text("sku"),
        use_unity: parameters.text("unit"),
        from: moment("from"),
        to: moment("to"),
        window: parameters.text("window"),
        group_by: parameters.list("group_by"),
        time_zone: parameters.text("time_zone"),
        page_size: parameters.text("page_size"),
        page_token: parameters.text("page_token"),
    }
}

fn csv_response(answer: &UsageAnswer) -> Result<Response, Problem> {
    let body = csv_of(&answer.rows).map_err(|error| {
        tracing::error!(%error, "CSV could not be written");
        Problem::internal("the answer could not be written as CSV; ask for JSON")
    })?;
    let media_type = [(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present")];
    let mut response = (media_type, body).into_response();
    let headers = response.headers_mut();
    let token = answer.next_page_token.as_deref().map(HeaderValue::from_str);
    if let Some(Ok(token)) = token {
        headers.insert(NEXT_PAGE_TOKEN, token);
    }
    for (name, time) in
        [(AS_OF, answer.freshness.as_of), (COMPLETE_UNTIL, answer.freshness.complete_until)]
    {
        if let Some(value) = time.and_then(header_of) {
            headers.insert(name, value);
        }
    }
    // The same address has two representations; caches must not mix them.
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn header_of(time: Timestamp) -> Option<HeaderValue> {
    HeaderValue::try_from(time.to_string()).ok()
}

/// RFC 4180 with a header line; amounts as exact decimals, instants as RFC 3339 in UTC, dimensions
/// as a JSON object.
fn csv_of(rows: &[UsageTotal]) -> Result<Vec<u8>, csv::Error> {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(vec![]);
    writer.write_record(CSV_HEADER)?;
    for UsageTotal { key, window, total } in rows {
        writer.write_record([
            key.tenant.as_ref().map_or("", Tenant::as_str),
            key.product_sku.as_ref().map_or("", Sku::as_str),
            key.use_unity.as_ref().map_or("", Unit::as_str),
            key.dimensions.as_str(),
            &window.start.to_string(),
            &window.end.to_string(),
            &total.count.to_string(),
            &total.sum.to_string(),
            &total.min.to_string(),
            &total.max.to_string(),
            &total.last.to_string(),
        ])?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}
