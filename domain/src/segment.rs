//! Segments: stretches of a partition whose totals are final once their manifest stands, and the
//! laws that a manifest proves.

use thiserror::Error;

use crate::{
    Epoch, LogId, Offset, Partition, Timestamp,
    codec::{CodecError, Reader, Writer},
    generation::Generation,
};

/// Identity of a segment: where it starts. Its end follows from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The log generation.
    pub log_id: LogId,
    /// The partition that it is a stretch of.
    pub partition: Partition,
    /// The epoch of verdicts.
    pub epoch: Epoch,
    /// Offset from which the segment holds records (I3: the end of the one before, or 0).
    pub start: Offset,
}

/// Where a segment ends: a function of the log alone, so that every fold cuts at the same records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRule {
    records_max: u64,
    span: std::time::Duration,
}

impl SegmentRule {
    /// The rule of a generation.
    #[must_use]
    pub const fn of(generation: &Generation) -> Self {
        Self { records_max: generation.segment_records_max, span: generation.segment_span }
    }

    /// Tells whether a record starts the next segment rather than joining the open one, which
    /// starts at `start` and whose first record has the effective time `first`.
    ///
    /// BOUNDARY and SEAL records end their own segment besides; that is the fold's to see.
    #[inline]
    #[must_use]
    pub fn starts_next(
        &self,
        start: Offset,
        first: Timestamp,
        offset: Offset,
        time: Timestamp,
    ) -> bool {
        offset.0 - start.0 >= self.records_max
            || time.interval(self.span) > first.interval(self.span)
    }
}

/// What became of everything that was read. I1: `read` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conservation {
    /// Pulses, plus one for each control record and each undecodable record.
    pub read: u64,
    /// Control records.
    pub control: u64,
    /// Pulses counted in a total.
    pub accepted: u64,
    /// Pulses that had been read before.
    pub duplicate: u64,
    /// Pulses older than the lateness bound: dead letters, but not in `dead_lettered`.
    pub late: u64,
    /// All other dead letters.
    pub dead_lettered: u64,
    /// Pulses of an erased tenant.
    pub erased: u64,
}

impl Conservation {
    /// Of nothing.
    pub const NONE: Self = Self {
        read: 0,
        control: 0,
        accepted: 0,
        duplicate: 0,
        late: 0,
        dead_lettered: 0,
        erased: 0,
    };

    /// Tells whether the law holds. Counts may come out of a store and be anything, so they are added
    /// where they cannot wrap.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.read as u128
            == self.control as u128
                + self.accepted as u128
                + self.duplicate as u128
                + self.late as u128
                + self.dead_lettered as u128
                + self.erased as u128
    }

    /// Adds another's counts. Counts of pulses cannot reach 2^64.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            read: self.read + other.read,
            control: self.control + other.control,
            accepted: self.accepted + other.accepted,
            duplicate: self.duplicate + other.duplicate,
            late: self.late + other.late,
            dead_lettered: self.dead_lettered + other.dead_lettered,
            erased: self.erased + other.erased,
        }
    }

    fn fields(&self) -> [u64; 7] {
        let Self { read, control, accepted, duplicate, late, dead_lettered, erased } = *self;
        [read, control, accepted, duplicate, late, dead_lettered, erased]
    }

    const fn from_fields(fields: [u64; 7]) -> Self {
        let [read, control, accepted, duplicate, late, dead_lettered, erased] = fields;
        Self { read, control, accepted, duplicate, late, dead_lettered, erased }
    }
}

/// A record that proves the log is still the one that was read: its offset and its bytes' hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The record's offset.
    pub offset: Offset,
    /// 128-bit keyed hash of its body.
    pub digest: u128,
}

/// Proof of a closed segment. A pure function of the log: anyone who folds the segment again gets
/// the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The segment that it proves.
    pub segment: SegmentId,
    /// First offset after it; the next segment starts here.
    pub end: Offset,
    /// Effective log time at its end.
    pub eff_ts: Timestamp,
    /// What became of its records.
    pub counts: Conservation,
    /// The same from the start of the partition to this segment's end.
    pub counts_to_end: Conservation,
    /// Usage rows of the segment.
    pub rows: u64,
    /// XOR of the keyed hashes of its rows and of its touched windows.
    pub rows_digest: u128,
    /// Groups of dead letters of the segment.
    pub dead_letters: u64,
    /// XOR of the keyed hashes of its groups of dead letters.
    pub dead_letters_digest: u128,
    /// Its last record.
    pub anchor: Anchor,
    /// Hash of the fold state at its end (all but the ids).
    pub state_digest: u128,
    /// Hash of its run of ids.
    pub run_digest: u128,
}

