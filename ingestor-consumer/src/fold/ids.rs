//! Ids of the horizon: which `source` + `id` of a tenant has been seen, when last, and with which
//! payload.
//!
//! A segment lies within one interval of log time, so an id is remembered with the number of the
//! segment that saw it last. What a segment saw is left behind as a sorted run; runs of the last
//! horizon rebuild the table at a start.

mod table;
mod cold;

use std::{collections::VecDeque, io, path::Path, sync::Arc};

use domain::hash;

use self::{
    cold::Cold,
    table::{Id, ORDINAL_MAX, Seen, Table},
};

/// Where ids are kept. It changes no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdsMemory {
    /// Bytes of memory that the ids of a partition may take; those that the open segment saw may take
    /// more. An id takes 20 to 25 bytes, and one to two where it is on disk.
    pub bytes_max: usize,
    /// A directory for scratch files with what does not fit. They have no names.
    pub scratch: Arc<Path>,
}

/// Bytes before the entries of a run: the interval of log time, little-endian.
const RUN_HEADER_BYTES: usize = 4;
/// Bytes of an id in a run: hash (10), tenant (2), payload (1); the hash big-endian, so that entries
/// sort as their bytes.
pub(crate) const RUN_ENTRY_BYTES: usize = 13;
/// Passes in which a start takes the sorted entries of a run. In their own order they would all come
/// first to the front of a table that grows with them, where each has to pass all the others: two
/// million ids took 31 s then, and four times as long for twice as many.
const LOAD_PASSES: usize = 1 << 10;

impl IdsMemory {
    /// What each of so many partitions may take.
    #[must_use]
    pub fn share_of(self, partitions: u16) -> Self {
        Self { bytes_max: self.bytes_max / usize::from(partitions.max(1)), ..self }
    }
}

/// What was remembered of an id when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdVerdict {
    /// Not within the horizon.
    New,
    /// Within the horizon, with the same payload.
    Duplicate,
    /// Within the horizon, with another payload: a duplicate all the same, but its client errs. One
    /// payload in 256 is taken for another.
    Conflict,
}

/// A pulse's identity by id, hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    id: Id,
    tenant: u16,
    payload: u8,
}

impl Identity {
    /// Hashes an identity; `payload` is a digest of what the pulse says.
    pub(crate) fn of(
        seed: u64,
        [tenant, source, id]: [&[u8]; 3],
        payload: u64,
        scratch: &mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        for part in [tenant, source, id] {
            scratch.extend_from_slice(&(part.len() as u32).to_le_bytes());
            scratch.extend_from_slice(part);
        }
        let hash = hash::bytes128(seed, scratch);
        let id = Id { high: (hash >> 64) as u64, low: hash as u16 };
        Self { id, tenant: hash::bytes64(seed, tenant) as u16, payload: payload as u8 }
    }
}

/// The table, and the numbers of the segments that it speaks of.
#[derive(Debug)]
pub(crate) struct Ids {
    table: Table,
    /// Intervals of log time, of the segment span's length, of the segments numbered from `first` on,
    /// ascending. The last one is that of the open segment.
    buckets: VecDeque<u32>,
    /// Number of the first of them, from 1.
    first: u32,
    /// Ids that the open segment saw.
    in_segment: u64,
    /// What memory has no room for; nothing where memory has no bound.
    cold: Option<Cold>,
    table_bytes_max: usize,
    /// Bytes of the table from which on it is worth a pass to look for ids that could go to disk.
    settle_from: usize,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            table: Table::new(),
            buckets: VecDeque::from([0]),
            first: 1,
            in_segment: 0,
            cold: None,
            table_bytes_max: usize::MAX,
            settle_from: usize::MAX,
        }
    }
}

impl Ids {
    /// Bounds the memory of an empty table: a quarter of it for what finds those on disk.
    pub(crate) fn keep_in(&mut self, memory: &IdsMemory) {
        let filters = memory.bytes_max / 4;
        self.table_bytes_max = memory.bytes_max - filters;
        self.settle_from = self.table_bytes_max;
        self.cold = Some(Cold::new(Arc::clone(&memory.scratch), filters));
    }

