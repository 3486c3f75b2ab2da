//! Contracts and periods against the log's windows, also of a log that got shorter ones by growing.

use domain::{
    Aggregate, Cell, Dimensions, Epoch, LogId, Offset, Partition, Quantity, ResourceKey, RowKey,
    SegmentId, Sku, Tenant, Unit, UsageStore as _,
    epochs::LogEvent,
    segment::{Conservation, Progress},
    store::Flush,
};
use pricing::{
    invoice,
    timeline::{self, Month},
};
use storage::memory::MemoryUsageStore;

use super::*;

const HOURS: LogId = LogId([1; 16]);
const QUARTERS: LogId = LogId([2; 16]);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A contract of acme in a zone, from a date on.
fn contract(zone: &str, from: &str, to: Option<&str>) -> Contract {
    let to = to.map_or_else(String::new, |to| format!("valid_to: {to}\n"));
    let text = format!(
        "contract: c\ntenant: acme\nvalid_from: {from}\n{to}currency: USD\ntime_zone: {zone}\n"
    );
    let catalogue = "catalogue: \"1\"\ncurrency: USD\nskus: [{sku: s, unit: u, prices: []}]\n";
    let catalogue = pricing::file::parse("catalogue", catalogue.as_bytes()).unwrap().catalogue;
    let source = |_: Option<&str>| Some(catalogue.clone());
    pricing::file::contract::parse_contract("c", text.as_bytes(), &source).unwrap()
}

fn said(checked: Result<(), BillingError>) -> String {
    match checked.unwrap_err() {
        BillingError::Refused { reason: Refusal::WindowsTooLong, message } => message,
        other => panic!("{other}"),
    }
}

/// Each row: a zone, the windows of the log in minutes, and those that the remedy names.
#[test]
fn a_contract_is_refused_where_a_day_of_its_zone_begins_inside_a_window() {
    for (zone, minutes, remedy) in [
        ("UTC", 60, None),
        ("America/Sao_Paulo", 60, None),
        ("Asia/Kolkata", 60, Some("30m")),
        ("Asia/Kolkata", 30, None),
        ("Asia/Kathmandu", 60, Some("15m")),
        ("Asia/Kathmandu", 30, Some("15m")),
        ("Asia/Kathmandu", 15, None),
        ("Australia/Lord_Howe", 60, Some("30m")),
        ("Australia/Lord_Howe", 15, None),
    ] {
        let length = WindowLength::new(Duration::from_secs(minutes * 60)).unwrap();
        let agreed = contract(zone, "2026-01-01", None).agreed();
        let checked = check_zone("c", (&Calendar::named(zone).unwrap(), agreed), length);
        let Some(remedy) = remedy else {
            assert_eq!(checked.map_err(|error| error.to_string()), Ok(()), "{zone} {minutes}");
            continue;
        };
        let said = said(checked);
        for part in [
            format!("contract \"c\" is in {zone}"),
            format!("one of the log's windows of {length}"),
            format!("`pulso log grow --window {remedy}`"),
            format!("log.window = \"{remedy}\""),
        ] {
            assert!(said.contains(&part), "{zone} {minutes}: {said}");
        }
    }
}

#[test]
fn a_contract_that_ends_before_the_clocks_move_fits_windows_that_a_longer_one_does_not() {
    let zone = Calendar::named("Australia/Lord_Howe").unwrap();
    let check = |to| {
        let agreed = contract("Australia/Lord_Howe", "2026-01-01", to).agreed();
        check_zone("c", (&zone, agreed), WindowLength::HOUR)
    };
    assert!(check(Some("2026-04-01")).is_ok());
    assert!(
        said(check(Some("2026-05-01")))
            .contains("the day 2026-04-06 begins at 2026-04-05T13:30:00Z")
    );
}

#[test]
fn where_no_windows_fit_the_remedy_is_another_day_or_zone() {
    let zone = Calendar::named("America/Sao_Paulo").unwrap();
    let agreed = contract("America/Sao_Paulo", "1913-01-01", None).agreed();
    let said = said(check_zone("c", (&zone, agreed), WindowLength::QUARTER_HOUR));
    assert!(said.contains("windows of no length fit"), "{said}");
    assert!(said.contains("begin on 1914-01-02 or later"), "{said}");
}

/// A store of a log that grew from hours to quarters, and what knows its windows.
struct Grown {
    store: Arc<MemoryUsageStore>,
    windows: Windows<MemoryUsageStore>,
}

async fn grown() -> Grown {
    let store = Arc::new(MemoryUsageStore::new());
    let hours = Generation::new(HOURS, 1, 0);
    let quarters = hours.grown(QUARTERS, 1).with_windows(WindowLength::QUARTER_HOUR);
    store.register(&hours, None).await.unwrap();
    store.register(&quarters, Some(HOURS)).await.unwrap();
    let windows = Windows::new(Arc::clone(&store), quarters, 2);
    Grown { store, windows }
}

impl Grown {
    async fn end_the_old_part(&self) {
        let sealed = LogEvent::Sealed { log_id: HOURS, epoch: Epoch(0), ends: vec![Offset(9)] };
        self.store.append_log_event(0, &sealed).await.unwrap();
    }

