//! Sources: the segments behind hours that are in blocks.
//!
//! A row of a block says the first segment of its part of the block. The block itself knows which of its
//! segments added to which resource in which hour, so whoever lists where usage came from looks there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::{
    BlockStore, Dimensions, Offset, Partition, SegmentId, Sku, Tenant, Timestamp, Unit,
    blocks::{BlockMap, BlockStretch, SegmentRun, Series},
    store::{PartitionKey, StoreError, UsageFilter},
    usage_cursor::{BlockCursor, block_cursors, check_kept},
};
use pricing::{
    invoice::{Invoice, Line, Subject},
    rate::{Hour, SegmentPart},
};

use crate::BillingError;

/// Cells of a block that are read at once, about.
const CELLS: usize = 8_192;
/// Manifests that are read at once.
const MANIFESTS: usize = 1_000;

/// The segments behind an hour of a resource: by the hour, the first segment of the block's part, and the
/// dimensions.
type Told = HashMap<(Timestamp, SegmentId, Dimensions), Vec<SegmentId>>;

/// What was used, and the hours of it.
pub(crate) type Hours<'i> = (Sku, Unit, &'i mut Vec<Hour>);

/// Puts the segments of hours in the place of the blocks that they are in.
///
/// # Errors
/// When the store fails.
pub(crate) async fn tell<'i, U: BlockStore>(
    store: &U,
    wanted: impl Fn(&SegmentId) -> bool,
    tenant: &Tenant,
    all: impl Iterator<Item = Hours<'i>>,
) -> Result<(), BillingError> {
    let map = store.block_map().await?;
    let mut by_sku: BTreeMap<(Sku, Unit), Vec<&mut Hour>> = BTreeMap::new();
    for (sku, unit, hours) in all {
        let in_blocks: Vec<&mut Hour> =
            hours.iter_mut().filter(|hour| is_in_blocks(&map, hour)).collect();
        if !in_blocks.is_empty() {
            by_sku.entry((sku, unit)).or_default().extend(in_blocks);
        }
    }
    let mut starts = Starts { store, known: HashMap::new() };
    for ((sku, unit), hours) in by_sku {
        let times: BTreeSet<Timestamp> = hours.iter().map(|hour| hour.window_start).collect();
        let (Some(from), Some(last)) = (times.first(), times.last()) else { continue };
        let filter = UsageFilter {
            tenant: Some(tenant.clone()),
            product_sku: Some(sku),
            use_unity: Some(unit),
            from: *from,
            to: last.plus(std::time::Duration::from_micros(1)),
        };
        let mut told = Told::new();
        for cursor in block_cursors(store, &map, (&filter, Series::Resources), &wanted).await? {
            starts.tell(cursor, &times, &mut told).await?;
        }
        hours.into_iter().for_each(|hour| replace(&map, hour, &told));
    }
    Ok(check_kept(store, &map).await?)
}

/// Every list of hours in an invoice.
pub(crate) fn all_hours(invoice: &mut Invoice) -> impl Iterator<Item = Hours<'_>> {
    let lines = invoice.lines.iter_mut().filter_map(hours_of);
    let unpriced = invoice.unpriced.iter_mut().map(|unpriced| {
        (unpriced.product_sku.clone(), unpriced.use_unity.clone(), &mut unpriced.hours)
    });
    lines.chain(unpriced)
}

/// The hours of a line, if it is of usage.
pub(crate) fn hours_of(line: &mut Line) -> Option<Hours<'_>> {
    match &mut line.subject {
        Subject::Usage(usage) => {
            Some((usage.product_sku.clone(), usage.use_unity.clone(), &mut usage.hours))
        }
        _ => None,
    }
}

fn is_in_blocks(map: &BlockMap, hour: &Hour) -> bool {
    hour.segments.iter().any(|part| map.covers(&part.segment))
}

fn replace(map: &BlockMap, hour: &mut Hour, told: &Told) {
    let mut segments: BTreeMap<SegmentId, SegmentPart> = BTreeMap::new();
    for part in std::mem::take(&mut hour.segments) {
        if !map.covers(&part.segment) {
            segments.insert(part.segment, part);
            continue;
        }
        for dimensions in part.dimensions {
            let key = (hour.window_start, part.segment, dimensions);
            // A row that went into a block since it was read names its own segment.
            let itself = vec![part.segment];
            for segment in told.get(&key).unwrap_or(&itself) {
                let new = || SegmentPart {
                    segment: *segment,
                    dimensions: BTreeSet::new(),
                    offset_last: None,
                };
                let found = segments.entry(*segment).or_insert_with(new);
                found.dimensions.insert(key.2.clone());
            }
        }
    }
    hour.segments = segments.into_values().collect();
}

/// Where the segments of blocks start, as far as they were looked up.
struct Starts<'a, U> {
    store: &'a U,
    known: HashMap<(PartitionKey, Offset), Vec<Offset>>,
}

impl<U: BlockStore> Starts<'_, U> {
    /// Reads the cells of a block in these hours, and tells their segments.
    async fn tell(
        &mut self,
        mut cursor: BlockCursor,
        times: &BTreeSet<Timestamp>,
        told: &mut Told,
    ) -> Result<(), BillingError> {
        while let Some(entries) = cursor.next(self.store, CELLS).await? {
            for entry in entries {
                let Some(resource) = cursor.resource(&entry.key)? else { continue };
                for cell in entry.cells {
                    if !cursor.counts(&cell) || !times.contains(&cell.window_start) {
                        continue;
                    }
                    let stretch = cursor.stretch();
                    let Some(first) = stretch.first_segment(cell.part as usize) else { continue };
                    let mut segments = Vec::new();
                    for run in cell.sources.runs() {
                        self.add(stretch, *run, &mut segments).await?;
                    }
                    told.insert((cell.window_start, first, resource.dimensions.clone()), segments);
                }
            }
        }
        Ok(())
    }

    async fn add(
        &mut self,
        stretch: &BlockStretch,
        run: SegmentRun,
        segments: &mut Vec<SegmentId>,
    ) -> Result<(), StoreError> {
        let Partition(place) = run.partition;
        let (log_id, partition, epoch) = (stretch.log_id, run.partition, stretch.epoch);
        let key = PartitionKey { log_id, partition, epoch };
        let (from, to) = (stretch.from[usize::from(place)], stretch.ends[usize::from(place)]);
        if !self.known.contains_key(&(key, from)) {
            let starts = segment_starts(self.store, key, from, to).await?;
            self.known.insert((key, from), starts);
        }
        let starts = &self.known[&(key, from)];
        let found = starts.iter().skip(run.first as usize).take(run.count as usize);
        segments.extend(found.map(|start| SegmentId { log_id, partition, epoch, start: *start }));
        Ok(())
    }
}

async fn segment_starts<U: BlockStore>(
    store: &U,
    key: PartitionKey,
    mut from: Offset,
    to: Offset,
) -> Result<Vec<Offset>, StoreError> {
    let mut starts = Vec::new();
    loop {
        let page = store.manifests(key, from, MANIFESTS).await?;
        let below = page.iter().map(|manifest| manifest.segment.start);
        starts.extend(below.filter(|start| *start < to));
        match page.last() {
            Some(last) if page.len() == MANIFESTS && last.end < to => from = last.end,
            _ => return Ok(starts),
        }
    }
}
