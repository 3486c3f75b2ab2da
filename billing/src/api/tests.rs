//! What the audit trail is told of a write, on a store that answers no more once the write is done.

use std::sync::Arc;

use domain::{BillingStore as _, LogId, Timestamp, generation::Generation};
use edge::{
    Compute,
    access::{
        Change,
        trail::{Ended, Evidence, Outcome},
    },
    problem::reasons,
};
use proto::v1;
use storage::memory::{AppendFault, MemoryBillingStore, MemoryLog, MemoryUsageStore};

use super::BillingApi;
use crate::{BillingConfig, testing::no_log};

mod amendments;
mod dated_catalogues;
mod simulated;

const CATALOGUE: &str = r#"
catalogue: "2024-09"
currency: USD
skus:
  - sku: vm
    unit: hour
    dimensions: [region]
    prices:
      - {valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.25"}
"#;

const CONTRACT: &str = r#"
contract: acme-1
tenant: acme
valid_from: 2024-09-01
currency: USD
"#;

fn moment() -> Timestamp {
    "2024-10-01T00:00:00Z".parse().unwrap()
}

struct Setup {
    store: MemoryBillingStore,
    log: MemoryLog,
    api: BillingApi<MemoryUsageStore, MemoryBillingStore, MemoryLog>,
}

fn setup() -> Setup {
    let store = MemoryBillingStore::new();
    store.go_away_after_writes();
    let log = MemoryLog::new(Generation::new(LogId([3; 16]), 3, 11), Arc::new(moment));
    let config = BillingConfig { declare_tries_max: 1, ..BillingConfig::default() };
    let (usage, billing) = (Arc::default(), Arc::new(store.clone()));
    let (clock, compute) = (Arc::new(moment), Compute::default());
    let log_port = Arc::new(log.clone());
    let api = BillingApi::new(usage, billing, log_port, no_log(), clock, config, compute);
    Setup { store, log, api }
}

fn publish(text: &str) -> v1::PublishCatalogueRequest {
    v1::PublishCatalogueRequest { text: text.to_owned(), ..Default::default() }
}

fn apply(text: &str) -> v1::ApplyContractRequest {
    v1::ApplyContractRequest { text: text.to_owned(), validate_only: false }
}

#[tokio::test]
async fn a_contract_that_was_applied_is_answered_so_whatever_the_store_does_then() {
    let Setup { store, api, .. } = setup();
    api.publish(publish(CATALOGUE), &Change::default()).await.unwrap();
    let renewed = CONTRACT.replace("acme-1", "acme-2").replace("2024-09-01", "2024-10-01");
    let other = CONTRACT.replace("acme-1", "zeta-1").replace("tenant: acme", "tenant: zeta");
    let texts = [(CONTRACT, None), (&other, None), (&renewed, Some(CONTRACT))];
    for (text, before) in texts {
        store.come_back();
        let change = Change::default();
        let answer = api.apply(apply(text), &change).await.unwrap();
        assert!(!answer.already_applied);
        let name = answer.contract.unwrap().name;
        let expected = Ended {
            target: Some(name),
            before: before.map(Evidence::of),
            after: Some(Evidence::of(text)),
            ..Ended::new(moment(), Outcome::Done)
        };
        assert_eq!(change.ended(moment(), None), expected);
    }
}

#[tokio::test]
async fn a_catalogue_that_was_published_is_answered_so_whatever_the_store_does_then() {
    let Setup { api, .. } = setup();
    let change = Change::default();
    let answer = api.publish(publish(CATALOGUE), &change).await.unwrap();
    assert_eq!(answer.catalogue.unwrap().skus, 1);
    let expected = Ended {
        target: Some("2024-09".to_owned()),
        after: Some(Evidence::of(CATALOGUE)),
        ..Ended::new(moment(), Outcome::Done)
    };
    assert_eq!(change.ended(moment(), None), expected);
}

#[tokio::test]
async fn a_catalogue_that_is_stored_and_not_active_has_its_text_in_the_trail() {
    let Setup { store, log, api } = setup();
    log.fail_next_append(AppendFault::Unavailable);
    let change = Change::default();
    let problem = api.publish(publish(CATALOGUE), &change).await.unwrap_err();
    assert_eq!(problem.reason, reasons::LOG_UNAVAILABLE);
    let ended = change.ended(moment(), Some(problem.reason));
    assert_eq!((ended.before, ended.after), (None, Some(Evidence::of(CATALOGUE))));
    assert!(!store.catalogue("2024-09").await.unwrap().unwrap().active);
}
