//! Settled: periods in which a run found nothing to bill, as one journal a tenant.
//!
//! A period that is over and has no document is due, unless a run was there and nothing has changed
//! since. Only periods that the schedule would find are noted.

use std::{collections::BTreeMap, sync::Arc};

use domain::{BillingStore, Tenant, Timestamp, billing::Appended};
use runtime::fault;
use serde::{Deserialize, Serialize};

use super::journal;
use crate::BillingError;

/// An entry of a tenant's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// First moment of the period.
    #[serde(with = "journal::text")]
    start: Timestamp,
    /// The run that found nothing to bill below its cut.
    run: u64,
}

/// Keeps the journals.
pub(crate) struct Settled<B> {
    store: Arc<B>,
}

impl<B: BillingStore> Settled<B> {
    pub(super) const fn new(store: Arc<B>) -> Self {
        Self { store }
    }

    /// The run that found nothing to bill last, by the start of the period.
    ///
    /// # Errors
    /// When the store fails or an entry is unknown.
    pub(crate) async fn of(
        &self,
        tenant: &Tenant,
    ) -> Result<BTreeMap<Timestamp, u64>, BillingError> {
        Ok(newest(&self.read(tenant).await?))
    }

    /// Notes that a run found nothing to bill. Doing it again changes nothing.
    ///
    /// # Errors
    /// When the store fails; the entry may have been added all the same.
    pub(crate) async fn note(
        &self,
        tenant: &Tenant,
        start: Timestamp,
        run: u64,
    ) -> Result<(), BillingError> {
        loop {
            let entries = self.read(tenant).await?;
            if newest(&entries).get(&start).is_some_and(|known| *known >= run) {
                return Ok(());
            }
            let (place, entry) = (entries.len() as u64, Entry { start, run });
            fault::point("billing.before_settled");
            let appended =
                journal::append(&*self.store, &journal_of(tenant), place, &entry).await?;
            if appended == Appended::Added {
                fault::point("billing.after_settled");
                return Ok(());
            }
        }
    }

    async fn read(&self, tenant: &Tenant) -> Result<Vec<Entry>, BillingError> {
        journal::read(&*self.store, &journal_of(tenant), 0).await
    }
}

fn newest(entries: &[Entry]) -> BTreeMap<Timestamp, u64> {
    let mut newest = BTreeMap::new();
    for Entry { start, run } in entries {
        let known = newest.entry(*start).or_insert(*run);
        *known = (*known).max(*run);
    }
    newest
}

fn journal_of(tenant: &Tenant) -> String {
    format!("settled/{tenant}")
}

#[cfg(test)]
mod tests {
    use storage::memory::{EntryFault, MemoryBillingStore};

    use super::*;

    #[tokio::test]
    async fn a_run_is_noted_once_and_a_later_one_counts() {
        let store = MemoryBillingStore::new();
        let settled = Settled::new(Arc::new(store.clone()));
        let acme = Tenant::new("acme").unwrap();
        let [one, two]: [Timestamp; 2] =
            ["2024-09-01T00:00:00Z", "2024-10-01T00:00:00Z"].map(|time| time.parse().unwrap());
        for (start, run) in [(one, 3), (one, 3), (two, 4), (one, 2), (one, 5)] {
            settled.note(&acme, start, run).await.unwrap();
        }
        assert_eq!(settled.of(&acme).await.unwrap(), BTreeMap::from([(one, 5), (two, 4)]));
        assert_eq!(store.entries("settled/acme", 0, 10).await.unwrap().len(), 3);
        // What became of an append is not known: the same again settles it.
        for fault in [EntryFault::Lost, EntryFault::Added] {
            let run = if fault == EntryFault::Lost { 6 } else { 7 };
            store.fail_next_entry(fault);
            settled.note(&acme, one, run).await.unwrap_err();
            settled.note(&acme, one, run).await.unwrap();
        }
        assert_eq!(store.entries("settled/acme", 0, 10).await.unwrap().len(), 5);
    }
}
