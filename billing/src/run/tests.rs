//! Runs on stores in memory: what a tenant alone fails at, and what all of them fail at.

use domain::{BillingStore as _, billing::Appended};
use edge::access::Change;
use proto::v1::ApplyContractRequest;
use serde_json::json;
use storage::memory::EntryFault;

use super::*;
use crate::{
    books::runs::results::{LISTED_MAX, Words},
    testing::town::{self, Town, deltas, month, results},
};

const HOUR: (&str, &str, &str) = ("vm", "hour", "1");

/// A town in October in which some tenants have used 0.25 of September.
async fn town(tenants: &[&str]) -> Town {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    for tenant in tenants {
        town.use_up(tenant, HOUR, "2024-09-10T10:00:00Z").await;
    }
    town
}

/// A ledger that nobody understands: its tenant cannot be billed.
async fn damage(town: &Town, tenant: &str) {
    let added = town.store.append_entry(&format!("ledger/{tenant}"), 0, b"{}").await;
    assert_eq!(added, Ok(Appended::Added));
}

fn tenants(words: &[Words]) -> Vec<&str> {
    words.iter().map(|words| words.tenant.as_str()).collect()
}

#[tokio::test]
async fn a_tenant_that_cannot_be_billed_is_named_and_the_run_closes() {
    let town = town(&["a", "b", "c"]).await;
    damage(&town, "b").await;
    let results = town.bill(month("2024-09")).await;
    assert_eq!((results.outcomes.invoices, results.outcomes.failed), (2, 1));
    assert_eq!((tenants(&results.failures), results.tenants_done), (vec!["b"], 3));
    assert_eq!(results.totals["USD"].invoices.text(2), "0.50");

    // It is in the books: another process knows it too, in all its words.
    let elsewhere = town.another().run(1).await.unwrap();
    assert_eq!(elsewhere.state, "closed_with_failures");
    assert_eq!(elsewhere, town.service.run(1).await.unwrap());
    assert!(elsewhere.failures[0].message.contains("ledger/b"), "{elsewhere:?}");
    assert_eq!(town.service.parts.books.runs.open_numbers().await.unwrap(), Vec::<u64>::new());
}

#[tokio::test]
async fn a_contract_that_cannot_be_read_fails_its_own_tenant_and_is_listed_with_the_reason() {
    let town = town(&["a", "b", "c"]).await;
    town.apply(&contract("a")).await;
    // As a later version might write them: words that this one does not know, a catalogue that it lacks.
    for (place, tenant, more, catalogue) in [(1, "b", "loyalty: 3", "1"), (2, "c", "", "2")] {
        let text = format!("{}{more}\n", contract(tenant));
        let entry = json!({"contract": format!("{tenant}-1"), "tenant": tenant, "text": text,
                           "catalogue": catalogue, "applied_at": "2024-10-01T00:00:00Z"});
        let added = town.store.append_entry("contracts", place, entry.to_string().as_bytes()).await;
        assert_eq!(added, Ok(Appended::Added));
    }
    let results = town.bill(month("2024-09")).await;
    assert_eq!((results.outcomes.invoices, results.outcomes.failed), (1, 2));
    assert_eq!(tenants(&results.failures), ["b", "c"]);
    for (failure, words) in results.failures.iter().zip(["loyalty", "\"2\""]) {
        assert!(failure.message.contains(words), "{failure:?}");
    }

    let listed = town.service.contracts("").await.unwrap().contracts;
    let unreadable: Vec<bool> = listed.iter().map(|it| !it.unreadable.is_empty()).collect();
    assert_eq!(unreadable, [false, true, true]);
    let shown = town.service.contract("b-1").await.unwrap();
    assert!(shown.text.contains("loyalty") && shown.unreadable.contains("loyalty"), "{shown:?}");
    town.apply(&contract("d")).await;
    let behind = contract("b").replace("b-1", "b-2").replace("2024-09", "2024-10");
    let (text, validate_only) = (behind, false);
    let request = ApplyContractRequest { text, validate_only };
    let refused = town.service.apply(request, &Change::default()).await.unwrap_err();
    assert!(refused.message.contains("b-1"), "{refused:?}");
}

fn contract(tenant: &str) -> String {
    format!("contract: {tenant}-1\ntenant: {tenant}\nvalid_from: 2024-09-01\ncurrency: USD\n")
}

