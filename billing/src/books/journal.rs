//! Journals as values: entries are JSON, one object each, read and added in order.

use domain::{
    BillingStore,
    billing::{Appended, ENTRY_BYTES_MAX},
    hash::Text128,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::BillingError;

/// Entries that are read at once.
const PAGE: usize = 1_000;

/// All entries of a journal from a place on, in order.
///
/// # Errors
/// When the store fails, or an entry is not one that this program knows.
pub(crate) async fn read<T: DeserializeOwned>(
    store: &impl BillingStore,
    journal: &str,
    from: u64,
) -> Result<Vec<T>, BillingError> {
    let mut entries = Vec::new();
    loop {
        let page = read_page(store, journal, from + entries.len() as u64, PAGE).await?;
        let is_last = page.len() < PAGE;
        entries.extend(page);
        if is_last {
            return Ok(entries);
        }
    }
}

/// At most `limit` entries from a place on, in order.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_page<T: DeserializeOwned>(
    store: &impl BillingStore,
    journal: &str,
    from: u64,
    limit: usize,
) -> Result<Vec<T>, BillingError> {
    let page = store.entries(journal, from, limit).await?;
    let places = from..;
    places.zip(&page).map(|(place, bytes)| decode(journal, place, bytes)).collect()
}

fn decode<T: DeserializeOwned>(journal: &str, place: u64, bytes: &[u8]) -> Result<T, BillingError> {
    serde_json::from_slice(bytes).map_err(|error| BillingError::Journal {
        journal: journal.to_owned(),
        place,
        message: error.to_string(),
    })
}

/// Adds an entry at a place. `Taken` says to read on from there.
///
/// # Errors
/// When the store fails; with `Unavailable` the entry may have been added all the same.
pub(crate) async fn append<T: Serialize>(
    store: &impl BillingStore,
    journal: &str,
    place: u64,
    entry: &T,
) -> Result<Appended, BillingError> {
    Ok(store.append_entry(journal, place, &bytes(entry)).await?)
}

/// The bytes of an entry, or of what is kept under its digest.
pub(crate) fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("entries and documents are plain structures")
}

/// Writes content under its own digest, in as many entries as it needs, and gives the digest.
/// Writing it again, from wherever, changes nothing.
///
/// # Errors
/// When the store fails, or holds other content under that digest.
pub(crate) async fn put_content(
    store: &impl BillingStore,
    content: &[u8],
) -> Result<String, BillingError> {
    let digest = digest(content);
    let journal = content_journal(&digest);
    for (place, chunk) in (0..).zip(content.chunks(CHUNK_BYTES)) {
        // Taken is as good: under this digest stands this content, as every reader checks.
        store.append_entry(&journal, place, chunk).await?;
    }
    Ok(digest)
}

/// Reads content by its digest.
///
/// # Errors
/// When the store fails, or the content is not what its digest says.
pub(crate) async fn content(
    store: &impl BillingStore,
    wanted: &str,
) -> Result<Vec<u8>, BillingError> {
    let found = find_content(store, wanted).await?;
    found.ok_or_else(|| damaged(content_journal(wanted), "there is no such content"))
}

/// Reads content by its digest, if there is any.
///
/// # Errors
/// When the store fails, or the content is not what its digest says.
pub(crate) async fn find_content(
    store: &impl BillingStore,
    wanted: &str,
) -> Result<Option<Vec<u8>>, BillingError> {
    let journal = content_journal(wanted);
    let mut content: Vec<u8> = Vec::new();
    let mut place = 0;
    loop {
        let page = store.entries(&journal, place, 1).await?;
        let Some(chunk) = page.first() else { break };
        content.extend_from_slice(chunk);
        place += 1;
    }
    match place {
        0 => Ok(None),
        _ if digest(&content) == wanted => Ok(Some(content)),
        _ => Err(damaged(journal, "the content is not what its digest says")),
    }
}

/// A journal of content that is not what it should be.
pub(super) fn damaged(journal: String, message: &str) -> BillingError {
    BillingError::Journal { journal, place: 0, message: message.to_owned() }
}

/// Bytes of an entry of content.
pub(super) const CHUNK_BYTES: usize = ENTRY_BYTES_MAX / 4;

fn content_journal(digest: &str) -> String {
    format!("content/{digest}")
}

/// Digest of content, in hexadecimal; the hash that fold states are kept under.
#[must_use]
pub(crate) fn digest(content: &[u8]) -> String {
    let mut text = DigestOfText::new();
    text.push(content);
    text.digest()
}

/// The digest of a text that comes in pieces.
pub(super) struct DigestOfText(Text128);

impl DigestOfText {
    /// Begins with nothing.
    pub(super) fn new() -> Self {
        Self(Text128::new(0))
    }

    /// Adds the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.0.push(piece);
    }

    /// The digest of all that was added.
    pub(super) fn digest(&self) -> String {
        format!("{:032x}", self.0.hash())
    }
}

/// Values as the text that they print and parse.
pub(crate) mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it does not parse.
    pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
