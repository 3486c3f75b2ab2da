//! The engine against a model that adds everything up the plain way.

use std::collections::BTreeMap;

use domain::{LogWindows, Quantity, Total, View, WindowLength};
use proptest::prelude::*;
use query_api::usage::{
    self, UsageError, UsagePage, UsageTotal,
    request::{FieldNames, Moment, Rules, UsageQuery, UsageRequest},
};

use edge::{Compute, paging::TokenKey};

use crate::{
    blocks::put_into_block,
    support::{Bench, SEPTEMBER, Usage, generation, hour},
};

const PAGE_ROWS: usize = 3;

fn request(window: &str, group_by: &[&str]) -> UsageRequest {
    UsageRequest {
        from: Some(Moment::Text("2024-09-01".to_owned())),
        to: Some(Moment::Text("2024-10-01".to_owned())),
        window: window.to_owned(),
        group_by: group_by.iter().map(|name| (*name).to_owned()).collect(),
        ..UsageRequest::default()
    }
}

fn query(request: &UsageRequest) -> UsageQuery {
    let token_key = TokenKey::new([1; 16]);
    let rules = Rules { store_window: WindowLength::HOUR, token_key, fields: FieldNames::GRPC };
    request.parse(&rules).unwrap()
}

fn alike() -> LogWindows {
    LogWindows::of(&generation(), [])
}

async fn page(usage: &[Usage], request: &UsageRequest) -> Result<UsagePage, UsageError> {
    let bench = Bench::new(usage).await;
    let compute = Compute::default();
    usage::page(&bench.store, &View::default(), (&query(request), alike()), PAGE_ROWS, &compute)
        .await
}

/// `tenant/sku/unit dimensions start count sum`, a line for each row.
fn lines(rows: &[UsageTotal]) -> Vec<String> {
    let line = |row: &UsageTotal| {
        let key = &row.key;
        let name = |text: Option<&str>| text.unwrap_or("*").to_owned();
        format!(
            "{}/{}/{} {} {} {} {}",
            name(key.tenant.as_ref().map(|name| name.as_str())),
            name(key.product_sku.as_ref().map(|name| name.as_str())),
            name(key.use_unity.as_ref().map(|name| name.as_str())),
            key.dimensions,
            row.window.start,
            row.total.count,
            row.total.sum,
        )
    };
    rows.iter().map(line).collect()
}

#[tokio::test]
async fn segments_partitions_and_hours_add_up_and_may_be_negative() {
    let usage = [
        Usage::of("acme", "vm", 1, "2.5"),
        Usage::of("acme", "vm", 1, "-4").from(1, 0),
        Usage::of("acme", "vm", 1, "0.000000000000000001").from(0, 9),
        Usage::of("acme", "vm", 25, "-1").from(0, 9),
    ];
    let page = page(&usage, &request("P1D", &[])).await.unwrap();
    assert_eq!(
        lines(&page.rows),
        [
            "acme/vm/hour {} 2024-09-01T00:00:00Z 3 -1.499999999999999999",
            "acme/vm/hour {} 2024-09-02T00:00:00Z 1 -1",
        ]
    );
    let first = &page.rows[0].total;
    assert_eq!((first.min.to_string(), first.max.to_string()), ("-4".into(), "2.5".into()));
    assert_eq!(page.next, None);
}

#[tokio::test]
async fn usage_without_a_dimension_stands_apart_from_usage_with_it() {
    let usage = [
        Usage::of("acme", "vm", 0, "1").with(&[("region", "a"), ("zone", "1")]),
        Usage::of("acme", "vm", 0, "2").with(&[("region", "a"), ("zone", "2")]),
        Usage::of("acme", "vm", 0, "4").with(&[("zone", "1")]),
        Usage::of("bolt", "db", 0, "8"),
    ];
    for (group_by, expected) in [
        (
            &["region"][..],
            &[
                r#"*/*/* {"region":"a"} 2024-09-01T00:00:00Z 2 3"#,
                "*/*/* {} 2024-09-01T00:00:00Z 2 12",
            ][..],
        ),
        (
            &["tenant", "zone"],
            &[
                r#"acme/*/* {"zone":"1"} 2024-09-01T00:00:00Z 2 5"#,
                r#"acme/*/* {"zone":"2"} 2024-09-01T00:00:00Z 1 2"#,
                "bolt/*/* {} 2024-09-01T00:00:00Z 1 8",
            ],
        ),
        (
            &["product_sku"],
            &["*/db/* {} 2024-09-01T00:00:00Z 1 8", "*/vm/* {} 2024-09-01T00:00:00Z 3 7"],
        ),
        (&["nobody"], &["*/*/* {} 2024-09-01T00:00:00Z 4 15"]),
    ] {
        let page = page(&usage, &request("total", group_by)).await.unwrap();
        assert_eq!(lines(&page.rows), expected, "{group_by:?}");
    }
}

