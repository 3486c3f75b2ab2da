//! Open rows: the totals of the open segment, by resource and window.
//!
//! A resource key is hashed once, as one slice, and found by its bytes; each key remembers the row
//! it last touched, since usage comes hour by hour. Nothing is allocated for a key seen before.

use std::{collections::HashMap, sync::Arc};

use domain::{
    Aggregate, Cell, Dimensions, Offset, Quantity, ResourceKey, RowKey, SegmentId, Sku, Tenant,
    Timestamp, Unit, UsageRow, WindowLength, aggregate::Overflow, hash, name::NameError,
};
use hashbrown::HashTable;
use proto::walk::{self, PulseWire};

use super::state::Declarations;

/// Keys kept from segment to segment, so that steady traffic interns nothing anew.
const KEYS_KEPT_MAX: usize = 1 << 20;

/// The rows of the open segment.
#[derive(Debug)]
pub(crate) struct Rows {
    seed: u64,
    window: WindowLength,
    keys: Vec<Key>,
    keys_by_bytes: HashTable<u32>,
    key_bytes: Vec<u8>,
    rows: Vec<Row>,
    rows_by_place: HashTable<u32>,
    dimensions: Vec<Dimensions>,
    dimensions_by_text: HashMap<Dimensions, u32>,
    changed: Vec<u32>,
}

#[derive(Debug)]
struct Key {
    hash: u64,
    start: usize,
    end: usize,
    tenant: Tenant,
    product_sku: Sku,
    use_unity: Unit,
    /// What the SKU declares; usually nothing.
    declared: Option<Arc<[String]>>,
    /// The row touched last, with its place, so that to find that it is another's costs no look at
    /// the row: a segment has more rows than a cache holds.
    row_last: u32,
    window_last: Timestamp,
    dimensions_last: u32,
}

impl Key {
    #[inline]
    const fn touched(&mut self, row: u32, dimensions: u32, window_start: Timestamp) {
        (self.row_last, self.dimensions_last, self.window_last) = (row, dimensions, window_start);
    }
}

#[derive(Debug)]
struct Row {
    window_start: Timestamp,
    key: u32,
    /// Place in `dimensions`.
    dimensions: u32,
    offset_last: Offset,
    aggregate: Aggregate,
    changed: bool,
}

const NO_ROW: u32 = u32::MAX;
/// Place in `Rows::dimensions` of the empty set.
const NO_DIMENSIONS: u32 = 0;

/// Why a pulse was not added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AddError {
    /// A name in the key is not one.
    Name(&'static str, NameError),
    /// The total would leave its range.
    Overflow,
}

impl Rows {
    pub(crate) fn new(seed: u64, window: WindowLength) -> Self {
        Self {
            seed,
            window,
            keys: Vec::new(),
            keys_by_bytes: HashTable::new(),
            key_bytes: Vec::new(),
            rows: Vec::new(),
            rows_by_place: HashTable::new(),
            dimensions: vec![Dimensions::none()],
            dimensions_by_text: HashMap::from([(Dimensions::none(), NO_DIMENSIONS)]),
            changed: Vec::new(),
        }
    }

    /// Adds one pulse of the record at `offset` to its row. `key` is its canonical key.
    #[inline]
    pub(crate) fn add(
        &mut self,
        declarations: &Declarations,
        key: &[u8],
        pulse: &PulseWire<'_>,
        (amount, time, offset): (Quantity, Timestamp, Offset),
    ) -> Result<(), AddError> {
        let key = self.key(declarations, key)?;
        let window_start = self.window.start_of(time);
        let dimensions = match &self.keys[key as usize].declared {
            None => NO_DIMENSIONS,
            Some(declared) => {
                let declared = Arc::clone(declared);
                self.dimensions_of(&declared, pulse)
            }
        };
        let row = self.row(key, dimensions, window_start);
        match row {
            Some(row) => {
                let entry = &mut self.rows[row as usize];
                entry.aggregate.add(amount, time).map_err(|Overflow| AddError::Overflow)?;
                entry.offset_last = offset;
                if !entry.changed {
                    entry.changed = true;
                    self.changed.push(row);
                }
                self.keys[key as usize].touched(row, dimensions, window_start);
            }
            None => self.start_row(key, dimensions, window_start, amount, time, offset),
        }
        Ok(())
    }

    #[inline]
    fn row(&self, key: u32, dimensions: u32, window_start: Timestamp) -> Option<u32> {
        let last = &self.keys[key as usize];
        if last.row_last != NO_ROW
            && last.window_last == window_start
            && last.dimensions_last == dimensions
        {
            return Some(last.row_last);
        }
        let hash = self.place_hash(key, dimensions, window_start);
        self.rows_by_place
            .find(hash, |row| {
                let row = &self.rows[*row as usize];
                row.key == key && row.dimensions == dimensions && row.window_start == window_start
            })
            .copied()
    }

    #[inline]
    fn place_hash(&self, key: u32, dimensions: u32, window_start: Timestamp) -> u64 {
        place_hash(self.keys[key as usize].hash, dimensions, window_start)
    }

    #[cold]
    fn start_row(
        &mut self,
        key: u32,
        dimensions: u32,
        window_start: Timestamp,
        amount: Quantity,
        time: Timestamp,
        offset_last: Offset,
    ) {
        let row = u32::try_from(self.rows.len()).expect("a segment has below 2^32 rows");
        let aggregate = Aggregate::of(amount, time);
        self.rows.push(Row {
            window_start,
            key,
            dimensions,
            offset_last,
            aggregate,
            changed: true,
        });
        self.changed.push(row);
        self.keys[key as usize].touched(row, dimensions, window_start);
        let hash = self.place_hash(key, dimensions, window_start);
        let (rows, keys) = (&self.rows, &self.keys);
        self.rows_by_place.insert_unique(hash, row, |row| {
            let row = &rows[*row as usize];
            place_hash(keys[row.key as usize].hash, row.dimensions, row.window_start)
        });
    }

