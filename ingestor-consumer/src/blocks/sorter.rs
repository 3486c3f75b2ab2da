//! The sorter: cells in any order become entries in the order of their keys, each key once; of several
//! blocks, one block after the other.
//!
//! What does not fit into memory goes, sorted, into scratch files as pages, which are merged at the end.
//! The files have no names and are gone with the process: a block that was not finished is made again.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{DirBuilder, File},
    io::{self, BufReader, BufWriter, Read as _, Seek as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::Arc,
};

use domain::{
    WindowLength,
    blocks::{BlockCell, BlockNumber, Entry, EntryKey, PageWriter, page},
};

use super::BlocksError;

/// Bytes that a cell takes in memory beside its runs, about.
const CELL_BYTES: usize = 224;
/// Bytes that an entry takes beside its key and its cells, about.
const ENTRY_BYTES: usize = 96;

/// Scratch files that are open at once; one more merges them into one.
const RUNS_MAX: usize = 64;

/// How much a sorter may take.
#[derive(Clone, Debug)]
pub struct SortRoom {
    /// Bytes in memory, about.
    pub bytes_max: usize,
    /// A directory for scratch files with what does not fit, which is made where it is not there. They
    /// have no names.
    pub scratch: Arc<Path>,
}

impl SortRoom {
    /// So much, with scratch files where the system keeps such.
    #[must_use]
    pub fn in_temp_dir(bytes_max: usize) -> Self {
        Self { bytes_max, scratch: std::env::temp_dir().into() }
    }
}

/// Which block a cell is of, and its entry there.
type Place = (BlockNumber, EntryKey);

/// Takes cells.
pub(crate) struct Sorter {
    window: WindowLength,
    room: SortRoom,
    entries: BTreeMap<Place, Vec<BlockCell>>,
    bytes: usize,
    runs: Vec<File>,
}

impl Sorter {
    /// Of a log with these windows.
    pub(crate) const fn new(window: WindowLength, room: SortRoom) -> Self {
        Self { window, room, entries: BTreeMap::new(), bytes: 0, runs: Vec::new() }
    }

    /// Takes a cell of a block.
    ///
    /// # Errors
    /// When the scratch directory takes no file.
    pub(crate) fn add(
        &mut self,
        block: BlockNumber,
        key: EntryKey,
        cell: BlockCell,
    ) -> Result<(), BlocksError> {
        let length = key.as_bytes().len();
        let cells = self.entries.entry((block, key)).or_insert_with(|| {
            self.bytes += ENTRY_BYTES + length;
            Vec::with_capacity(1)
        });
        match cells.binary_search_by_key(&cell.place(), BlockCell::place) {
            Ok(at) => cells[at].merge(&cell),
            Err(at) => {
                cells.insert(at, cell);
                self.bytes += CELL_BYTES;
            }
        }
        if self.bytes > self.room.bytes_max { self.spill() } else { Ok(()) }
    }

    /// Writes what is in memory to a scratch file.
    fn spill(&mut self) -> Result<(), BlocksError> {
        let mut sorted = self.take_sorted()?;
        let merges = sorted.runs.len() >= RUNS_MAX;
        let runs = if merges { Vec::new() } else { std::mem::take(&mut sorted.runs) };
        let run = write_run(&self.room.scratch, self.window, &mut sorted)?;
        self.runs = runs.into_iter().map(|run| run.file.into_inner()).collect();
        self.runs.push(run);
        Ok(())
    }

    fn take_sorted(&mut self) -> Result<Sorted, BlocksError> {
        self.bytes = 0;
        let mut runs = Vec::with_capacity(self.runs.len());
        for mut run in std::mem::take(&mut self.runs) {
            run.rewind().map_err(|error| failed(&self.room.scratch, error))?;
            runs.push(Run { file: BufReader::new(run), entries: VecDeque::new(), is_last: false });
        }
        let entries = std::mem::take(&mut self.entries);
        Ok(Sorted { runs, entries, scratch: Arc::clone(&self.room.scratch) })
    }

    /// All that was taken, in order.
    ///
    /// # Errors
    /// When a scratch file cannot be read.
    pub(crate) fn sorted(mut self) -> Result<Sorted, BlocksError> {
        self.take_sorted()
    }
}

fn failed(scratch: &Arc<Path>, error: io::Error) -> BlocksError {
    BlocksError::Scratch { path: Arc::clone(scratch), error }
}

fn write_run(
    scratch: &Arc<Path>,
    window: WindowLength,
    sorted: &mut Sorted,
) -> Result<File, BlocksError> {
    let failed = |error| failed(scratch, error);
    DirBuilder::new().recursive(true).mode(0o700).create(scratch).map_err(failed)?;
    let mut file = BufWriter::new(tempfile::tempfile_in(scratch).map_err(failed)?);
    let (mut writer, mut of) = (PageWriter::new(window), 0);
    while let Some((block, entry)) = sorted.next()? {
        if block != of {
            let last = writer.finish();
            last.map_or(Ok(()), |page| put(&mut file, of, &page.bytes)).map_err(failed)?;
            of = block;
        }
        let page = writer.push(&entry);
        page.map_or(Ok(()), |page| put(&mut file, of, &page.bytes)).map_err(failed)?;
    }
    let last = writer.finish();
    last.map_or(Ok(()), |page| put(&mut file, of, &page.bytes)).map_err(failed)?;
    file.into_inner().map_err(|error| failed(error.into_error()))
}