impl Manifest {
    const VERSION: u8 = 2;

    /// Encodes all but the segment's identity, which is the key it is stored under.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Self::VERSION, 256)
            .put(self.end.0.to_le_bytes())
            .put(self.eff_ts.micros().to_le_bytes());
        for field in self.counts.fields().into_iter().chain(self.counts_to_end.fields()) {
            writer = writer.put(field.to_le_bytes());
        }
        writer
            .put(self.rows.to_le_bytes())
            .put(self.rows_digest.to_le_bytes())
            .put(self.dead_letters.to_le_bytes())
            .put(self.dead_letters_digest.to_le_bytes())
            .put(self.anchor.offset.0.to_le_bytes())
            .put(self.anchor.digest.to_le_bytes())
            .put(self.state_digest.to_le_bytes())
            .put(self.run_digest.to_le_bytes())
            .seal()
    }

    /// Decodes what [`Manifest::encode`] wrote for this segment.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(segment: SegmentId, bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::open(bytes, Self::VERSION)?;
        let end = Offset(u64::from_le_bytes(reader.take()?));
        let eff_ts = take_time(&mut reader)?;
        let counts = take_counts(&mut reader)?;
        let counts_to_end = take_counts(&mut reader)?;
        let rows = u64::from_le_bytes(reader.take()?);
        let rows_digest = u128::from_le_bytes(reader.take()?);
        let dead_letters = u64::from_le_bytes(reader.take()?);
        let dead_letters_digest = u128::from_le_bytes(reader.take()?);
        let anchor = take_anchor(&mut reader)?;
        let state_digest = u128::from_le_bytes(reader.take()?);
        let run_digest = u128::from_le_bytes(reader.take()?);
        reader.end()?;
        Ok(Self {
            segment,
            end,
            eff_ts,
            counts,
            counts_to_end,
            rows,
            rows_digest,
            dead_letters,
            dead_letters_digest,
            anchor,
            state_digest,
            run_digest,
        })
    }

    /// Checks what a manifest must satisfy by itself (I1, and that it is not empty).
    ///
    /// # Errors
    /// The law that does not hold.
    pub fn check(&self) -> Result<(), ManifestError> {
        if !self.counts.holds() || !self.counts_to_end.holds() {
            return Err(ManifestError::Conservation(Box::new(self.counts)));
        }
        if self.end <= self.segment.start || self.anchor.offset >= self.end {
            return Err(ManifestError::Bounds { start: self.segment.start, end: self.end });
        }
        Ok(())
    }
}

/// How far a partition has been folded and stored. Informs and speeds up; nothing is decided by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The partition's log generation.
    pub log_id: LogId,
    /// The partition that was folded.
    pub partition: Partition,
    /// The epoch that it was folded for.
    pub epoch: Epoch,
    /// All records below are in the store's rows.
    pub folded_to: Offset,
    /// Effective log time of the last of them; `Timestamp::MIN` where there is none.
    pub eff_ts: Timestamp,
    /// What became of everything from the start of the partition.
    pub counts: Conservation,
    /// The last folded record of the open segment; `None` while it has none.
    pub anchor: Option<Anchor>,
    /// When the end of the log was last noted to be `folded_to`, by the consumer's clock, with each
    /// flush and now and then while nothing comes; a cell of its own, not ordered with the others.
    pub caught_up_at: Option<Timestamp>,
}

impl Progress {
    const VERSION: u8 = 1;

