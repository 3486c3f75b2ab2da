//! The runs that a tick opens.

use std::collections::BTreeMap;

use super::*;
use crate::{
    books::runs::results::{Outcomes, Results},
    due::Waiting,
    testing::town::{Town, deltas, month},
};

fn now() -> Timestamp {
    "2024-10-05T00:00:00Z".parse().unwrap()
}

/// So many tenants of September that are due, of so many.
fn due(count: usize, tenants: usize) -> Due {
    let of = |number| (Tenant::new(&format!("t{number:03}")).unwrap(), Waiting::Run);
    let september = ("2024-09".parse().unwrap(), (0..count).map(of).collect());
    let months = BTreeMap::from([september]);
    Due { looked_at: now(), from: "2024-06".parse().unwrap(), tenants, months }
}

fn nothing_due() -> Due {
    Due { months: BTreeMap::new(), ..due(0, 1) }
}

fn plan(schedule: &ScheduleConfig, due: &Due, runs: &[Run]) -> Vec<(String, usize, bool)> {
    let requests = of_tick(now(), schedule, due, runs).into_iter();
    requests.map(|run| (run.month.to_string(), run.tenants.len(), run.deltas)).collect()
}

#[tokio::test]
async fn a_run_names_a_hundred_tenants_and_is_for_all_where_more_are_due() {
    let schedule = ScheduleConfig::default();
    let of = |tenants| vec![("2024-09".to_owned(), tenants, false)];
    assert_eq!(plan(&schedule, &due(NAMED_MAX, 500), &[]), of(NAMED_MAX));
    assert_eq!(plan(&schedule, &due(NAMED_MAX + 1, 500), &[]), of(0));
    assert_eq!(plan(&schedule, &due(3, 3), &[]), of(0), "all there are");
    assert_eq!(plan(&schedule, &nothing_due(), &[]), []);
}

#[tokio::test]
async fn a_month_with_an_open_run_waits_for_its_end() {
    let town = Town::at("2024-10-05T00:00:00Z").await;
    let books = &town.service.parts.books;
    town.open(month("2024-09")).await;
    let schedule = ScheduleConfig::default();
    assert_eq!(plan(&schedule, &due(3, 5), &books.runs.all().await.unwrap()), []);
    books.runs.close(1, Results::default()).await.unwrap();
    assert_eq!(plan(&schedule, &due(3, 5), &books.runs.all().await.unwrap()).len(), 1);
}

#[tokio::test]
async fn deltas_are_billed_once_a_calendar_month_for_months_that_were_billed_but_the_last() {
    let town = Town::at("2024-09-03T00:00:00Z").await;
    let books = &town.service.parts.books;
    let outcomes = Outcomes { invoices: 1, ..Outcomes::default() };
    let billed = Results { outcomes, ..Results::default() };
    for (number, of) in (1..).zip(["2024-05", "2024-06", "2024-08"]) {
        town.open(month(of)).await;
        books.runs.close(number, billed.clone()).await.unwrap();
    }
    let threshold: Threshold = "USD 1.00".parse().unwrap();
    let off = ScheduleConfig::default();
    let monthly =
        ScheduleConfig { deltas: ScheduledDeltas::Monthly(threshold.clone()), ..off.clone() };
    let runs = books.runs.all().await.unwrap();
    assert_eq!(plan(&off, &nothing_due(), &runs), []);
    // May is before the look-back, July was not billed, September is the last.
    let expected = ["2024-06", "2024-08"].map(|of| (of.to_owned(), 0, true));
    assert_eq!(plan(&monthly, &nothing_due(), &runs), expected);
    let requests = of_tick(now(), &monthly, &nothing_due(), &runs);
    assert!(requests.iter().all(|request| request.threshold == threshold));

    // One of last month does not count, and one of some tenants neither.
    town.open(deltas("2024-06", "")).await;
    books.runs.close(4, Results::default()).await.unwrap();
    town.wait_until("2024-10-01T00:00:00Z");
    town.use_up("a", ("vm", "hour", "1"), "2024-06-10T10:00:00Z").await;
    town.open(RunRequest { tenants: vec!["a".to_owned()], ..deltas("2024-06", "") }).await;
    books.runs.close(5, Results::default()).await.unwrap();
    assert_eq!(plan(&monthly, &nothing_due(), &books.runs.all().await.unwrap()), expected);
    // One of this month does, and so does one that is open.
    town.open(deltas("2024-06", "")).await;
    let left = plan(&monthly, &nothing_due(), &books.runs.all().await.unwrap());
    assert_eq!(left, expected[1..]);
    books.runs.close(6, Results::default()).await.unwrap();
    let left = plan(&monthly, &nothing_due(), &books.runs.all().await.unwrap());
    assert_eq!(left, expected[1..]);
}
