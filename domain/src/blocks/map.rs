//! The map: which blocks stand for which stretches of the logs, and which one is being made.
//!
//! It is one small value, replaced as a whole by compare-and-set on its version, and every decision
//! about blocks is such a replacement: a plan fixes what a block holds before it is made, so that
//! whoever makes it makes the same; a swap puts it in the place of segments or of lesser blocks; a
//! moment that sums are asked below is marked as an edge.

use std::collections::BTreeMap;

use crate::{
    Epoch, LogId, Offset, SegmentId, Timestamp,
    codec::{CodecError, Reader, Writer},
};

use super::BlockNumber;

/// How much log time a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Merged from segments.
    First,
    /// A day in UTC, merged from blocks.
    Day,
    /// A month in UTC, merged from blocks.
    Month,
}

impl Level {
    /// All, the least first.
    pub const ALL: [Self; 3] = [Self::First, Self::Day, Self::Month];

    const fn byte(self) -> u8 {
        self as u8
    }

    fn of(byte: u8) -> Result<Self, CodecError> {
        Self::ALL.into_iter().find(|level| level.byte() == byte).ok_or(CodecError::Value)
    }

    /// What it is called.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// A block in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: BlockNumber,
    /// How much log time it is for.
    pub level: Level,
    /// Log time that it reaches to, about. Decides when it is merged and nothing else.
    pub until: Timestamp,
    /// By partition, the first offset behind it. It begins where the block before it ends, or where its
    /// epoch does.
    pub ends: Vec<Offset>,
    /// There are edges inside it: its manifest says where.
    pub has_edges: bool,
    /// Its end is an edge.
    pub ends_at_edge: bool,
    /// Starts of the least and the greatest window that it has usage in; `None` without usage.
    pub windows: Option<(Timestamp, Timestamp)>,
}

/// A block that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its number.
    pub number: BlockNumber,
    /// How much log time it is for.
    pub level: Level,
    /// Log time that it reaches to, about.
    pub until: Timestamp,
    /// By partition, the first offset behind it.
    pub ends: Vec<Offset>,
    /// The edges inside it, ascending. Empty in a merge, whose blocks know theirs.
    pub edges: Vec<Vec<Offset>>,
    /// Its end is an edge.
    pub ends_at_edge: bool,
    /// The blocks that it is merged from, in order, at least two; none where it is made from segments
    /// behind the last block.
    pub merges: Vec<BlockNumber>,
}

/// The blocks of one epoch of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochBlocks {
    /// By partition, where the epoch begins.
    pub from: Vec<Offset>,
    /// Those in use, in order: each begins where the one before it ends.
    pub blocks: Vec<Block>,
    /// The one that is being made.
    pub planned: Option<Plan>,
}

impl EpochBlocks {
    /// Up to where blocks stand for the log.
    #[must_use]
    pub fn ends(&self) -> &[Offset] {
        self.blocks.last().map_or(&self.from, |last| &last.ends)
    }

    /// Up to where they will, once what is planned is made.
    #[must_use]
    pub fn planned_ends(&self) -> &[Offset] {
        let plan = self.planned.as_ref().filter(|plan| plan.merges.is_empty());
        plan.map_or_else(|| self.ends(), |plan| &plan.ends)
    }

    /// Where the block at this place begins.
    #[must_use]
    pub fn from_of(&self, place: usize) -> &[Offset] {
        place.checked_sub(1).map_or(&self.from, |before| &self.blocks[before].ends)
    }

    /// Where the planned block begins, and the places of the blocks that it replaces.
    ///
    /// # Errors
    /// `Value` where the plan is of blocks that are not there, or not neighbours.
    pub fn place_of(&self, plan: &Plan) -> Result<std::ops::Range<usize>, CodecError> {
        let Some(first) = plan.merges.first() else {
            return Ok(self.blocks.len()..self.blocks.len());
        };
        let at = self.blocks.iter().position(|block| block.number == *first);
        let at = at.ok_or(CodecError::Value)?;
        let found = self.blocks.get(at..at + plan.merges.len()).ok_or(CodecError::Value)?;
        let same = found.iter().map(|block| block.number).eq(plan.merges.iter().copied());
        if same { Ok(at..at + plan.merges.len()) } else { Err(CodecError::Value) }
    }
}

