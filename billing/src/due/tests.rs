//! What is due, on stores in memory.

use domain::BillingStore as _;

use super::*;
use crate::{
    BillingConfig, DocumentLimits,
    books::runs::RunRequest,
    testing::town::{TEXT, Town, deltas, month},
};

const HOUR: (&str, &str, &str) = ("vm", "hour", "1");

/// What is due in a town: month, tenant and what it waits for.
async fn due(town: &Town) -> Vec<(String, String, &'static str)> {
    let due = town.service.parts.looker.look().await.unwrap();
    let months = due.months.iter();
    let tenants = months.flat_map(|(month, tenants)| {
        tenants
            .iter()
            .map(|(tenant, waiting)| (month.to_string(), tenant.to_string(), waiting.as_str()))
    });
    tenants.collect()
}

fn waiting(all: &[(&str, &str)]) -> Vec<(String, String, &'static str)> {
    let all = all.iter();
    all.map(|(month, tenant)| ((*month).to_owned(), (*tenant).to_owned(), "waiting")).collect()
}

/// Bills everything that is due, month by month. That a month was billed makes the next one due where
/// nobody has looked at it since.
async fn bill(town: &Town) {
    for _ in 0..2 {
        let due = town.service.parts.looker.look().await.unwrap();
        for of in due.months.keys() {
            town.bill(month(&of.to_string())).await;
        }
    }
}

#[tokio::test]
async fn a_period_is_due_once_it_was_over_for_the_grace_and_until_it_is_billed() {
    let town = Town::at("2024-10-01T23:59:59Z").await;
    town.use_up("a", HOUR, "2024-09-10T10:00:00Z").await;
    town.use_up("b", HOUR, "2024-08-10T10:00:00Z").await;
    assert_eq!(due(&town).await, waiting(&[("2024-08", "b")]));
    town.wait_until("2024-10-02T00:00:00Z");
    assert_eq!(due(&town).await, waiting(&[("2024-08", "b"), ("2024-09", "a")]));
    bill(&town).await;
    // The month behind the last document was looked at, and had nothing.
    assert_eq!(due(&town).await, []);
}

#[tokio::test]
async fn what_comes_late_is_found_as_far_back_as_the_setting_says() {
    let mut config = BillingConfig::default();
    config.schedule.look_back_months = 3;
    let town = Town::with("2024-10-05T00:00:00Z", config).await;
    town.use_up("a", HOUR, "2024-09-10T10:00:00Z").await;
    bill(&town).await;
    // A tenant that is backfilled, within the look-back and beyond it.
    for hour in ["2024-06-30T23:00:00Z", "2024-07-01T00:00:00Z", "2024-09-30T23:00:00Z"] {
        town.use_up("late", HOUR, hour).await;
    }
    assert_eq!(due(&town).await, waiting(&[("2024-07", "late"), ("2024-09", "late")]));
    bill(&town).await;
    assert_eq!(due(&town).await, []);
    // A contract that is entered late, and bills without usage.
    town.apply(
        "contract: c\ntenant: new\nvalid_from: 2024-08-01\ncurrency: USD\nsubscriptions: [{sku: fee}]\n",
    )
    .await;
    assert_eq!(due(&town).await, waiting(&[("2024-08", "new"), ("2024-09", "new")]));
    bill(&town).await;
    // An invoice that is taken back.
    let found = town.service.parts.voids.void("INV-000001", "wrong").await.unwrap();
    assert_eq!(found.tenant.as_str(), "a");
    assert_eq!(due(&town).await, waiting(&[("2024-09", "a")]));
    bill(&town).await;
    assert_eq!(due(&town).await, []);
}

