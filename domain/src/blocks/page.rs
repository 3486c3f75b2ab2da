//! Pages: entries in the order of their keys, packed into about 32 KiB.
//!
//! A page is: the version (1 byte), the log's window length in microseconds (8 bytes, least first), its
//! entries, and a crc32c of all before it. All other numbers are as in [`varint`]. An entry is: how many
//! bytes its key shares with the one before it, the number of its other bytes, those bytes, the bytes of
//! what follows of the entry, the number of its cells, a byte that says by which powers of ten its amounts (low five bits) and times (high three
//! bits, thrice) are divided, then its cells. A cell is:
//!
//! | what | form |
//! | --- | --- |
//! | windows since the cell before, or since the entry's 32 days began | number |
//! | flags | byte: 1 has a part, 2 counts one pulse, 4 all amounts alike, 8 the sum is 32 bytes, 16 the sum is amount times count |
//! | part, if flagged | number |
//! | count, unless it is 1 | number |
//! | least amount | signed |
//! | greatest and last amount, unless alike | numbers above the least |
//! | sum, unless told | signed, or 32 bytes of two's complement in 10^-18 |
//! | first time | signed, since the window's start |
//! | last time, unless one pulse | number since the first |
//! | how many runs of segments | number |
//! | each run | partition since the last run's, first segment since the last run's in the entry, count - 1 |
//!
//! Equal cells give equal bytes, wherever they came from.

use ethnum::I256;

use crate::{
    Partition, Quantity, Timestamp, Total, WindowLength,
    codec::{CodecError, Reader, Writer},
    quantity::Sum,
};

use super::{BlockCell, Entry, EntryKey, SegmentRun, Sources, varint};

/// Bytes of entries from which on a page is full. Larger ones cost more for one resource, smaller ones
/// more for many; measured best for a month of one tenant at 16 to 64 KiB.
const PAGE_BYTES: usize = 32 << 10;
const VERSION: u8 = 1;

const HAS_PART: u8 = 1;
const IS_ONE: u8 = 2;
const ALIKE: u8 = 4;
const WIDE: u8 = 8;
const TIMES: u8 = 16;

/// A page of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its number in the block, from 0 without gaps.
    pub number: u32,
    /// Key of its first entry.
    pub first: EntryKey,
    /// Its bytes, see the module.
    pub bytes: Vec<u8>,
}

/// Packs entries, which come in the order of their keys, each key once.
#[derive(Debug)]
pub struct PageWriter {
    window: WindowLength,
    number: u32,
    first: Option<EntryKey>,
    last: Vec<u8>,
    entries: Vec<u8>,
    /// Of the entry that is being packed.
    cells: Vec<u8>,
}

