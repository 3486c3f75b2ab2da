//! HTTP of catalogues: listed, published, shown.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
};
use domain::{BillingStore, BlockStore, PulseLog};
use edge::{access::Change, parameters::Parameters};
use proto::v1;

use super::{Answer, examples};
use crate::{
    answers::{self, Catalogue, Catalogues, PublishedCatalogue},
    api::BillingApi,
};

/// Published catalogues, newest first.
#[utoipa::path(
    get,
    path = "/v1/catalog",
    operation_id = "listCatalogues",
    tag = "billing",
    responses((status = 200, description = "All of them, without their texts.", body = Catalogues, example = json!(examples::catalogues()))),
)]
pub(super) async fn list<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
) -> Answer<Catalogues> {
    Ok(Json(answers::catalogues(&api.catalogues().await?.catalogues)))
}

/// Publishes a catalogue, once and for ever.
///
/// The same content again is answered as before. Other content under a version that is published is
/// refused.
#[utoipa::path(
    post,
    path = "/v1/catalog",
    operation_id = "publishCatalogue",
    tag = "billing",
    params(
        ("validate_only" = Option<bool>, Query, description = "Check only, write nothing.", example = true),
        ("about_the_past" = Option<bool>, Query, description = "The file's effective_from may lie in the past; what was billed since then gets deltas.", example = false),
    ),
    request_body(content = String, content_type = "application/yaml", description = "The catalogue's file.", example = json!(examples::CATALOGUE)),
    responses((status = 200, description = "It is published, or only checked.", body = PublishedCatalogue, example = json!(examples::published()))),
)]
pub(super) async fn publish<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Extension(change): Extension<Change>,
    RawQuery(query): RawQuery,
    text: String,
) -> Answer<PublishedCatalogue> {
    let flags = Parameters::parse(query.as_deref(), &[], &["validate_only", "about_the_past"])?;
    let validate_only = flags.is_set("validate_only")?;
    let about_the_past = flags.is_set("about_the_past")?;
    let request = v1::PublishCatalogueRequest { text, validate_only, about_the_past };
    let published = api.publish(request, &change).await?;
    Ok(Json(answers::published(&published, validate_only)))
}

/// One catalogue with its text.
#[utoipa::path(
    get,
    path = "/v1/catalog/{version}",
    operation_id = "getCatalogue",
    tag = "billing",
    params(("version" = String, Path, description = "Its version.", max_length = 128, example = "2024-09")),
    responses((status = 200, description = "The catalogue, with `text`.", body = Catalogue, example = json!(examples::catalogue()))),
)]
pub(super) async fn show<U: BlockStore, B: BillingStore, L: PulseLog>(
    State(api): State<BillingApi<U, B, L>>,
    Path(version): Path<String>,
) -> Answer<Catalogue> {
    Ok(Json(answers::catalogue(&api.find_catalogue(&version).await?)))
}
