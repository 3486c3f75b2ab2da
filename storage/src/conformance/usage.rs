//! Laws of the usage store.

use std::sync::Arc;

use domain::{
    Aggregate, BlockStore, Epoch, LogId, Manifest, Offset, Partition, Quantity, RowKey, Sku,
    Tenant, Timestamp, Unit, UsageCursor, UsageRow, UsageStore, View,
    dead_letter::DeadLetterReason::TooLate,
    epochs::{Declared, Journal, LogEvent, OpenedEpoch},
    store::{Flush, PartitionKey, StoreError, UsageFilter},
};

mod dead_letters;

use self::dead_letters::{ALL, groups_in_pages};
pub use self::dead_letters::{
    a_group_with_extreme_values_comes_back_whole,
    an_older_group_of_dead_letters_does_not_replace_a_newer_one,
    dead_letters_are_sorted_filtered_and_the_same_in_pages,
};

use super::{
    Subject,
    samples::{LOG, Random, at, close, dead_letters, flush, generation, key, row, rows, segment},
    together,
};
use crate::order;

pub(super) const EVERYTHING: UsageFilter = UsageFilter {
    tenant: None,
    product_sku: None,
    use_unity: None,
    from: Timestamp::MIN,
    to: Timestamp::MAX,
};

const FIRST: PartitionKey = PartitionKey { log_id: LOG, partition: Partition(0), epoch: Epoch(0) };

async fn registered<S: Subject<Port: UsageStore>>(subject: &S) -> S::Port {
    let store = subject.fresh().await;
    store.register(&generation(LOG), None).await.unwrap();
    store
}

async fn scan(store: &impl UsageStore) -> Vec<UsageRow> {
    store.scan(&EVERYTHING, None, 1_000_000).await.unwrap()
}

/// See the name.
pub async fn a_generation_is_registered_once_with_its_parameters<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = registered(subject).await;
    store.register(&generation(LOG), None).await.unwrap();
    store.register(&generation(LogId([8; 16])), Some(LOG)).await.unwrap();
    let store = subject.reopen(store).await;
    store.register(&generation(LOG), None).await.unwrap();
    let mut other = generation(LOG);
    other.lateness -= std::time::Duration::from_micros(1);
    assert!(matches!(store.register(&other, None).await, Err(StoreError::Conflict(_))));
    let registered = [generation(LOG), generation(LogId([8; 16]))];
    assert_eq!(store.generations().await.unwrap(), registered);
}

/// See the name.
pub async fn of_two_successors_of_a_generation_one_is_registered<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = subject.fresh().await;
    assert_eq!(store.generations().await.unwrap(), []);
    let [a, b] = [2, 3].map(|id| generation(LogId([id; 16])));
    let early = store.register(&a, Some(LOG)).await;
    assert!(matches!(early, Err(StoreError::Conflict(_))), "{early:?}");
    store.register(&generation(LOG), None).await.unwrap();
    let answers = together([&a, &b].map(|next| store.register(next, Some(LOG)))).await;
    let won = match &answers[..] {
        [Ok(()), Err(StoreError::Conflict(_))] => a,
        [Err(StoreError::Conflict(_)), Ok(())] => b,
        _ => panic!("{answers:?}"),
    };
    let first_again = store.register(&generation(LogId([4; 16])), None).await;
    assert!(matches!(first_again, Err(StoreError::Conflict(_))), "{first_again:?}");
    assert_eq!(store.generations().await.unwrap(), [generation(LOG), won]);
}

/// A flush with one of everything.
fn full_flush() -> Flush {
    let mine = segment(0, 100);
    let rows =
        vec![row(key("a", "s", at(0), mine), 105, 7), row(key("b", "s", at(0), mine), 106, -7)];
    let mut flush = flush(mine, rows, 110);
    flush.dead_letters = vec![dead_letters(mine, TooLate, "acme", (3, 107))];
    flush.close = Some(close(mine, 110));
    flush.progress.as_mut().unwrap().caught_up_at = Some(at(77));
    flush
}

