//! Catalogues as JSON.

use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::moment;

/// A version of the catalogue.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CatalogueVersion)]
pub struct Catalogue {
    /// Its name, unique for ever.
    version: String,
    /// Null for one that was only checked.
    #[schema(format = DateTime, required)]
    published_at: Option<String>,
    /// First moment at which it is in effect; null for the first version, which reaches back without
    /// bound unless its file has a date.
    #[schema(format = DateTime, required)]
    effective_from: Option<String>,
    /// How many SKUs it prices.
    skus: u32,
    /// Hexadecimal digest of the text.
    digest: String,
    /// The YAML; only when one version is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
}

/// Published catalogues without their texts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Catalogues {
    /// Newest first.
    catalogues: Vec<Catalogue>,
}

/// What became of a catalogue that was sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PublishedCatalogue {
    #[serde(flatten)]
    catalogue: Catalogue,
    /// The same content was published before, under this version.
    already_published: bool,
    /// Nothing was written.
    validate_only: bool,
    /// What the version before has and this one leaves out: retired when this one takes effect. Sorted.
    retired: Vec<RetiredSku>,
}

/// A SKU in a unit that a version leaves out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RetiredSku {
    product_sku: String,
    use_unity: String,
}

/// A version of the catalogue; its text where it was asked for.
#[must_use]
pub fn catalogue(catalogue: &v1::CatalogueVersion) -> Catalogue {
    Catalogue {
        version: catalogue.version.clone(),
        published_at: moment(catalogue.published_at.as_ref()),
        effective_from: moment(catalogue.effective_from.as_ref()),
        skus: catalogue.skus,
        digest: catalogue.digest.clone(),
        text: Some(catalogue.text.clone()).filter(|text| !text.is_empty()),
    }
}

/// A list of catalogues.
#[must_use]
pub fn catalogues(listed: &[v1::CatalogueVersion]) -> Catalogues {
    Catalogues { catalogues: listed.iter().map(catalogue).collect() }
}

/// The answer to a catalogue that was sent, to be checked only if so.
#[must_use]
pub fn published(answer: &v1::PublishCatalogueResponse, validate_only: bool) -> PublishedCatalogue {
    PublishedCatalogue {
        catalogue: catalogue(answer.catalogue.as_ref().unwrap_or(&v1::CatalogueVersion::default())),
        already_published: answer.already_published,
        validate_only,
        retired: answer.retired.iter().map(retired).collect(),
    }
}

fn retired(sku: &v1::RetiredSku) -> RetiredSku {
    RetiredSku { product_sku: sku.product_sku.clone(), use_unity: sku.use_unity.clone() }
}
