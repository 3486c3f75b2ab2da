//! Registers in memory: processes that draw together, and one that comes back.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use storage::memory::MemoryBillingStore;

use super::*;

fn opened(store: &MemoryBillingStore) -> Register<MemoryBillingStore> {
    Register::new(Arc::new(store.clone()), "n")
}

fn text(item: Item) -> (String, String) {
    (item.key, item.body.to_string())
}

fn item(key: &str) -> Item {
    Item::new(key.to_owned(), &json!({"of": key}))
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_get_one_number_each_without_gaps_however_many_processes_draw() {
    let store = MemoryBillingStore::new();
    let processes: Vec<Arc<Register<MemoryBillingStore>>> =
        (0..4).map(|_| Arc::new(opened(&store))).collect();
    let mut draws = tokio::task::JoinSet::new();
    for key in 0..300 {
        // Each key is drawn for by two processes at once.
        for process in [key % 4, (key + 1) % 4] {
            let register = Arc::clone(&processes[process]);
            draws.spawn(async move {
                let key = format!("key-{key}");
                let number = register.draw(item(&key)).await.unwrap();
                (key, number)
            });
        }
    }
    let mut drawn = BTreeSet::new();
    while let Some(done) = draws.join_next().await {
        drawn.insert(done.unwrap());
    }
    let numbers: Vec<u64> = {
        let mut numbers: Vec<u64> = drawn.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers, (1..=300).collect::<Vec<_>>(), "one number a key, none twice, no gap");

    let fresh = opened(&store);
    for (key, number) in &drawn {
        assert_eq!(fresh.find(key).await.unwrap(), Some(*number));
        assert_eq!(fresh.item(*number).await.unwrap().map(text), Some(text(item(key))));
    }
    assert!(fresh.item(301).await.unwrap().is_none());
    assert!(fresh.item(0).await.unwrap().is_none());
}

#[tokio::test]
async fn items_are_read_in_order_from_any_number_and_in_pages_of_any_size() {
    let store = MemoryBillingStore::new();
    let register = opened(&store);
    for key in 0..7 {
        register.draw(item(&key.to_string())).await.unwrap();
    }
    for from in 1..=9u64 {
        for limit in 1..=8 {
            let found = register.items(from, limit).await.unwrap();
            let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
            let expected: Vec<u64> = (from..=7).take(limit).collect();
            assert_eq!(numbers, expected, "from {from}, at most {limit}");
        }
    }
}

#[tokio::test]
async fn a_key_that_nobody_waits_for_any_more_draws_no_number() {
    let store = MemoryBillingStore::new();
    let register = opened(&store);
    // Another process took the place: this one finds its own key after reading on.
    opened(&store).draw(item("other")).await.unwrap();
    assert_eq!(register.draw(item("own")).await.unwrap(), 2);
    assert!(register.waiting().is_empty());
}