async fn assert_holds(store: &impl UsageStore, flush: &Flush) {
    let close = flush.close.as_ref().unwrap();
    assert_eq!(scan(store).await, flush.rows);
    assert_eq!(groups_in_pages(store, &ALL, 10).await, flush.dead_letters);
    assert_eq!(store.newest_manifest(FIRST).await.unwrap(), Some(close.manifest));
    assert_eq!(store.progress(FIRST).await.unwrap(), flush.progress);
    assert_eq!(store.run(flush.segment).await.unwrap(), close.run);
    let state = store.state(close.manifest.state_digest).await.unwrap();
    assert_eq!(state.as_ref(), Some(&close.state));
}

/// See the name.
pub async fn everything_flushed_is_there_after_a_restart<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = registered(subject).await;
    assert_eq!(store.newest_manifest(FIRST).await.unwrap(), None);
    assert_eq!(store.progress(FIRST).await.unwrap(), None);
    assert_eq!(store.state(5).await.unwrap(), None);
    assert_eq!(store.state_head(5, 17).await.unwrap(), None);
    assert_eq!(store.run(segment(0, 100)).await.unwrap(), Vec::<u8>::new());
    let flush = full_flush();
    store.flush(flush.clone().into()).await.unwrap();
    assert_holds(&store, &flush).await;
    let store = subject.reopen(store).await;
    assert_holds(&store, &flush).await;
}

/// See the name.
pub async fn a_flush_may_be_repeated<S: Subject<Port: UsageStore>>(subject: &S) {
    let store = registered(subject).await;
    let flush = full_flush();
    store.flush(flush.clone().into()).await.unwrap();
    store.flush(flush.clone().into()).await.unwrap();
    assert_holds(&store, &flush).await;
}

/// See the name.
pub async fn an_older_flush_does_not_replace_a_newer_one<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = registered(subject).await;
    let mine = segment(0, 0);
    let total = |offset, amount| row(key("a", "s", at(0), mine), offset, amount);
    store.flush(flush(mine, vec![total(20, 5)], 21).into()).await.unwrap();
    // A consumer that should be dead.
    store.flush(flush(mine, vec![total(10, 3)], 11).into()).await.unwrap();
    assert_eq!(scan(&store).await, [total(20, 5)]);
    assert_eq!(store.progress(FIRST).await.unwrap().unwrap().folded_to, Offset(21));
    // The same place again, which is the same bytes, and further.
    store.flush(flush(mine, vec![total(20, 5)], 21).into()).await.unwrap();
    assert_eq!(scan(&store).await, [total(20, 5)]);
    store.flush(flush(mine, vec![total(30, 9)], 31).into()).await.unwrap();
    assert_eq!(scan(&store).await, [total(30, 9)]);
    assert_eq!(store.progress(FIRST).await.unwrap().unwrap().folded_to, Offset(31));
}

/// See the name.
pub async fn caught_up_at_is_a_cell_of_its_own<S: Subject<Port: UsageStore>>(subject: &S) {
    let store = registered(subject).await;
    for (folded_to, caught_up_at, stands_at, stands_caught_up) in [
        (10, None, 10, None),
        (20, Some(5), 20, Some(5)),
        (30, None, 30, Some(5)),
        (25, Some(9), 30, Some(9)),
        // The last reading counts, not the greatest: the clock of an earlier one was ahead.
        (30, Some(7), 30, Some(7)),
        (30, Some(8), 30, Some(8)),
    ] {
        let mut flush = flush(segment(0, 0), Vec::new(), folded_to);
        flush.progress.as_mut().unwrap().caught_up_at = caught_up_at.map(at);
        store.flush(flush.into()).await.unwrap();
        let progress = store.progress(FIRST).await.unwrap().unwrap();
        assert_eq!(progress.folded_to, Offset(stands_at));
        assert_eq!(progress.counts.read, stands_at);
        assert_eq!(progress.caught_up_at, stands_caught_up.map(at));
    }
}

/// See the name.
pub async fn extreme_values_come_back_whole<S: Subject<Port: UsageStore>>(subject: &S) {
    let store = registered(subject).await;
    let mine = segment(1, 1 << 47);
    let long = "\u{3134a}".repeat(32);
    let mut extreme = row(key(&long, &long, Timestamp::MIN, mine), (1 << 48) - 1, 0);
    extreme.cell.aggregate = Aggregate {
        count: i64::MAX.cast_unsigned(),
        sum: Quantity::MIN,
        min: Quantity::from_raw(-1),
        max: Quantity::MAX,
        last: Quantity::from_raw(1 << 63),
        time_first: Timestamp::MIN,
        time_last: Timestamp::MAX,
    };
    store.flush(flush(mine, vec![extreme.clone()], 1 << 48).into()).await.unwrap();
    assert_eq!(scan(&store).await, [extreme]);
}