    /// Encodes all but the key and `caught_up_at`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Self::VERSION, 128)
            .put(self.folded_to.0.to_le_bytes())
            .put(self.eff_ts.micros().to_le_bytes());
        for field in self.counts.fields() {
            writer = writer.put(field.to_le_bytes());
        }
        if let Some(anchor) = self.anchor {
            writer = writer.put(anchor.offset.0.to_le_bytes()).put(anchor.digest.to_le_bytes());
        }
        writer.seal()
    }

    /// Decodes what [`Progress::encode`] wrote for this key.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(
        (log_id, partition, epoch): (LogId, Partition, Epoch),
        bytes: &[u8],
        caught_up_at: Option<Timestamp>,
    ) -> Result<Self, CodecError> {
        let mut reader = Reader::open(bytes, Self::VERSION)?;
        let folded_to = Offset(u64::from_le_bytes(reader.take()?));
        let eff_ts = take_time(&mut reader)?;
        let counts = take_counts(&mut reader)?;
        let anchor = if reader.is_empty() { None } else { Some(take_anchor(&mut reader)?) };
        reader.end()?;
        Ok(Self { log_id, partition, epoch, folded_to, eff_ts, counts, anchor, caught_up_at })
    }
}

fn take_time(reader: &mut Reader<'_>) -> Result<Timestamp, CodecError> {
    Timestamp::from_micros(i64::from_le_bytes(reader.take()?)).ok_or(CodecError::Value)
}

fn take_counts(reader: &mut Reader<'_>) -> Result<Conservation, CodecError> {
    let mut fields = [0u64; 7];
    for field in &mut fields {
        *field = u64::from_le_bytes(reader.take()?);
    }
    Ok(Conservation::from_fields(fields))
}

fn take_anchor(reader: &mut Reader<'_>) -> Result<Anchor, CodecError> {
    let offset = Offset(u64::from_le_bytes(reader.take()?));
    Ok(Anchor { offset, digest: u128::from_le_bytes(reader.take()?) })
}

/// A law that a manifest breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// I1.
    #[error("I1: what was read is not the sum of what became of it: {0:?}")]
    Conservation(Box<Conservation>),
    /// I3.
    #[error("I3: a segment from {start} to {end} does not hold its own records")]
    Bounds {
        /// Start of the segment.
        start: Offset,
        /// Its end.
        end: Offset,
    },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_parts(seconds, 0).unwrap()
    }

    #[test]
    fn counts_that_only_add_up_where_they_wrap_break_the_law() {
        let wrapped = Conservation { control: 1, accepted: u64::MAX, ..Conservation::NONE };
        assert!(!wrapped.holds());
        let greatest =
            Conservation { read: u64::MAX, accepted: u64::MAX - 1, late: 1, ..Conservation::NONE };
        assert!(greatest.holds());
    }

    #[test]
    fn a_segment_ends_by_offsets_or_by_log_time() {
        let mut generation = Generation::new(LogId([1; 16]), 1, 0);
        generation.segment_records_max = 10;
        generation.segment_span = Duration::from_secs(600);
        let rule = SegmentRule::of(&generation);
        for (offset, second, next) in
            [(100, 599, false), (109, 599, false), (110, 599, true), (101, 600, true)]
        {
            assert_eq!(rule.starts_next(Offset(100), at(0), Offset(offset), at(second)), next);
        }
    }

    #[test]
    fn a_manifest_survives_encoding_and_breaks_on_a_broken_law() {
        let segment = SegmentId {
            log_id: LogId([7; 16]),
            partition: Partition(3),
            epoch: Epoch(0),
            start: Offset(5),
        };
        let counts = Conservation {
            read: 6,
            control: 1,
            accepted: 2,
            duplicate: 1,
            late: 1,
            dead_lettered: 1,
            erased: 0,
        };
        let mut manifest = Manifest {
            segment,
            end: Offset(9),
            eff_ts: at(9),
            counts,
            counts_to_end: counts.plus(&counts),
            rows: 2,
            rows_digest: 1 << 100,
            dead_letters: 2,
            dead_letters_digest: 1 << 101,
            anchor: Anchor { offset: Offset(8), digest: 3 },
            state_digest: 4,
            run_digest: 5,
        };
        assert_eq!(Manifest::decode(segment, &manifest.encode()), Ok(manifest));
        assert_eq!(manifest.check(), Ok(()));
        manifest.counts.late = 0;
        assert!(matches!(manifest.check(), Err(ManifestError::Conservation(_))));
        manifest.counts = counts;
        manifest.end = segment.start;
        assert!(matches!(manifest.check(), Err(ManifestError::Bounds { .. })));
    }
}
