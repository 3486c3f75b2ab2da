//! Forwarding in memory: processes that come, fail and go, and a topic that is another's.

use std::sync::Arc;

use runtime::Health;
use serde_json::json;
use storage::memory::{MemoryBillingStore, MemoryOutlet, OutletFault};

use super::*;
use crate::config::RunConfig;

fn queue(store: &MemoryBillingStore) -> Arc<Register<MemoryBillingStore>> {
    Arc::new(Register::new(Arc::new(store.clone()), Queue::Outbox.name()))
}

/// Puts messages of three tenants into the outbox.
async fn put(outbox: &Register<MemoryBillingStore>, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let body = json!({"tenant": format!("tenant-{}", number % 3), "n": number});
        let item = Item::new(format!("final/{number}"), &body);
        assert_eq!(outbox.draw(item).await.unwrap(), number);
    }
}

/// Forwards in a task until the shutdown.
fn start(
    register: Arc<Register<MemoryBillingStore>>,
    outlet: &MemoryOutlet,
    health: &Health,
    name: &str,
) -> (Shutdown, tokio::task::JoinHandle<()>) {
    let (until, check) = (Shutdown::new(), health.register(name));
    let (outlet, ending) = (outlet.clone(), until.clone());
    let task = tokio::spawn(async move {
        let backoff = RunConfig::default().backoff();
        Forwarder::new(Queue::Outbox, register, backoff).run(&outlet, &ending, &check).await;
    });
    (until, task)
}

/// Waits until the topic's newest message is this; the clock is the test's.
async fn comes_to(outlet: &MemoryOutlet, number: u64) {
    for _ in 0..1_000 {
        if outlet.newest().await == Ok(number) {
            return;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    panic!("stuck at {:?}, not {number}", outlet.newest().await);
}

#[tokio::test(start_paused = true)]
async fn each_message_is_forwarded_once_and_in_order_whoever_fails_or_goes() {
    let (store, outlet, health) = (MemoryBillingStore::new(), MemoryOutlet::new(), Health::new());
    let writer = queue(&store);
    put(&writer, 1..=250).await;
    outlet.fail_next_append(OutletFault::Added);
    outlet.fail_next_append(OutletFault::Lost);
    let (first_until, first) = start(queue(&store), &outlet, &health, "first");
    let (second_until, second) = start(queue(&store), &outlet, &health, "second");
    comes_to(&outlet, 250).await;
    put(&writer, 251..=300).await;
    comes_to(&outlet, 300).await;
    first.abort();
    drop(first.await);
    outlet.fail_next_append(OutletFault::Added);
    put(&writer, 301..=650).await;
    comes_to(&outlet, 650).await;
    first_until.request();
    second_until.request();
    second.await.unwrap();
    let messages = outlet.messages();
    let numbers: Vec<u64> = messages.iter().map(|message| message.number).collect();
    assert_eq!(numbers, (1..=650).collect::<Vec<_>>());
    assert_eq!(messages[6].key, "tenant-1");
    let seventh: serde_json::Value = serde_json::from_slice(&messages[6].body).unwrap();
    assert_eq!(seventh, json!({"message": "7", "body": {"tenant": "tenant-1", "n": 7}}));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_ahead_of_its_queue_is_not_written_and_said() {
    let (outlet, health) = (MemoryOutlet::new(), Health::new());
    let other = MemoryBillingStore::new();
    put(&queue(&other), 1..=9).await;
    let (until, task) = start(queue(&other), &outlet, &health, "other");
    comes_to(&outlet, 9).await;
    until.request();
    task.await.unwrap();

    let store = MemoryBillingStore::new();
    put(&queue(&store), 1..=3).await;
    let (until, task) = start(queue(&store), &outlet, &health, "ours");
    let said = loop {
        tokio::time::sleep(INTERVAL).await;
        if let Some(runtime::health::Readiness::NotReady(why)) = health.report().checks.get("ours")
            && why.contains("message")
        {
            break why.clone();
        }
    };
    assert!(said.contains("holds message 9, which its queue"), "{said}");
    assert_eq!(outlet.messages().len(), 9);
    until.request();
    task.await.unwrap();
}
