//! What a process remembers of the cluster: generations it has seen, and places it has written to.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use domain::{LogId, RowKey, Tenant, generation::Generation};

/// A tenant's day: the key of a CQL partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) tenant: Tenant,
    pub(super) window_day: i32,
}

impl Place {
    pub(super) fn of(key: &RowKey) -> Self {
        Self { tenant: key.resource.tenant.clone(), window_day: key.window_day() }
    }
}

/// Generations that this process has seen. They never change.
#[derive(Default)]
pub(super) struct KnownGenerations(Mutex<HashMap<LogId, Generation>>);

impl KnownGenerations {
    pub(super) fn get(&self, log_id: LogId) -> Option<Generation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&log_id).copied()
    }

    pub(super) fn add(&self, generations: &[Generation]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(generations.iter().map(|generation| (generation.log_id, *generation)));
    }
}

/// Places that are remembered as written, at some 100 bytes each; then it starts anew.
const REMEMBERED_MAX: usize = 100_000;

/// What this process has written and the cluster has acknowledged.
#[derive(Default)]
pub(super) struct WrittenPlaces(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    tenants: HashSet<Tenant>,
    places: HashSet<Place>,
}

impl WrittenPlaces {
    fn with<T>(&self, look: impl FnOnce(&mut Remembered) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those that are not known to be written: tenants and places.
    pub(super) fn missing(&self, places: BTreeSet<Place>) -> (BTreeSet<Tenant>, Vec<Place>) {
        self.with(|known| {
            let new: Vec<Place> =
                places.into_iter().filter(|place| !known.places.contains(place)).collect();
            let tenants = new.iter().map(|place| &place.tenant);
            let tenants = tenants.filter(|tenant| !known.tenants.contains(*tenant));
            (tenants.cloned().collect(), new)
        })
    }

    pub(super) fn remember(&self, tenants: BTreeSet<Tenant>, places: Vec<Place>) {
        self.with(|known| {
            if known.places.len() + places.len() > REMEMBERED_MAX {
                *known = Remembered::default();
            }
            known.tenants.extend(tenants);
            known.places.extend(places);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_not_written_again_until_there_is_too_much_of_it() {
        let written = WrittenPlaces::default();
        let place = |window_day| Place { tenant: Tenant::new("a").unwrap(), window_day };
        let (tenants, places) = written.missing(BTreeSet::from([place(1), place(2)]));
        assert_eq!((tenants.len(), places.len()), (1, 2));
        written.remember(tenants, places);
        let (tenants, places) = written.missing(BTreeSet::from([place(2), place(3)]));
        assert_eq!((tenants.len(), places.len()), (0, 1));
        let many = i32::try_from(REMEMBERED_MAX).unwrap();
        written.remember(tenants, (0..many).map(place).collect());
        written.remember(BTreeSet::new(), vec![place(-1)]);
        let (tenants, places) = written.missing(BTreeSet::from([place(-1), place(2)]));
        assert_eq!((tenants.len(), places.len()), (1, 1), "it started anew");
    }
}