#[tokio::test]
async fn of_many_failures_the_first_hundred_are_listed_and_all_are_counted() {
    let names: Vec<String> = (0..=LISTED_MAX).map(|number| format!("t{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let town = town(&names).await;
    for name in &names {
        damage(&town, name).await;
    }
    let results = town.bill(month("2024-09")).await;
    assert_eq!(results.outcomes.failed, LISTED_MAX as u64 + 1);
    assert!(results.failures.is_sorted_by_key(|words| words.tenant.clone()));
    assert_eq!(results.failures.len(), LISTED_MAX);
}

#[tokio::test]
async fn a_store_that_answers_nobody_leaves_the_run_open_and_each_tenant_is_billed_once() {
    let town = town(&["a", "b", "c"]).await;
    let number = town.open(month("2024-09")).await.number;
    town.store.go_away_after_writes();
    let (driver, books) = (&town.service.parts.driver, &town.service.parts.books);
    let mut attempts = 0;
    let run = loop {
        attempts += 1;
        if let Err(error) = driver.execute(number).await {
            assert!(matches!(error, BillingError::Store(_)), "{error}");
            let Progress { doing, results } = driver.progress(number);
            assert!(results.failures.is_empty() && doing.starts_with("stopped"), "{doing}");
        }
        town.store.come_back();
        let run = books.runs.get(number).await.unwrap();
        if run.ended.is_some() {
            break run;
        }
    };
    assert!(attempts > 3, "it went away {attempts} times");
    let results = results(run);
    assert_eq!((results.outcomes.invoices, results.outcomes.failed), (3, 0));
    let (documents, _) = town.service.parts.books.documents.page(1, 10).await.unwrap();
    assert_eq!(documents.len(), 3);
}

#[tokio::test]
async fn a_store_that_fails_for_one_tenant_is_tried_again_before_the_tenant_counts_as_failed() {
    let town = town(&["a"]).await;
    let fail = |times: u32| {
        (0..times).for_each(|_| town.store.fail_next_entry(EntryFault::Lost));
    };
    let first = town.open(month("2024-09")).await.number;
    fail(TENANT_TRIES_MAX);
    let failed = results(town.service.parts.driver.execute(first).await.unwrap());
    assert_eq!((failed.outcomes.failed, failed.outcomes.invoices), (1, 0));

    let second = town.open(month("2024-09")).await.number;
    fail(TENANT_TRIES_MAX - 1);
    let billed = results(town.service.parts.driver.execute(second).await.unwrap());
    assert_eq!((billed.outcomes.failed, billed.outcomes.invoices), (0, 1), "run {second}");
}

#[tokio::test]
async fn two_processes_at_once_end_with_one_result_and_one_invoice_a_tenant() {
    let names: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let town = town(&names).await;
    damage(&town, "t3").await;
    let number = town.open(month("2024-09")).await.number;
    town.store.add_within(std::time::Duration::from_micros(10));
    let other = town.another();
    let executed = (town.service.parts.driver.execute(number), other.parts.driver.execute(number));
    let (one, two) = tokio::join!(executed.0, executed.1);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.ended, two.ended, "the first that closes it counts");
    let results = results(one);
    assert_eq!((results.outcomes.invoices, results.outcomes.failed), (7, 1));
    let (documents, _) = town.service.parts.books.documents.page(1, 100).await.unwrap();
    let billed: BTreeSet<Tenant> = documents.iter().map(|found| found.tenant.clone()).collect();
    assert_eq!((documents.len(), billed.len()), (7, 7));
}

#[tokio::test]
async fn a_run_of_tenants_that_nobody_knows_is_refused_and_names_them() {
    let town = town(&["a"]).await;
    town.apply("contract: c\ntenant: b\nvalid_from: 2024-11-01\ncurrency: USD\n").await;
    let open = async |tenants: &[&str]| {
        let tenants = tenants.iter().map(|&tenant| tenant.to_owned()).collect();
        let request = RunRequest { tenants, ..month("2024-09") };
        town.service.parts.driver.open(request).await
    };
    open(&["a", "b"]).await.unwrap();
    let error = open(&["a", "y", "zzz"]).await.unwrap_err();
    assert!(
        matches!(error, BillingError::Refused { reason: Refusal::TenantUnknown, .. }),
        "{error}"
    );
    assert!(error.to_string().starts_with("nobody knows \"y\", \"zzz\": no usage"), "{error}");
    let many: Vec<String> = (0..=UNKNOWN_NAMED_MAX).map(|number| format!("z{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let error = open(&many).await.unwrap_err().to_string();
    assert!(error.contains(" and 1 more: "), "{error}");
    let error = open(&many[1..]).await.unwrap_err().to_string();
    assert!(!error.contains(" more: "), "{error}");
}

#[tokio::test]
async fn a_delta_below_the_threshold_waits_and_one_of_just_as_much_is_made() {
    let town = town(&["a"]).await;
    town.bill(month("2024-09")).await;
    town.use_up("a", ("vm", "hour", "3.96"), "2024-09-11T10:00:00Z").await;
    // 3.96 hours more are 0.99.
    let little = town.bill(deltas("2024-09", "USD 1.00")).await;
    assert_eq!((little.outcomes.below_threshold, little.outcomes.deltas), (1, 0));
    let other = town.bill(deltas("2024-09", "BRL 1.00")).await;
    assert_eq!(other.outcomes.below_threshold, 0, "a currency without a threshold");
    assert_eq!(other.totals["USD"].deltas.text(2), "0.99");

    // Four hours less give 1.00 back.
    town.use_up("a", ("vm", "hour", "-4"), "2024-09-12T10:00:00Z").await;
    let enough = town.bill(deltas("2024-09", "USD 1.00")).await;
    assert_eq!((enough.outcomes.below_threshold, enough.outcomes.deltas), (0, 1));
    assert_eq!(enough.totals["USD"].deltas.text(2), "-1.00");
}

#[tokio::test]
async fn a_delta_that_another_period_waits_for_is_made_whatever_it_comes_to() {
    let town = town(&["a"]).await;
    town.use_up("a", HOUR, "2024-09-25T10:00:00Z").await;
    town.bill(month("2024-09")).await;
    town.apply("contract: c\ntenant: a\nvalid_from: 2024-09-20\ncurrency: USD\n").await;
    let results = town.bill(deltas("2024-09", "USD 100.00")).await;
    assert_eq!((results.outcomes.deltas, results.outcomes.invoices), (1, 1));
    let totals = &results.totals["USD"];
    assert_eq!((totals.deltas.text(2), totals.invoices.text(2)), ("-0.25".into(), "0.25".into()));
}

#[tokio::test]
async fn a_run_that_has_ended_drafts_nothing_more() {
    let town = town(&["a"]).await;
    let run = town.open(month("2024-09")).await;
    let below = town.service.parts.driver.usage.below(run.cut.as_ref().unwrap()).await.unwrap();
    town.service.parts.books.runs.close(run.number, Results::default()).await.unwrap();
    let tenant = Tenant::new("a").unwrap();
    let mut billed = Results::default();
    let saga = &town.service.parts.driver.saga;
    saga.bill_tenant(&run, &below, &tenant, &mut billed).await.unwrap();
    assert_eq!((billed.outcomes.invoices, billed.outcomes.unchanged), (0, 1));
    assert_eq!(
        town::results(town.service.parts.books.runs.get(1).await.unwrap()),
        Results::default()
    );
}

#[tokio::test]
async fn a_run_that_goes_on_late_says_nothing_about_what_was_taken_back_or_billed_since() {
    let town = town(&["a"]).await;
    let (driver, voids) = (&town.service.parts.driver, &town.service.parts.voids);
    let only = || RunRequest { tenants: vec!["a".to_owned()], ..month("2024-09") };
    // Billed by another run and taken back, between its cut and its end.
    let late = town.open(month("2024-09")).await.number;
    town.wait_until("2024-10-05T00:00:01Z");
    town.bill(only()).await;
    voids.void("INV-000001", "r").await.unwrap();
    let said = results(driver.execute(late).await.unwrap());
    assert_eq!(
        (said.outcomes.invoices, said.outcomes.unchanged),
        (0, 1),
        "only a new run bills it"
    );

    // Billed below a newer cut: its own is from before the late usage.
    town.bill(month("2024-09")).await;
    let late = town.open(deltas("2024-09", "")).await.number;
    town.wait_until("2024-10-05T00:00:02Z");
    town.use_up("a", ("vm", "hour", "8"), "2024-09-26T10:00:00Z").await;
    let newer = RunRequest { deltas: true, ..only() };
    assert_eq!(town.bill(newer).await.totals["USD"].deltas.text(2), "2.00");
    let said = results(driver.execute(late).await.unwrap());
    assert_eq!((said.outcomes.deltas, said.outcomes.unchanged), (0, 1));

    // Reversed by another run, which was taken back.
    town.apply(
        "contract: c\ntenant: a\nvalid_from: 2024-08-20\nbilling_anchor: 20\ncurrency: USD\n",
    )
    .await;
    let late = town.open(deltas("2024-09", "")).await.number;
    town.wait_until("2024-10-05T00:00:03Z");
    let reversed = town.bill(RunRequest { deltas: true, ..only() }).await;
    assert_eq!(reversed.totals["USD"].deltas.text(2), "-2.25");
    voids.void("INV-000004", "r").await.unwrap();
    let said = results(driver.execute(late).await.unwrap());
    assert_eq!(said.outcomes.deltas, 0, "what was taken back stays so");
}

#[tokio::test]
async fn what_a_tenant_was_billed_before_it_failed_is_counted() {
    let town = town(&["a"]).await;
    town.use_up("a", HOUR, "2024-09-25T10:00:00Z").await;
    town.apply("contract: c\ntenant: a\nvalid_from: 2024-09-20\ncurrency: USD\n").await;
    assert_eq!(town.bill(month("2024-09")).await.outcomes.invoices, 2);
    let second = town.service.parts.books.documents.find("2").await.unwrap();
    let content = format!("content/{}", second.document.draft.content);
    assert_eq!(town.store.append_entry(&content, 1, b"damage").await, Ok(Appended::Added));
    town.use_up("a", HOUR, "2024-09-11T10:00:00Z").await;
    let results = town.bill(deltas("2024-09", "")).await;
    assert_eq!((results.outcomes.deltas, results.outcomes.failed), (1, 1));
    assert_eq!((results.totals["USD"].deltas.text(2), results.tenants_done), ("0.25".into(), 1));
}
