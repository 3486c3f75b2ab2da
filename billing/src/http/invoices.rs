//! HTTP of invoices: listed, shown, explained, computed again; taken back, in whole or in part.

use axum::{
    Extension, Json,
    body::Body,
    extract::{FromRequest as _, Path, RawQuery, Request, State},
    http::header,
    response::{Html, IntoResponse, Response},
};
use domain::{BillingStore, BlockStore, PulseLog};
use edge::{
    Problem,
    access::{Change, Principal},
    parameters::Parameters,
    problem::{http::HttpProblem, reasons},
};
use futures_util::TryStreamExt as _;
use proto::v1;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{Answer, examples, no_action, page_of};
use crate::{
    answers::{
        explanation::{ExplanationAnswer, ExplanationText, Part},
        invoice::{
            InvoiceAnswer, InvoiceHeadAnswer, InvoiceLinesAnswer, InvoicesAnswer, TotalsAnswer,
        },
        verification::VerificationAnswer,
    },
    api::{BillingApi, explaining::Form},
};

/// Invoices in the order of their numbers, or all documents of one tenant.
#[utoipa::path(
    get,
    path = "/v1/invoices",
    operation_id = "listInvoices",
    tag = "billing",
    params(
        ("tenant" = Option<String>, Query, description = "Only this tenant's, drafts too; then there are no pages.", max_length = 128, example = "acme"),
        ("page_size" = Option<i32>, Query, description = "50 when left out.", minimum = 1, maximum = 1000, example = 50),
        ("page_token" = Option<String>, Query, description = "From the answer before, to the same question.", example = "51"),
        ("period" = Option<String>, Query, description = "Only of periods that begin in this month of their own zone. A page then looks at `page_size` numbers and has those that pass: perhaps none, and still a token.", pattern = "^[0-9]{4}-[0-9]{2}$", example = "2024-09"),
        ("state" = Option<String>, Query, description = "Only in this state: `draft`, `final`, `discarded` or `void`. Drafts and discarded ones have no number, so they need a tenant.", example = "final"),
    ),
    responses((status = 200, description = "One page.", body = InvoicesAnswer, example = json!(examples::invoices()))),
)]
pub(super) async fn list<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(principal): Extension<Principal>,
    RawQuery(query): RawQuery,
) -> Answer<InvoicesAnswer> {
    let known = ["tenant", "page_size", "page_token", "period", "state"];
    let parameters = Parameters::parse(query.as_deref(), &known, &[])?;
    let (page_size, page_token) = page_of(&parameters)?;
    let tenant = parameters.text("tenant");
    let (period, state) = (parameters.text("period"), parameters.text("state"));
    let request = v1::ListInvoicesRequest { tenant, page_size, page_token, period, state };
    let page = api.invoices(&request, &principal).await?;
    let listed = page.invoices.into_iter().map(InvoiceHeadAnswer::new);
    let totals = page.totals.into_iter().map(TotalsAnswer::from).collect();
    let (invoices, next_page_token) = (listed.collect(), page.next_page_token);
    Ok(Json(InvoicesAnswer { invoices, totals, next_page_token }))
}

fn moment_of(text: &str) -> Result<prost_types::Timestamp, Problem> {
    let parsed = text.parse().ok().map(proto::convert::wire_time);
    parsed.ok_or_else(|| {
        let message = format!("{text:?} is no time: write it as 2024-09-03T10:00:00Z");
        Problem::invalid("hour", reasons::PARAMETER_INVALID, message)
    })
}

/// `GET /v1/invoices/{invoice}`, where an action may be a part of the placeholder.
pub(super) async fn get<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(principal): Extension<Principal>,
    Path(invoice): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpProblem> {
    let (number, action) = match invoice.split_once(':') {
        Some((number, action)) => (number, Some(action)),
        None => (&*invoice, None),
    };
    api.check_tenant(number, &principal).await?;
    let query = query.as_deref();
    match action {
        None => show(&api, number, query).await,
        Some("explain") => explain(&api, number, query).await,
        Some("verify") => verify(&api, number, query).await.map(IntoResponse::into_response),
        Some("html") => html(&api, number, query).await,
        Some("pdf") => pdf(&api, number, query).await,
        Some(_) => Err(no_action(&invoice, ":explain, :verify, :html and :pdf")),
    }
}

/// One invoice with its lines.
///
/// One that is longer than `billing.inline_bytes_max` comes without `lines` and `unpriced`: `left_out`
/// says how many there are, and `/v1/invoices/{invoice}/lines` lists them.
#[utoipa::path(
    get,
    path = "/v1/invoices/{invoice}",
    operation_id = "getInvoice",
    tag = "billing",
    params(("invoice" = String, Path, description = "`INV-000042`, or the digits.", pattern = "^(INV-)?[0-9]+$", example = "INV-000042")),
    responses((status = 200, description = "The invoice.", body = InvoiceAnswer, example = json!(examples::invoice()))),
)]
async fn show<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    number: &str,
    query: Option<&str>,
) -> Result<Response, HttpProblem> {
    Parameters::parse(query, &[], &[])?;
    json(api.invoice_as(number, |shown| written(&shown.answer())).await?)
}

