//! HTTP of invoices: listed, shown, explained, computed again; taken back, in whole or in part.

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::header,
    response::{Html, IntoResponse, Response},
};
use domain::{BillingStore, PulseLog, UsageStore};
use edge::{
    Problem,
    access::Principal,
    parameters::Parameters,
    problem::{http::HttpProblem, reasons},
};
use futures_util::TryStreamExt as _;
use proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Problems, no_action, page_of};
use crate::{
    answers::{
        explanation::{ExplanationAnswer, ExplanationText, Part},
        invoice::{InvoiceAnswer, InvoicesAnswer},
        verification::VerificationAnswer,
    },
    api::{BillingApi, explaining::Form},
    print,
};

/// Invoices in the order of their numbers, or all documents of one tenant.
#[utoipa::path(
    get,
    path = "/v1/invoices",
    tag = "billing",
    params(
        ("tenant" = Option<String>, Query, description = "Only this tenant's, drafts too; then there are no pages."),
        ("page_size" = Option<i32>, Query, description = "50 by default, at most 1000."),
        ("page_token" = Option<String>, Query, description = "Of the page before."),
    ),
    responses((status = 200, body = InvoicesAnswer), Problems),
)]
pub(super) async fn list<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(principal): Extension<Principal>,
    RawQuery(query): RawQuery,
) -> Result<Json<InvoicesAnswer>, HttpProblem> {
    let known = ["tenant", "page_size", "page_token"];
    let parameters = Parameters::parse(query.as_deref(), &known, &[])?;
    let (page_size, page_token) = page_of(&parameters)?;
    let tenant = parameters.text("tenant");
    let request = v1::ListInvoicesRequest { tenant, page_size, page_token };
    let page = api.invoices(&request, &principal).await?;
    let listed = page.invoices.into_iter().map(|head| InvoiceAnswer::new(head, None));
    let (invoices, next_page_token) = (listed.collect(), page.next_page_token);
    Ok(Json(InvoicesAnswer { invoices, next_page_token }))
}

fn moment_of(text: &str) -> Result<prost_types::Timestamp, Problem> {
    let parsed = pricing::moment::parse(text).map(proto::convert::wire_time);
    parsed.ok_or_else(|| {
        let message = format!("{text:?} is no time: write it as 2024-09-03T10:00:00Z");
        Problem::invalid("hour", reasons::PARAMETER_INVALID, message)
    })
}

/// One invoice with its lines. With `:explain` behind the number why it comes to that, with `:verify` what differs when it is computed again, with `:html` or `:pdf` a page to print.
#[utoipa::path(
    get,
    path = "/v1/invoices/{invoice}",
    tag = "billing",
    params(
        ("invoice" = String, Path, description = "`INV-000042`, or the digits."),
        ("line" = Option<u32>, Query, description = "With `:explain`, the place of one line."),
        ("pulses" = Option<bool>, Query, description = "With `:explain`, go on to the pulses in the log."),
        ("hour" = Option<String>, Query, description = "With `pulses`, of this hour only: its start, in RFC 3339."),
        ("from_log" = Option<bool>, Query, description = "With `:verify`, compute from the pulses in the log."),
    ),
    responses((status = 200, body = ShowAnswer), Problems),
)]
pub(super) async fn show<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(principal): Extension<Principal>,
    Path(invoice): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpProblem> {
    let flags = ["pulses", "from_log"];
    let parameters = Parameters::parse(query.as_deref(), &["line", "hour"], &flags)?;
    let line = parameters.number("line", reasons::PARAMETER_INVALID)?;
    let (pulses, from_log) = (parameters.is_set("pulses")?, parameters.is_set("from_log")?);
    let hour = parameters.get("hour");
    let number = invoice.split_once(':').map_or(&*invoice, |(number, _)| number);
    api.check_tenant(number, &principal).await?;
    match invoice.split_once(':') {
        None => json(api.invoice_as(&invoice, |shown| written(&shown.answer())).await?),
        Some((number, "explain")) => {
            let hour = hour.map(moment_of).transpose()?;
            let request =
                v1::ExplainInvoiceRequest { number: number.to_owned(), line, pulses, hour };
            let pieces = api.explain(&request, Text(ExplanationText::document())).await?;
            json(Body::from_stream(pieces.map_ok(|pieces| pieces.concat())))
        }
        Some((number, "verify")) => {
            let request = v1::VerifyInvoiceRequest { number: number.to_owned(), from_log };
            Ok(Json(api.verify(&request).await?).into_response())
        }
        Some((number, "html")) => {
            let page = api.invoice_as(number, |shown| print::html(&shown.answer())).await?;
            Ok(Html(page).into_response())
        }
        Some((number, "pdf")) => {
            pdf(api.invoice_as(number, |shown| print::pdf(&shown.answer())).await?)
        }
        Some(_) => Err(no_action(&invoice, ":explain, :verify, :html and :pdf")),
    }
}

