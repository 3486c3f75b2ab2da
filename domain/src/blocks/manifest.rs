//! Manifests of blocks: what a block is made of, and what it must hold.

use crate::{
    Epoch, LogId, Offset, Partition, SegmentId, Timestamp,
    codec::{CodecError, Reader, Writer},
};

/// What a block is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockStretch {
    /// The log generation that it is of.
    pub log_id: LogId,
    /// The epoch of the verdicts.
    pub epoch: Epoch,
    /// By partition, where it begins.
    pub from: Vec<Offset>,
    /// By partition, the first offset behind it.
    pub ends: Vec<Offset>,
    /// The edges inside it, ascending; part `n` is between edge `n - 1` and edge `n`.
    pub edges: Vec<Vec<Offset>>,
}

/// Proof of a block. A pure function of the log and the stretch: whoever makes the block again, in
/// whatever steps, gets the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockManifest {
    /// What it is of.
    pub stretch: BlockStretch,
    /// By partition, how many segments it holds.
    pub segments: Vec<u32>,
    /// XOR of the keyed hashes of those segments' manifests.
    pub segments_digest: u128,
    /// Cells of all its entries.
    pub cells: u64,
    /// XOR of the keyed hashes of its cells.
    pub cells_digest: u128,
    /// Bytes of its pages.
    pub bytes: u64,
    /// Starts of the least and the greatest window that it has usage in; `None` without usage.
    pub windows: Option<(Timestamp, Timestamp)>,
}

impl BlockManifest {
    const VERSION: u8 = 1;

    /// Encodes it whole.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = |of: usize| u32::try_from(of).expect("a list that fits").to_le_bytes();
        let BlockStretch { log_id, epoch, from, ends, edges } = &self.stretch;
        let writer = Writer::new(Self::VERSION, 256)
            .put(log_id.0)
            .put(epoch.0.to_le_bytes())
            .put(length(from.len()))
            .put(length(edges.len()));
        let places = from.iter().chain(ends).chain(edges.iter().flatten());
        let writer = places.fold(writer, |writer, place| writer.put(place.0.to_le_bytes()));
        let counts = self.segments.iter();
        let writer = counts
            .fold(writer, |writer, count| writer.put(count.to_le_bytes()))
            .put(self.segments_digest.to_le_bytes())
            .put(self.cells.to_le_bytes())
            .put(self.cells_digest.to_le_bytes())
            .put(self.bytes.to_le_bytes());
        match self.windows {
            Some((least, greatest)) => {
                writer.put(least.micros().to_le_bytes()).put(greatest.micros().to_le_bytes())
            }
            None => writer,
        }
        .seal()
    }

    /// Decodes what [`BlockManifest::encode`] wrote.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::open(bytes, Self::VERSION)?;
        let log_id = LogId(reader.take()?);
        let epoch = Epoch(u16::from_le_bytes(reader.take()?));
        let partitions = u32::from_le_bytes(reader.take()?);
        let edges = u32::from_le_bytes(reader.take()?);
        let mut places = || -> Result<Vec<Offset>, CodecError> {
            let place = |_| Ok(Offset(u64::from_le_bytes(reader.take()?)));
            (0..partitions).map(place).collect()
        };
        let (from, ends) = (places()?, places()?);
        let edges = (0..edges).map(|_| places()).collect::<Result<_, _>>()?;
        let count = |_| Ok(u32::from_le_bytes(reader.take()?));
        let segments = (0..partitions).map(count).collect::<Result<_, CodecError>>()?;
        let segments_digest = u128::from_le_bytes(reader.take()?);
        let cells = u64::from_le_bytes(reader.take()?);
        let cells_digest = u128::from_le_bytes(reader.take()?);
        let bytes = u64::from_le_bytes(reader.take()?);
        let mut time = || {
            let micros = i64::from_le_bytes(reader.take()?);
            Timestamp::from_micros(micros).ok_or(CodecError::Value)
        };
        let windows = if cells > 0 { Some((time()?, time()?)) } else { None };
        reader.end()?;
        let stretch = BlockStretch { log_id, epoch, from, ends, edges };
        Ok(Self { stretch, segments, segments_digest, cells, cells_digest, bytes, windows })
    }
}