fn put(file: &mut impl io::Write, block: BlockNumber, page: &[u8]) -> io::Result<()> {
    let length = u32::try_from(page.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    file.write_all(&block.to_le_bytes())?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(page)
}

/// What a sorter took, given out in order.
pub(crate) struct Sorted {
    runs: Vec<Run>,
    entries: BTreeMap<Place, Vec<BlockCell>>,
    scratch: Arc<Path>,
}

struct Run {
    file: BufReader<File>,
    /// Of the page that was read.
    entries: VecDeque<(BlockNumber, Entry)>,
    is_last: bool,
}

impl Sorted {
    /// The next entry, with its block.
    ///
    /// # Errors
    /// When a scratch file cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<(BlockNumber, Entry)>, BlocksError> {
        for run in &mut self.runs {
            run.fill(&self.scratch)?;
        }
        let in_runs = self.runs.iter().filter_map(|run| run.entries.front());
        let in_runs = in_runs.map(|(block, entry)| (*block, &entry.key));
        let in_memory = self.entries.first_key_value().map(|((block, key), _)| (*block, key));
        let least = in_runs.chain(in_memory).min().map(|(block, key)| (block, key.clone()));
        let Some(place) = least else { return Ok(None) };
        let cells = self.entries.remove(&place).unwrap_or_default();
        let mut all = Entry { key: place.1, cells };
        for run in &mut self.runs {
            let is_it = |(block, entry): &mut (BlockNumber, Entry)| {
                (*block, &entry.key) == (place.0, &all.key)
            };
            if let Some((_, more)) = run.entries.pop_front_if(is_it) {
                all.merge(more);
            }
        }
        Ok(Some((place.0, all)))
    }
}

impl Run {
    /// Reads a page where there is no entry left.
    fn fill(&mut self, scratch: &Arc<Path>) -> Result<(), BlocksError> {
        while self.entries.is_empty() && !self.is_last {
            let failed = |error| failed(scratch, error);
            let mut block = [0; 8];
            match self.file.read_exact(&mut block) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.is_last = true;
                    break;
                }
                Err(error) => return Err(failed(error)),
            }
            let block = u64::from_le_bytes(block);
            let mut length = [0; 4];
            self.file.read_exact(&mut length).map_err(failed)?;
            let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
            self.file.read_exact(&mut bytes).map_err(failed)?;
            page::read(&bytes, |_| true, |entry| self.entries.push_back((block, entry)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        Aggregate, Dimensions, Partition, Quantity, ResourceKey, Sku, Tenant, Timestamp, Unit,
        blocks::{Series, Sources},
    };
    use proptest::prelude::*;

    use super::*;

    fn cell(tenant: &str, hour: i64, amount: i128, number: u32) -> (EntryKey, BlockCell) {
        let resource = ResourceKey {
            tenant: Tenant::new(tenant).unwrap(),
            product_sku: Sku::new("vm").unwrap(),
            use_unity: Unit::new("h").unwrap(),
            dimensions: Dimensions::none(),
        };
        let window_start = Timestamp::from_parts(hour * 3_600, 0).unwrap();
        let total = (&Aggregate::of(Quantity::from_raw(amount), window_start)).into();
        let sources = Sources::of(Partition(0), number);
        let key = EntryKey::new(Series::Resources, &resource, window_start);
        (key, BlockCell { window_start, part: 0, total, sources })
    }

    type Cell = (BlockNumber, EntryKey, BlockCell);

    fn sorted(cells: &[Cell], bytes_max: usize) -> Vec<(BlockNumber, Entry)> {
        let scratch = tempfile::tempdir().unwrap();
        let room = SortRoom { bytes_max, scratch: scratch.path().into() };
        let mut sorter = Sorter::new(WindowLength::HOUR, room);
        for (block, key, cell) in cells.iter().cloned() {
            sorter.add(block, key, cell).unwrap();
        }
        let mut sorted = sorter.sorted().unwrap();
        std::iter::from_fn(|| sorted.next().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn memory_and_order_never_change_what_comes_out(
            cells in prop::collection::vec(("[a-c]{1,2}", 0i64..900, any::<i64>(), 0u32..50), 1..100),
            seed: u64,
        ) {
            let mut cells: Vec<_> = cells
                .into_iter()
                .map(|(tenant, hour, amount, number)| {
                    let (key, cell) = cell(&tenant, hour, amount.into(), number);
                    (u64::from(number % 3), key, cell)
                })
                .collect();
            let whole = sorted(&cells, usize::MAX);
            prop_assert!(whole.is_sorted_by(|(one, a), (next, b)| (one, &a.key) < (next, &b.key)));
            cells.sort_by_key(|(_, _, cell)| (cell.total.sum.to_quantity().unwrap().raw() as u64).wrapping_mul(seed | 1));
            for bytes_max in [0, 1_000, 4_000] {
                prop_assert_eq!(&sorted(&cells, bytes_max), &whole);
            }
        }
    }

    #[test]
    fn a_scratch_directory_that_takes_no_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let room = SortRoom { bytes_max: 0, scratch: file.path().into() };
        let mut sorter = Sorter::new(WindowLength::HOUR, room);
        let (key, cell) = cell("a", 0, 1, 0);
        let error = sorter.add(0, key, cell).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
