//! HTTP of contracts: listed, applied, amended, shown.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
};
use domain::{BillingStore, BlockStore, PulseLog};
use edge::{access::Change, parameters::Parameters};
use proto::v1;

use super::{Answer, examples, validate_only};
use crate::{
    answers::{self, AmendedContract, AppliedContract, Contract, Contracts},
    api::BillingApi,
};

/// Contracts and amendments in the order in which they were applied.
#[utoipa::path(
    get,
    path = "/v1/contracts",
    operation_id = "listContracts",
    tag = "billing",
    params(("tenant" = Option<String>, Query, description = "Only this tenant's.", max_length = 128, example = "acme")),
    responses((status = 200, description = "All of them, without their texts.", body = Contracts, example = json!(examples::contracts()))),
)]
pub(super) async fn list<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    RawQuery(query): RawQuery,
) -> Answer<Contracts> {
    let tenant = Parameters::parse(query.as_deref(), &["tenant"], &[])?.text("tenant");
    Ok(Json(answers::contracts(&api.contracts(&tenant).await?.contracts)))
}

/// Applies a contract, once and for ever.
///
/// The same text again is answered as before. Other text under a name that was applied is refused.
#[utoipa::path(
    post,
    path = "/v1/contracts",
    operation_id = "applyContract",
    tag = "billing",
    params(("validate_only" = Option<bool>, Query, description = "Check only, write nothing.", example = true)),
    request_body(content = String, content_type = "application/yaml", description = "The contract's file.", example = json!(examples::CONTRACT)),
    responses((status = 200, description = "It is applied, or only checked.", body = AppliedContract, example = json!(examples::applied()))),
)]
pub(super) async fn apply<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(change): Extension<Change>,
    RawQuery(query): RawQuery,
    text: String,
) -> Answer<AppliedContract> {
    let validate_only = validate_only(query.as_deref())?;
    let applied = api.apply(v1::ApplyContractRequest { text, validate_only }, &change).await?;
    Ok(Json(answers::applied(&applied, validate_only)))
}

/// Changes a contract from a day on, once and for ever.
///
/// The same text again is answered as before. Other text under a name that was applied is refused. A
/// check answers also what the amendment would change about billing periods.
#[utoipa::path(
    post,
    path = "/v1/contracts:amend",
    operation_id = "amendContract",
    tag = "billing",
    params(("validate_only" = Option<bool>, Query, description = "Check only, write nothing.", example = true)),
    request_body(content = String, content_type = "application/yaml", description = "The amendment's file.", example = json!(examples::AMENDMENT)),
    responses((status = 200, description = "It is applied, or only checked.", body = AmendedContract, example = json!(examples::amended()))),
)]
pub(super) async fn amend<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(change): Extension<Change>,
    RawQuery(query): RawQuery,
    text: String,
) -> Answer<AmendedContract> {
    let validate_only = validate_only(query.as_deref())?;
    let amended = api.amend(v1::AmendContractRequest { text, validate_only }, &change).await?;
    Ok(Json(answers::amended(&amended, validate_only)))
}

/// One contract or amendment with its text.
#[utoipa::path(
    get,
    path = "/v1/contracts/{name}",
    operation_id = "getContract",
    tag = "billing",
    params(("name" = String, Path, description = "Its name.", max_length = 128, example = "acme-1")),
    responses((status = 200, description = "The contract, with `text`.", body = Contract, example = json!(examples::contract()))),
)]
pub(super) async fn show<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(name): Path<String>,
) -> Answer<Contract> {
    Ok(Json(answers::contract(&api.contract(&name).await?)))
}
