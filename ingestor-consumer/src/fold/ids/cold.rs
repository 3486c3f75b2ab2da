//! Cold ids: those that memory has no room for, as sorted runs in scratch files that never change.
//!
//! A run is written once, in the order of its hashes, with a filter and the first hash of each block in
//! memory: an id that is new costs a line of memory a run, one that is known a read of 4 KiB. Four runs
//! of a level are merged into one of the next, so there are a dozen of them at the most, and what has
//! expired is left out then. The files have no names: they are gone with the process, and a start
//! makes them again out of the store's runs.

use std::{
    fs::{DirBuilder, File},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::Path,
    sync::Arc,
};

use super::table::{Id, Seen};

/// Bytes of an entry: hash (10, big-endian), payload (1), ordinal (3, big-endian), and two that are free.
const ENTRY_BYTES: usize = 16;
/// Entries that are read at once.
const BLOCK_ENTRIES: usize = 256;
/// Runs of one level that become one of the next.
const RUNS_PER_LEVEL: usize = 4;
/// Bits of the filter for each id; one id in a hundred that is not in the run passes.
const FILTER_BITS: usize = 10;
/// Bits that an id sets, all in one line of memory.
const FILTER_PROBES: u32 = 6;

/// Every run, oldest first.
#[derive(Debug)]
pub(super) struct Cold {
    directory: Arc<Path>,
    runs: Vec<Run>,
    /// Bytes that the filters may take together.
    filter_bytes_max: usize,
}

#[derive(Debug)]
struct Run {
    file: File,
    entries: u64,
    /// High halves of the hashes that blocks start with.
    starts: Vec<u64>,
    /// Lines of 512 bits; empty where memory has no room for it.
    filter: Vec<[u64; 8]>,
    level: u32,
    /// Greatest ordinal in it, as written.
    ordinal_last: u32,
    /// By how much ordinals were lowered since it was written.
    lowered: u32,
}

impl Cold {
    /// No run yet; files go into `directory`, which is made where it is not there.
    pub(super) const fn new(directory: Arc<Path>, filter_bytes_max: usize) -> Self {
        Self { directory, runs: Vec::new(), filter_bytes_max }
    }