/// The lines of an invoice, then its usage without a price, in pages.
#[utoipa::path(
    get,
    path = "/v1/invoices/{invoice}/lines",
    operation_id = "listInvoiceLines",
    tag = "billing",
    params(
        ("invoice" = String, Path, description = "`INV-000042`, or the digits.", pattern = "^(INV-)?[0-9]+$", example = "INV-000042"),
        ("page_size" = Option<i32>, Query, description = "50 when left out. A page of about a megabyte ends before.", minimum = 1, maximum = 1000, example = 50),
        ("page_token" = Option<String>, Query, description = "From the answer before. The invoice must stay as it was.", example = "AQAAAAAAAAAq"),
    ),
    responses((status = 200, description = "One page.", body = InvoiceLinesAnswer, example = json!(examples::invoice_lines()))),
)]
pub(super) async fn lines<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(principal): Extension<Principal>,
    Path(number): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<InvoiceLinesAnswer> {
    api.check_tenant(&number, &principal).await?;
    let parameters = Parameters::parse(query.as_deref(), &["page_size", "page_token"], &[])?;
    let (page_size, page_token) = page_of(&parameters)?;
    let request = v1::ListInvoiceLinesRequest { number, page_size, page_token };
    Ok(Json(api.lines(&request).await?))
}

/// Why an invoice comes to what it comes to.
///
/// Each line with its steps and the hours of usage behind it, and on request the pulses behind those,
/// which are read from the log.
#[utoipa::path(
    get,
    path = "/v1/invoices/{invoice}:explain",
    operation_id = "explainInvoice",
    tag = "billing",
    params(
        ("invoice" = String, Path, description = "`INV-000042`, or the digits.", pattern = "^(INV-)?[0-9]+$", example = "INV-000042"),
        ("line" = Option<u32>, Query, description = "The place of one line, from 1; all when left out.", minimum = 1, example = 1),
        ("pulses" = Option<bool>, Query, description = "Go on to the pulses in the log.", example = true),
        ("hour" = Option<String>, Query, description = "With `pulses`, of this hour only: its start, in RFC 3339.", example = "2024-09-03T10:00:00Z"),
    ),
    responses((status = 200, description = "The lines with what is behind them.", body = ExplanationAnswer, example = json!(examples::explanation()))),
)]
async fn explain<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    number: &str,
    query: Option<&str>,
) -> Result<Response, HttpProblem> {
    let parameters = Parameters::parse(query, &["line", "hour"], &["pulses"])?;
    let request = v1::ExplainInvoiceRequest {
        number: number.to_owned(),
        line: parameters.number("line", reasons::PARAMETER_INVALID)?,
        pulses: parameters.is_set("pulses")?,
        hour: parameters.get("hour").map(moment_of).transpose()?,
    };
    let pieces = api.explain(&request, Text(ExplanationText::document())).await?;
    json(Body::from_stream(pieces.map_ok(|pieces| pieces.concat())))
}

/// Computes an invoice again and says what differs.
#[utoipa::path(
    get,
    path = "/v1/invoices/{invoice}:verify",
    operation_id = "verifyInvoice",
    tag = "billing",
    params(
        ("invoice" = String, Path, description = "`INV-000042`, or the digits.", pattern = "^(INV-)?[0-9]+$", example = "INV-000042"),
        ("from_log" = Option<bool>, Query, description = "Compute from the pulses in the log instead of the stored totals.", example = true),
    ),
    responses((status = 200, description = "What differs.", body = VerificationAnswer, example = json!(examples::verification()))),
)]
async fn verify<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    number: &str,
    query: Option<&str>,
) -> Answer<VerificationAnswer> {
    let from_log = Parameters::parse(query, &[], &["from_log"])?.is_set("from_log")?;
    let request = v1::VerifyInvoiceRequest { number: number.to_owned(), from_log };
    Ok(Json(api.verify(&request).await?))
}

/// An invoice as a page to print.
#[utoipa::path(
    get,
    path = "/v1/invoices/{invoice}:html",
    operation_id = "renderInvoiceHtml",
    tag = "billing",
    params(("invoice" = String, Path, description = "`INV-000042`, or the digits.", pattern = "^(INV-)?[0-9]+$", example = "INV-000042")),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html", example = "<!doctype html>")),
)]
async fn html<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    number: &str,
    query: Option<&str>,
) -> Result<Response, HttpProblem> {
    Parameters::parse(query, &[], &[])?;
    Ok(Html(Body::from_stream(api.html(number).await?)).into_response())
}

/// The bytes of a PDF.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
struct Pdf(Vec<u8>);

impl IntoResponse for Pdf {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/pdf")], self.0).into_response()
    }
}

