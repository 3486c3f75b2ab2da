//! Laws of the usage store about groups of dead letters.

use domain::{
    DeadLetterGroup, Epoch, LogId, SegmentId, Timestamp, UsageStore,
    dead_letter::{
        DeadLetterReason::{InTheFuture, Overflow, TooLate, Undecodable},
        MESSAGE_BYTES_MAX,
    },
    store::DeadLetterFilter,
};

use super::registered;
use crate::conformance::{
    Subject,
    samples::{LOG, dead_letters, flush, generation, segment},
};

pub(super) const ALL: DeadLetterFilter = DeadLetterFilter { reason: None, tenant: None };

pub(super) async fn groups_in_pages(
    store: &impl UsageStore,
    filter: &DeadLetterFilter,
    limit: usize,
) -> Vec<DeadLetterGroup> {
    let mut all: Vec<DeadLetterGroup> = Vec::new();
    loop {
        let after = all.last().map(|group| group.key.clone());
        let page = store.scan_dead_letters(LOG, filter, after.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        let is_last = page.len() < limit;
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

/// Groups of several segments, epochs, reasons and tenants, sorted.
fn many_groups() -> Vec<DeadLetterGroup> {
    let mut groups = Vec::new();
    for (partition, start, epoch) in [(0, 0, 0), (0, 0, 1), (0, 300, 0), (1, 0, 0), (1, 256, 2)] {
        let mine = SegmentId { epoch: Epoch(epoch), ..segment(partition, start) };
        for reason in [Undecodable, TooLate, Overflow] {
            for tenant in ["", "A", "acme", "b", "\u{e9}", "\u{10ffff}"] {
                // Not every segment has every one.
                if (start + groups.len() as u64) % 5 != 1 {
                    groups.push(dead_letters(mine, reason, tenant, (2, start + 9)));
                }
            }
        }
    }
    groups.sort_by(|a, b| a.key.cmp(&b.key));
    groups
}

/// See the name.
pub async fn dead_letters_are_sorted_filtered_and_the_same_in_pages<
    S: Subject<Port: UsageStore>,
>(
    subject: &S,
) {
    let store = registered(subject).await;
    let sorted = many_groups();
    // A flush is about one segment; that no store relies on it makes this shorter.
    let mut flush = flush(segment(0, 0), Vec::new(), 300);
    flush.dead_letters = sorted.iter().rev().cloned().collect();
    store.flush(flush.into()).await.unwrap();
    for reason in [None, Some(TooLate), Some(Undecodable), Some(InTheFuture)] {
        for tenant in [None, Some(""), Some("acme"), Some("\u{10ffff}"), Some("nobody")] {
            let filter = DeadLetterFilter { reason, tenant: tenant.map(str::to_owned) };
            let passes = |group: &&DeadLetterGroup| {
                reason.is_none_or(|reason| group.key.reason == reason)
                    && tenant.is_none_or(|tenant| group.key.tenant == tenant)
            };
            let expected: Vec<_> = sorted.iter().filter(passes).cloned().collect();
            for limit in [1, 4, 1_000] {
                let found = groups_in_pages(&store, &filter, limit).await;
                assert_eq!(found, expected, "{limit} {filter:?}");
            }
            // From any key on, also one that the filter does not pass.
            for after in sorted.iter().step_by(7).map(|group| &group.key) {
                let found = store.scan_dead_letters(LOG, &filter, Some(after), 1_000).await;
                let behind = expected.iter().filter(|group| group.key > *after);
                let behind: Vec<_> = behind.cloned().collect();
                assert_eq!(found.unwrap(), behind, "{after:?} {filter:?}");
            }
        }
    }
    let other = LogId([1; 16]);
    store.register(&generation(other), Some(LOG)).await.unwrap();
    assert_eq!(store.scan_dead_letters(other, &ALL, None, 9).await.unwrap(), []);
}

/// See the name.
pub async fn an_older_group_of_dead_letters_does_not_replace_a_newer_one<
    S: Subject<Port: UsageStore>,
>(
    subject: &S,
) {
    let store = registered(subject).await;
    let mine = segment(0, 0);
    for (given, stands) in
        [((2, 20), (2, 20)), ((1, 10), (2, 20)), ((2, 20), (2, 20)), ((9, 30), (9, 30))]
    {
        let mut flush = flush(mine, Vec::new(), given.1 + 1);
        flush.dead_letters = vec![dead_letters(mine, TooLate, "acme", given)];
        store.flush(flush.into()).await.unwrap();
        let expected = [dead_letters(mine, TooLate, "acme", stands)];
        for tenant in [None, Some("acme".to_owned())] {
            let filter = DeadLetterFilter { reason: Some(TooLate), tenant };
            assert_eq!(groups_in_pages(&store, &filter, 9).await, expected, "{given:?}");
        }
    }
}

/// See the name.
pub async fn a_group_with_extreme_values_comes_back_whole<S: Subject<Port: UsageStore>>(
    subject: &S,
) {
    let store = registered(subject).await;
    let mine = segment(1, 1 << 47);
    let mut extreme = dead_letters(mine, TooLate, &"\u{10ffff}".repeat(32), (1, (1 << 48) - 1));
    extreme.count = i64::MAX.cast_unsigned();
    (extreme.time_first, extreme.time_last) = (Some(Timestamp::MIN), Some(Timestamp::MAX));
    extreme.sample.index = u32::MAX;
    extreme.sample.product_sku = "\u{10ffff}".repeat(32);
    extreme.sample.message = "\"".repeat(MESSAGE_BYTES_MAX);
    let mut flush = flush(mine, Vec::new(), 1 << 48);
    flush.dead_letters = vec![extreme.clone()];
    store.flush(flush.into()).await.unwrap();
    assert_eq!(groups_in_pages(&store, &ALL, 9).await, [extreme]);
}
