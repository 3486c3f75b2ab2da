//! Laws of the blocks of a usage store.

use domain::{
    BlockStore, Epoch, LogId, Offset, SegmentId, Tenant, UsageRow, UsageStore,
    blocks::{BlockManifest, BlockMap, BlockStretch, Entry, EntryKey, Level, Page, Plan, Series},
    store::StoreError,
};

use super::{
    Subject,
    samples::{LOG, Random, at, flush, generation, key, row, rows, segment},
    together,
};

async fn opened<S: Subject<Port: BlockStore>>(subject: &S) -> S::Port {
    let store = subject.fresh().await;
    store.register(&generation(LOG), None).await.unwrap();
    store
}

fn places(of: [u64; 2]) -> Vec<Offset> {
    of.map(Offset).to_vec()
}

fn planned(map: &BlockMap, until: i64) -> BlockMap {
    let mut next = map.next_version();
    let plan = Plan {
        number: 0,
        level: Level::First,
        until: at(until),
        ends: places([10, 20]),
        edges: vec![places([5, 5])],
        ends_at_edge: false,
        merges: Vec::new(),
    };
    next.plan((LOG, Epoch(0)), places([0, 0]), plan);
    next
}

/// Pages of one entry each, by the tenants' names.
fn pages(names: &[&str], byte: u8) -> Vec<Page> {
    let page = |(number, name): (u32, &&str)| {
        let resource = key(name, "s", at(0), segment(0, 0)).resource;
        let first = EntryKey::new(Series::Resources, &resource, at(0));
        Page { number, first, bytes: page_bytes(&resource, byte) }
    };
    (0..).zip(names).map(page).collect()
}

/// A page with one pulse of a resource.
fn page_bytes(resource: &domain::ResourceKey, amount: u8) -> Vec<u8> {
    use domain::blocks::{BlockCell, PageWriter, Sources};
    let one = domain::Aggregate::of(domain::Quantity::from_raw(amount.into()), at(0));
    let sources = Sources::of(domain::Partition(0), 0);
    let cell = BlockCell { window_start: at(0), part: 0, total: (&one).into(), sources };
    let key = EntryKey::new(Series::Resources, resource, at(0));
    let mut writer = PageWriter::new(domain::WindowLength::HOUR);
    assert!(writer.push(&Entry { key, cells: vec![cell] }).is_none());
    writer.finish().unwrap().bytes
}

fn manifest() -> BlockManifest {
    let stretch = BlockStretch {
        log_id: LOG,
        epoch: Epoch(0),
        from: places([0, 0]),
        ends: places([10, 20]),
        edges: Vec::new(),
    };
    BlockManifest {
        stretch,
        segments: vec![1, 2],
        segments_digest: 3,
        cells: 4,
        cells_digest: 5,
        bytes: 6,
        windows: Some((at(0), at(3_600))),
    }
}