#[tokio::test]
async fn a_period_of_the_current_month_that_is_over_is_due() {
    let town = Town::at("2024-10-20T00:00:00Z").await;
    town.use_up("a", HOUR, "2024-10-02T10:00:00Z").await;
    assert_eq!(due(&town).await, []);
    town.apply("contract: c\ntenant: a\nvalid_from: 2024-10-10\ncurrency: USD\n").await;
    assert_eq!(due(&town).await, waiting(&[("2024-10", "a")]), "standard terms have ended");
}

#[tokio::test]
async fn a_period_in_which_a_run_found_nothing_is_due_again_when_something_changes() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    town.use_up("a", ("disk", "byte", "5"), "2024-09-10T10:00:00Z").await;
    let of_a = waiting(&[("2024-09", "a")]);
    assert_eq!(due(&town).await, of_a);
    bill(&town).await;
    assert_eq!(due(&town).await, [], "it waits for a price");
    town.use_up("a", ("disk", "byte", "5"), "2024-09-11T10:00:00Z").await;
    assert_eq!(due(&town).await, of_a, "newer usage");
    bill(&town).await;
    town.apply("contract: c\ntenant: a\nvalid_from: 2024-12-01\ncurrency: USD\n").await;
    assert_eq!(due(&town).await, of_a, "another contract");
    bill(&town).await;
    assert_eq!(due(&town).await, []);
    let disk = "  - {sku: disk, unit: byte, prices: [{valid_from: 2020-01-01T00:00:00Z, model: per_unit, unit_price: \"1\"}]}\n";
    let head = "\"2\"\neffective_from: 2020-01-01T00:00:00Z\n";
    town.publish("2", &format!("{}{disk}", TEXT.replace("\"1\"\n", head))).await;
    assert_eq!(due(&town).await, of_a, "another catalogue");
    let results = town.bill(month("2024-09")).await;
    assert_eq!(results.totals["USD"].invoices.text(2), "10.00");
    assert_eq!(due(&town).await, []);
}

#[tokio::test]
async fn a_period_without_usage_is_looked_at_once_behind_each_document_of_the_one_before() {
    let town = Town::at("2024-11-05T00:00:00Z").await;
    town.use_up("a", HOUR, "2024-09-10T10:00:00Z").await;
    town.use_up("b", HOUR, "2024-10-10T10:00:00Z").await;
    let behind = waiting(&[("2024-10", "a")]);
    town.bill(month("2024-10")).await;
    town.bill(month("2024-09")).await;
    assert_eq!(due(&town).await, behind, "a level may be carried into it");
    town.bill(month("2024-10")).await;
    assert_eq!(due(&town).await, []);
    town.use_up("a", HOUR, "2024-09-11T10:00:00Z").await;
    assert_eq!(town.bill(deltas("2024-09", "")).await.outcomes.deltas, 1);
    assert_eq!(due(&town).await, behind);
    town.bill(month("2024-10")).await;
    assert_eq!(due(&town).await, []);
}

#[tokio::test]
async fn only_usage_behind_a_cut_is_newer_than_it() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    for minute in 0..3 {
        let hour = format!("2024-09-10T1{minute}:00:00Z");
        town.use_up("a", ("disk", "byte", "5"), &hour).await;
    }
    bill(&town).await;
    let books = &town.service.parts.books;
    let run = books.runs.get(1).await.unwrap();
    let reader = UsageReader::new(Arc::new(town.usage.clone()), 2);
    let below = reader.below(run.cut.as_ref().unwrap()).await.unwrap();
    let now = reader.now().await.unwrap();
    let window = Window { start: Timestamp::MIN, end: Timestamp::MAX };
    let tenant = Tenant::new("a").unwrap();
    let newer = async || reader.has_newer((&now, &below), &tenant, window).await.unwrap();
    assert!(!newer().await);
    town.use_up("a", ("disk", "byte", "5"), "2024-09-10T10:00:00Z").await;
    assert!(newer().await);
}