/// What is known of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LogBlocks {
    /// How many edges were marked.
    marks: u64,
    /// The newest of them.
    newest_mark: Vec<Offset>,
    epochs: BTreeMap<Epoch, EpochBlocks>,
}

/// The map of all logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockMap {
    /// How often it was replaced; 0 is none at all.
    pub version: u64,
    /// What a reader of an earlier version was told to look for may be gone.
    pub kept_from: u64,
    /// The version in which a block was last swapped in, or an epoch taken out.
    pub swapped_in: u64,
    next: BlockNumber,
    logs: BTreeMap<LogId, LogBlocks>,
}

impl BlockMap {
    const VERSION: u8 = 1;

    /// The blocks of an epoch, if it has any or is to have one.
    #[must_use]
    pub fn epoch(&self, log_id: LogId, epoch: Epoch) -> Option<&EpochBlocks> {
        self.logs.get(&log_id)?.epochs.get(&epoch)
    }

    /// All epochs that have blocks.
    pub fn epochs(&self) -> impl Iterator<Item = (LogId, Epoch, &EpochBlocks)> {
        self.logs.iter().flat_map(|(log_id, log)| {
            log.epochs.iter().map(|(epoch, blocks)| (*log_id, *epoch, blocks))
        })
    }

    /// Whether a block stands for a segment.
    #[must_use]
    pub fn covers(&self, segment: &SegmentId) -> bool {
        let blocks = self.epoch(segment.log_id, segment.epoch);
        blocks.is_some_and(|blocks| {
            let end = blocks.ends().get(usize::from(segment.partition.0));
            end.is_some_and(|end| segment.start < *end)
        })
    }

    /// Whether a block with this number is in use or being made.
    #[must_use]
    pub fn has(&self, number: BlockNumber) -> bool {
        self.epochs().any(|(_, _, blocks)| {
            let planned = blocks.planned.iter().map(|plan| plan.number);
            blocks.blocks.iter().map(|block| block.number).chain(planned).any(|of| of == number)
        })
    }

    /// Whether a block had its number by then.
    #[must_use]
    pub const fn knows(&self, number: BlockNumber) -> bool {
        number < self.next
    }

    /// How many edges of a log were marked, and the newest.
    #[must_use]
    pub fn marks(&self, log_id: LogId) -> (u64, &[Offset]) {
        self.logs.get(&log_id).map_or((0, &[]), |log| (log.marks, &log.newest_mark))
    }

    /// The least edge at or behind `at` that is not inside a block of the epoch, nor before an edge that
    /// was marked before.
    #[must_use]
    pub fn edge_from(&self, log_id: LogId, epoch: Epoch, at: &[Offset]) -> Vec<Offset> {
        let none: &[Offset] = &[];
        let blocked = self.epoch(log_id, epoch).map_or(none, EpochBlocks::planned_ends);
        let (_, newest) = self.marks(log_id);
        let least = |partition: usize| {
            let of = |places: &[Offset]| places.get(partition).copied().unwrap_or_default();
            of(blocked).max(of(newest))
        };
        at.iter().enumerate().map(|(partition, at)| (*at).max(least(partition))).collect()
    }

    /// Notes an edge that [`BlockMap::edge_from`] gave.
    pub fn mark(&mut self, log_id: LogId, edge: Vec<Offset>) {
        self.keep_end(log_id, &edge);
        let log = self.logs.entry(log_id).or_default();
        log.marks += 1;
        log.newest_mark = edge;
    }

    /// Keeps the end of every block that ends there as an edge.
    pub fn keep_end(&mut self, log_id: LogId, end: &[Offset]) {
        let log = self.logs.entry(log_id).or_default();
        for blocks in log.epochs.values_mut() {
            if let Some(plan) = blocks.planned.as_mut().filter(|plan| plan.ends == end) {
                plan.ends_at_edge = true;
            }
            for block in blocks.blocks.iter_mut().filter(|block| block.ends == end) {
                block.ends_at_edge = true;
            }
        }
    }

