//! Compare: two epochs' totals, resource by resource and window by window, below one cut.
//!
//! The cut is, in each partition, the end of the last segment that is closed in both, or the start of the
//! block that this is inside of; so a consumer that goes on meanwhile changes nothing of the answer.

use domain::{
    BlockStore, Conservation, Epoch, LogId, Offset, Partition, PulseLog, ResourceKey, RowKey,
    SegmentId, Timestamp, Total, UsageCursor, UsageRow, View,
    blocks::{BlockCell, BlockMap, Entry, EntryKey, Series, Sources},
    epochs::LogHistory,
    store::{PartitionKey, StoreError, UsageFilter},
};

use super::{ReplayError, closed_to, known};
use crate::{
    blocks::{BlocksError, SortRoom, Sorter},
    restart,
};

/// Rows asked of the store at a time.
const PAGE_ROWS: usize = 10_000;

/// What a comparison saw.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// By partition, the offset below which was compared.
    pub cut: Vec<Offset>,
    /// Resources and windows that either epoch has.
    pub compared: u64,
    /// Of these, how many differ.
    pub different: u64,
    /// Partitions in which other things became of the pulses, with both accounts.
    pub accounts: Vec<(Partition, Conservation, Conservation)>,
}

impl Comparison {
    /// Whether the two epochs say the same.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.different == 0 && self.accounts.is_empty()
    }
}

/// A resource's window in which the totals differ. `None`: an epoch has none there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Tenant, SKU, unit and dimensions.
    pub resource: ResourceKey,
    /// Start of the window.
    pub window_start: Timestamp,
    /// The total of the first epoch.
    pub before: Option<Total>,
    /// The total of the second.
    pub after: Option<Total>,
}

/// Compares the totals of two epochs and gives each difference to `visit`, in the order of tenant,
/// SKU, unit, dimensions, window.
///
/// # Errors
/// See [`ReplayError`]; differences that were given stand.
pub async fn compare<L: PulseLog, U: BlockStore>(
    log: &L,
    store: &U,
    epochs: [Epoch; 2],
    room: SortRoom,
    mut visit: impl FnMut(Difference) + Send,
) -> Result<Comparison, ReplayError> {
    let (journal, log_id) = (store.journal().await?, log.generation().log_id);
    let history = journal.log(log_id);
    for epoch in epochs {
        known(history, epoch)?;
    }
    let mut cut = Vec::new();
    for partition in log.generation().partitions() {
        let [before, after] = epochs.map(|epoch| PartitionKey { log_id, partition, epoch });
        let (one, other) =
            (closed_to(store, history, before).await?, closed_to(store, history, after).await?);
        cut.push(one.min(other));
    }
    outside_blocks(&store.block_map().await?, log_id, &mut cut);
    let mut comparison = Comparison { cut, ..Comparison::default() };
    for (partition, cut) in log.generation().partitions().zip(&comparison.cut) {
        let [before, after] = epochs.map(|epoch| PartitionKey { log_id, partition, epoch });
        let one = account_at(store, history, before, *cut).await?;
        let other = account_at(store, history, after, *cut).await?;
        if one != other {
            comparison.accounts.push((partition, one, other));
        }
    }
    let mut sorter = Sorter::new(log.generation().window, room);
    for (side, epoch) in (0..).zip(epochs) {
        let view = View::of_epoch(journal.clone(), log_id, epoch);
        let wanted = |segment: &SegmentId| {
            let cut = comparison.cut.get(usize::from(segment.partition.0));
            let is_below = cut.is_some_and(|cut| segment.start < *cut);
            segment.log_id == log_id && is_below && view.counts(segment)
        };
        add_all(store, &mut sorter, side, wanted).await?;
    }
    let mut sorted = sorter.sorted()?;
    while let Some((_, entry)) = sorted.next()? {
        compare_entry(&entry, &mut comparison, &mut visit)?;
    }
    Ok(comparison)
}

/// Moves a cut back to where it is inside no block.
fn outside_blocks(map: &BlockMap, log_id: LogId, cut: &mut [Offset]) {
    let crosses = |ends: &[Offset], cut: &[Offset]| ends.iter().zip(cut).any(|(end, at)| end > at);
    let of_log = || map.epochs().filter(|(of, ..)| *of == log_id).map(|(_, _, blocks)| blocks);
    loop {
        let first = of_log().find_map(|blocks| {
            let ends = blocks.blocks.iter().map(|block| &block.ends);
            let at = ends.clone().position(|ends| crosses(ends, cut))?;
            let from = blocks.from_of(at);
            crosses(cut, from).then(|| from.to_vec())
        });
        let Some(from) = first else { return };
        cut.iter_mut().zip(from).for_each(|(at, from)| *at = from.min(*at));
    }
}

/// Adds the usage of one side, as a part of its own.
async fn add_all<U: BlockStore>(
    store: &U,
    sorter: &mut Sorter,
    side: u32,
    wanted: impl Fn(&SegmentId) -> bool,
) -> Result<(), ReplayError> {
    let everything = UsageFilter {
        tenant: None,
        product_sku: None,
        use_unity: None,
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };
    let mut cursor = UsageCursor::open(store, everything, wanted).await?;
    while let Some(rows) = cursor.next(store, PAGE_ROWS).await? {
        for UsageRow { key: RowKey { resource, window_start, .. }, cell } in rows {
            let key = EntryKey::new(Series::Resources, &resource, window_start);
            let (total, sources) = ((&cell.aggregate).into(), Sources::default());
            sorter.add(0, key, BlockCell { window_start, part: side, total, sources })?;
        }
    }
    Ok(())
}

fn compare_entry(
    entry: &Entry,
    comparison: &mut Comparison,
    visit: &mut impl FnMut(Difference),
) -> Result<(), ReplayError> {
    let resource = entry.key.resource(None).map_err(BlocksError::from)?;
    for cells in entry.cells.chunk_by(|one, next| one.window_start == next.window_start) {
        let side = |side| cells.iter().find(|cell| cell.part == side).map(|cell| cell.total);
        let (before, after) = (side(0), side(1));
        comparison.compared += 1;
        if before != after {
            comparison.different += 1;
            let (resource, window_start) = (resource.clone(), cells[0].window_start);
            visit(Difference { resource, window_start, before, after });
        }
    }
    Ok(())
}

/// What became of a partition's pulses below the cut, in the totals of an epoch.
async fn account_at<U: BlockStore>(
    store: &U,
    history: &LogHistory,
    key: PartitionKey,
    cut: Offset,
) -> Result<Conservation, StoreError> {
    if cut == Offset(0) {
        return Ok(Conservation::default());
    }
    let epoch = history.holding(key.epoch, key.partition, Offset(cut.0 - 1));
    let key = PartitionKey { epoch, ..key };
    let from = history.start_of(epoch, key.partition);
    let start = restart::first_from(store, key, from, cut, |last| last.end >= cut).await?;
    let found = store.manifests(key, start, 1).await?.into_iter().next();
    Ok(found.map_or_else(Conservation::default, |manifest| manifest.counts_to_end))
}
