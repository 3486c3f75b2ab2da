//! Pages of the list of keys.

use domain::BillingStore;

use super::{KeyInfo, Keys, KeysError};

/// Most keys of a page. Whoever shows one also reads the last use of each key, in some 20 reads.
pub const KEYS_PAGE_MAX: usize = 200;

/// Some of the keys, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPage {
    /// At most as many as were asked for, and at most [`KEYS_PAGE_MAX`].
    pub keys: Vec<KeyInfo>,
    /// The id behind which the next page begins; `None` on the last.
    pub next: Option<String>,
}

impl<S: BillingStore> Keys<S> {
    /// At most `size` keys, and at most [`KEYS_PAGE_MAX`], oldest first: those behind the key with the id `after`, or the first ones
    /// where that is empty. A key that is made meanwhile by a process whose clock is behind may be on a
    /// page that was read already.
    ///
    /// # Errors
    /// `NotFound` when no key has the id, or `Store`.
    pub async fn page(&self, after: &str, size: usize) -> Result<KeyPage, KeysError> {
        self.some(after, size.min(KEYS_PAGE_MAX)).await
    }

    /// As [`page`](Self::page), of any size.
    pub(super) async fn some(&self, after: &str, size: usize) -> Result<KeyPage, KeysError> {
        self.refresh().await?;
        let book = self.book();
        let mut keys: Vec<_> = book.keys.values().map(|key| &key.info).collect();
        keys.sort_unstable_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let from = match after {
            "" => 0,
            after => {
                let id = after.parse().map_err(|_| KeysError::NotAnId)?;
                let place = keys.iter().position(|info| info.id == after);
                place.ok_or(KeysError::NotFound(id))? + 1
            }
        };
        let page = &keys[from..keys.len().min(from.saturating_add(size))];
        let is_last = from + page.len() == keys.len();
        let next = page.last().filter(|_| !is_last).map(|info| info.id.clone());
        Ok(KeyPage { keys: page.iter().copied().cloned().collect(), next })
    }
}