    /// Plans a block of an epoch that begins at `from`; gives it its number.
    ///
    /// # Panics
    /// When one is planned already.
    pub fn plan(&mut self, (log_id, epoch): (LogId, Epoch), from: Vec<Offset>, mut plan: Plan) {
        let number = self.next;
        self.next += 1;
        plan.number = number;
        let epochs = &mut self.logs.entry(log_id).or_default().epochs;
        let blocks =
            epochs.entry(epoch).or_insert_with(|| EpochBlocks { from, ..EpochBlocks::default() });
        assert!(blocks.planned.is_none(), "one block is made at a time");
        blocks.planned = Some(plan);
    }

    /// Puts the planned block in the place of what it was made from.
    ///
    /// # Errors
    /// `Value` where no such block is planned.
    pub fn swap(
        &mut self,
        (log_id, epoch): (LogId, Epoch),
        number: BlockNumber,
        (has_edges, windows): (bool, Option<(Timestamp, Timestamp)>),
    ) -> Result<(), CodecError> {
        let blocks = self.logs.get_mut(&log_id).and_then(|log| log.epochs.get_mut(&epoch));
        let blocks = blocks.ok_or(CodecError::Value)?;
        let plan = blocks.planned.take_if(|plan| plan.number == number);
        let plan = plan.ok_or(CodecError::Value)?;
        let place = blocks.place_of(&plan)?;
        let Plan { number, level, until, ends, ends_at_edge, .. } = plan;
        let ends_at_edge = ends_at_edge
            || place.clone().next_back().is_some_and(|last| blocks.blocks[last].ends_at_edge);
        let block = Block { number, level, until, ends, has_edges, ends_at_edge, windows };
        blocks.blocks.splice(place, [block]);
        self.swapped_in = self.version;
        Ok(())
    }

    /// Takes out the blocks of an epoch and what is planned of it; tells whether there were any.
    pub fn remove(&mut self, (log_id, epoch): (LogId, Epoch)) -> bool {
        let log = self.logs.get_mut(&log_id);
        let removed = log.and_then(|log| log.epochs.remove(&epoch)).is_some();
        if removed {
            self.swapped_in = self.version;
        }
        removed
    }

    /// The map in a later version.
    #[must_use]
    pub fn next_version(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }

    /// Encodes all but the version, under which it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let writer = Writer::new(Self::VERSION, 1_024)
            .put(self.kept_from.to_le_bytes())
            .put(self.swapped_in.to_le_bytes())
            .put(self.next.to_le_bytes());
        let writer = self.logs.iter().fold(writer.put(length(self.logs.len())), put_log);
        writer.seal()
    }

    /// Decodes what [`BlockMap::encode`] wrote as this version.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(version: u64, bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::open(bytes, Self::VERSION)?;
        let kept_from = u64::from_le_bytes(reader.take()?);
        let swapped_in = u64::from_le_bytes(reader.take()?);
        let next = u64::from_le_bytes(reader.take()?);
        let count = take_length(&mut reader)?;
        let logs = (0..count).map(|_| take_log(&mut reader)).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { version, kept_from, swapped_in, next, logs })
    }
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).expect("a list that fits").to_le_bytes()
}

fn take_length(reader: &mut Reader<'_>) -> Result<u32, CodecError> {
    Ok(u32::from_le_bytes(reader.take()?))
}

fn put_places(writer: Writer, places: &[Offset]) -> Writer {
    let writer = writer.put(length(places.len()));
    places.iter().fold(writer, |writer, place| writer.put(place.0.to_le_bytes()))
}

fn take_places(reader: &mut Reader<'_>) -> Result<Vec<Offset>, CodecError> {
    let count = take_length(reader)?;
    (0..count).map(|_| Ok(Offset(u64::from_le_bytes(reader.take()?)))).collect()
}

