//! Limits: bounds on what a partition's fold keeps, as the log itself sets them.
//!
//! They decide verdicts and where segments end, so every fold of a log has to use the same ones: a
//! control record sets them from its place on, and before the first such record the ones of
//! [`FoldLimits::FIRST`] hold. Configuration only says what the next control record is to set.

/// What one partition may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldLimits {
    /// About how many bytes the rows, dead letters and ids of one segment may take, at least
    /// [`FoldLimits::SEGMENT_BYTES_MIN`]. The record behind the one that reached it starts the next
    /// segment. Greater ones hold more memory, smaller ones store more manifests and more rows.
    pub segment_bytes: u64,
    /// Bytes that producers and backfills may take in the fold's state. Beyond it, producers that were
    /// idle longest keep no list of their batches, and new producers and backfills are dead letters.
    pub state_bytes: u64,
    /// Distinct resources of one tenant in one segment, at least 1. Pulses of further ones are dead
    /// letters.
    pub keys_per_tenant: u32,
    /// Distinct values of one declared dimension, within a tenant's SKU, in one segment, at least 1.
    /// Pulses with further ones are dead letters.
    pub values_per_dimension: u32,
    /// How many closes in a row store of the fold state only what changed; 0: none. Greater ones write
    /// less and take longer to start.
    pub state_deltas: u32,
    /// Ranges of rows, with gaps between them, that one backfill may have; 0: as many as have room in
    /// `state_bytes`. Rows that would make a further one are dead letters.
    pub ranges_per_backfill: u32,
}

impl FoldLimits {
    /// Those of a log that has set none. Never changed: it would change what existing logs mean.
    pub const FIRST: Self = Self {
        segment_bytes: 256 << 20,
        state_bytes: 256 << 20,
        keys_per_tenant: 250_000,
        values_per_dimension: 100_000,
        state_deltas: 0,
        ranges_per_backfill: 0,
    };

    /// Least bytes of a segment.
    pub const SEGMENT_BYTES_MIN: u64 = 1 << 10;

    /// The same with every number at its least or above.
    #[must_use]
    pub fn at_least_one(self) -> Self {
        Self {
            segment_bytes: self.segment_bytes.max(Self::SEGMENT_BYTES_MIN),
            keys_per_tenant: self.keys_per_tenant.max(1),
            values_per_dimension: self.values_per_dimension.max(1),
            ..self
        }
    }
}

impl Default for FoldLimits {
    fn default() -> Self {
        Self::FIRST
    }
}