    /// Puts the ids that were seen longest ago on disk where the table has outgrown its bytes. Asked
    /// after each record.
    ///
    /// # Errors
    /// When the scratch directory takes no file.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let bytes = self.table.bytes();
        if bytes <= self.settle_from {
            return Ok(());
        }
        let Some(cold) = &mut self.cold else { return Ok(()) };
        let (first, open) = (self.first, self.first + self.buckets.len() as u32 - 1);
        let half = self.table.len() / 2;
        let (mut older, mut last) = (0, first);
        for (ordinal, count) in (first..open).zip(self.table.count(first, open)) {
            older += count;
            last = ordinal;
            if older >= half {
                break;
            }
        }
        // Too few to be worth a file: the open segment has the rest, and ends soon.
        if older == 0 || older < half / 4 {
            self.settle_from = bytes + bytes / 8;
            return Ok(());
        }
        self.settle_from = self.table_bytes_max;
        let table = &self.table;
        cold.add(|take| table.each(|ordinal| ordinal <= last, take), first)?;
        self.table.retain(|ordinal| ordinal > last);
        Ok(())
    }

    /// Begins a segment in `bucket` of log time, and forgets ids last seen before `bucket_min`, by a
    /// pass over the table where there may be some.
    pub(crate) fn begin_segment(&mut self, bucket: u32, bucket_min: u32) {
        debug_assert_eq!(self.in_segment, 0, "a segment ends by taking its run");
        *self.buckets.back_mut().expect("there is always the open one") = bucket;
        let expired = self.buckets.iter().take_while(|other| **other < bucket_min).count();
        if expired > 0 {
            self.buckets.drain(..expired);
            self.first += expired as u32;
            let first = self.first;
            self.table.retain(|ordinal| ordinal >= first);
            if let Some(cold) = &mut self.cold {
                cold.forget_before(first);
            }
        }
    }

    /// Reads ahead for [`Ids::see`].
    #[inline]
    pub(crate) fn touch(&self, identity: &Identity) -> u64 {
        let cold = self.cold.as_ref().map_or(0, |cold| cold.touch(identity.id));
        self.table.touch(identity.id) ^ cold
    }

    /// Tells whether an id is remembered, and remembers nothing.
    ///
    /// # Errors
    /// When a scratch file cannot be read.
    pub(crate) fn knows(&self, identity: &Identity) -> io::Result<bool> {
        Ok(self.table.get(identity.id).is_some() || self.in_cold(identity.id)?.is_some())
    }

    #[inline]
    fn in_cold(&self, id: Id) -> io::Result<Option<Seen>> {
        let Some(cold) = &self.cold else { return Ok(None) };
        Ok(cold.get(id)?.filter(|seen| seen.ordinal >= self.first))
    }

    /// Takes an id that the open segment sees. Every occurrence refreshes it; the payload of the first
    /// one stays.
    ///
    /// # Errors
    /// When a scratch file cannot be read.
    #[inline]
    pub(crate) fn see(&mut self, identity: &Identity) -> io::Result<IdVerdict> {
        let Identity { id, tenant, payload } = *identity;
        let ordinal = self.open();
        let in_table = self.table.replace(Seen { id, tenant, payload, ordinal });
        self.in_segment += u64::from(in_table.is_none_or(|known| known.ordinal != ordinal));
        let known = match in_table {
            None => self.in_cold(id)?,
            known => known,
        };
        Ok(match known {
            None => IdVerdict::New,
            Some(known) if known.payload == payload => IdVerdict::Duplicate,
            Some(known) => {
                self.table.replace(Seen { id, tenant, payload: known.payload, ordinal });
                IdVerdict::Conflict
            }
        })
    }

    fn open(&self) -> u32 {
        self.first + self.buckets.len() as u32 - 1
    }

    /// Distinct ids that the open segment saw.
    pub(crate) const fn in_segment(&self) -> u64 {
        self.in_segment
    }

    /// Gives the open segment's run, sorted, each id once, and starts the next. Empty where it saw no
    /// id.
    pub(crate) fn take_run(&mut self) -> Vec<u8> {
        if self.in_segment == 0 {
            return Vec::new();
        }
        let ids = usize::try_from(self.in_segment).expect("they are in memory");
        let mut run = Vec::with_capacity(RUN_HEADER_BYTES + ids * RUN_ENTRY_BYTES);
        let bucket = *self.buckets.back().expect("there is always the open one");
        run.extend_from_slice(&bucket.to_le_bytes());
        let open = self.open();
        self.table.each(
            |ordinal| ordinal == open,
            |seen| {
                run.extend_from_slice(&seen.id.high.to_be_bytes());
                run.extend_from_slice(&seen.id.low.to_be_bytes());
                run.extend_from_slice(&seen.tenant.to_be_bytes());
                run.push(seen.payload);
            },
        );
        self.in_segment = 0;
        self.next_segment(bucket);
        run
    }

    /// Numbers the next segment.
    fn next_segment(&mut self, bucket: u32) {
        if self.open() == ORDINAL_MAX {
            self.table.renumber(self.first - 1);
            if let Some(cold) = &mut self.cold {
                cold.renumber(self.first - 1);
            }
            self.first = 1;
        }
        if self.open() < ORDINAL_MAX {
            self.buckets.push_back(bucket);
        }
        // Else 2^24 segments are within the horizon, and its ids are remembered with those of the next:
        // longer than they need be, which never counts twice.
    }

    /// Takes a stored run, as [`Ids::take_run`] gave it; runs are taken in the order of log time,
    /// before the first segment begins. Bytes behind the last whole entry cannot be: the run's digest
    /// was checked.
    ///
    /// # Errors
    /// When the scratch directory takes no file.
    ///
    /// # Panics
    /// When a run is older than the one before.
    pub(crate) fn load_run(&mut self, run: &[u8]) -> io::Result<()> {
        let Some((bucket, entries)) = run.split_first_chunk::<RUN_HEADER_BYTES>() else {
            return Ok(());
        };
        let bucket = u32::from_le_bytes(*bucket);
        let last = self.buckets.back_mut().expect("there is always the open one");
        // Ids are forgotten from the front, so another order would change verdicts.
        assert!(
            *last <= bucket,
            "a run of ids of interval {bucket} came after one of interval {last}: this is a fault of Pulso, nothing was counted, and the log and the store are as they were; please report it"
        );
        *last = bucket;
        let ordinal = self.open();
        let entries = entries.as_chunks::<RUN_ENTRY_BYTES>().0;
        let pass = |first| entries.iter().skip(first).step_by(LOAD_PASSES);
        for entry in (0..LOAD_PASSES).flat_map(pass) {
            let (id, rest) = entry.split_first_chunk::<10>().expect("an entry has 13 bytes");
            let high = u64::from_be_bytes(*id.first_chunk().expect("an id has 10 bytes"));
            let low = u16::from_be_bytes(*id.last_chunk().expect("an id has 10 bytes"));
            let tenant = u16::from_be_bytes([rest[0], rest[1]]);
            self.table.replace(Seen { id: Id { high, low }, tenant, payload: rest[2], ordinal });
        }
        self.next_segment(bucket);
        self.settle()
    }

    /// Ids remembered; one that was seen again since it went to disk may count twice.
    pub(crate) fn len(&self) -> u64 {
        self.table.len() as u64 + self.cold.as_ref().map_or(0, Cold::len)
    }

    /// Bytes that they take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes() + self.cold.as_ref().map_or(0, Cold::bytes)
    }
}