fn put_log(writer: Writer, (log_id, log): (&LogId, &LogBlocks)) -> Writer {
    let writer = put_places(writer.put(log_id.0).put(log.marks.to_le_bytes()), &log.newest_mark);
    log.epochs.iter().fold(writer.put(length(log.epochs.len())), |writer, (epoch, blocks)| {
        let writer = put_places(writer.put(epoch.0.to_le_bytes()), &blocks.from);
        let writer = writer.put(length(blocks.blocks.len()));
        let writer = blocks.blocks.iter().fold(writer, put_block);
        let writer = writer.put(length(blocks.planned.iter().len()));
        blocks.planned.iter().fold(writer, put_plan)
    })
}

fn take_log(reader: &mut Reader<'_>) -> Result<(LogId, LogBlocks), CodecError> {
    let log_id = LogId(reader.take()?);
    let marks = u64::from_le_bytes(reader.take()?);
    let newest_mark = take_places(reader)?;
    let mut epochs = BTreeMap::new();
    for _ in 0..take_length(reader)? {
        let epoch = Epoch(u16::from_le_bytes(reader.take()?));
        let from = take_places(reader)?;
        let count = take_length(reader)?;
        let blocks = (0..count).map(|_| take_block(reader)).collect::<Result<_, _>>()?;
        let planned = match take_length(reader)? {
            0 => None,
            1 => Some(take_plan(reader)?),
            _ => return Err(CodecError::Value),
        };
        epochs.insert(epoch, EpochBlocks { from, blocks, planned });
    }
    Ok((log_id, LogBlocks { marks, newest_mark, epochs }))
}

fn put_block(writer: Writer, block: &Block) -> Writer {
    let Block { number, level, until, ends, has_edges, ends_at_edge, windows } = block;
    let writer = writer
        .put(number.to_le_bytes())
        .put([level.byte(), u8::from(*has_edges) | u8::from(*ends_at_edge) << 1])
        .put(until.micros().to_le_bytes())
        .put(length(windows.iter().len()));
    let writer = windows.iter().fold(writer, |writer, (least, greatest)| {
        writer.put(least.micros().to_le_bytes()).put(greatest.micros().to_le_bytes())
    });
    put_places(writer, ends)
}

fn take_block(reader: &mut Reader<'_>) -> Result<Block, CodecError> {
    let number = u64::from_le_bytes(reader.take()?);
    let [level, flags] = reader.take()?;
    let until = take_time(reader)?;
    let windows = match take_length(reader)? {
        0 => None,
        _ => Some((take_time(reader)?, take_time(reader)?)),
    };
    Ok(Block {
        number,
        level: Level::of(level)?,
        until,
        ends: take_places(reader)?,
        has_edges: flags & 1 != 0,
        ends_at_edge: flags & 2 != 0,
        windows,
    })
}

fn put_plan(writer: Writer, plan: &Plan) -> Writer {
    let Plan { number, level, until, ends, edges, ends_at_edge, merges } = plan;
    let writer = writer
        .put(number.to_le_bytes())
        .put([level.byte(), u8::from(*ends_at_edge)])
        .put(until.micros().to_le_bytes())
        .put(length(merges.len()));
    let writer = merges.iter().fold(writer, |writer, number| writer.put(number.to_le_bytes()));
    let writer = put_places(writer, ends).put(length(edges.len()));
    edges.iter().fold(writer, |writer, edge| put_places(writer, edge))
}

fn take_plan(reader: &mut Reader<'_>) -> Result<Plan, CodecError> {
    let number = u64::from_le_bytes(reader.take()?);
    let [level, flags] = reader.take()?;
    let until = take_time(reader)?;
    let count = take_length(reader)?;
    let merges = (0..count).map(|_| Ok(u64::from_le_bytes(reader.take()?)));
    let merges = merges.collect::<Result<_, CodecError>>()?;
    let ends = take_places(reader)?;
    let count = take_length(reader)?;
    let edges = (0..count).map(|_| take_places(reader)).collect::<Result<_, _>>()?;
    let (level, ends_at_edge) = (Level::of(level)?, flags & 1 != 0);
    Ok(Plan { number, level, until, ends, edges, ends_at_edge, merges })
}

