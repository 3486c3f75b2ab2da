//! Usage rows: what one segment adds to one resource in one window.

use crate::{
    Aggregate, Dimensions, Offset, Quantity, Sku, Tenant, Timestamp, Unit,
    codec::{CodecError, Reader, Writer},
    segment::SegmentId,
};

/// What usage is kept apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Who used it.
    pub tenant: Tenant,
    /// What was used.
    pub product_sku: Sku,
    /// What the amounts count.
    pub use_unity: Unit,
    /// Declared properties.
    pub dimensions: Dimensions,
}

/// Primary key of a usage row. A window's usage is the sum of its rows over partitions and segments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Tenant, SKU, unit and dimensions.
    pub resource: ResourceKey,
    /// Start of the window.
    pub window_start: Timestamp,
    /// The segment of the log the amounts came from.
    pub segment: SegmentId,
}

impl RowKey {
    /// Days since 1970 of the window's start, the store's `window_day`.
    #[must_use]
    pub fn window_day(&self) -> i32 {
        let days = self.window_start.interval(std::time::Duration::from_secs(86_400));
        i32::try_from(days).expect("year 9999 is 2,932,896 days")
    }
}

/// A row: its key and its one value cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Where it stands.
    pub key: RowKey,
    /// What it holds.
    pub cell: Cell,
}

impl UsageRow {
    /// Keyed hash of key and cell; XOR of these over a segment is the manifest's digest.
    #[must_use]
    pub fn digest(&self, seed: u64) -> u128 {
        let RowKey { resource, window_start, segment } = &self.key;
        crate::hash::parts(
            seed,
            [
                resource.tenant.as_str().as_bytes(),
                resource.product_sku.as_str().as_bytes(),
                resource.use_unity.as_str().as_bytes(),
                resource.dimensions.as_str().as_bytes(),
                &window_start.micros().to_le_bytes(),
                &segment.log_id.0,
                &segment.partition.0.to_le_bytes(),
                &segment.epoch.0.to_le_bytes(),
                &segment.start.0.to_le_bytes(),
                &self.cell.encode(),
            ],
        )
    }
}

/// The one value of a row, written whole so that two writers never mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The last record that changed the row. Whoever folded further wins.
    pub offset_last: Offset,
    /// Count, sum, minimum, maximum and last.
    pub aggregate: Aggregate,
}

impl Cell {
    const VERSION: u8 = 1;
    /// Bytes of an encoded cell.
    pub const BYTES: usize = 1 + 8 + 8 + 4 * 16 + 2 * 8 + 4;

    /// Encodes as version | offset_last | count | sum | min | max | last | time_first | time_last |
    /// crc32c, little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let aggregate = &self.aggregate;
        Writer::new(Self::VERSION, Self::BYTES)
            .put(self.offset_last.0.to_le_bytes())
            .put(aggregate.count.to_le_bytes())
            .put(aggregate.sum.raw().to_le_bytes())
            .put(aggregate.min.raw().to_le_bytes())
            .put(aggregate.max.raw().to_le_bytes())
            .put(aggregate.last.raw().to_le_bytes())
            .put(aggregate.time_first.micros().to_le_bytes())
            .put(aggregate.time_last.micros().to_le_bytes())
            .seal()
    }

    /// Decodes what [`Cell::encode`] wrote.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::open(bytes, Self::VERSION)?;
        let offset_last = Offset(u64::from_le_bytes(reader.take()?));
        let count = u64::from_le_bytes(reader.take()?);
        let mut quantity = || reader.take().map(|b| Quantity::from_raw(i128::from_le_bytes(b)));
        let (sum, min, max, last) = (quantity()?, quantity()?, quantity()?, quantity()?);
        let mut time = || {
            let micros = i64::from_le_bytes(reader.take()?);
            Timestamp::from_micros(micros).ok_or(CodecError::Value)
        };
        let (time_first, time_last) = (time()?, time()?);
        reader.end()?;
        let aggregate = Aggregate { count, sum, min, max, last, time_first, time_last };
        Ok(Self { offset_last, aggregate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_survives_encoding_and_shows_damage() {
        let aggregate = Aggregate::of(Quantity::MIN, Timestamp::MAX);
        let cell = Cell { offset_last: Offset(u64::MAX), aggregate };
        let bytes = cell.encode();
        assert_eq!(bytes.len(), Cell::BYTES);
        assert_eq!(Cell::decode(&bytes), Ok(cell));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Cell::decode(&damaged), Err(CodecError::Checksum), "byte {at}");
        }
        assert_eq!(Cell::decode(&bytes[..3]), Err(CodecError::Length));
    }
}