/// See the name.
pub async fn of_two_maps_of_one_version_one_is_taken<S: Subject<Port: BlockStore>>(subject: &S) {
    let store = opened(subject).await;
    let none = store.block_map().await.unwrap();
    assert_eq!(none, BlockMap::default());
    let [a, b] = [1, 2].map(|until| planned(&none, until));
    let answers = together([&a, &b].map(|map| store.replace_block_map(map))).await;
    let won = match &answers[..] {
        [Ok(()), Err(StoreError::Conflict(_))] => a,
        [Err(StoreError::Conflict(_)), Ok(())] => b,
        _ => panic!("{answers:?}"),
    };
    let mut swapped = won.next_version();
    swapped.swap((LOG, Epoch(0)), 0, (true, None)).unwrap();
    for wrong in [&won, &swapped.next_version()] {
        let refused = store.replace_block_map(wrong).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
    let store = subject.reopen(store).await;
    assert_eq!(store.block_map().await.unwrap(), won);
    store.replace_block_map(&swapped).await.unwrap();
    assert_eq!(store.block_map().await.unwrap(), swapped);
}

/// See the name.
pub async fn an_edge_stands_under_its_number<S: Subject<Port: BlockStore>>(subject: &S) {
    let store = opened(subject).await;
    let other = LogId([8; 16]);
    for (log_id, number, edge) in
        [(LOG, 0, [1, 2]), (LOG, 0, [3, 4]), (LOG, 1, [5, 6]), (other, 0, [7, 8])]
    {
        store.put_block_mark(log_id, number, &places(edge)).await.unwrap();
    }
    let store = subject.reopen(store).await;
    assert_eq!(store.block_marks(LOG).await.unwrap(), [places([1, 2]), places([5, 6])]);
    assert_eq!(store.block_marks(other).await.unwrap(), [places([7, 8])]);
    let marked = store.mark_edge(other, Epoch(0), &places([9, 0])).await.unwrap();
    assert_eq!(marked, places([9, 8]), "behind one that another process left");
    assert_eq!(store.mark_edge(other, Epoch(0), &places([9, 8])).await.unwrap(), marked);
    assert_eq!(store.block_marks(other).await.unwrap(), [places([7, 8]), places([9, 8])]);
    assert_eq!(store.block_map().await.unwrap().marks(other), (2, &places([9, 8])[..]));
}

/// See the name.
pub async fn pages_are_found_by_their_keys_and_go_with_their_block<S: Subject<Port: BlockStore>>(
    subject: &S,
) {
    let store = opened(subject).await;
    let all = pages(&["b", "d", "d1", "f"], 1);
    store.write_block_pages(7, all.clone(), vec![Tenant::new("b").unwrap()]).await.unwrap();
    store.write_block_pages(7, all[..1].to_vec(), Vec::new()).await.unwrap();
    store.write_block_pages(8, pages(&["a"], 2), Vec::new()).await.unwrap();
    store.write_block_manifest(7, &manifest()).await.unwrap();
    let store = subject.reopen(store).await;
    for (name, number) in [("a", 0), ("b", 0), ("c", 0), ("d", 1), ("d0", 1), ("d1", 2), ("z", 3)] {
        let wanted =
            EntryKey::new(Series::Resources, &key(name, "s", at(0), segment(0, 0)).resource, at(0));
        assert_eq!(store.find_block_page(7, wanted.as_bytes()).await.unwrap(), number, "{name}");
    }
    for limit in 1..=5 {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            let some = store.block_pages(7, from, limit).await.unwrap();
            assert!(some.len() <= limit);
            let is_last = some.len() < limit;
            found.extend(some);
            from = u32::try_from(found.len()).unwrap();
            if is_last {
                break;
            }
        }
        assert_eq!(found, all);
    }
    assert_eq!(store.block_manifest(7).await.unwrap(), Some(manifest()));
    assert_eq!(store.block_manifest(8).await.unwrap(), None);
    assert_eq!(store.stored_blocks().await.unwrap(), [7, 8]);
    assert_eq!(store.tenants(None, 10).await.unwrap(), [Tenant::new("b").unwrap()]);
    while store.delete_block(7).await.unwrap() {}
    assert_eq!(store.block_manifest(7).await.unwrap(), None);
    assert_eq!(store.block_pages(7, 0, 9).await.unwrap(), []);
    assert_eq!(store.stored_blocks().await.unwrap(), [8]);
}

/// See the name. An adapter that has no transactions may keep them all.
pub async fn states_and_runs_go_but_for_those_that_are_named_and_later_ones<
    S: Subject<Port: BlockStore>,
>(
    subject: &S,
) {
    let store = opened(subject).await;
    let mut manifests = Vec::new();
    for (partition, start) in [(0, 0), (0, 10), (0, 20), (1, 0), (1, 10)] {
        let mut flush = flush(segment(partition, start), Vec::new(), start + 10);
        flush.close = Some(super::samples::close(segment(partition, start), start + 10));
        manifests.push(flush.close.as_ref().unwrap().manifest);
        store.flush(std::sync::Arc::new(flush)).await.unwrap();
    }
    // What came since somebody looked stays, and what nobody looked at.
    let digests = [0, 2, 4].map(|at: usize| manifests[at].state_digest).to_vec();
    let seen = vec![manifests[0].segment];
    assert_eq!(store.keep_states(digests.clone(), seen).await.unwrap(), 0);
    let seen = vec![manifests[2].segment, manifests[4].segment];
    while store.keep_states(digests.clone(), seen.clone()).await.unwrap() > 0 {}
    let key = domain::store::PartitionKey {
        log_id: LOG,
        partition: domain::Partition(0),
        epoch: Epoch(0),
    };
    let runs = store.runs_below(key, Offset(20)).await.unwrap();
    for start in &runs {
        store.delete_run(segment(0, start.0)).await.unwrap();
    }
    let store = subject.reopen(store).await;
    for (at, manifest) in manifests.iter().enumerate() {
        let is_kept = store.state(manifest.state_digest).await.unwrap().is_some();
        assert!(is_kept || ![0, 2, 4].contains(&at), "state {at}");
        let has_run = !store.run(manifest.segment).await.unwrap().is_empty();
        let gone = manifest.segment.partition.0 == 0 && runs.contains(&manifest.segment.start);
        assert_eq!(has_run, !gone, "run {at}");
    }
    let kept = manifests.iter().map(|manifest| store.state(manifest.state_digest));
    let kept = futures_util::future::try_join_all(kept).await.unwrap();
    let keeps_all = kept.iter().all(Option::is_some);
    assert!(keeps_all || (kept[1].is_none() && kept[3].is_none()), "{kept:?}");
    assert_eq!(keeps_all, runs.is_empty(), "an adapter deletes both or none");
}