#[tokio::test]
async fn a_tenant_that_failed_stays_due_with_the_words_of_the_last_run_until_it_is_billed() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    town.use_up("a", HOUR, "2024-09-10T10:00:00Z").await;
    town.use_up("b", HOUR, "2024-09-10T10:00:00Z").await;
    // The catalogue came after the cut.
    let run = town.open_with(month("2024-09"), |cut| cut.catalogues.clear()).await;
    town.service.parts.driver.execute(run.number).await.unwrap();
    let found = town.another().parts.looker.look().await.unwrap();
    let why = || Waiting::Failed(BillingError::NoCatalogue.to_string());
    let of = |tenant| (Tenant::new(tenant).unwrap(), why());
    let september: Month = "2024-09".parse().unwrap();
    let failed = BTreeMap::from([(september, BTreeMap::from([of("a"), of("b")]))]);
    assert_eq!(found.months, failed);
    assert_eq!(found.counts(), BTreeMap::from([("waiting", 0), ("failed", 2), ("blocked", 0)]));

    // A run of one tenant says nothing about the other.
    let only = |tenant: &str| RunRequest { tenants: vec![tenant.to_owned()], ..month("2024-09") };
    town.bill(only("b")).await;
    assert_eq!(due(&town).await, [("2024-09".to_owned(), "a".to_owned(), "failed")]);
    let results = town.bill(only("a")).await;
    assert_eq!((results.outcomes.invoices, results.outcomes.failed), (1, 0));
    assert_eq!(due(&town).await, []);
}

#[tokio::test]
async fn what_cannot_be_found_out_about_one_tenant_is_for_a_run_to_name() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    town.use_up("a", HOUR, "2024-07-10T10:00:00Z").await;
    town.use_up("b", HOUR, "2024-07-10T10:00:00Z").await;
    town.store.append_entry("ledger/a", 0, b"{}").await.unwrap();
    assert_eq!(due(&town).await, waiting(&[("2024-07", "b"), ("2024-09", "a")]));
    town.store.go_away();
    town.service.parts.looker.look().await.unwrap_err();
}

#[tokio::test]
async fn a_blocked_period_is_due_and_says_what_it_waits_for() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    town.use_up("a", HOUR, "2024-09-25T10:00:00Z").await;
    bill(&town).await;
    town.apply("contract: c\ntenant: a\nvalid_from: 2024-09-20\ncurrency: USD\n").await;
    bill(&town).await;
    assert_eq!(due(&town).await, [("2024-09".to_owned(), "a".to_owned(), "blocked")]);
    town.bill(deltas("2024-09", "")).await;
    assert_eq!(due(&town).await, []);
}

#[tokio::test]
async fn without_a_catalogue_nothing_is_due() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    town.use_up("a", HOUR, "2024-09-10T10:00:00Z").await;
    let (runs, schedule) = (RunConfig::default(), ScheduleConfig::default());
    let clock: Arc<dyn Clock> = Arc::new(|| "2024-10-05T00:00:00Z".parse().unwrap());
    let empty = Arc::new(storage::memory::MemoryBillingStore::new());
    let compute = edge::Compute::default();
    let books =
        Arc::new(Books::new(&empty, &clock, (&compute, &compute), DocumentLimits::default()));
    let usage = UsageReader::new(Arc::new(town.usage.clone()), 10);
    let looker = Looker::new((books, clock), usage, runs, &schedule);
    assert_eq!(looker.look().await.unwrap().months, BTreeMap::new());
}

#[tokio::test]
async fn who_asks_while_somebody_looks_shares_the_next_look_and_gets_no_older_answer() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    let looker = &town.service.parts.looker;
    let before = looker.look().await.unwrap();
    let looking = looker.last.lock().await;
    let mut asked = Box::pin(futures_util::future::join(looker.look(), looker.look()));
    tokio::time::timeout(std::time::Duration::ZERO, &mut asked).await.unwrap_err();
    drop(looking);
    let (one, two) = asked.await;
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &before));
    assert!(!Arc::ptr_eq(&one, &looker.look().await.unwrap()));
}
