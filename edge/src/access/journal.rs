//! Journals of the billing store as lists of JSON entries: added at the end, read in pages.
//!
//! Keys and the audit trail are kept so, which needs no tables of their own. The end of a journal is
//! found in a few reads however long it is, so that adding to one costs the same for ever.

use domain::{
    BillingStore,
    billing::{Appended, ENTRY_BYTES_MAX},
    store::StoreError,
};
use serde::{Serialize, de::DeserializeOwned};

/// Entries that are read at once.
pub(super) const PAGE: usize = 500;

/// Tries to add one entry, while other processes add theirs or the store does not answer.
const TRIES_MAX: u32 = 32;

/// Number of entries in a journal, which has at least `from`. Costs twice the logarithm of what lies
/// beyond in reads of one entry.
pub(super) async fn end(
    store: &impl BillingStore,
    journal: &str,
    from: u64,
) -> Result<u64, StoreError> {
    if !is_there(store, journal, from).await? {
        return Ok(from);
    }
    // `low` is there; double the step until `high` is not.
    let (mut low, mut step) = (from, 1_u64);
    let mut high = loop {
        let place = low.saturating_add(step);
        if !is_there(store, journal, place).await? {
            break place;
        }
        (low, step) = (place, step.saturating_mul(2));
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match is_there(store, journal, middle).await? {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(high)
}

async fn is_there(
    store: &impl BillingStore,
    journal: &str,
    place: u64,
) -> Result<bool, StoreError> {
    Ok(!store.entries(journal, place, 1).await?.is_empty())
}

/// Adds an entry behind all that are there, and gives its place. No two entries of a journal may be
/// equal: after an answer that was lost, that is how ours is told from another's.
///
/// # Errors
/// `Unavailable` when it may have been added or not; others when it was not.
pub(super) async fn add(
    store: &impl BillingStore,
    journal: &str,
    known_end: u64,
    entry: &impl Serialize,
) -> Result<u64, StoreError> {
    let bytes = encode(journal, entry)?;
    let mut place = end(store, journal, known_end).await?;
    let mut unsure_from = None;
    let mut last = StoreError::Unavailable(format!("many processes add to {journal} at once"));
    for _ in 0..TRIES_MAX {
        match store.append_entry(journal, place, &bytes).await {
            Ok(Appended::Added) => return Ok(place),
            Ok(Appended::Taken) => {
                if let Some(ours) = find(store, journal, unsure_from, &bytes).await? {
                    return Ok(ours);
                }
                place = end(store, journal, place + 1).await?;
            }
            Err(error @ StoreError::Unavailable(_)) => {
                unsure_from.get_or_insert(place);
                last = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Adds an entry at this place or nowhere, where a journal was read up to there: whoever decides by what
/// they have read adds so, and decides again when another was first.
///
/// # Errors
/// `Unavailable` when it may have been added or not; others when it was not.
pub(super) async fn add_at(
    store: &impl BillingStore,
    journal: &str,
    place: u64,
    entry: &impl Serialize,
) -> Result<Appended, StoreError> {
    let bytes = encode(journal, entry)?;
    let mut last = StoreError::Unavailable(format!("{journal} takes no entry"));
    for _ in 0..TRIES_MAX {
        match store.append_entry(journal, place, &bytes).await {
            Ok(Appended::Added) => return Ok(Appended::Added),
            Ok(Appended::Taken) => {
                // Perhaps by ours, after an answer that was lost.
                let there = store.entries(journal, place, 1).await?;
                let is_ours = there.first() == Some(&bytes);
                return Ok(if is_ours { Appended::Added } else { Appended::Taken });
            }
            Err(error @ StoreError::Unavailable(_)) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn encode(journal: &str, entry: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let bytes = serde_json::to_vec(entry).expect("entries are plain structures");
    if bytes.len() > ENTRY_BYTES_MAX {
        let message = format!("an entry of {journal} with {} bytes", bytes.len());
        return Err(StoreError::TooLarge(message));
    }
    Ok(bytes)
}

/// Looks for an entry from where it may have been added without our knowing.
async fn find(
    store: &impl BillingStore,
    journal: &str,
    from: Option<u64>,
    bytes: &[u8],
) -> Result<Option<u64>, StoreError> {
    let Some(mut place) = from else { return Ok(None) };
    loop {
        let page = store.entries(journal, place, PAGE).await?;
        if let Some(found) = page.iter().position(|entry| entry == bytes) {
            return Ok(Some(place + found as u64));
        }
        if page.len() < PAGE {
            return Ok(None);
        }
        place += page.len() as u64;
    }
}

/// At most `limit` entries from a place on; fewer only at the end.
///
/// # Errors
/// Those of the store; `Damaged` for an entry that does not read.
pub(super) async fn page<T: DeserializeOwned>(
    store: &impl BillingStore,
    journal: &str,
    from: u64,
    limit: usize,
) -> Result<Vec<T>, StoreError> {
    let page = store.entries(journal, from, limit).await?;
    let places = from..;
    let read = |(place, bytes): (u64, &Vec<u8>)| {
        serde_json::from_slice(bytes)
            .map_err(|error| StoreError::Damaged(format!("entry {place} of {journal}: {error}")))
    };
    places.zip(&page).map(read).collect()
}

/// Moments as RFC 3339 text in entries.
pub(super) mod moment {
    use domain::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(
        moment: &Timestamp,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(moment)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|error| D::Error::custom(format!("{text} is {error}")))
    }
}

#[cfg(test)]
mod tests {
    use storage::memory::{EntryFault, MemoryBillingStore};

    use super::*;

    #[tokio::test]
    async fn the_end_is_found_from_wherever_it_is_looked_for() {
        let store = MemoryBillingStore::new();
        for length in 0..40_u64 {
            for known in [0, length / 2, length] {
                assert_eq!(end(&store, "j", known).await.unwrap(), length, "from {known}");
            }
            assert_eq!(add(&store, "j", length / 3, &length).await.unwrap(), length);
        }
    }

    #[tokio::test]
    async fn an_entry_is_added_once_whatever_becomes_of_the_answer() {
        for fault in [EntryFault::Lost, EntryFault::Added] {
            let store = MemoryBillingStore::new();
            add(&store, "j", 0, &"first").await.unwrap();
            store.fail_next_entry(fault);
            store.fail_next_entry(fault);
            assert_eq!(add(&store, "j", 0, &"second").await.unwrap(), 1, "{fault:?}");
            let entries: Vec<String> = page(&store, "j", 0, PAGE).await.unwrap();
            assert_eq!(entries, ["first", "second"], "{fault:?}");
        }
    }

    #[tokio::test]
    async fn an_entry_for_one_place_is_there_or_nowhere() {
        for fault in [None, Some(EntryFault::Lost), Some(EntryFault::Added)] {
            let store = MemoryBillingStore::new();
            add(&store, "j", 0, &"first").await.unwrap();
            assert_eq!(add_at(&store, "j", 0, &"second").await, Ok(Appended::Taken));
            if let Some(fault) = fault {
                store.fail_next_entry(fault);
            }
            assert_eq!(add_at(&store, "j", 1, &"second").await, Ok(Appended::Added), "{fault:?}");
            let entries: Vec<String> = page(&store, "j", 0, PAGE).await.unwrap();
            assert_eq!(entries, ["first", "second"], "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_store_that_never_answers_is_given_up() {
        let store = MemoryBillingStore::new();
        (0..TRIES_MAX).for_each(|_| store.fail_next_entry(EntryFault::Lost));
        let added = add(&store, "j", 0, &"x").await;
        assert!(matches!(added, Err(StoreError::Unavailable(_))), "{added:?}");
        (0..TRIES_MAX).for_each(|_| store.fail_next_entry(EntryFault::Lost));
        let added = add_at(&store, "j", 0, &"x").await;
        assert!(matches!(added, Err(StoreError::Unavailable(_))), "{added:?}");
        let large = "x".repeat(ENTRY_BYTES_MAX);
        assert!(matches!(add(&store, "j", 0, &large).await, Err(StoreError::TooLarge(_))));
        store.append_entry("j", 0, b"no JSON").await.unwrap();
        let read = page::<String>(&store, "j", 0, PAGE).await;
        assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
    }
}
