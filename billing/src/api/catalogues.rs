//! Catalogues: published once and for ever, listed, shown.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use domain::{
    BillingStore, BlockStore, PulseLog, Timestamp,
    billing::{CatalogueHead, CatalogueVersion},
    catalogue::Catalogue,
    hash,
};
use edge::{Compute, Problem, access::Change, problem::reasons};
use pricing::{
    CatalogueFile,
    editions::{self, Editions},
    examples, file,
};
use proto::v1;

use super::{BillingApi, messages, problems};
use crate::books::catalogues;

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// One version, or the newest for an empty name.
    pub(crate) async fn find_catalogue(
        &self,
        version: &str,
    ) -> Result<v1::CatalogueVersion, Problem> {
        let wanted = Some(version).filter(|version| !version.is_empty());
        let _call = self.compute.admit()?;
        self.describe(self.find_version(wanted, |_| true).await?).await
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
        let described = v1::CatalogueVersion { text: String::new(), ..self.describe(found).await? };
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
        let published_at = before.as_ref().map_or_else(|| self.clock.now(), |it| it.published_at);
        let about = if request.about_the_past { About::ThePast } else { About::TheFuture };
        let catalogue = Arc::new(file.catalogue);
        let beside = self.beside(&catalogue, published_at).await?;
        if before.is_none() {
            beside.check(&catalogue, published_at, about)?;
        }
        let offered = CatalogueVersion {
            version: name_of(&catalogue),
            sequence: 0,
            text,
            published_at,
            active: false,
        };
        let answer = Answer {
            already_published: before.is_some(),
            retired: beside.retired(&catalogue),
            effective_from: beside.effective_from(&catalogue, published_at),
            skus: catalogue.skus.len(),
        };
        if request.validate_only {
            change.only_checked();
            return Ok(answer.of(before.unwrap_or(offered)));
        }
        let stands = self.parts.publisher.store(&offered).await?;
        check_same(&stands, &offered.text)?;
        if answer.already_published {
            change.before(&stands.text);
        }
        change.after(&stands.text);
        if !stands.active {
            self.parts.publisher.activate(&stands, &catalogue).await?;
        }
        // From here on nothing fails: the catalogue is published, and the audit trail says so.
        Ok(answer.of(stands))
    }

    /// The versions that a catalogue is or would be published beside.
    async fn beside(
        &self,
        catalogue: &Arc<Catalogue>,
        published_at: Timestamp,
    ) -> Result<Beside, Problem> {
        let catalogues = &self.parts.books.catalogues;
        let mut versions = catalogues.versions().await.map_err(problems::of_billing)?;
        versions.retain(|version| *version != catalogue.version.as_str());
        if versions.is_empty() {
            return Ok(Beside(None));
        }
        let editions = catalogues.editions(&versions).await.map_err(problems::of_billing)?;
        let from = catalogue.effective_from.unwrap_or(published_at);
        let with = editions.with(Arc::clone(catalogue), from);
        Ok(Beside(Some(Others { without: editions, with, from })))
    }

    /// A stored version as the wire knows it. A text that this program can no longer read counts no
    /// SKUs and is still shown.
    async fn describe(&self, version: CatalogueVersion) -> Result<v1::CatalogueVersion, Problem> {
        let is_first = version.sequence == self.first_sequence().await?;
        let parsed = parse(&self.compute, &version.version, version.text.clone()).await;
        Ok(match parsed {
            Ok(file) => {
                let from = catalogues::effective_from(&version, &file.catalogue, is_first);
                document(version, file.catalogue.skus.len(), from)
            }
            Err(problem) => {
                tracing::warn!(version = version.version, %problem, "a stored catalogue does not parse");
                document(version, 0, None)
            }
        })
    }

    async fn first_sequence(&self) -> Result<u64, Problem> {
        let heads = self.parts.books.catalogues.heads().await.map_err(problems::of_billing)?;
        Ok(heads.iter().map(|head| head.sequence).min().unwrap_or(0))
    }
}

/// Whether a catalogue may be in effect before it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    ThePast,
    TheFuture,
}

/// The versions in use beside the one that is published, where there are any.
struct Beside(Option<Others>);

struct Others {
    without: Arc<Editions>,
    with: Editions,
    /// When the one that is published begins.
    from: Timestamp,
}

impl Beside {
    /// Refuses a date in the past where it was not asked for, and a currency that changes inside a
    /// month.
    fn check(
        &self,
        catalogue: &Catalogue,
        published_at: Timestamp,
        about: About,
    ) -> Result<(), Problem> {
        if let Some(from) = catalogue.effective_from.filter(|from| *from < published_at)
            && about == About::TheFuture
        {
            let message = format!(
                "effective_from {from} lies in the past, and what was billed since then would get deltas: see what it would change with `pulso catalog diff`, and publish with --about-the-past, or give a later moment"
            );
            return Err(Problem::invalid(
                "effective_from",
                reasons::CATALOGUE_ABOUT_THE_PAST,
                message,
            ));
        }
        let Some(Others { without, with, .. }) = &self.0 else { return Ok(()) };
        let known = without.currency_changes_inside_months();
        let new = with.currency_changes_inside_months();
        let Some((moment, before, after)) = new.into_iter().find(|found| !known.contains(found))
        else {
            return Ok(());
        };
        let message = format!(
            "the currency would change from {before} to {after} at {moment}, inside a billing period of standard terms: give an `effective_from` that is the first day of a month"
        );
        Err(Problem::invalid("effective_from", reasons::CATALOGUE_INVALID, message))
    }

    /// What the version before has and this one leaves out.
    fn retired(&self, catalogue: &Catalogue) -> Vec<v1::RetiredSku> {
        let before = self.0.as_ref().and_then(|others| others.without.before(others.from));
        let gone = before.map_or_else(Vec::new, |before| editions::left_out(before, catalogue));
        let retired = gone.into_iter().map(|(sku, unit)| v1::RetiredSku {
            product_sku: sku.to_string(),
            use_unity: unit.to_string(),
        });
        retired.collect()
    }

    /// The first one alone reaches back without bound.
    fn effective_from(&self, catalogue: &Catalogue, published_at: Timestamp) -> Option<Timestamp> {
        let default = self.0.as_ref().map(|_| published_at);
        catalogue.effective_from.or(default)
    }
}

/// What is answered beside the version itself.
struct Answer {
    already_published: bool,
    retired: Vec<v1::RetiredSku>,
    effective_from: Option<Timestamp>,
    skus: usize,
}

impl Answer {
    fn of(self, version: CatalogueVersion) -> v1::PublishCatalogueResponse {
        let Self { already_published, retired, effective_from, skus } = self;
        let catalogue = Some(document(version, skus, effective_from));
        v1::PublishCatalogueResponse { catalogue, already_published, retired }
    }
}

fn name_of(catalogue: &Catalogue) -> String {
    catalogue.version.as_str().to_owned()
}

/// A version of so many SKUs as the wire knows it.
fn document(
    version: CatalogueVersion,
    skus: usize,
    effective_from: Option<Timestamp>,
) -> v1::CatalogueVersion {
    let (seconds, nanos) = version.published_at.parts();
    v1::CatalogueVersion {
        digest: format!("{:032x}", hash::bytes128(0, version.text.as_bytes())),
        version: version.version,
        text: version.text,
        published_at: Some(prost_types::Timestamp { seconds, nanos }),
        skus: u32::try_from(skus).unwrap_or(u32::MAX),
        effective_from: effective_from.map(messages::moment),
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
