//! The billing store's part of the keyspace: catalogues, in one CQL partition; journals are in
//! `entries.rs`.
//!
//! A publication is a compare-and-set on the next number, after a look at every name there is; who
//! loses it looks again. So numbers have no gaps and a name is published once.

use std::sync::Arc;

use domain::{
    BillingStore,
    billing::{Appended, CatalogueHead, CatalogueVersion},
    store::StoreError,
};

use super::{
    client::Client,
    entries,
    error::{Failure, damaged, time},
};
use crate::answers::{check_entry, unknown_catalogue};

/// The billing store in a keyspace.
#[derive(Clone)]
pub struct ScyllaBillingStore {
    client: Arc<Client>,
}

impl ScyllaBillingStore {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client }
    }
}

impl BillingStore for ScyllaBillingStore {
    async fn publish_catalogue(
        &self,
        version: &CatalogueVersion,
    ) -> Result<CatalogueVersion, StoreError> {
        Ok(publish(&self.client, version).await?)
    }

    async fn activate_catalogue(&self, version: &str) -> Result<(), StoreError> {
        Ok(activate(&self.client, version).await?)
    }

    async fn catalogue(&self, version: &str) -> Result<Option<CatalogueVersion>, StoreError> {
        let names = self.client.names(Knowing::Settled).await?;
        let Some(sequence) = sequence_of(&names, version) else { return Ok(None) };
        Ok(self.client.catalogue_at(sequence).await?)
    }

    async fn catalogues(&self) -> Result<Vec<CatalogueHead>, StoreError> {
        Ok(heads(&self.client).await?)
    }

    async fn append_entry(
        &self,
        journal: &str,
        place: u64,
        entry: &[u8],
    ) -> Result<Appended, StoreError> {
        check_entry(journal, entry)?;
        Ok(entries::append(&self.client, journal, place, entry).await?)
    }

    async fn entries(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(entries::page(&self.client, journal, from, limit).await?)
    }
}

/// How much of what is being decided elsewhere a read must know.
enum Knowing {
    /// All that may have been decided, finishing it if need be.
    Decided,
    /// What was acknowledged.
    Settled,
}

type Names = Vec<(i64, String)>;

fn sequence_of(names: &Names, version: &str) -> Option<i64> {
    names.iter().find(|(_, name)| name == version).map(|(sequence, _)| *sequence)
}

impl Client {
    async fn names(&self, knowing: Knowing) -> Result<Names, Failure> {
        let statement = match knowing {
            Knowing::Decided => &self.statements.decided_catalogue_names,
            Knowing::Settled => &self.statements.catalogue_names,
        };
        self.link.read(statement, ()).await
    }

    async fn catalogue_at(&self, sequence: i64) -> Result<Option<CatalogueVersion>, Failure> {
        let found = self.link.read_one(&self.statements.catalogue, (sequence,)).await?;
        found.map(take).transpose()
    }
}

async fn publish(client: &Client, given: &CatalogueVersion) -> Result<CatalogueVersion, Failure> {
    loop {
        let names = client.names(Knowing::Decided).await?;
        if let Some(sequence) = sequence_of(&names, &given.version) {
            let stands = client.catalogue_at(sequence).await?;
            return stands.ok_or_else(|| damaged("catalogue vanished", &given.version));
        }
        let next = names.last().map_or(1, |(sequence, _)| sequence + 1);
        let (version, text) = (given.version.as_str(), given.text.as_str());
        let values = (next, version, text, given.published_at.micros());
        // Whether it was done is seen by looking again, whatever the answer.
        client.link.decide(&client.statements.insert_catalogue, values).await?;
    }
}

async fn activate(client: &Client, version: &str) -> Result<(), Failure> {
    let names = client.names(Knowing::Decided).await?;
    let sequence = sequence_of(&names, version).ok_or_else(|| unknown_catalogue(version))?;
    let statement = &client.statements.activate_catalogue;
    match client.link.decide(statement, (sequence, version)).await? {
        true => Ok(()),
        false => Err(damaged("catalogue vanished", version)),
    }
}

async fn heads(client: &Client) -> Result<Vec<CatalogueHead>, Failure> {
    let read: Vec<ReadHead> = client.link.read(&client.statements.catalogue_heads, ()).await?;
    read.into_iter().rev().map(take_head).collect()
}

/// Sequence, version, time, active.
type ReadHead = (i64, String, i64, Option<bool>);

fn take_head(
    (sequence, version, published_at, active): ReadHead,
) -> Result<CatalogueHead, Failure> {
    let text = String::new();
    take((sequence, version, text, published_at, active)).map(|version| version.head())
}

/// Sequence, version, text, time, active.
type Read = (i64, String, String, i64, Option<bool>);

fn take(
    (sequence, version, text, published_at, active): Read,
) -> Result<CatalogueVersion, Failure> {
    let micros = published_at;
    Ok(CatalogueVersion {
        version,
        sequence: u64::try_from(sequence).map_err(|_| damaged("sequence", sequence))?,
        text,
        published_at: time(micros)?,
        active: active == Some(true),
    })
}
