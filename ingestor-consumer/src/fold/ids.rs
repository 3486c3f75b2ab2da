//! Ids of the horizon: which `source` + `id` of a tenant has been seen, when last, and with which
//! payload.
//!
//! One table in memory: 24 bytes an id and one of control, at most 7/8 full. The ids that a segment
//! saw are left behind as a sorted run; runs of the last horizon rebuild the table at a start.

use domain::hash;
use hashbrown::{HashTable, hash_table::Entry};

/// Bytes of an id in a run: hash (12), payload (4), bucket (4), tenant (4), little-endian.
pub(crate) const RUN_ENTRY_BYTES: usize = 24;

/// The low half of an id's tenant's hash, out of its entry in a run.
pub(crate) fn run_tenant(entry: &[u8; RUN_ENTRY_BYTES]) -> u32 {
    u32::from_le_bytes(*entry.last_chunk().expect("an entry has 24 bytes"))
}

/// What was remembered of an id when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdVerdict {
    /// Not within the horizon.
    New,
    /// Within the horizon, with the same payload.
    Duplicate,
    /// Within the horizon, with another payload: a duplicate all the same, but its client errs.
    Conflict,
}

/// An id, hashed. 96 bits: among 10^9 ids within a horizon two meet by chance once in 10^11 runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    high: u64,
    low: u32,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    id: Id,
    payload: u32,
    /// Interval of log time, of the segment span's length, of the last occurrence.
    bucket: u32,
    /// Hash of the tenant alone, so that a log with other partitions can take its own ids.
    tenant: u32,
}

/// The table, and the open segment's run.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    table: HashTable<Seen>,
    run: Vec<Seen>,
    scratch: Vec<u8>,
}

/// A pulse's identity by id.
pub(crate) struct Identity<'a> {
    pub(crate) tenant: &'a [u8],
    pub(crate) source: &'a [u8],
    pub(crate) id: &'a [u8],
    /// Digest of what the pulse says.
    pub(crate) payload: u64,
}

impl Ids {
    /// Takes an id seen in `bucket`; it is a duplicate if its last occurrence was in a bucket at or
    /// after `bucket_min`. Every occurrence refreshes it; the payload of the first one stays.
    pub(crate) fn see(
        &mut self,
        seed: u64,
        identity: &Identity<'_>,
        bucket: u32,
        bucket_min: u32,
    ) -> IdVerdict {
        let id = self.hash(seed, identity);
        let tenant = hash::bytes64(seed, identity.tenant) as u32;
        let mut seen = Seen { id, payload: identity.payload as u32, bucket, tenant };
        let entry = self.table.entry(id.high, |other| other.id == id, |other| other.id.high);
        let verdict = match entry {
            Entry::Vacant(place) => {
                place.insert(seen);
                IdVerdict::New
            }
            Entry::Occupied(mut place) => {
                let known = place.get_mut();
                let verdict = if known.bucket < bucket_min {
                    known.payload = seen.payload;
                    IdVerdict::New
                } else if known.payload == seen.payload {
                    IdVerdict::Duplicate
                } else {
                    IdVerdict::Conflict
                };
                known.bucket = bucket;
                seen.payload = known.payload;
                verdict
            }
        };
        self.run.push(seen);
        verdict
    }

    fn hash(&mut self, seed: u64, identity: &Identity<'_>) -> Id {
        self.scratch.clear();
        for part in [identity.tenant, identity.source, identity.id] {
            self.scratch.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.scratch.extend_from_slice(part);
        }
        let hash = hash::bytes128(seed, &self.scratch);
        Id { high: (hash >> 64) as u64, low: hash as u32 }
    }

    /// Forgets ids whose last occurrence was before `bucket_min`. Costs a pass over the table.
    pub(crate) fn forget_before(&mut self, bucket_min: u32) {
        self.table.retain(|seen| seen.bucket >= bucket_min);
    }