/// What is shown, by what stands behind the number.
#[derive(ToSchema)]
#[schema(as = InvoiceShown)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described")]
enum ShowAnswer {
    /// The invoice with its lines.
    Invoice(Box<InvoiceAnswer>),
    /// With `:explain`.
    Explanation(ExplanationAnswer),
    /// With `:verify`.
    Verification(VerificationAnswer),
}

fn written<T: Serialize>(answer: &T) -> String {
    serde_json::to_string(answer).expect("answers are plain structures")
}

fn json(body: impl Into<Body>) -> Result<Response, HttpProblem> {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, body.into()).into_response())
}

/// An explanation as the text of one document. One that fails on its way breaks the connection, so
/// that nobody takes its beginning for the whole.
struct Text(ExplanationText);

impl Form for Text {
    type Piece = String;

    fn piece(&mut self, part: Part) -> String {
        let mut text = String::new();
        self.0.push(&part, &mut text);
        text
    }

    fn end(&mut self) -> Option<String> {
        let mut text = String::new();
        self.0.finish(&mut text);
        Some(text)
    }

    fn bytes(piece: &String) -> usize {
        piece.len()
    }
}

fn pdf(drawn: Result<Vec<u8>, print::PdfError>) -> Result<Response, HttpProblem> {
    let pdf = drawn.map_err(|error| {
        Problem::failed_precondition(reasons::PDF_UNAVAILABLE, error.to_string())
    })?;
    Ok(([(header::CONTENT_TYPE, "application/pdf")], pdf).into_response())
}

/// What is to be done with an invoice.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Action {
    reason: String,
    lines: Vec<CreditLine>,
    request_id: String,
    validate_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreditLine {
    #[serde(default)]
    line: u32,
    amount: String,
}

/// With `:void` behind the number takes a final invoice back, with `:credit` gives back a part of it.
#[utoipa::path(
    post,
    path = "/v1/invoices/{invoice}",
    tag = "billing",
    params(("invoice" = String, Path, description = "`INV-000042:void` or `INV-000042:credit`.")),
    request_body(content = Object, content_type = "application/json", description = "`reason`; with `:credit` also `lines` of `line` (its place, 0 for the whole) and `amount`, and `request_id`, `validate_only`."),
    responses((status = 200, body = InvoiceAnswer), Problems),
)]
pub(super) async fn act<U: UsageStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(invoice): Path<String>,
    Json(action): Json<Action>,
) -> Result<Json<InvoiceAnswer>, HttpProblem> {
    let Action { reason, lines, request_id, validate_only } = action;
    let done = match invoice.split_once(':') {
        Some((number, "void")) => InvoiceAnswer::new(api.void(number, &reason).await?, None),
        Some((number, "credit")) => {
            let line = |CreditLine { line, amount }| v1::CreditLine { line, amount };
            let lines = lines.into_iter().map(line).collect();
            let number = number.to_owned();
            let request =
                v1::CreditInvoiceRequest { number, lines, reason, request_id, validate_only };
            api.credit(request).await?.answer()
        }
        _ => return Err(no_action(&invoice, ":void and :credit")),
    };
    Ok(Json(done))
}
