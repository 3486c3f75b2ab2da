//! HTTP of rejections: listed, added, their messages sent again.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
};
use domain::{BillingStore, BlockStore, PulseLog};
use edge::{access::Change, parameters::Parameters, problem::reasons};
use proto::v1;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Answer, examples, no_action, number, page_of};
use crate::{
    answers::{self, Rejection, Rejections},
    api::BillingApi,
};

/// Messages that consumers could not take, in the order of their numbers.
#[utoipa::path(
    get,
    path = "/v1/billing/rejections",
    operation_id = "listRejections",
    tag = "billing",
    params(
        ("page_size" = Option<i32>, Query, description = "50 when left out.", minimum = 1, maximum = 1000, example = 50),
        ("page_token" = Option<String>, Query, description = "From the answer before.", example = "51"),
    ),
    responses((status = 200, description = "One page.", body = Rejections, example = json!(examples::rejections()))),
)]
pub(super) async fn list<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    RawQuery(query): RawQuery,
) -> Answer<Rejections> {
    let parameters = Parameters::parse(query.as_deref(), &["page_size", "page_token"], &[])?;
    let (page_size, page_token) = page_of(&parameters)?;
    let page = api.rejections(&v1::ListRejectionsRequest { page_size, page_token }).await?;
    Ok(Json(answers::rejections(page)))
}

/// Who cannot take which message, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RejectMessage)]
pub(super) struct Rejected {
    /// The message's number in the outbox.
    message: u64,
    /// Who rejects it. A message counts once for each consumer.
    #[schema(min_length = 1, max_length = 128)]
    consumer: String,
    /// Why, for a person.
    #[schema(min_length = 1, max_length = 4096)]
    reason: String,
}

/// Says that a consumer cannot take a message.
#[utoipa::path(
    post,
    path = "/v1/billing/rejections",
    operation_id = "rejectMessage",
    tag = "billing",
    request_body(content = Rejected, example = json!({"message": 1, "consumer": "ledger", "reason": "the account is closed"})),
    responses((status = 200, description = "The rejection.", body = Rejection, example = json!(examples::rejection()))),
)]
pub(super) async fn reject<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(change): Extension<Change>,
    Json(Rejected { message, consumer, reason }): Json<Rejected>,
) -> Answer<Rejection> {
    let request = v1::RejectMessageRequest { message, consumer, reason };
    Ok(Json(answers::rejection(&api.reject(request, &change).await?)))
}

/// `POST /v1/billing/rejections/{rejection}`, whose action is a part of the placeholder.
pub(super) async fn act<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(change): Extension<Change>,
    Path(rejection): Path<String>,
) -> Answer<Rejection> {
    match rejection.split_once(':') {
        Some((rejection, "replay")) => replay(&api, rejection, &change).await,
        _ => Err(no_action(&rejection, ":replay")),
    }
}

/// Puts the message of a rejection into the outbox again, once.
#[utoipa::path(
    post,
    path = "/v1/billing/rejections/{rejection}:replay",
    operation_id = "replayRejection",
    tag = "billing",
    params(("rejection" = String, Path, description = "Its number.", pattern = "^[0-9]{1,20}$", example = "1")),
    responses((status = 200, description = "The rejection, with `replayed_as`.", body = Rejection, example = json!(examples::replayed()))),
)]
async fn replay<U: BlockStore, B: BillingStore, L: PulseLog>(
    api: &BillingApi<U, B, L>,
    rejection: &str,
    change: &Change,
) -> Answer<Rejection> {
    let number = number(rejection, "rejection", reasons::REJECTION_NOT_FOUND)?;
    Ok(Json(answers::rejection(&api.replay(number, change).await?)))
}