/// See the name.
pub async fn manifests_ascend_and_stay_with_their_partition<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = registered(subject).await;
    let mut expected = Vec::new();
    for (partition, epoch, start) in
        [(0, 0, 300), (0, 0, 5), (1, 0, 400), (0, 1, 600), (0, 0, 200), (0, 0, 256)]
    {
        let mut mine = segment(partition, start);
        mine.epoch = Epoch(epoch);
        let close = close(mine, start + 50);
        if (partition, epoch) == (0, 0) {
            expected.push(close.manifest);
        }
        let mut flush = flush(mine, Vec::new(), start + 50);
        flush.close = Some(close);
        store.flush(flush.into()).await.unwrap();
    }
    expected.sort_by_key(|manifest: &Manifest| manifest.segment.start);
    let page = async |from, limit| store.manifests(FIRST, Offset(from), limit).await.unwrap();
    assert_eq!(page(0, 10).await, expected);
    assert_eq!(page(5, 2).await, expected[..2]);
    assert_eq!(page(6, 10).await, expected[1..]);
    assert_eq!(page(301, 10).await, []);
    assert_eq!(page(0, 0).await, []);
    assert_eq!(store.newest_manifest(FIRST).await.unwrap(), expected.last().copied());
}

/// See the name.
pub async fn segment_rows_are_those_of_the_segment_and_days<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = registered(subject).await;
    let (mine, next) = (segment(0, 100), segment(0, 200));
    let on = |tenant, seconds, segment: domain::SegmentId| {
        row(key(tenant, "s", at(seconds), segment), segment.start.0, 1)
    };
    let wanted = [on("a", -86_400, mine), on("a", -3_600, mine), on("b", 0, mine)];
    let others = [on("a", 0, mine), on("b", -3_600, mine), on("c", 0, mine)];
    store.flush(flush(mine, [&wanted[..], &others[..]].concat(), 110).into()).await.unwrap();
    store.flush(flush(next, vec![on("a", -3_600, next)], 210).into()).await.unwrap();
    let places = ["a", "b", "a"].map(|tenant| Tenant::new(tenant).unwrap()).into_iter();
    let places: Vec<_> = places.zip([-1, 0, -1]).collect();
    let mut found = store.segment_rows(mine, &places).await.unwrap();
    found.sort_by(|a, b| order::compare(&a.key, &b.key));
    assert_eq!(found, wanted);
}

fn filters() -> Vec<UsageFilter> {
    let mut filters = vec![EVERYTHING];
    for tenant in ["a", "ab", "nobody"] {
        filters.push(UsageFilter { tenant: Tenant::new(tenant).ok(), ..EVERYTHING });
    }
    for (from, to) in [(-3_600, 7_200), (0, 3_601), (3_600, 3_600), (0, -1)] {
        for tenant in [None, Tenant::new("a").ok()] {
            filters.push(UsageFilter { tenant, from: at(from), to: at(to), ..EVERYTHING });
        }
    }
    filters.push(UsageFilter { product_sku: Sku::new("s").ok(), ..EVERYTHING });
    let (product_sku, use_unity) = (Sku::new("s1").ok(), Unit::new("GiB").ok());
    filters.push(UsageFilter { product_sku, use_unity, ..EVERYTHING });
    filters
}