    /// Gives the open segment's run, sorted, each id once with its last bucket, and starts the next.
    pub(crate) fn take_run(&mut self) -> Vec<u8> {
        self.run.sort_unstable_by_key(|seen| (seen.id, std::cmp::Reverse(seen.bucket)));
        self.run.dedup_by_key(|seen| seen.id);
        let mut bytes = Vec::with_capacity(self.run.len() * RUN_ENTRY_BYTES);
        for seen in self.run.drain(..) {
            bytes.extend_from_slice(&seen.id.high.to_le_bytes());
            bytes.extend_from_slice(&seen.id.low.to_le_bytes());
            bytes.extend_from_slice(&seen.payload.to_le_bytes());
            bytes.extend_from_slice(&seen.bucket.to_le_bytes());
            bytes.extend_from_slice(&seen.tenant.to_le_bytes());
        }
        bytes
    }

    /// Takes a stored run, as [`Ids::take_run`] gave it; runs are taken in the order of their
    /// segments. Bytes behind the last whole entry cannot be: the run's digest was checked.
    pub(crate) fn load_run(&mut self, run: &[u8]) {
        let word = |bytes: &[u8], at: usize| {
            u32::from_le_bytes(*bytes[at..].first_chunk().expect("an entry has 24 bytes"))
        };
        for entry in run.as_chunks::<RUN_ENTRY_BYTES>().0 {
            let high = u64::from_le_bytes(*entry.first_chunk().expect("an entry has 24 bytes"));
            let id = Id { high, low: word(entry, 8) };
            let seen = Seen {
                id,
                payload: word(entry, 12),
                bucket: word(entry, 16),
                tenant: word(entry, 20),
            };
            match self.table.entry(high, |other| other.id == id, |other| other.id.high) {
                Entry::Vacant(place) => drop(place.insert(seen)),
                Entry::Occupied(mut place) => *place.get_mut() = seen,
            }
        }
    }

    /// Ids remembered.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: &str, payload: u64) -> Identity<'_> {
        Identity { tenant: b"t", source: b"s", id: id.as_bytes(), payload }
    }

    #[test]
    fn an_id_is_a_duplicate_within_the_horizon_and_refreshed_by_each_occurrence() {
        let mut ids = Ids::default();
        for (id, payload, bucket, verdict) in [
            ("a", 1, 10, IdVerdict::New),
            ("a", 1, 10, IdVerdict::Duplicate),
            ("a", 2, 15, IdVerdict::Conflict),
            ("a", 1, 20, IdVerdict::Duplicate),
            ("b", 1, 20, IdVerdict::New),
            ("a", 2, 26, IdVerdict::New),
            ("a", 2, 26, IdVerdict::Duplicate),
        ] {
            let found = ids.see(7, &identity(id, payload), bucket, bucket - 5);
            assert_eq!(found, verdict, "{id} in {bucket}");
        }
    }

    #[test]
    fn tenant_source_and_id_do_not_run_together() {
        let mut ids = Ids::default();
        for (tenant, source, id) in
            [("a", "b", "c"), ("ab", "", "c"), ("", "ab", "c"), ("a", "", "bc")]
        {
            let identity = Identity {
                tenant: tenant.as_bytes(),
                source: source.as_bytes(),
                id: id.as_bytes(),
                payload: 0,
            };
            assert_eq!(ids.see(7, &identity, 1, 0), IdVerdict::New);
        }
    }

    #[test]
    fn runs_rebuild_the_table() {
        let mut ids = Ids::default();
        let mut again = Ids::default();
        for bucket in 1..6 {
            for id in 0..20 {
                ids.see(7, &identity(&(id * bucket).to_string(), 1), bucket, 0);
            }
            let run = ids.take_run();
            again.load_run(&run);
        }
        assert_eq!(again.len(), ids.len());
        for id in 0..100 {
            let id = id.to_string();
            let verdict = ids.see(7, &identity(&id, 1), 6, 4);
            assert_eq!(again.see(7, &identity(&id, 1), 6, 4), verdict, "{id}");
        }
        assert_eq!(again.take_run(), ids.take_run());
    }
}