    async fn counted(&self, log_id: LogId, starts: &[&str]) -> Vec<UsageRow> {
        let segment =
            SegmentId { log_id, partition: Partition(0), epoch: Epoch(0), start: Offset(0) };
        let row = |start: &&str| {
            let resource = ResourceKey {
                tenant: Tenant::new("acme").unwrap(),
                product_sku: Sku::new("s").unwrap(),
                use_unity: Unit::new("u").unwrap(),
                dimensions: Dimensions::none(),
            };
            let aggregate = Aggregate::of(Quantity::ONE, at(start));
            UsageRow {
                key: RowKey { resource, window_start: at(start), segment },
                cell: Cell { offset_last: Offset(0), aggregate },
            }
        };
        let rows: Vec<_> = starts.iter().map(row).collect();
        let progress = Progress {
            log_id,
            partition: Partition(0),
            epoch: Epoch(0),
            folded_to: Offset(1),
            eff_ts: Timestamp::MIN,
            counts: Conservation::default(),
            anchor: None,
            caught_up_at: None,
        };
        let flush = Flush {
            segment,
            rows: rows.clone(),
            stored_before: Vec::new(),
            dead_letters: Vec::new(),
            close: None,
            progress: Some(progress),
        };
        self.store.flush(Arc::new(flush)).await.unwrap();
        rows
    }

    async fn check(&self, zone: &str, from: &str) -> Result<(), BillingError> {
        self.windows.check_contract(&contract(zone, from, None)).await
    }
}

#[tokio::test]
async fn on_a_grown_log_a_contract_waits_for_the_end_of_the_longer_windows_if_it_needs_the_new_ones()
 {
    let grown = grown().await;
    let said = said(grown.check("Asia/Kolkata", "2026-12-01").await);
    assert!(said.contains("once `pulso log show` says `ended`"), "{said}");
    assert!(grown.check("Europe/Madrid", "2026-12-01").await.is_ok(), "it fits both");
    grown.end_the_old_part().await;
    assert!(grown.check("Asia/Kolkata", "2026-12-01").await.is_ok());
}

/// The log counted hours until the 10th of November; midnight in Kolkata is at 18:30 in UTC.
#[tokio::test]
async fn on_a_grown_log_a_contract_begins_behind_the_last_window_that_is_across_one_of_its_days() {
    let grown = grown().await;
    grown.end_the_old_part().await;
    let old = ["2026-11-08T18:00:00Z", "2026-11-09T18:00:00Z", "2026-11-09T19:00:00Z"];
    grown.counted(HOURS, &old).await;
    let new = ["2026-11-09T19:45:00Z", "2026-11-10T18:15:00Z", "2026-11-10T18:30:00Z"];
    grown.counted(QUARTERS, &new).await;
    for from in ["2026-01-01", "2026-11-09", "2026-11-10"] {
        let said = said(grown.check("Asia/Kolkata", from).await);
        for part in ["2026-11-09T18:00:00Z to 2026-11-09T19:00:00Z", "begin on 2026-11-11 or later"]
        {
            assert!(said.contains(part), "{from}: {said}");
        }
    }
    assert!(grown.check("Asia/Kolkata", "2026-11-11").await.is_ok(), "the remedy works");
    for zone in ["UTC", "Europe/Madrid"] {
        assert!(grown.check(zone, "2026-01-01").await.is_ok(), "{zone}");
    }
    let mut other = contract("Asia/Kolkata", "2026-01-01", None);
    other.tenant = Tenant::new("new").unwrap();
    assert!(grown.windows.check_contract(&other).await.is_ok(), "it used nothing then");
}

/// A period is billed if no row is across its edges, whatever else is counted by the hour in it.
#[tokio::test]
async fn a_month_of_both_windows_is_billed_exactly_or_refused() {
    let grown = grown().await;
    let kolkata = contract("Asia/Kolkata", "2026-11-01", None);
    let month: Month = "2026-11".parse().unwrap();
    let catalogue = "catalogue: \"1\"\ncurrency: USD\nskus: [{sku: s, unit: u, prices: []}]\n";
    let catalogue = pricing::file::parse("catalogue", catalogue.as_bytes()).unwrap().catalogue;
    let standard = invoice::standard_contract(&Tenant::new("acme").unwrap(), &catalogue);
    let contracts = [standard, kolkata];
    let stretches = timeline::stretches(&contracts);
    let periods = timeline::periods(&stretches, month).unwrap();
    let period = &periods[0];
    assert_eq!(period.window.start, at("2026-10-31T18:30:00Z"));
    let windows = grown.windows.of_log().await.unwrap();
    assert_eq!(windows.reaching_into(period.window).start, at("2026-10-31T18:00:00Z"));
    for (log_id, start, edge) in [
        (HOURS, "2026-10-31T17:00:00Z", None),
        (HOURS, "2026-10-31T18:00:00Z", Some("2026-10-31T18:30:00Z")),
        (HOURS, "2026-10-31T19:00:00Z", None),
        (HOURS, "2026-11-09T18:00:00Z", None),
        (HOURS, "2026-11-30T18:00:00Z", Some("2026-11-30T18:30:00Z")),
        (QUARTERS, "2026-10-31T18:15:00Z", None),
        (QUARTERS, "2026-11-30T18:15:00Z", None),
    ] {
        let rows = grown.counted(log_id, &[start]).await;
        let checked = check_rows(windows, period, &rows);
        let Some(edge) = edge else {
            assert!(checked.is_ok(), "{start}");
            continue;
        };
        let said = said(checked);
        assert!(said.contains(&format!("{edge}, where a period")), "{said}");
        let day = if edge.starts_with("2026-10") { "2026-11-02" } else { "2026-12-02" };
        assert!(said.contains(&format!("from {day} on")), "{said}");
    }
    assert!(grown.windows.check_edges(period.window).is_ok());
    let inside = Window { start: at("2026-10-31T18:20:00Z"), ..period.window };
    assert!(said(grown.windows.check_edges(inside)).contains("windows of no length fit"));
}