#[tokio::test]
async fn filters_and_the_range_leave_out_all_else() {
    let usage = [
        Usage::of("acme", "vm", -1, "1"),
        Usage::of("acme", "vm", 0, "2"),
        Usage::of("acme", "vm", 719, "4"),
        Usage::of("acme", "vm", 720, "8"),
        Usage::of("acme", "db", 0, "16"),
        Usage::of("bolt", "vm", 0, "32"),
    ];
    let request = UsageRequest {
        tenant: "acme".to_owned(),
        product_sku: "vm".to_owned(),
        use_unity: "hour".to_owned(),
        ..request("total", &[])
    };
    let page = page(&usage, &request).await.unwrap();
    assert_eq!(lines(&page.rows), ["acme/vm/hour {} 2024-09-01T00:00:00Z 2 6"]);
}

#[tokio::test]
async fn a_day_of_25_hours_takes_25_hours() {
    // 2024-11-03 in New York, 04:00Z to 05:00Z the day after.
    let start = hour(SEPTEMBER).interval(std::time::Duration::from_secs(3_600)) + 63 * 24 + 4;
    let usage: Vec<_> = (start - 24..start + 49)
        .map(|hour| Usage { hour, ..Usage::of("acme", "vm", 0, "1") })
        .collect();
    let request = UsageRequest {
        from: Some(Moment::Text("2024-11-02".to_owned())),
        to: Some(Moment::Text("2024-11-05".to_owned())),
        time_zone: "America/New_York".to_owned(),
        ..request("P1D", &[])
    };
    let page = page(&usage, &request).await.unwrap();
    let counts: Vec<_> = page.rows.iter().map(|row| row.total.count).collect();
    assert_eq!(counts, [24, 25, 24]);
}