async fn in_pages(store: &impl UsageStore, filter: &UsageFilter, limit: usize) -> Vec<UsageRow> {
    let mut all: Vec<UsageRow> = Vec::new();
    loop {
        let after: Option<RowKey> = all.last().map(|row| row.key.clone());
        let page = store.scan(filter, after.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        let last = page.len() < limit;
        all.extend(page);
        if last {
            return all;
        }
    }
}

/// See the name.
pub async fn a_scan_is_sorted_filtered_and_the_same_in_pages<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = registered(subject).await;
    let mut newest = LOG;
    for log_id in [LogId([0; 16]), LogId([255; 16])] {
        store.register(&generation(log_id), Some(newest)).await.unwrap();
        newest = log_id;
    }
    for seed in 0..4 {
        // Each seed's rows join those of the seeds before; a key drawn again keeps the greater.
        let rows = rows(&mut Random(seed), 150);
        store.flush(flush(segment(0, 0), rows, 1_000).into()).await.unwrap();
        let everything = scan(&store).await;
        assert!(everything.is_sorted_by(|a, b| order::compare(&a.key, &b.key).is_lt()));
        for filter in filters() {
            let expected: Vec<UsageRow> =
                everything.iter().filter(|row| order::passes(&filter, &row.key)).cloned().collect();
            for limit in [3, 7, 1_000] {
                let found = in_pages(&store, &filter, limit).await;
                assert_eq!(found, expected, "seed {seed}, limit {limit}, {filter:?}");
            }
            // From any key on, also one that the filter does not pass.
            for after in everything.iter().step_by(17).map(|row| &row.key) {
                let found = store.scan(&filter, Some(after), 1_000).await.unwrap();
                let behind = |row: &&UsageRow| order::compare(&row.key, after).is_gt();
                let expected: Vec<UsageRow> = expected.iter().filter(behind).cloned().collect();
                assert_eq!(found, expected, "seed {seed}, after {after:?}, {filter:?}");
            }
        }
    }
    assert_eq!(store.scan(&EVERYTHING, None, 0).await.unwrap(), []);
}

/// See the name.
pub async fn tenants_are_those_with_rows_each_once_and_sorted<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = registered(subject).await;
    assert_eq!(store.tenants(None, 9).await.unwrap(), []);
    let names = ["A", "a", "a/b", "ab", "tenant 1", "z", "\u{e9}", "\u{3134a}"];
    let tenants = names.map(|name| Tenant::new(name).unwrap());
    for (number, name) in (0u64..).zip(names.iter().rev()) {
        // Each in two windows of two segments of one of three epochs.
        for start in [number, number + 100] {
            let mut mine = segment(0, start);
            mine.epoch = Epoch(u16::try_from(number % 3).unwrap());
            let rows = [0, 86_400].map(|window| row(key(name, "s", at(window), mine), start, 1));
            let mut flush = flush(mine, rows.to_vec(), start + 1);
            flush.progress.as_mut().unwrap().epoch = mine.epoch;
            store.flush(flush.into()).await.unwrap();
        }
    }
    let mut without_rows = flush(segment(1, 0), Vec::new(), 1);
    without_rows.dead_letters = vec![dead_letters(segment(1, 0), TooLate, "late", (2, 0))];
    without_rows.close = Some(close(segment(1, 0), 1));
    store.flush(without_rows.into()).await.unwrap();
    for limit in [1, 2, 3, names.len(), names.len() + 1, 5_000] {
        let mut found: Vec<Tenant> = Vec::new();
        loop {
            let page = store.tenants(found.last(), limit).await.unwrap();
            assert!(page.len() <= limit && found.len() <= names.len(), "{found:?}");
            let is_last = page.len() < limit;
            found.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(found, tenants, "{limit}");
    }
    let nobody = Tenant::new("aa").unwrap();
    assert_eq!(store.tenants(Some(&nobody), 2).await.unwrap(), tenants[3..5]);
    assert_eq!(store.tenants(tenants.last(), 9).await.unwrap(), []);
}

/// See the name.
pub async fn a_run_and_a_state_of_any_length_come_back_whole<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    const MIB: usize = 1 << 20;
    let store = registered(subject).await;
    let mut random = Random(5);
    let mut bytes = |length: usize| -> Vec<u8> {
        let words = std::iter::repeat_with(|| random.number().to_le_bytes());
        words.flatten().take(length).collect()
    };
    let mut closes = Vec::new();
    for (start, run, state) in
        [(0, 0, 0), (10, 1, MIB), (20, MIB + 1, 3 * MIB - 1), (30, 5 * MIB + 12_345, 2 * MIB)]
    {
        let mine = segment(0, start);
        let mut close = close(mine, start + 10);
        (close.run, close.state) = (bytes(run), bytes(state));
        let mut flush = flush(mine, Vec::new(), start + 10);
        flush.close = Some(close.clone());
        let flush = Arc::new(flush);
        store.flush(flush.clone()).await.unwrap();
        // Again, as after an answer that was lost.
        store.flush(flush).await.unwrap();
        closes.push(close);
    }
    let store = subject.reopen(store).await;
    for close in closes {
        let run = store.run(close.manifest.segment).await.unwrap();
        assert!(run == close.run, "{} of {} bytes", run.len(), close.run.len());
        let state = store.state(close.manifest.state_digest).await.unwrap().unwrap();
        assert!(state == close.state, "{} of {} bytes", state.len(), close.state.len());
        let head = store.state_head(close.manifest.state_digest, 17).await.unwrap().unwrap();
        assert!(close.state.starts_with(&head) && head.len() >= close.state.len().min(17));
    }
}