/// See the name.
pub async fn an_epoch_goes_and_the_others_stay<S: Subject<Port: BlockStore>>(subject: &S) {
    let store = opened(subject).await;
    let of = |epoch| domain::store::PartitionKey {
        log_id: LOG,
        partition: domain::Partition(0),
        epoch: Epoch(epoch),
    };
    let mut stored = Vec::new();
    for epoch in [0, 1] {
        let mine = SegmentId { epoch: Epoch(epoch), ..segment(0, 0) };
        let row = |number: i64| row(key("a", "s", at(number * 3_600), mine), 9, 1);
        let all: Vec<_> = (0..300).map(row).collect();
        let mut flush = flush(mine, all.clone(), 10);
        let reason = domain::DeadLetterReason::TooLate;
        flush.dead_letters = vec![super::samples::dead_letters(mine, reason, "a", (3, 9))];
        flush.close = Some(super::samples::close(mine, 10));
        store.flush(std::sync::Arc::new(flush)).await.unwrap();
        stored.push((mine, all));
    }
    let mut deleted = 0;
    loop {
        match store.delete_epoch(LOG, Epoch(1)).await.unwrap() {
            0 => break,
            some => deleted += some,
        }
    }
    let store = subject.reopen(store).await;
    for (mine, all) in stored {
        let is_there = mine.epoch == Epoch(0) || deleted == 0;
        let place = |row: &UsageRow| (row.key.resource.tenant.clone(), row.key.window_day());
        let places: std::collections::BTreeSet<_> = all.iter().map(place).collect();
        let places: Vec<_> = places.into_iter().collect();
        let found = store.segment_rows(mine, &places).await.unwrap().len();
        assert_eq!(found, if is_there { all.len() } else { 0 });
        let newest = store.newest_manifest(of(mine.epoch.0)).await.unwrap();
        assert_eq!(newest.is_some(), is_there);
        assert_eq!(store.progress(of(mine.epoch.0)).await.unwrap().is_some(), is_there);
        assert_eq!(store.run(mine).await.unwrap().is_empty(), !is_there);
        let filter = domain::store::DeadLetterFilter { tenant: None, reason: None };
        let letters = store.scan_dead_letters(LOG, &filter, None, 10).await.unwrap();
        let letters = letters.iter().filter(|group| group.key.segment == mine).count();
        assert_eq!(letters, usize::from(is_there));
    }
}

/// See the name.
pub async fn rows_go_and_their_tenants_stay_where_blocks_have_them<S: Subject<Port: BlockStore>>(
    subject: &S,
) {
    let store = opened(subject).await;
    let all = rows(&mut Random(5), 300);
    store.flush(std::sync::Arc::new(flush(segment(0, 0), all.clone(), 1))).await.unwrap();
    let (gone, kept): (Vec<UsageRow>, Vec<UsageRow>) =
        all.into_iter().partition(|row| row.key.segment.start <= Offset(300));
    let keys: Vec<_> = gone.iter().map(|row| row.key.clone()).collect();
    store.delete_rows(keys.clone()).await.unwrap();
    store.delete_rows(keys).await.unwrap();
    let everything = super::usage::EVERYTHING;
    assert_eq!(store.scan(&everything, None, 1_000).await.unwrap(), kept);
    let late = row(key("new", "s", at(0), segment(0, 9)), 9, 1);
    store.flush(std::sync::Arc::new(flush(segment(0, 9), vec![late.clone()], 10))).await.unwrap();
    let names: Vec<Tenant> = ["0", "new"].map(|name| Tenant::new(name).unwrap()).into();
    store.write_block_pages(1, pages(&["0", "new"], 1), names).await.unwrap();
    store.delete_rows(vec![late.key]).await.unwrap();
    let tenants = store.tenants(None, 1_000).await.unwrap();
    let name = |name: &str| tenants.iter().filter(|tenant| tenant.as_str() == name).count();
    assert_eq!((name("0"), name("new")), (1, 1));
    assert!(tenants.is_sorted());
    let behind = store.tenants(Some(&tenants[0]), 2).await.unwrap();
    assert_eq!(behind, tenants[1..3]);
}