fn take_time(reader: &mut Reader<'_>) -> Result<Timestamp, CodecError> {
    Timestamp::from_micros(i64::from_le_bytes(reader.take()?)).ok_or(CodecError::Value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Partition;

    const LOG: LogId = LogId([3; 16]);
    const FIRST: (LogId, Epoch) = (LOG, Epoch(0));

    fn places(of: [u64; 2]) -> Vec<Offset> {
        of.map(Offset).to_vec()
    }

    fn plan(ends: [u64; 2], merges: &[u64]) -> Plan {
        Plan {
            number: 0,
            level: Level::First,
            until: Timestamp::EPOCH,
            ends: places(ends),
            edges: vec![places([1, 1])],
            ends_at_edge: false,
            merges: merges.to_vec(),
        }
    }

    fn segment(partition: u16, start: u64) -> SegmentId {
        let (partition, start) = (Partition(partition), Offset(start));
        SegmentId { log_id: LOG, partition, epoch: Epoch(0), start }
    }

    /// Two blocks, and what they are merged into.
    fn grown() -> BlockMap {
        let mut map = BlockMap::default();
        for (number, ends) in [(0, [10, 5]), (1, [20, 5])] {
            map.plan(FIRST, places([0, 0]), plan(ends, &[]));
            map.swap(FIRST, number, (true, Some((Timestamp::MIN, Timestamp::EPOCH)))).unwrap();
        }
        map.mark(LOG, places([20, 5]));
        map.plan(FIRST, places([0, 0]), plan([20, 5], &[0, 1]));
        map
    }

    #[test]
    fn a_map_survives_encoding() {
        let map = grown();
        let bytes = map.encode();
        assert_eq!(BlockMap::decode(map.version, &bytes), Ok(map));
        for end in 0..bytes.len() {
            assert!(BlockMap::decode(0, &bytes[..end]).is_err());
        }
    }

    #[test]
    fn every_segment_is_counted_in_one_place_before_and_after_a_swap() {
        let mut map = BlockMap::default();
        assert!(!map.covers(&segment(0, 0)));
        map.plan(FIRST, places([0, 0]), plan([10, 0], &[]));
        assert!(!map.covers(&segment(0, 0)), "it is not made yet");
        assert!(map.has(0));
        map.swap(FIRST, 0, (false, None)).unwrap();
        for (partition, start, covered) in
            [(0, 0, true), (0, 9, true), (0, 10, false), (1, 0, false)]
        {
            assert_eq!(map.covers(&segment(partition, start)), covered, "{partition} {start}");
        }
        assert_eq!(map.swap(FIRST, 0, (false, None)), Err(CodecError::Value), "it is swapped once");
    }

    #[test]
    fn a_merge_takes_the_place_of_its_blocks_and_keeps_their_end() {
        let mut map = grown();
        map.swap(FIRST, 2, (true, None)).unwrap();
        let blocks = map.epoch(LOG, Epoch(0)).unwrap();
        let numbers: Vec<_> = blocks.blocks.iter().map(|block| block.number).collect();
        assert_eq!((numbers, blocks.ends()), (vec![2], &places([20, 5])[..]));
        assert!(blocks.blocks[0].ends_at_edge);
        assert!(map.has(2) && !map.has(0));
        map.plan(FIRST, places([0, 0]), plan([30, 5], &[0, 2]));
        assert_eq!(map.swap(FIRST, 3, (true, None)), Err(CodecError::Value));
    }

    #[test]
    fn an_edge_is_behind_all_blocks_and_all_edges_before_it() {
        let mut map = BlockMap::default();
        let edge = |map: &BlockMap, at| map.edge_from(LOG, Epoch(0), &places(at));
        assert_eq!(edge(&map, [3, 4]), places([3, 4]));
        map.mark(LOG, places([3, 4]));
        assert_eq!(edge(&map, [5, 2]), places([5, 4]), "edges never cross");
        map.plan(FIRST, places([0, 0]), plan([10, 3], &[]));
        assert_eq!(edge(&map, [5, 9]), places([10, 9]), "nor does one cut what is planned");
        assert_eq!(map.marks(LOG), (1, &places([3, 4])[..]));
        map.mark(LOG, places([10, 3]));
        map.swap(FIRST, 0, (true, None)).unwrap();
        assert!(map.epoch(LOG, Epoch(0)).unwrap().blocks[0].ends_at_edge);
    }
}
