//! Catalogues: published once and for ever, listed, shown.

use std::{collections::BTreeMap, sync::Mutex};

use domain::{
    BillingStore, PulseLog, UsageStore,
    billing::{CatalogueHead, CatalogueVersion},
    hash,
};
use edge::{Problem, problem::reasons};
use proto::v1;

use super::{BillingApi, find_version, parse, problems};
use pricing::examples;

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// One version, or the latest for an empty name.
    pub(crate) async fn find_catalogue(
        &self,
        version: &str,
    ) -> Result<v1::CatalogueVersion, Problem> {
        let wanted = Some(version).filter(|version| !version.is_empty());
        let _call = self.inner.compute.admit()?;
        self.describe(find_version(&*self.inner.store, wanted, |_| true).await?).await
    }

    /// All versions without their texts, newest first.
    pub(crate) async fn catalogues(&self) -> Result<v1::ListCataloguesResponse, Problem> {
        let _call = self.inner.compute.admit()?;
        let heads = self.inner.store.catalogues().await?;
        let mut catalogues = Vec::with_capacity(heads.len());
        for head in heads {
            catalogues.push(self.described(head).await?);
        }
        Ok(v1::ListCataloguesResponse { catalogues })
    }

    /// A version without its text, which is read once a process.
    async fn described(&self, head: CatalogueHead) -> Result<v1::CatalogueVersion, Problem> {
        if let Some(known) = self.inner.described.get(&head.version) {
            return Ok(known);
        }
        let found = find_version(&*self.inner.store, Some(&head.version), |_| true).await?;
        let described = v1::CatalogueVersion { text: String::new(), ..self.describe(found).await? };
        self.inner.described.keep(&described);
        Ok(described)
    }

    /// Checks, stores, declares, activates; or only checks.
    pub(crate) async fn publish(
        &self,
        request: v1::PublishCatalogueRequest,
    ) -> Result<v1::PublishCatalogueResponse, Problem> {
        let text = request.text;
        let compute = &self.inner.compute;
        let _call = compute.admit()?;
        let file = parse(compute, "catalogue", text.clone()).await?;
        let testing = move || (examples::run(&file), file);
        let (tested, file) = compute.run(testing).await?;
        problems::of_tests(&tested)?;
        let name = file.catalogue.version.as_str();
        let before = self.inner.store.catalogue(name).await?;
        if let Some(before) = &before {
            check_same(before, &text)?;
        }
        let offered = CatalogueVersion {
            version: name.to_owned(),
            sequence: 0,
            text,
            published_at: self.inner.clock.now(),
            active: false,
        };
        let already_published = before.is_some();
        if request.validate_only {
            let catalogue = Some(self.describe(before.unwrap_or(offered)).await?);
            return Ok(v1::PublishCatalogueResponse { catalogue, already_published });
        }
        let stands = self.inner.store.publish_catalogue(&offered).await?;
        check_same(&stands, &offered.text)?;
        if !stands.active {
            self.activate(&stands, &file.catalogue).await?;
        }
        let catalogue = Some(self.describe(stands).await?);
        Ok(v1::PublishCatalogueResponse { catalogue, already_published })
    }

    /// A stored version as the wire knows it. A text that this program can no longer read counts no
    /// SKUs and is still shown.
    async fn describe(&self, version: CatalogueVersion) -> Result<v1::CatalogueVersion, Problem> {
        let skus = match parse(&self.inner.compute, &version.version, version.text.clone()).await {
            Ok(file) => u32::try_from(file.catalogue.skus.len()).unwrap_or(u32::MAX),
            Err(problem) => {
                tracing::warn!(version = version.version, %problem, "a stored catalogue does not parse");
                0
            }
        };
        let (seconds, nanos) = version.published_at.parts();
        Ok(v1::CatalogueVersion {
            digest: format!("{:032x}", hash::bytes128(0, version.text.as_bytes())),
            version: version.version,
            text: version.text,
            published_at: Some(prost_types::Timestamp { seconds, nanos }),
            skus,
        })
    }
}

/// What was said of versions without their texts: it never changes.
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