/// The part of a run whose tenants are wanted, by the low bits of their hashes.
pub(crate) fn part_of_run(run: &[u8], is_wanted: impl Fn(u16) -> bool) -> Vec<u8> {
    let Some((bucket, entries)) = run.split_first_chunk::<RUN_HEADER_BYTES>() else {
        return Vec::new();
    };
    let tenant = |entry: &[u8; RUN_ENTRY_BYTES]| u16::from_be_bytes([entry[10], entry[11]]);
    let entries = entries.as_chunks::<RUN_ENTRY_BYTES>().0.iter();
    let mut part = bucket.to_vec();
    part.extend(entries.filter(|entry| is_wanted(tenant(entry))).flatten());
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: &str, payload: u64) -> Identity {
        Identity::of(7, [b"t", b"s", id.as_bytes()], payload, &mut Vec::new())
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
            ids.take_run();
            ids.begin_segment(bucket, bucket - 5);
            let identity = identity(id, payload);
            assert_eq!(ids.knows(&identity).unwrap(), verdict != IdVerdict::New);
            assert_eq!(ids.see(&identity).unwrap(), verdict, "{id} in {bucket}");
        }
    }

    #[test]
    fn tenant_source_and_id_do_not_run_together() {
        let mut ids = Ids::default();
        ids.begin_segment(1, 0);
        for parts in [["a", "b", "c"], ["ab", "", "c"], ["", "ab", "c"], ["a", "", "bc"]] {
            let identity = Identity::of(7, parts.map(str::as_bytes), 0, &mut Vec::new());
            assert_eq!(ids.see(&identity).unwrap(), IdVerdict::New);
        }
    }

    #[test]
    fn runs_rebuild_the_table() {
        let mut ids = Ids::default();
        let mut again = Ids::default();
        for bucket in 1..6 {
            ids.begin_segment(bucket, 0);
            for id in 0..20 {
                ids.see(&identity(&(id * bucket).to_string(), 1)).unwrap();
            }
            let run = ids.take_run();
            again.load_run(&run).unwrap();
        }
        assert_eq!(again.len(), ids.len());
        ids.begin_segment(6, 4);
        again.begin_segment(6, 4);
        assert_eq!(again.len(), ids.len());
        for id in 0..100 {
            let id = id.to_string();
            let verdict = ids.see(&identity(&id, 1)).unwrap();
            assert_eq!(again.see(&identity(&id, 1)).unwrap(), verdict, "{id}");
        }
        assert_eq!(again.in_segment(), ids.in_segment());
        assert_eq!(again.take_run(), ids.take_run());
    }

    #[test]
    #[should_panic(expected = "a run of ids of interval 4 came after one of interval 5")]
    fn runs_are_taken_in_the_order_of_log_time_only() {
        let mut ids = Ids::default();
        for bucket in [5u32, 5, 4] {
            ids.load_run(&bucket.to_le_bytes()).unwrap();
        }
    }

    fn run_of(ids: u64) -> Vec<u8> {
        let entry = |number: u64| {
            let mut entry = [1; RUN_ENTRY_BYTES];
            entry[..8].copy_from_slice(&hash::bytes64(7, &number.to_le_bytes()).to_be_bytes());
            entry
        };
        let mut entries: Vec<[u8; RUN_ENTRY_BYTES]> = (0..ids).map(entry).collect();
        entries.sort_unstable();
        [&1u32.to_le_bytes()[..], entries.as_flattened()].concat()
    }

    #[test]
    fn eight_times_the_ids_take_eight_times_as_long_at_a_start_and_not_sixty() {
        let load = |ids| {
            let run = run_of(ids);
            let start = crate::fold::tests::cpu_time();
            let mut loaded = Ids::default();
            loaded.load_run(&run).unwrap();
            assert_eq!(loaded.len(), ids);
            crate::fold::tests::cpu_time() - start
        };
        let (short, long) = (load(100_000), load(800_000));
        assert!(long < short * 30, "{short:?} and {long:?}");
    }

    #[test]
    fn a_run_has_each_id_of_its_segment_once_and_none_of_another() {
        let mut ids = Ids::default();
        ids.begin_segment(1, 0);
        ["a", "b", "a"].iter().for_each(|id| drop(ids.see(&identity(id, 1))));
        assert_eq!(ids.take_run().len(), RUN_HEADER_BYTES + 2 * RUN_ENTRY_BYTES);
        ids.begin_segment(1, 0);
        assert!(ids.take_run().is_empty());
        ids.begin_segment(1, 0);
        assert_eq!(ids.see(&identity("b", 1)).unwrap(), IdVerdict::Duplicate);
        let run = ids.take_run();
        assert_eq!(run.len(), RUN_HEADER_BYTES + RUN_ENTRY_BYTES);
        assert_eq!(part_of_run(&run, |_| true), run);
        assert_eq!(part_of_run(&run, |_| false).len(), RUN_HEADER_BYTES);
    }

    #[test]
    fn ordinals_are_numbered_anew_before_they_run_out() {
        let mut ids = Ids { first: ORDINAL_MAX, ..Ids::default() };
        ids.begin_segment(1, 0);
        ids.see(&identity("a", 1)).unwrap();
        ids.take_run();
        assert_eq!(ids.open(), 2);
        ids.begin_segment(2, 0);
        assert_eq!(ids.see(&identity("a", 1)).unwrap(), IdVerdict::Duplicate);
        ids.take_run();
        ids.begin_segment(9, 3);
        assert_eq!((ids.len(), ids.see(&identity("a", 1)).unwrap()), (0, IdVerdict::New));
    }

    proptest::proptest! {
        #[test]
        fn ids_on_disk_give_the_same_verdicts_and_runs(
            segments in proptest::collection::vec(proptest::collection::vec((0u32..400, 0u8..3), 0..120), 1..12),
        ) {
            let scratch = tempfile::tempdir().unwrap();
            let memory = IdsMemory { bytes_max: 0, scratch: scratch.path().into() };
            let (mut ids, mut bounded) = (Ids::default(), Ids::default());
            bounded.keep_in(&memory);
            let mut runs: Vec<Vec<u8>> = Vec::new();
            for (bucket, segment) in (10u32..).zip(segments) {
                // As a start would find them.
                let mut restarted = Ids::default();
                restarted.keep_in(&memory);
                for run in &runs {
                    restarted.load_run(run).unwrap();
                }
                for each in [&mut ids, &mut bounded, &mut restarted] {
                    each.begin_segment(bucket, bucket - 5);
                }
                for (id, payload) in segment {
                    let identity = identity(&id.to_string(), payload.into());
                    let verdict = ids.see(&identity).unwrap();
                    for other in [&mut bounded, &mut restarted] {
                        proptest::prop_assert_eq!(other.see(&identity).unwrap(), verdict);
                        other.settle().unwrap();
                    }
                }
                let run = ids.take_run();
                proptest::prop_assert_eq!(&bounded.take_run(), &run);
                proptest::prop_assert_eq!(&restarted.take_run(), &run);
                runs.push(run);
            }
        }
    }
}
