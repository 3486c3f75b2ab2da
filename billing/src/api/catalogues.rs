//! Catalogues: published once and for ever, listed, shown.

use std::{collections::BTreeMap, sync::Mutex};

use domain::{
    BillingStore, PulseLog, UsageStore,
    billing::{CatalogueHead, CatalogueVersion},
    hash,
};
use edge::{Compute, Problem, access::Change, problem::reasons};
use pricing::{CatalogueFile, examples, file};
use proto::v1;

use super::{BillingApi, problems};

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// One version, or the latest for an empty name.
    pub(crate) async fn find_catalogue(
        &self,
        version: &str,
    ) -> Result<v1::CatalogueVersion, Problem> {
        let wanted = Some(version).filter(|version| !version.is_empty());
        let _call = self.compute.admit()?;
        Ok(self.describe(self.find_version(wanted, |_| true).await?).await)
    }

    /// All versions without their texts, newest first.
    pub(crate) async fn catalogues(&self) -> Result<v1::ListCataloguesResponse, Problem> {
        let _call = self.compute.admit()?;
        let heads = self.parts.books.catalogues.heads().await.map_err(problems::of_billing)?;
        let mut catalogues = Vec::with_capacity(heads.len());
        for head in heads {
            catalogues.push(self.described(head).await?);
        }
        Ok(v1::ListCataloguesResponse { catalogues })
    }

    /// A version without its text, which is read once a process.
    async fn described(&self, head: CatalogueHead) -> Result<v1::CatalogueVersion, Problem> {
        if let Some(known) = self.described.get(&head.version) {
            return Ok(known);
        }
        let found = self.find_version(Some(&head.version), |_| true).await?;
        let described = v1::CatalogueVersion { text: String::new(), ..self.describe(found).await };
        self.described.keep(&described);
        Ok(described)
    }

    /// The version with this name, or with `None` the newest that passes `wanted`.
    pub(super) async fn find_version(
        &self,
        version: Option<&str>,
        wanted: fn(&CatalogueHead) -> bool,
    ) -> Result<CatalogueVersion, Problem> {
        let found = match version {
            Some(version) => self.stored(version).await?,
            None => {
                let heads =
                    self.parts.books.catalogues.heads().await.map_err(problems::of_billing)?;
                match heads.into_iter().find(wanted) {
                    Some(head) => self.stored(&head.version).await?,
                    None => None,
                }
            }
        };
        found.ok_or_else(|| {
            Problem::not_found(
                reasons::CATALOGUE_NOT_FOUND,
                match version {
                    Some(version) => format!("no catalogue is published under {version:?}"),
                    None => {
                        "no catalogue is published: publish one with `pulso catalog publish`".into()
                    }
                },
            )
        })
    }

    async fn stored(&self, version: &str) -> Result<Option<CatalogueVersion>, Problem> {
        self.parts.books.catalogues.stored(version).await.map_err(problems::of_billing)
    }

    /// Checks, stores, declares, activates; or only checks.
    pub(crate) async fn publish(
        &self,
        request: v1::PublishCatalogueRequest,
        change: &Change,
    ) -> Result<v1::PublishCatalogueResponse, Problem> {
        let text = request.text;
        let compute = &self.compute;
        let _call = compute.admit()?;
        let file = parse(compute, "catalogue", text.clone()).await?;
        let testing = move || (examples::run(&file), file);
        let (tested, file) = compute.run(testing).await?;
        problems::of_tests(&tested)?;
        let name = file.catalogue.version.as_str();
        change.about(name);
        let before = self.stored(name).await?;
        if let Some(before) = &before {
            check_same(before, &text)?;
        }
        let offered = CatalogueVersion {
            version: name.to_owned(),
            sequence: 0,
            text,
            published_at: self.clock.now(),
            active: false,
        };
        let already_published = before.is_some();
        let skus = file.catalogue.skus.len();
        if request.validate_only {
            change.only_checked();
            let catalogue = Some(document(before.unwrap_or(offered), skus));
            return Ok(v1::PublishCatalogueResponse { catalogue, already_published });
        }
        let stands = self.parts.publisher.store(&offered).await?;
        check_same(&stands, &offered.text)?;
        if already_published {
            change.before(&stands.text);
        }
        change.after(&stands.text);
        if !stands.active {
            self.parts.publisher.activate(&stands, &file.catalogue).await?;
        }
        // From here on nothing fails: the catalogue is published, and the audit trail says so.
        let catalogue = Some(document(stands, skus));
        Ok(v1::PublishCatalogueResponse { catalogue, already_published })
    }

    /// A stored version as the wire knows it. A text that this program can no longer read counts no
    /// SKUs and is still shown.
    async fn describe(&self, version: CatalogueVersion) -> v1::CatalogueVersion {
        let skus = match parse(&self.compute, &version.version, version.text.clone()).await {
            Ok(file) => file.catalogue.skus.len(),
            Err(problem) => {
                tracing::warn!(version = version.version, %problem, "a stored catalogue does not parse");
                0
            }
        };
        document(version, skus)
    }
}

/// A version of so many SKUs as the wire knows it.
fn document(version: CatalogueVersion, skus: usize) -> v1::CatalogueVersion {
    let (seconds, nanos) = version.published_at.parts();
    v1::CatalogueVersion {
        digest: format!("{:032x}", hash::bytes128(0, version.text.as_bytes())),
        version: version.version,
        text: version.text,
        published_at: Some(prost_types::Timestamp { seconds, nanos }),
        skus: u32::try_from(skus).unwrap_or(u32::MAX),
    }
}

/// Parses off the runtime's threads: a file may take a tenth of a second.
pub(super) async fn parse(
    compute: &Compute,
    name: &str,
    text: String,
) -> Result<CatalogueFile, Problem> {
    let name = name.to_owned();
    let parsed = compute.run(move || file::parse(&name, text.as_bytes())).await?;
    parsed.map_err(|error| problems::of_file(&error))
}

/// Descriptions of versions without their texts, which never change.
#[derive(Default)]
pub(super) struct Described(Mutex<BTreeMap<String, v1::CatalogueVersion>>);

impl Described {
    fn get(&self, version: &str) -> Option<v1::CatalogueVersion> {
        self.0.lock().ok()?.get(version).cloned()
    }

    fn keep(&self, described: &v1::CatalogueVersion) {
        if let Ok(mut known) = self.0.lock() {
            known.insert(described.version.clone(), described.clone());
        }
    }
}

/// Versions never change: other text needs another name.
fn check_same(stands: &CatalogueVersion, text: &str) -> Result<(), Problem> {
    if stands.text == text {
        return Ok(());
    }
    Err(Problem::already_exists(
        reasons::CATALOGUE_EXISTS,
        format!(
            "another catalogue is published under {:?}, and versions never change: give this one a new name in `catalogue:`",
            stands.version
        ),
    ))
}