impl PageWriter {
    /// Of a log with these windows.
    #[must_use]
    pub const fn new(window: WindowLength) -> Self {
        Self {
            window,
            number: 0,
            first: None,
            last: Vec::new(),
            entries: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// Takes the next entry; gives a page when one is full.
    ///
    /// # Panics
    /// When the entry is not behind the last one.
    pub fn push(&mut self, entry: &Entry) -> Option<Page> {
        let key = entry.key.as_bytes();
        assert!(self.first.is_none() || self.last.as_slice() < key, "entries come in order");
        let shared = self.last.iter().zip(key).take_while(|(one, other)| one == other).count();
        varint::put(&mut self.entries, shared as u128);
        varint::put(&mut self.entries, (key.len() - shared) as u128);
        self.entries.extend_from_slice(&key[shared..]);
        self.cells.clear();
        put_cells(&mut self.cells, self.window, entry);
        varint::put(&mut self.entries, self.cells.len() as u128);
        self.entries.extend_from_slice(&self.cells);
        self.last = key.to_vec();
        self.first.get_or_insert_with(|| entry.key.clone());
        (self.entries.len() >= PAGE_BYTES).then(|| self.page()).flatten()
    }

    /// The last page, if there is something left for it.
    pub fn finish(&mut self) -> Option<Page> {
        self.page()
    }

    fn page(&mut self) -> Option<Page> {
        let first = self.first.take()?;
        let entries = std::mem::take(&mut self.entries);
        self.last.clear();
        let number = self.number;
        self.number += 1;
        let writer = Writer::new(VERSION, entries.len() + 16);
        let bytes = writer.put(self.window.micros().to_le_bytes()).put_slice(&entries).seal();
        Some(Page { number, first, bytes })
    }
}

/// Reads a page's entries that `is_wanted`, in order.
///
/// # Errors
/// See [`CodecError`].
pub fn read(
    bytes: &[u8],
    mut is_wanted: impl FnMut(&EntryKey) -> bool,
    mut take: impl FnMut(Entry),
) -> Result<(), CodecError> {
    let mut reader = Reader::open(bytes, VERSION)?;
    let window = std::time::Duration::from_micros(u64::from_le_bytes(reader.take()?));
    let window = WindowLength::new(window).ok_or(CodecError::Value)?;
    let mut rest = reader.rest();
    let mut last: Vec<u8> = Vec::new();
    while !rest.is_empty() {
        let shared: usize = varint::take_as(&mut rest)?;
        let length: usize = varint::take_as(&mut rest)?;
        let mut key = last.get(..shared).ok_or(CodecError::Value)?.to_vec();
        key.extend_from_slice(varint::take_slice(&mut rest, length)?);
        if !last.is_empty() && key <= last {
            return Err(CodecError::Value);
        }
        last.clone_from(&key);
        let key = EntryKey::from_bytes(key);
        let length: usize = varint::take_as(&mut rest)?;
        let mut cells = varint::take_slice(&mut rest, length)?;
        if is_wanted(&key) {
            let entry = Entry { cells: take_cells(&mut cells, window, &key)?, key };
            take(entry);
        }
    }
    Ok(())
}

/// The key of a page's first entry.
///
/// # Errors
/// See [`CodecError`].
pub fn first_key(bytes: &[u8]) -> Result<EntryKey, CodecError> {
    let mut rest = Reader::open(bytes, VERSION)?.rest();
    varint::take_slice(&mut rest, 8)?;
    let (shared, length) = (varint::take(&mut rest)?, varint::take_as(&mut rest)?);
    if shared > 0 {
        return Err(CodecError::Value);
    }
    Ok(EntryKey::from_bytes(varint::take_slice(&mut rest, length)?.to_vec()))
}

/// The powers of ten that amounts and times are divided by.
#[derive(Clone, Copy)]
struct Scale {
    amounts: u32,
    times: u32,
}

/// Microseconds, milliseconds, seconds.
const TIME_STEPS: u32 = 3;

impl Scale {
    fn of(cells: &[BlockCell]) -> Self {
        let mut scale = Self { amounts: crate::quantity::SCALE, times: 2 * TIME_STEPS };
        for cell in cells {
            let Total { sum, min, max, last, time_first, time_last, .. } = &cell.total;
            for raw in [min.raw(), max.raw(), last.raw()] {
                while raw % scale.amount() != 0 {
                    scale.amounts -= 1;
                }
            }
            let sum = I256::from_le_bytes(sum.to_le_bytes());
            while sum % I256::from(scale.amount()) != I256::ZERO {
                scale.amounts -= 1;
            }
            let start = cell.window_start.micros();
            for micros in [time_first.micros() - start, time_last.micros() - start] {
                while micros % scale.time() != 0 {
                    scale.times -= TIME_STEPS;
                }
            }
        }
        scale
    }

    const fn amount(self) -> i128 {
        10i128.pow(self.amounts)
    }

    const fn time(self) -> i64 {
        10i64.pow(self.times)
    }

    const fn byte(self) -> u8 {
        (self.amounts | (self.times / TIME_STEPS) << 5) as u8
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        let (amounts, times) = ((byte & 31) as u32, (byte >> 5) as u32 * TIME_STEPS);
        if amounts > crate::quantity::SCALE || times > 2 * TIME_STEPS {
            return None;
        }
        Some(Self { amounts, times })
    }
}

fn put_cells(bytes: &mut Vec<u8>, window: WindowLength, Entry { key, cells }: &Entry) {
    let unit = key.series().expect("a key of ours").unit(window);
    let scale = Scale::of(cells);
    varint::put(bytes, cells.len() as u128);
    bytes.push(scale.byte());
    let (mut before, mut first) = (key.bucket_start(), 0);
    for cell in cells {
        let start = cell.window_start.micros();
        varint::put(bytes, ((start - before) / unit).unsigned_abs().into());
        before = start;
        put_cell(bytes, cell, scale);
        first = put_sources(bytes, &cell.sources, first);
    }
}

fn put_cell(
    bytes: &mut Vec<u8>,
    BlockCell { window_start, part, total, .. }: &BlockCell,
    scale: Scale,
) {
    let Total { count, sum, min, max, last, time_first, time_last } = total;
    let alike = min == max;
    let flat = alike
        .then(|| i128::try_from(*count).ok()?.checked_mul(min.raw()))
        .flatten()
        .is_some_and(|product| Sum::from(Quantity::from_raw(product)) == *sum);
    let narrow = sum.to_quantity();
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    let flags = flag(*part > 0, HAS_PART)
        | flag(*count == 1, IS_ONE)
        | flag(alike, ALIKE)
        | flag(!flat && narrow.is_none(), WIDE)
        | flag(flat, TIMES);
    bytes.push(flags);
    if *part > 0 {
        varint::put(bytes, (*part).into());
    }
    if *count != 1 {
        varint::put(bytes, *count);
    }
    let (least, by) = (min.raw() / scale.amount(), scale.amount());
    varint::put_signed(bytes, least);
    if !alike {
        for above in [max, last] {
            varint::put(bytes, (above.raw() / by).abs_diff(least));
        }
    }
    match narrow {
        _ if flat => {}
        Some(sum) => varint::put_signed(bytes, sum.raw() / by),
        None => bytes.extend_from_slice(&sum.to_le_bytes()),
    }
    let first = (time_first.micros() - window_start.micros()) / scale.time();
    varint::put_signed(bytes, first.into());
    if *count != 1 {
        let span = time_last.micros().abs_diff(time_first.micros());
        varint::put(bytes, (span / scale.time().unsigned_abs()).into());
    }
}

/// Gives the first segment of the last run, from which the next cell's are counted.
fn put_sources(bytes: &mut Vec<u8>, sources: &Sources, mut first: u32) -> u32 {
    varint::put(bytes, sources.runs().len() as u128);
    let mut partition = 0;
    for run in sources.runs() {
        varint::put(bytes, (run.partition.0 - partition).into());
        varint::put_signed(bytes, i128::from(run.first) - i128::from(first));
        varint::put(bytes, (run.count - 1).into());
        (partition, first) = (run.partition.0, run.first);
    }
    first
}

fn take_cells(
    bytes: &mut &[u8],
    window: WindowLength,
    key: &EntryKey,
) -> Result<Vec<BlockCell>, CodecError> {
    let unit = key.series().ok_or(CodecError::Value)?.unit(window);
    let count: usize = varint::take_as(bytes)?;
    let scale = varint::take_slice(bytes, 1)?[0];
    let scale = Scale::from_byte(scale).ok_or(CodecError::Value)?;
    // A cell has five bytes at the least, so the bytes bound what is reserved.
    if count == 0 || count > bytes.len() / 5 {
        return Err(CodecError::Value);
    }
    let mut cells: Vec<BlockCell> = Vec::with_capacity(count);
    let (mut before, mut first) = (key.bucket_start(), 0);
    for _ in 0..count {
        let windows: i64 = varint::take_as(bytes)?;
        let start = windows.checked_mul(unit).and_then(|past| before.checked_add(past));
        let start = start.ok_or(CodecError::Value)?;
        before = start;
        let window_start = Timestamp::from_micros(start).ok_or(CodecError::Value)?;
        let (part, total) = take_cell(bytes, window_start, scale)?;
        let sources;
        (sources, first) = take_sources(bytes, first)?;
        let cell = BlockCell { window_start, part, total, sources };
        if cells.last().is_some_and(|last| last.place() >= cell.place()) {
            return Err(CodecError::Value);
        }
        cells.push(cell);
    }
    if bytes.is_empty() { Ok(cells) } else { Err(CodecError::Length) }
}

fn take_cell(
    bytes: &mut &[u8],
    window_start: Timestamp,
    scale: Scale,
) -> Result<(u32, Total), CodecError> {
    let flags = varint::take_slice(bytes, 1)?[0];
    let has = |flag: u8| flags & flag != 0;
    let part = if has(HAS_PART) { varint::take_as(bytes)? } else { 0 };
    let count = if has(IS_ONE) { 1 } else { varint::take(bytes)? };
    let quantity = |scaled: Option<i128>| {
        let raw = scaled.and_then(|scaled| scaled.checked_mul(scale.amount()));
        raw.map(Quantity::from_raw).ok_or(CodecError::Value)
    };
    let least = varint::take_signed(bytes)?;
    let min = quantity(Some(least))?;
    let mut above = || quantity(least.checked_add_unsigned(varint::take(bytes)?));
    let (max, last) = if has(ALIKE) { (min, min) } else { (above()?, above()?) };
    let sum = if has(TIMES) {
        let count = i128::try_from(count).ok();
        let product = count.and_then(|count| count.checked_mul(min.raw()));
        product.map(|raw| Sum::from(Quantity::from_raw(raw))).ok_or(CodecError::Value)?
    } else if has(WIDE) {
        let raw = varint::take_slice(bytes, 32)?.first_chunk().ok_or(CodecError::Length)?;
        Sum::from_le_bytes(*raw)
    } else {
        Sum::from(quantity(Some(varint::take_signed(bytes)?))?)
    };
    let time = |from: i64, scaled: i64| {
        let micros = scaled.checked_mul(scale.time()).and_then(|past| from.checked_add(past));
        micros.and_then(Timestamp::from_micros).ok_or(CodecError::Value)
    };
    let first = i64::try_from(varint::take_signed(bytes)?).map_err(|_| CodecError::Value)?;
    let time_first = time(window_start.micros(), first)?;
    let time_last =
        if has(IS_ONE) { time_first } else { time(time_first.micros(), varint::take_as(bytes)?)? };
    Ok((part, Total { count, sum, min, max, last, time_first, time_last }))
}

fn take_sources(bytes: &mut &[u8], mut first: u32) -> Result<(Sources, u32), CodecError> {
    let count: usize = varint::take_as(bytes)?;
    // A run has three bytes at the least.
    if count > bytes.len() / 3 {
        return Err(CodecError::Value);
    }
    let mut runs = Vec::with_capacity(count);
    let mut partition = 0u16;
    for _ in 0..count {
        let more: u16 = varint::take_as(bytes)?;
        partition = partition.checked_add(more).ok_or(CodecError::Value)?;
        let since = varint::take_signed(bytes)?;
        let next = i128::from(first).checked_add(since).ok_or(CodecError::Value)?;
        first = u32::try_from(next).map_err(|_| CodecError::Value)?;
        let more: u32 = varint::take_as(bytes)?;
        let count = more.checked_add(1).ok_or(CodecError::Value)?;
        runs.push(SegmentRun { partition: Partition(partition), first, count });
    }
    Ok((Sources::from_runs(runs).ok_or(CodecError::Value)?, first))
}

#[cfg(test)]
mod tests;
