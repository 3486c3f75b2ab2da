//! Blocks for questions: rows that a store has, put into blocks as the consumer does it.

use std::collections::BTreeMap;

use domain::{
    BlockStore, Epoch, Offset, Timestamp, UsageStore as _,
    blocks::{BlockStretch, Entry, EntryKey, Level, Page, PageWriter, Plan, Series, cells_of},
    store::UsageFilter,
};
use storage::memory::MemoryUsageStore;

use crate::support::generation;

/// Puts the rows of the segments below these ends into a block behind those that there are.
pub(crate) async fn put_into_block(store: &MemoryUsageStore, ends: [u64; 2]) {
    let log = (generation().log_id, Epoch(0));
    let mut map = store.block_map().await.unwrap().next_version();
    let none = vec![Offset(0); 2];
    let from = map.epoch(log.0, log.1).map_or(none, |blocks| blocks.ends().to_vec());
    let ends: Vec<Offset> =
        from.iter().zip(ends).map(|(from, end)| Offset(end).max(*from)).collect();
    let plan = Plan {
        number: 0,
        level: Level::First,
        until: Timestamp::EPOCH,
        ends: ends.clone(),
        edges: Vec::new(),
        ends_at_edge: false,
        merges: Vec::new(),
    };
    map.plan(log, vec![Offset(0); 2], plan);
    let number = map.epoch(log.0, log.1).unwrap().planned.as_ref().unwrap().number;
    let stretch = BlockStretch { log_id: log.0, epoch: log.1, from, ends, edges: Vec::new() };
    let (pages, windows, covered) = pages_of(store, &stretch).await;
    let tenants = covered.iter().map(|key| key.resource.tenant.clone()).collect();
    store.write_block_pages(number, pages, tenants).await.unwrap();
    map.swap(log, number, (false, windows)).unwrap();
    store.replace_block_map(&map).await.unwrap();
    store.delete_rows(covered).await.unwrap();
}

type Made = (Vec<Page>, Option<(Timestamp, Timestamp)>, Vec<domain::RowKey>);

async fn pages_of(store: &MemoryUsageStore, stretch: &BlockStretch) -> Made {
    let everything = UsageFilter {
        tenant: None,
        product_sku: None,
        use_unity: None,
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };
    let mut rows = store.scan(&everything, None, 100_000).await.unwrap();
    rows.retain(|row| stretch.holds(&row.key.segment));
    let mut entries: BTreeMap<EntryKey, Entry> = BTreeMap::new();
    for row in &rows {
        for (key, cell) in cells_of(stretch, row, 0) {
            let one = Entry { key: key.clone(), cells: vec![cell] };
            match entries.get_mut(&key) {
                Some(all) => all.merge(one),
                None => drop(entries.insert(key, one)),
            }
        }
    }
    let resources = entries.values().filter(|of| of.key.series() == Some(Series::Resources));
    let times = resources.flat_map(|entry| &entry.cells).map(|cell| cell.window_start);
    let windows = times.clone().min().zip(times.max());
    let mut writer = PageWriter::new(generation().window);
    let mut pages: Vec<Page> = entries.values().filter_map(|entry| writer.push(entry)).collect();
    pages.extend(writer.finish());
    (pages, windows, rows.into_iter().map(|row| row.key).collect())
}
