//! The billing store's part of `store.db`.

use domain::{
    BillingStore,
    billing::{Appended, CatalogueHead, CatalogueVersion},
    store::StoreError,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    EmbeddedStore, entries,
    failure::{Failure, damaged, time},
};
use crate::answers::{check_entry, unknown_catalogue};

/// The embedded billing store.
#[derive(Clone)]
pub struct EmbeddedBillingStore {
    store: EmbeddedStore,
}

impl EmbeddedBillingStore {
    pub(super) fn new(store: EmbeddedStore) -> Self {
        Self { store }
    }
}

const COLUMNS: &str = "version, sequence, text, published_at, active";

/// From the index alone: a row's text may be long, and what stands behind it is found by reading it.
const HEADS: &str = "SELECT version, sequence, '', published_at, active
    FROM catalogue INDEXED BY catalogue_head ORDER BY sequence DESC";

impl BillingStore for EmbeddedBillingStore {
    async fn publish_catalogue(
        &self,
        version: &CatalogueVersion,
    ) -> Result<CatalogueVersion, StoreError> {
        let given = version.clone();
        self.store
            .write(move |connection| {
                // One thread writes, so nobody can publish between the look and the insert.
                if let Some(stands) = find(connection, &given.version)? {
                    return Ok(stands);
                }
                insert(connection, &given)?;
                find(connection, &given.version)?
                    .ok_or_else(|| damaged("catalogue vanished", &given.version))
            })
            .await
    }

    async fn activate_catalogue(&self, version: &str) -> Result<(), StoreError> {
        let version = version.to_owned();
        self.store
            .write(move |connection| {
                let changed = connection
                    .prepare_cached("UPDATE catalogue SET active = 1 WHERE version = ?1")?
                    .execute([&version])?;
                if changed == 1 { Ok(()) } else { Err(unknown_catalogue(&version).into()) }
            })
            .await
    }

    async fn catalogue(&self, version: &str) -> Result<Option<CatalogueVersion>, StoreError> {
        let version = version.to_owned();
        self.store.read(move |connection| find(connection, &version)).await
    }

    async fn catalogues(&self) -> Result<Vec<CatalogueHead>, StoreError> {
        self.store
            .read(|connection| {
                let mut statement = connection.prepare_cached(HEADS)?;
                let mut rows = statement.query([])?;
                let mut heads = Vec::new();
                while let Some(row) = rows.next()? {
                    heads.push(take(row)?.head());
                }
                Ok(heads)
            })
            .await
    }

    async fn append_entry(
        &self,
        journal: &str,
        place: u64,
        entry: &[u8],
    ) -> Result<Appended, StoreError> {
        check_entry(journal, entry)?;
        let (journal, entry) = (journal.to_owned(), entry.to_vec());
        let bytes = entries::bytes_about(&entry);
        let append =
            move |connection: &Connection| entries::append(connection, &journal, place, &entry);
        self.store.inner.writes.run(bytes, append).await
    }

    async fn entries(
        &self,
        journal: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let journal = journal.to_owned();
        self.store.read(move |connection| entries::page(connection, &journal, from, limit)).await
    }
}

fn insert(connection: &Connection, given: &CatalogueVersion) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO catalogue (version, sequence, text, published_at, active)
             VALUES (?1, (SELECT coalesce(max(sequence), 0) + 1 FROM catalogue), ?2, ?3, ?4)",
        )?
        .execute(params![given.version, given.text, given.published_at.micros(), given.active])?;
    Ok(())
}

fn find(connection: &Connection, version: &str) -> Result<Option<CatalogueVersion>, Failure> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM catalogue WHERE version = ?1"))?;
    statement.query_row([version], |row| Ok(take(row))).optional()?.transpose()
}

fn take(row: &Row<'_>) -> Result<CatalogueVersion, Failure> {
    let (sequence, micros): (i64, i64) = (row.get(1)?, row.get(3)?);
    Ok(CatalogueVersion {
        version: row.get(0)?,
        sequence: u64::try_from(sequence)
            .map_err(|_| damaged("sequence", &sequence.to_string()))?,
        text: row.get(2)?,
        published_at: time(micros)?,
        active: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use crate::embedded::store::schema;

    use super::*;

    #[test]
    fn listing_catalogues_reads_none_of_their_texts() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&schema::KIND.schema.concat()).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {HEADS}")).unwrap();
        let plan: String = statement.query_row([], |row| row.get(3)).unwrap();
        assert_eq!(plan, "SCAN catalogue USING COVERING INDEX catalogue_head");
    }
}