/// An invoice as PDF.
///
/// Refused with `PDF_UNAVAILABLE` by a program that was built without it, and for an invoice of more than
/// 5,000 lines.
#[utoipa::path(
    get,
    path = "/v1/invoices/{invoice}:pdf",
    operation_id = "renderInvoicePdf",
    tag = "billing",
    params(("invoice" = String, Path, description = "`INV-000042`, or the digits.", pattern = "^(INV-)?[0-9]+$", example = "INV-000042")),
    responses((status = 200, description = "The document.", body = inline(Pdf), content_type = "application/pdf")),
)]
async fn pdf<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    number: &str,
    query: Option<&str>,
) -> Result<Response, HttpProblem> {
    Parameters::parse(query, &[], &[])?;
    let drawn = api.pdf(number).await?.map_err(|error| {
        Problem::failed_precondition(reasons::PDF_UNAVAILABLE, error.to_string())
    })?;
    Ok(Pdf(drawn).into_response())
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

/// `POST /v1/invoices/{invoice}`, whose action is a part of the placeholder.
pub(super) async fn act<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(change): Extension<Change>,
    Path(invoice): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let done = match invoice.split_once(':') {
        Some((number, "void")) => {
            let voided = void(&api, number, body(request).await?, &change).await;
            voided.map(IntoResponse::into_response)
        }
        Some((number, "credit")) => {
            let credited = credit(&api, number, body(request).await?, &change).await;
            credited.map(IntoResponse::into_response)
        }
        _ => Err(no_action(&invoice, ":void and :credit")),
    };
    done.map_err(IntoResponse::into_response)
}

/// The body of an action, which says what it may hold.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Response> {
    let read = Json::<T>::from_request(request, &()).await;
    read.map(|Json(body)| body).map_err(IntoResponse::into_response)
}

/// Why an invoice is taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VoidInvoice)]
struct Void {
    /// Kept with the invoice.
    #[schema(required, min_length = 1, max_length = 4096)]
    #[serde(default)]
    reason: String,
}

/// Takes a final invoice back.
#[utoipa::path(
    post,
    path = "/v1/invoices/{invoice}:void",
    operation_id = "voidInvoice",
    tag = "billing",
    params(("invoice" = String, Path, description = "`INV-000042`, or the digits.", pattern = "^(INV-)?[0-9]+$", example = "INV-000042")),
    request_body(content = Void, example = json!({"reason": "billed to the wrong tenant"})),
    responses((status = 200, description = "The invoice, without its lines.", body = InvoiceHeadAnswer, example = json!(examples::voided()))),
)]
async fn void<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    number: &str,
    Void { reason }: Void,
    change: &Change,
) -> Answer<InvoiceHeadAnswer> {
    Ok(Json(InvoiceHeadAnswer::new(api.void(number, &reason, change).await?)))
}

/// What is given back, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreditInvoice)]
struct Credit {
    /// Kept in the note and shown to the customer.
    #[schema(required, min_length = 1, max_length = 4096)]
    #[serde(default)]
    reason: String,
    /// Each line of the invoice at most once.
    #[schema(required, min_items = 1)]
    #[serde(default)]
    lines: Vec<CreditLine>,
    /// Makes the request safe to repeat, and tells it from another credit that reads the same. Without
    /// one, a second note that reads the same is refused.
    #[schema(max_length = 128)]
    #[serde(default)]
    request_id: String,
    /// `correction`: it billed too much, and later deltas count the note as billed less. `goodwill`, as
    /// when absent: deltas ignore the note.
    #[schema(value_type = Option<pricing::document::NoteKind>)]
    #[serde(default)]
    kind: String,
    /// Check only, write nothing; the answer has no number.
    #[serde(default)]
    validate_only: bool,
}

/// A part that is given back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreditLine {
    /// Place of the line, from 1; 0 for the invoice as a whole.
    #[serde(default)]
    line: u32,
    /// A decimal above zero, with no more digits than the currency has; taxes included.
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$")]
    amount: String,
}

/// Gives back a part of a final invoice by a credit note.
#[utoipa::path(
    post,
    path = "/v1/invoices/{invoice}:credit",
    operation_id = "creditInvoice",
    tag = "billing",
    params(("invoice" = String, Path, description = "`INV-000042`, or the digits.", pattern = "^(INV-)?[0-9]+$", example = "INV-000042")),
    request_body(content = Credit, example = json!({"reason": "an outage", "lines": [{"line": 1, "amount": "1.00"}]})),
    responses((status = 200, description = "The credit note.", body = InvoiceAnswer, example = json!(examples::credit_note()))),
)]
async fn credit<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    number: &str,
    Credit { reason, lines, request_id, kind, validate_only }: Credit,
    change: &Change,
) -> Answer<InvoiceAnswer> {
    let line = |CreditLine { line, amount }| v1::CreditLine { line, amount };
    let lines = lines.into_iter().map(line).collect();
    let number = number.to_owned();
    let request =
        v1::CreditInvoiceRequest { number, lines, reason, request_id, validate_only, kind };
    Ok(Json(api.credit(request, change).await?.answer()))
}