fn opened(epoch: u16, starts: [u64; 2]) -> OpenedEpoch {
    let dimensions = vec!["zone".to_owned()];
    OpenedEpoch {
        log_id: LOG,
        epoch: Epoch(epoch),
        base: Epoch(0),
        starts: starts.map(Offset).to_vec(),
        declared: vec![Declared { product_sku: "vm".to_owned(), version: 3, dimensions }],
    }
}

/// See the name.
pub async fn the_journal_takes_one_entry_a_number<S: Subject<Port: UsageStore>>(subject: &S) {
    let store = registered(subject).await;
    assert_eq!(store.log_events().await.unwrap(), []);
    let [a, b] = [1, 2].map(|epoch| LogEvent::Opened(opened(epoch, [0, 7])));
    let early = store.append_log_event(1, &a).await;
    assert!(matches!(early, Err(StoreError::Conflict(_))), "{early:?}");
    let answers = together([&a, &b].map(|event| store.append_log_event(0, event))).await;
    let first = match &answers[..] {
        [Ok(()), Err(StoreError::Conflict(_))] => a,
        [Err(StoreError::Conflict(_)), Ok(())] => b,
        _ => panic!("{answers:?}"),
    };
    let again = store.append_log_event(0, &first).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    let second = LogEvent::Activated { log_id: LOG, epoch: Epoch(1) };
    store.append_log_event(1, &second).await.unwrap();
    let store = subject.reopen(store).await;
    assert_eq!(store.log_events().await.unwrap(), [first, second]);
}

/// See the name.
pub async fn a_view_reads_each_stretch_in_one_epoch<S: Subject<Port: BlockStore>>(subject: &S) {
    let store = registered(subject).await;
    let mut expected = [Vec::new(), Vec::new()];
    for (partition, start, epoch) in
        [(0, 0, 0), (0, 10, 0), (0, 10, 1), (0, 20, 1), (1, 0, 0), (1, 0, 1)]
    {
        let mine = domain::SegmentId { epoch: Epoch(epoch), ..segment(partition, start) };
        let row = row(key("a", "s", at(0), mine), start, 1 + i128::from(epoch));
        let mut flush = flush(mine, vec![row.clone()], start + 1);
        flush.progress.as_mut().unwrap().epoch = Epoch(epoch);
        let letter = dead_letters(mine, TooLate, "acme", (1, start));
        flush.dead_letters = vec![letter.clone()];
        store.flush(flush.into()).await.unwrap();
        let in_first = epoch == 0;
        let in_second = if epoch == 1 { (partition, start) != (1, 0) } else { start < 10 };
        for (wanted, is_in) in expected.iter_mut().zip([in_first, in_second]) {
            wanted.extend(is_in.then(|| (row.clone(), letter.clone())));
        }
    }
    let opened = LogEvent::Opened(opened(1, [10, 5]));
    let views = [View::default(), View::of_epoch(Journal::of([opened]), LOG, Epoch(1))];
    for (view, mut expected) in views.iter().zip(expected) {
        expected.sort_by(|(a, _), (b, _)| order::compare(&a.key, &b.key));
        let mut rows: Vec<UsageRow> = Vec::new();
        let wanted = |segment: &_| view.counts(segment);
        let mut cursor = UsageCursor::open(&store, EVERYTHING, wanted).await.unwrap();
        while let Some(some) = cursor.next(&store, 2).await.unwrap() {
            rows.extend(some);
        }
        let (wanted, mut letters): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
        assert_eq!(rows, wanted);
        letters.sort_by(|a, b| a.key.cmp(&b.key));
        let page =
            async |after, limit| store.dead_letters(view, LOG, &ALL, after, limit).await.unwrap();
        assert_eq!(page(None, 9).await, letters);
        assert_eq!(page(None, 2).await, letters[..2]);
        assert_eq!(page(Some(&letters[0].key), 9).await, letters[1..]);
    }
}