    /// Ids in the runs; one that is in several is counted in each.
    pub(super) fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.entries).sum()
    }

    /// Bytes of memory that filters and block starts take.
    pub(super) fn bytes(&self) -> usize {
        let of_run = |run: &Run| size_of_val(&run.filter[..]) + size_of_val(&run.starts[..]);
        self.runs.iter().map(of_run).sum()
    }

    /// Reads the lines of the filters that [`Cold::get`] will ask.
    #[inline]
    pub(super) fn touch(&self, id: Id) -> u64 {
        let lines = self.runs.iter().filter_map(|run| run.filter.get(run.line(id)));
        lines.fold(0, |seen, line| seen ^ line[0])
    }

    /// What the newest run that has it knows of an id.
    ///
    /// # Errors
    /// When a file cannot be read.
    #[inline]
    pub(super) fn get(&self, id: Id) -> io::Result<Option<Seen>> {
        for run in self.runs.iter().rev().filter(|run| run.may_hold(id)) {
            if let Some(seen) = run.get(id)? {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// Takes ids in the order of their hashes as the newest run, and merges runs where there are enough;
    /// ids whose ordinals are below `ordinal_min` are left out.
    ///
    /// # Errors
    /// When a file cannot be written or read; the ids are then in none.
    pub(super) fn add(
        &mut self,
        ids: impl FnOnce(&mut dyn FnMut(&Seen)),
        ordinal_min: u32,
    ) -> io::Result<()> {
        self.forget_before(ordinal_min);
        let mut writer = RunWriter::new(&self.directory, 0)?;
        let mut failed = Ok(());
        ids(&mut |seen| {
            if failed.is_ok() {
                failed = writer.write(seen);
            }
        });
        failed?;
        self.runs.push(writer.finish()?);
        while let Some(from) = self.mergeable() {
            let level = self.runs[from].level + 1;
            let merged = merge(&self.directory, &self.runs[from..], level, ordinal_min)?;
            self.runs.truncate(from);
            self.runs.push(merged);
        }
        self.bound_filters();
        Ok(())
    }

    /// Lets runs go in which everything has expired.
    pub(super) fn forget_before(&mut self, ordinal_min: u32) {
        self.runs.retain(|run| run.ordinal_last.saturating_sub(run.lowered) >= ordinal_min);
    }

    /// Lowers every ordinal; those that had expired become 0.
    pub(super) fn renumber(&mut self, by: u32) {
        self.runs.iter_mut().for_each(|run| run.lowered += by);
    }

    /// Place of the first of the newest runs if enough of them have one level. Levels never rise towards
    /// the newest, so these are next to one another.
    fn mergeable(&self) -> Option<usize> {
        let level = self.runs.last()?.level;
        let same = self.runs.iter().rev().take_while(|run| run.level == level).count();
        (same >= RUNS_PER_LEVEL).then(|| self.runs.len() - same)
    }

    /// Drops the largest filters while they take more than they may: their runs are read for each id.
    fn bound_filters(&mut self) {
        while self.bytes() > self.filter_bytes_max {
            let filtered = self.runs.iter_mut().filter(|run| !run.filter.is_empty());
            match filtered.max_by_key(|run| run.filter.len()) {
                Some(largest) => largest.filter = Vec::new(),
                None => return,
            }
        }
    }
}

impl Run {
    #[inline]
    fn line(&self, id: Id) -> usize {
        ((u128::from(id.high) * self.filter.len() as u128) >> 64) as usize
    }

    #[inline]
    fn may_hold(&self, id: Id) -> bool {
        self.filter.get(self.line(id)).is_none_or(|line| {
            bits_of(id).all(|bit| line[bit as usize / 64] & (1 << (bit % 64)) > 0)
        })
    }

    fn get(&self, id: Id) -> io::Result<Option<Seen>> {
        // Blocks that start with the id's own high half may follow one that ends with it.
        let behind = self.starts.partition_point(|start| *start < id.high);
        for block in behind.saturating_sub(1)..self.starts.len() {
            if self.starts[block] > id.high {
                break;
            }
            let first = (block * BLOCK_ENTRIES) as u64;
            let entries = (self.entries - first).min(BLOCK_ENTRIES as u64);
            let mut bytes = [0; BLOCK_ENTRIES * ENTRY_BYTES];
            let bytes = &mut bytes[..entries as usize * ENTRY_BYTES];
            self.file.read_exact_at(bytes, first * ENTRY_BYTES as u64)?;
            let entries = bytes.as_chunks::<ENTRY_BYTES>().0;
            let at = entries.partition_point(|entry| decode(entry, 0).id < id);
            let found = entries.get(at).map(|entry| decode(entry, self.lowered));
            let found = found.filter(|seen| seen.id == id);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// Bits of an id in its line of a filter, out of the part of its hash that the line is not chosen by.
#[inline]
fn bits_of(id: Id) -> impl Iterator<Item = u32> {
    let mixed = (id.high << 16 | u64::from(id.low)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..FILTER_PROBES).map(move |probe| (mixed >> (64 - 9 * (probe + 1))) as u32 & 511)
}

fn encode(seen: &Seen) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&seen.id.high.to_be_bytes());
    bytes[8..10].copy_from_slice(&seen.id.low.to_be_bytes());
    bytes[10] = seen.payload;
    bytes[11..14].copy_from_slice(&seen.ordinal.to_be_bytes()[1..]);
    bytes
}

fn decode(bytes: &[u8; ENTRY_BYTES], lowered: u32) -> Seen {
    let (high, rest) = bytes.split_first_chunk().expect("an entry has 16 bytes");
    let id = Id { high: u64::from_be_bytes(*high), low: u16::from_be_bytes([rest[0], rest[1]]) };
    let ordinal = u32::from_be_bytes([0, rest[3], rest[4], rest[5]]).saturating_sub(lowered);
    Seen { id, tenant: 0, payload: rest[2], ordinal }
}

/// Writes a run in the order of its hashes.
struct RunWriter {
    file: BufWriter<File>,
    level: u32,
    entries: u64,
    starts: Vec<u64>,
    ordinal_last: u32,
}

impl RunWriter {
    fn new(directory: &Path, level: u32) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = BufWriter::with_capacity(1 << 20, tempfile::tempfile_in(directory)?);
        Ok(Self { file, level, entries: 0, starts: Vec::new(), ordinal_last: 0 })
    }

    fn write(&mut self, seen: &Seen) -> io::Result<()> {
        if self.entries.is_multiple_of(BLOCK_ENTRIES as u64) {
            self.starts.push(seen.id.high);
        }
        self.entries += 1;
        self.ordinal_last = self.ordinal_last.max(seen.ordinal);
        self.file.write_all(&encode(seen))
    }

    /// Reads the run once more for its filter, whose size depends on the number of entries.
    fn finish(self) -> io::Result<Run> {
        let Self { file, level, entries, starts, ordinal_last } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let lines = (usize::try_from(entries).unwrap_or(usize::MAX) * FILTER_BITS).div_ceil(512);
        let filter = vec![[0; 8]; lines];
        let lowered = 0;
        let mut run = Run { file, entries, starts, filter, level, ordinal_last, lowered };
        let mut reader = RunReader::of(&run)?;
        while let Some(seen) = reader.next()? {
            let line = run.line(seen.id);
            bits_of(seen.id).for_each(|bit| run.filter[line][bit as usize / 64] |= 1 << (bit % 64));
        }
        Ok(run)
    }
}

/// Reads a run in order.
struct RunReader {
    file: File,
    offset: u64,
    left: u64,
    lowered: u32,
    block: Vec<u8>,
    at: usize,
}

impl RunReader {
    const BYTES: usize = 1 << 18;

    fn of(run: &Run) -> io::Result<Self> {
        let Run { entries: left, lowered, .. } = *run;
        let file = run.file.try_clone()?;
        Ok(Self { file, offset: 0, left, lowered, block: Vec::new(), at: 0 })
    }

    fn next(&mut self) -> io::Result<Option<Seen>> {
        if self.at == self.block.len() {
            let bytes = (self.left * ENTRY_BYTES as u64).min(Self::BYTES as u64);
            self.block.resize(bytes as usize, 0);
            self.file.read_exact_at(&mut self.block, self.offset)?;
            (self.offset, self.at) = (self.offset + bytes, 0);
            self.left -= bytes / ENTRY_BYTES as u64;
        }
        let entry = self.block[self.at..].first_chunk();
        self.at += entry.map_or(0, |entry| entry.len());
        Ok(entry.map(|entry| decode(entry, self.lowered)))
    }
}

/// Merges runs, oldest first, into one; of an id that is in several the newest counts.
fn merge(directory: &Path, runs: &[Run], level: u32, ordinal_min: u32) -> io::Result<Run> {
    let mut readers = runs.iter().map(RunReader::of).collect::<io::Result<Vec<_>>>()?;
    let mut heads = readers.iter_mut().map(RunReader::next).collect::<io::Result<Vec<_>>>()?;
    let mut writer = RunWriter::new(directory, level)?;
    while let Some(least) = heads.iter().flatten().map(|seen| seen.id).min() {
        let mut newest = None;
        for (head, reader) in heads.iter_mut().zip(&mut readers) {
            if head.is_some_and(|seen| seen.id == least) {
                newest = std::mem::replace(head, reader.next()?);
            }
        }
        if let Some(seen) = newest.filter(|seen| seen.ordinal >= ordinal_min) {
            writer.write(&seen)?;
        }
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn numbers(seed: u64, count: usize) -> impl Iterator<Item = u64> {
        let mut number = seed;
        std::iter::repeat_with(move || {
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            number
        })
        .take(count)
    }

    fn add(cold: &mut Cold, ids: &BTreeMap<Id, Seen>, ordinal_min: u32) {
        cold.add(|take| ids.values().for_each(take), ordinal_min).unwrap();
    }

    #[test]
    fn the_newest_run_tells_of_an_id_over_merges_and_without_filters() {
        let directory = tempfile::tempdir().unwrap();
        for filter_bytes_max in [usize::MAX, 0] {
            let mut cold = Cold::new(directory.path().into(), filter_bytes_max);
            let mut all = BTreeMap::new();
            for ordinal in 1..=23u32 {
                // Half of them were in an earlier run; some share their high half.
                let ids = numbers(7, 300 * ordinal as usize).skip(150 * ordinal as usize);
                let seen = |high: u64| {
                    let id = Id { high: high | 0xff, low: (high & 0xff) as u16 };
                    (id, Seen { id, tenant: 0, payload: ordinal as u8, ordinal })
                };
                let run: BTreeMap<_, _> = ids.map(seen).collect();
                add(&mut cold, &run, 1);
                all.extend(run);
                assert!(cold.runs.len() < 3 * RUNS_PER_LEVEL);
            }
            for (id, seen) in &all {
                assert_eq!(cold.get(*id).unwrap(), Some(*seen));
            }
            for high in numbers(99, 1_000) {
                assert_eq!(cold.get(Id { high, low: 1 }).unwrap(), None);
            }
            cold.forget_before(24);
            assert_eq!((cold.len(), cold.bytes()), (0, 0));
        }
    }

    #[test]
    fn a_merge_leaves_out_what_has_expired() {
        let home = tempfile::tempdir().unwrap();
        let mut cold = Cold::new(home.path().join("made").into(), usize::MAX);
        for ordinal in 1..=4 {
            let id = Id { high: u64::from(ordinal), low: 0 };
            let run = BTreeMap::from([(id, Seen { id, tenant: 0, payload: 0, ordinal })]);
            add(&mut cold, &run, ordinal.min(3));
        }
        assert_eq!(cold.len(), 2);
    }

    #[test]
    fn an_id_that_is_new_rarely_costs_a_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut cold = Cold::new(directory.path().into(), usize::MAX);
        let seen = |high| {
            let id = Id { high, low: 5 };
            (id, Seen { id, tenant: 0, payload: 0, ordinal: 1 })
        };
        add(&mut cold, &numbers(1, 50_000).map(seen).collect(), 1);
        let reads = numbers(2, 10_000).filter(|high| cold.runs[0].may_hold(seen(*high).0)).count();
        assert!(reads < 300, "{reads} of 10,000");
        assert!(cold.bytes() < 50_000 * 14 / 8 + 5_000, "{}", cold.bytes());
    }
}