#[tokio::test]
async fn a_total_that_is_wider_than_an_amount_is_given_exactly_and_blocks_no_page() {
    let greatest = Quantity::MAX.to_string();
    let mut usage = vec![Usage::of("acme", "vm", 0, "1"), Usage::of("core", "vm", 0, "1")];
    usage.extend((0..12).map(|segment| Usage::of("bolt", "vm", 0, &greatest).from(1, segment)));
    let asked = UsageRequest { page_size: "1".to_owned(), ..request("total", &[]) };
    let mut query = query(&asked);
    let mut read = Vec::new();
    loop {
        let bench = Bench::new(&usage).await;
        let compute = Compute::default();
        let page =
            usage::page(&bench.store, &View::default(), (&query, alike()), PAGE_ROWS, &compute)
                .await;
        let page = page.unwrap();
        read.extend(lines(&page.rows));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let bolt = "bolt/vm/hour {} 2024-09-01T00:00:00Z 12 2041694201525630780780.247644590609268724";
    assert_eq!(
        read,
        [
            "acme/vm/hour {} 2024-09-01T00:00:00Z 1 1",
            bolt,
            "core/vm/hour {} 2024-09-01T00:00:00Z 1 1"
        ]
    );
}

#[tokio::test]
async fn the_last_hour_that_usage_may_have_is_in_ranges_of_every_window() {
    let last = domain::Timestamp::USAGE_END.micros() / 3_600_000_000 - 1;
    let usage = [Usage { hour: last, ..Usage::of("acme", "vm", 0, "1") }];
    for window in ["PT1H", "P1D", "P1M", "total"] {
        let asked = UsageRequest {
            from: Some(Moment::Text("9998-12-01".to_owned())),
            to: Some(Moment::Text("9999-01-01".to_owned())),
            ..request(window, &[])
        };
        let page = page(&usage, &asked).await.unwrap();
        assert_eq!(page.rows.len(), 1, "{window}");
        assert_eq!(page.rows[0].total.count, 1, "{window}");
    }
}

/// More rows than are grouped where they arrive.
#[tokio::test]
async fn many_rows_of_the_store_are_grouped_on_another_thread_to_the_same_totals() {
    let usage: Vec<_> = (0..700).map(|hour| Usage::of("acme", "vm", hour, "1")).collect();
    let bench = Bench::new(&usage).await;
    let query = query(&request("total", &[]));
    let compute = Compute::default();
    let page = usage::page(&bench.store, &View::default(), (&query, alike()), 300, &compute).await;
    assert_eq!(lines(&page.unwrap().rows), ["acme/vm/hour {} 2024-09-01T00:00:00Z 700 700"]);
}

#[tokio::test]
async fn a_page_reads_only_its_tenants() {
    let tenants = ["a", "b", "c", "d", "e", "f"];
    let usage: Vec<_> = tenants
        .iter()
        .flat_map(|tenant| (0..10).map(|hour| Usage::of(tenant, "vm", hour, "1")))
        .collect();
    let bench = Bench::new(&usage).await;
    let mut query = query(&UsageRequest { page_size: "1".to_owned(), ..request("total", &[]) });
    let mut read = Vec::new();
    loop {
        let page = usage::page(
            &bench.store,
            &View::default(),
            (&query, alike()),
            PAGE_ROWS,
            &Compute::default(),
        )
        .await
        .unwrap();
        read.push(page.rows_read);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(read.len(), tenants.len());
    // Its own tenant, those before and after it that show where it ends, and the rest of a read.
    assert!(read.iter().all(|rows| *rows <= 33), "{read:?}");
}

/// Adds everything up in one map, without pages, windows' cursor or the order of the store.
fn model(usage: &[Usage], query: &UsageQuery) -> Vec<(String, Total)> {
    let mut totals: BTreeMap<_, Total> = BTreeMap::new();
    for one in usage {
        let start = hour(one.hour);
        if start < query.filter.from || start >= query.filter.to {
            continue;
        }
        let window = query.windows.holding(start, &mut Default::default());
        let group_by = &query.group_by;
        let text = |name: &'static str, is_kept: bool| is_kept.then_some(name);
        let pairs = match &group_by.dimensions {
            usage::group::KeptDimensions::All => one.dimensions.to_vec(),
            usage::group::KeptDimensions::Named(names) => one
                .dimensions
                .iter()
                .filter(|(name, _)| names.iter().any(|kept| kept == name))
                .copied()
                .collect(),
        };
        let key = (
            text(one.tenant, group_by.tenant),
            text(one.sku, group_by.product_sku),
            text(one.unit, group_by.use_unity),
            domain::Dimensions::from_pairs(pairs),
            window.start,
        );
        let aggregate = one.aggregate();
        totals
            .entry(key)
            .and_modify(|total| total.add(&aggregate))
            .or_insert(Total::from(&aggregate));
    }
    totals.into_iter().map(|(key, aggregate)| (format!("{key:?}"), aggregate)).collect()
}

fn keyed(rows: &[UsageTotal]) -> Vec<(String, Total)> {
    let keyed = |row: &UsageTotal| {
        let key = &row.key;
        let key = (
            key.tenant.as_ref().map(|name| name.as_str()),
            key.product_sku.as_ref().map(|name| name.as_str()),
            key.use_unity.as_ref().map(|name| name.as_str()),
            key.dimensions.clone(),
            row.window.start,
        );
        (format!("{key:?}"), row.total)
    };
    rows.iter().map(keyed).collect()
}

/// Rows with distinct keys, as a store has them.
fn usages() -> impl Strategy<Value = Vec<Usage>> {
    let dimensions: [&[(&str, &str)]; 4] =
        [&[], &[("region", "a")], &[("region", "b"), ("zone", "1")], &[("zone", "1")]];
    let one = (
        prop::sample::select(vec!["acme", "bolt", "core \u{e9}"]),
        prop::sample::select(vec!["db", "vm"]),
        prop::sample::select(vec!["hour", "GiB"]),
        prop::sample::select(dimensions.to_vec()),
        prop::sample::select((0..60).map(|step| step * 13).collect::<Vec<i64>>()),
        (0u16..2, 0u64..3),
        prop::collection::vec(-1_000i128..1_000, 1..4),
    );
    prop::collection::vec(one, 0..60).prop_map(|all| {
        let mut rows = BTreeMap::new();
        for (tenant, sku, unit, dimensions, hour, (partition, segment), amounts) in all {
            let key = (tenant, sku, unit, dimensions, hour, partition, segment);
            let hour = SEPTEMBER + hour - 24;
            let amounts = amounts.into_iter().map(Quantity::from_raw).collect();
            rows.insert(
                key,
                Usage { tenant, sku, unit, dimensions, hour, partition, segment, amounts },
            );
        }
        rows.into_values().collect()
    })
}

fn questions() -> impl Strategy<Value = UsageRequest> {
    let names = ["tenant", "product_sku", "use_unity", "region", "zone", "nobody"];
    (
        prop::sample::select(vec!["PT1H", "P1D", "P1M", "total"]),
        prop::sample::subsequence(names.to_vec(), 0..=names.len()),
        prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York"]),
    )
        .prop_map(|(window, group_by, zone)| UsageRequest {
            time_zone: zone.to_owned(),
            ..request(window, &group_by)
        })
}

proptest! {
    #[test]
    fn pages_join_to_the_whole_answer_and_that_is_the_exact_total(
        usage in usages(),
        question in questions(),
        page_size in 1usize..9,
        store_page_rows in 1usize..9,
        blocks in prop::collection::vec([0u64..4, 0u64..4], 0..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new(&usage).await;
            for ends in blocks {
                put_into_block(&bench.store, ends).await;
            }
            let mut query = UsageQuery { page_size: 1_000, ..query(&question) };
            let whole = usage::page(&bench.store, &View::default(), (&query, alike()), store_page_rows, &Compute::default()).await.unwrap();
            prop_assert_eq!(keyed(&whole.rows), model(&usage, &query));
            prop_assert_eq!(&whole.next, &None);
            query.page_size = page_size;
            let mut joined = Vec::new();
            loop {
                let page = usage::page(&bench.store, &View::default(), (&query, alike()), store_page_rows, &Compute::default()).await.unwrap();
                prop_assert!(page.rows.len() <= page_size);
                prop_assert!(page.next.is_none() || page.rows.len() == page_size);
                joined.extend(page.rows);
                prop_assert!(joined.len() <= whole.rows.len(), "a page repeats rows");
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(joined, whole.rows);
            Ok(())
        })?;
    }
}