    /// Finds or interns a key. A key whose names are not names is refused and not kept.
    #[inline]
    fn key(&mut self, declarations: &Declarations, bytes: &[u8]) -> Result<u32, AddError> {
        let hash = hash::bytes64(self.seed, bytes);
        let found = self.keys_by_bytes.find(hash, |key| {
            let key = &self.keys[*key as usize];
            &self.key_bytes[key.start..key.end] == bytes
        });
        match found {
            Some(key) => Ok(*key),
            None => self.intern(declarations, bytes, hash),
        }
    }

    #[cold]
    fn intern(
        &mut self,
        declarations: &Declarations,
        bytes: &[u8],
        hash: u64,
    ) -> Result<u32, AddError> {
        let names = walk::pulse(bytes).expect("a key is the first three fields of a pulse");
        let text = |bytes, field| {
            domain::name::check_name(bytes).map_err(|error| AddError::Name(field, error))
        };
        let name = |error| AddError::Name("", error);
        let tenant = Tenant::new(text(names.tenant, "tenant")?).map_err(name)?;
        let product_sku = Sku::new(text(names.product_sku, "product_sku")?).map_err(name)?;
        let use_unity = Unit::new(text(names.use_unity, "use_unity")?).map_err(name)?;
        let declared = declared(declarations, product_sku.as_str());
        let place = u32::try_from(self.keys.len()).expect("a segment has below 2^32 keys");
        let start = self.key_bytes.len();
        self.key_bytes.extend_from_slice(bytes);
        let end = self.key_bytes.len();
        self.keys.push(Key {
            hash,
            start,
            end,
            tenant,
            product_sku,
            use_unity,
            declared,
            row_last: NO_ROW,
            window_last: Timestamp::MIN,
            dimensions_last: NO_DIMENSIONS,
        });
        let keys = &self.keys;
        self.keys_by_bytes.insert_unique(hash, place, |key| keys[*key as usize].hash);
        Ok(place)
    }

    /// Gives the place of a pulse's declared properties among the known sets.
    fn dimensions_of(&mut self, declared: &[String], pulse: &PulseWire<'_>) -> u32 {
        let pairs = declared.iter().filter_map(|name| {
            let value = pulse.properties.get(name.as_bytes())?;
            // Ingest has refused what is not text; foreign bytes stay visible as they can.
            Some((name, String::from_utf8_lossy(value)))
        });
        let pairs: Vec<_> = pairs.collect();
        let found = Dimensions::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), &**v)));
        if let Some(place) = self.dimensions_by_text.get(&found) {
            return *place;
        }
        let place = u32::try_from(self.dimensions.len()).expect("below 2^32 sets of dimensions");
        self.dimensions.push(found.clone());
        self.dimensions_by_text.insert(found, place);
        place
    }

    /// Takes new declarations into account for the pulses to come.
    pub(crate) fn redeclare(&mut self, declarations: &Declarations) {
        for key in &mut self.keys {
            key.declared = declared(declarations, key.product_sku.as_str());
        }
    }

    /// Gives the rows that changed since they were last taken.
    pub(crate) fn take_changed(&mut self, segment: SegmentId) -> Vec<UsageRow> {
        let changed = std::mem::take(&mut self.changed);
        for row in &changed {
            self.rows[*row as usize].changed = false;
        }
        changed.iter().map(|row| self.usage_row(segment, &self.rows[*row as usize])).collect()
    }

    /// The rows that did not change since they were last taken.
    pub(crate) fn unchanged(&self, segment: SegmentId) -> Vec<UsageRow> {
        let unchanged = self.rows.iter().filter(|row| !row.changed);
        unchanged.map(|row| self.usage_row(segment, row)).collect()
    }

    /// All rows, in no particular order.
    pub(crate) fn all(&self, segment: SegmentId) -> impl Iterator<Item = UsageRow> + '_ {
        self.rows.iter().map(move |row| self.usage_row(segment, row))
    }

    fn usage_row(&self, segment: SegmentId, row: &Row) -> UsageRow {
        let key = &self.keys[row.key as usize];
        let resource = ResourceKey {
            tenant: key.tenant.clone(),
            product_sku: key.product_sku.clone(),
            use_unity: key.use_unity.clone(),
            dimensions: self.dimensions[row.dimensions as usize].clone(),
        };
        UsageRow {
            key: RowKey { resource, window_start: row.window_start, segment },
            cell: Cell { offset_last: row.offset_last, aggregate: row.aggregate },
        }
    }

    /// Starts the next segment: no rows; the keys stay, unless they have become too many.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.rows_by_place.clear();
        self.changed.clear();
        if self.keys.len() > KEYS_KEPT_MAX || self.dimensions.len() > KEYS_KEPT_MAX {
            *self = Self::new(self.seed, self.window);
        }
        for key in &mut self.keys {
            key.row_last = NO_ROW;
        }
    }
}

fn declared(declarations: &Declarations, sku: &str) -> Option<Arc<[String]>> {
    let declaration = declarations.0.get(sku)?;
    (!declaration.dimensions.is_empty()).then(|| declaration.dimensions.clone().into())
}

/// Multiplicative mixing (Knuth) of an already well mixed key hash.
#[inline]
fn place_hash(key: u64, dimensions: u32, window_start: Timestamp) -> u64 {
    let place = (window_start.micros() as u64) ^ (u64::from(dimensions) << 40);
    (key ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd)
}