impl BlockStretch {
    /// How many parts it has, at least 1.
    #[must_use]
    pub const fn parts(&self) -> usize {
        self.edges.len() + 1
    }

    /// Where a part begins, by partition.
    #[must_use]
    pub fn part_from(&self, part: usize) -> &[Offset] {
        part.checked_sub(1).map_or(&self.from, |edge| &self.edges[edge])
    }

    /// Where a part ends, by partition.
    #[must_use]
    pub fn part_ends(&self, part: usize) -> &[Offset] {
        self.edges.get(part).unwrap_or(&self.ends)
    }

    /// The part that a segment belongs to, which is in the block.
    #[must_use]
    pub fn part_of(&self, partition: Partition, start: Offset) -> u32 {
        let at = |edge: &Vec<Offset>| edge[usize::from(partition.0)] <= start;
        u32::try_from(self.edges.partition_point(at)).expect("edges fit a manifest")
    }

    /// The first segment of the first partition of which a part holds anything: its name in rows.
    #[must_use]
    pub fn first_segment(&self, part: usize) -> Option<SegmentId> {
        let mut stretches = self.part_from(part).iter().zip(self.part_ends(part));
        let place = stretches.position(|(from, ends)| from < ends)?;
        let partition = Partition(u16::try_from(place).expect("at most 1,024 partitions"));
        let start = self.part_from(part)[place];
        Some(SegmentId { log_id: self.log_id, partition, epoch: self.epoch, start })
    }

    /// One part alone.
    #[must_use]
    pub fn part(&self, part: usize) -> Self {
        Self {
            log_id: self.log_id,
            epoch: self.epoch,
            from: self.part_from(part).to_vec(),
            ends: self.part_ends(part).to_vec(),
            edges: Vec::new(),
        }
    }

    /// Whether a segment is in it.
    #[must_use]
    pub fn holds(&self, segment: &SegmentId) -> bool {
        let place = usize::from(segment.partition.0);
        (self.log_id, self.epoch) == (segment.log_id, segment.epoch)
            && self.from.get(place).is_some_and(|from| *from <= segment.start)
            && self.ends.get(place).is_some_and(|end| segment.start < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> BlockManifest {
        let at = |places: [u64; 2]| places.map(Offset).to_vec();
        let stretch = BlockStretch {
            log_id: LogId([7; 16]),
            epoch: Epoch(3),
            from: at([0, 10]),
            ends: at([30, 20]),
            edges: vec![at([10, 10]), at([30, 15])],
        };
        BlockManifest {
            stretch,
            segments: vec![3, 2],
            segments_digest: 1 << 100,
            cells: 9,
            cells_digest: 1 << 101,
            bytes: 77,
            windows: Some((Timestamp::MIN, Timestamp::EPOCH)),
        }
    }

    #[test]
    fn a_manifest_survives_encoding() {
        for one in [manifest(), BlockManifest { cells: 0, windows: None, ..manifest() }] {
            let bytes = one.encode();
            assert_eq!(BlockManifest::decode(&bytes), Ok(one));
            for end in 0..bytes.len() {
                assert!(BlockManifest::decode(&bytes[..end]).is_err());
            }
        }
    }

    #[test]
    fn edges_cut_a_block_into_parts() {
        let one = manifest().stretch;
        assert_eq!(one.parts(), 3);
        for (partition, start, part) in
            [(0, 0, 0), (0, 9, 0), (0, 10, 1), (0, 29, 1), (1, 10, 1), (1, 14, 1), (1, 15, 2)]
        {
            assert_eq!(
                one.part_of(Partition(partition), Offset(start)),
                part,
                "{partition} {start}"
            );
        }
        let firsts = [0, 1, 2].map(|part| {
            let first = one.first_segment(part).unwrap();
            assert!(one.holds(&first) && one.part(part).holds(&first));
            (first.partition.0, first.start.0)
        });
        assert_eq!(firsts, [(0, 0), (0, 10), (1, 15)]);
        let last = SegmentId { start: Offset(30), ..one.first_segment(0).unwrap() };
        assert!(!one.holds(&last));
    }
}
