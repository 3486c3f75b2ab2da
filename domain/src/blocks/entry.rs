//! Entries: all cells of one resource in 32 days, under a key that sorts as answers do.

use crate::{
    Dimensions, ResourceKey, Sku, Tenant, Timestamp, Unit, UsageRow, WindowLength,
    codec::CodecError,
};

use super::{BlockCell, Sources, manifest::BlockStretch};

/// What an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Series {
    /// Each resource by the log's windows.
    Resources,
    /// Each tenant's SKU and unit by the log's windows, whatever the dimensions.
    Skus,
    /// The same by days in UTC.
    SkuDays,
}

impl Series {
    /// All, in the order of their entries.
    pub const ALL: [Self; 3] = [Self::Resources, Self::Skus, Self::SkuDays];

    const fn byte(self) -> u8 {
        match self {
            Self::Resources => 1,
            Self::Skus => 2,
            Self::SkuDays => 3,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|series| series.byte() == byte)
    }

    /// Microseconds of its windows, in a log with these.
    #[must_use]
    pub const fn unit(self, window: WindowLength) -> i64 {
        match self {
            Self::Resources | Self::Skus => window.micros(),
            Self::SkuDays => DAY,
        }
    }
}

const DAY: i64 = WindowLength::DAY.micros();
/// Microseconds that the cells of one entry are within, from a multiple of them since 1970. So an entry
/// has 3,072 windows at the most, and a year of a resource is read from a dozen places.
pub const BUCKET: i64 = 32 * DAY;

/// The key of an entry: series, tenant, SKU, unit, dimensions, then the 32 days. No text in it holds a
/// zero byte, so with one behind each the order of the bytes is that of the texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey(Vec<u8>);

impl EntryKey {
    /// The key for a resource's window.
    #[must_use]
    pub fn new(series: Series, resource: &ResourceKey, window_start: Timestamp) -> Self {
        let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
        let texts =
            [tenant.as_str(), product_sku.as_str(), use_unity.as_str(), dimensions.as_str()];
        let mut bytes = prefix(series, &texts);
        bytes.extend_from_slice(&bucket_bytes(window_start));
        Self(bytes)
    }

    /// What was stored.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// All but the 32 days.
    #[must_use]
    pub fn resource_bytes(&self) -> &[u8] {
        &self.0[..self.0.len().saturating_sub(4)]
    }

    /// Its series.
    #[must_use]
    pub fn series(&self) -> Option<Series> {
        Series::of(*self.0.first()?)
    }

    /// Where its 32 days begin, in microseconds since 1970.
    #[must_use]
    pub fn bucket_start(&self) -> i64 {
        let bytes = self.0.last_chunk::<4>().copied().unwrap_or_default();
        i64::from((u32::from_be_bytes(bytes) ^ SIGN).cast_signed()) * BUCKET
    }

    /// The resource, its names checked. `last` is one that was read before, whose names are used again
    /// where they are the same.
    ///
    /// # Errors
    /// `Value` where it is no key.
    pub fn resource(&self, last: Option<&ResourceKey>) -> Result<ResourceKey, CodecError> {
        let texts = self.0.get(1..self.0.len().saturating_sub(4)).ok_or(CodecError::Length)?;
        let mut texts = std::str::from_utf8(texts).map_err(|_| CodecError::Value)?.split('\0');
        let mut next = || texts.next().ok_or(CodecError::Value);
        let [tenant, sku, unit, dimensions] = [next()?, next()?, next()?, next()?];
        let bad = |_| CodecError::Value;
        let known = |text: &str, of: Option<&str>| of == Some(text);
        Ok(ResourceKey {
            tenant: match last.map(|last| &last.tenant) {
                Some(last) if known(tenant, Some(last.as_str())) => last.clone(),
                _ => Tenant::new(tenant).map_err(bad)?,
            },
            product_sku: match last.map(|last| &last.product_sku) {
                Some(last) if known(sku, Some(last.as_str())) => last.clone(),
                _ => Sku::new(sku).map_err(bad)?,
            },
            use_unity: match last.map(|last| &last.use_unity) {
                Some(last) if known(unit, Some(last.as_str())) => last.clone(),
                _ => Unit::new(unit).map_err(bad)?,
            },
            dimensions: match last.map(|last| &last.dimensions) {
                Some(last) if known(dimensions, Some(last.as_str())) => last.clone(),
                _ => Dimensions::from_canonical(dimensions).ok_or(CodecError::Value)?,
            },
        })
    }
}

const SIGN: u32 = 1 << 31;

/// The 32 days of a moment, so that later ones sort behind.
fn bucket_bytes(moment: Timestamp) -> [u8; 4] {
    let bucket = moment.micros().div_euclid(BUCKET);
    let bucket = i32::try_from(bucket).expect("year 9999 is 91,653 times 32 days");
    (bucket.cast_unsigned() ^ SIGN).to_be_bytes()
}

/// The bytes that all keys of a series begin with that have these texts first.
#[must_use]
pub fn prefix(series: Series, texts: &[&str]) -> Vec<u8> {
    let mut bytes = vec![series.byte()];
    for text in texts {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// The first bytes behind all that begin with these, which are not all 255.
#[must_use]
pub fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    while bytes.pop_if(|last| *last == u8::MAX).is_some() {}
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    bytes
}

/// What a row of a segment adds to a block of a stretch that it is in: a cell of its resource, and one of
/// each roll-up. The segment has this number among those of its partition.
#[must_use]
pub fn cells_of(stretch: &BlockStretch, row: &UsageRow, number: u32) -> [(EntryKey, BlockCell); 3] {
    let (resource, window_start) = (&row.key.resource, row.key.window_start);
    let (partition, start) = (row.key.segment.partition, row.key.segment.start);
    let cell = BlockCell {
        window_start,
        part: stretch.part_of(partition, start),
        total: (&row.cell.aggregate).into(),
        sources: Sources::of(partition, number),
    };
    let of_sku = ResourceKey { dimensions: Dimensions::none(), ..resource.clone() };
    let day = WindowLength::DAY.start_of(window_start);
    let rolled = BlockCell { sources: Sources::default(), ..cell.clone() };
    let of_day = BlockCell { window_start: day, ..rolled.clone() };
    [
        (EntryKey::new(Series::Resources, resource, window_start), cell),
        (EntryKey::new(Series::Skus, &of_sku, window_start), rolled),
        (EntryKey::new(Series::SkuDays, &of_sku, day), of_day),
    ]
}

/// Cells under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The resource and the 32 days.
    pub key: EntryKey,
    /// Ascending by window and part; at least one.
    pub cells: Vec<BlockCell>,
}

impl Entry {
    /// Takes the cells of another under the same key. Order never matters.
    pub fn merge(&mut self, other: Self) {
        let behind =
            self.cells.last().map(BlockCell::place) < other.cells.first().map(BlockCell::place);
        self.cells.extend(other.cells);
        if behind {
            return;
        }
        self.cells.sort_by_key(BlockCell::place);
        self.cells.dedup_by(|next, kept| {
            let same = kept.place() == next.place();
            if same {
                kept.merge(next);
            }
            same
        });
    }
}
