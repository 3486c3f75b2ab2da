//! Which contract holds when, and the periods that follow.

use super::*;
use crate::file;

fn contract(text: &str) -> Contract {
    file::contract::parse_contract("c", text.as_bytes(), &|_| None)
        .or_else(|_| {
            let catalogue = file::parse("c", b"catalogue: c\ncurrency: BRL\nskus: []\n").unwrap();
            file::contract::parse_contract("c", text.as_bytes(), &|_| {
                Some(catalogue.catalogue.clone())
            })
        })
        .unwrap()
}

fn simple(name: &str, from: &str, more: &str) -> Contract {
    contract(&format!("contract: {name}\ntenant: t\nvalid_from: {from}\ncurrency: BRL\n{more}"))
}

/// Days of the periods of a month, with the contracts of their parts.
fn billed(contracts: &[Contract], month: &str) -> Vec<(String, String, Vec<String>)> {
    let stretches = stretches(contracts);
    let periods = periods(&stretches, month.parse().unwrap()).unwrap();
    let described = periods.iter().map(|period| {
        let calendar = Calendar::named(period.terms().time_zone.as_str()).unwrap();
        let day = |moment| calendar.date_of(moment);
        let parts = period
            .parts
            .iter()
            .map(|part| format!("{} from {}", part.contract.name, day(part.window.start)));
        (day(period.window.start), day(period.window.end), parts.collect())
    });
    described.collect()
}

fn row(start: &str, end: &str, parts: &[&str]) -> (String, String, Vec<String>) {
    (start.into(), end.into(), parts.iter().map(|part| (*part).to_owned()).collect())
}

#[test]
fn each_holds_until_its_end_or_the_next_one_begins_in_whatever_order_they_were_applied() {
    let mut contracts = [
        simple("a", "2026-01-01", ""),
        simple("renewal", "2026-03-01", ""),
        // Applied last, and about the past: the renewal stays.
        simple("mended", "2026-02-01", "valid_to: 2026-04-01\n"),
    ];
    for _ in 0..3 {
        contracts.rotate_left(1);
        for (month, holds) in [("2026-01", "a"), ("2026-02", "mended"), ("2026-03", "renewal")] {
            assert_eq!(billed(&contracts, month)[0].2, [format!("{holds} from {month}-01")]);
        }
        assert_eq!(billed(&contracts, "2026-04")[0].2, ["renewal from 2026-04-01"]);
    }
}

#[test]
fn what_is_named_as_superseded_does_not_begin() {
    let first = || simple("a", "2026-01-01", "");
    let named = |from: &str, more: &str| {
        let mended = simple("mended", from, &format!("supersedes: [renewal, a]\n{more}"));
        [first(), simple("renewal", "2026-03-01", ""), mended]
    };
    let contracts = named("2026-02-01", "valid_to: 2026-04-01\n");
    assert_eq!(billed(&contracts, "2026-01")[0].2, ["a from 2026-01-01"], "it began earlier");
    for month in ["2026-02", "2026-03"] {
        assert_eq!(billed(&contracts, month)[0].2, [format!("mended from {month}-01")]);
    }
    assert_eq!(billed(&contracts, "2026-04"), [], "it ended, and what it superseded stays so");

    let together = named("2026-03-01", "");
    assert_eq!(billed(&together, "2026-03")[0].2, ["mended from 2026-03-01"]);
    let behind = named("2026-03-02", "");
    assert_eq!(
        billed(&behind, "2026-03")[0].2,
        ["renewal from 2026-03-01", "mended from 2026-03-02"],
        "it began earlier"
    );
}

#[test]
fn a_contract_that_was_amended_is_one_and_ends_where_the_next_begins() {
    let base = simple("a", "2026-01-01", "");
    let amendment = |name: &str, day: &str, days: u16| domain::amendment::Amendment {
        name: domain::Name::new(name).unwrap(),
        contract: base.name.clone(),
        from: Calendar::UTC.parse_date(day).unwrap(),
        until: None,
        changes: domain::amendment::Changes {
            payment_term_days: Some(days),
            ..domain::amendment::Changes::default()
        },
    };
    let amendments = [amendment("one", "2026-01-11", 20), amendment("two", "2026-02-15", 40)];
    let mut contracts = base.amended(&amendments);
    assert_eq!(
        billed(&contracts, "2026-01"),
        [row("2026-01-01", "2026-02-01", &["a from 2026-01-01", "a from 2026-01-11"])]
    );
    let stretches_of = stretches(&contracts);
    let january = periods(&stretches_of, "2026-01".parse().unwrap()).unwrap();
    assert_eq!(january[0].terms().payment_term_days, 20, "that of the last day");

    contracts.push(simple("b", "2026-02-10", ""));
    let parts = ["a from 2026-02-01", "b from 2026-02-10"];
    assert_eq!(billed(&contracts, "2026-02"), [row("2026-02-01", "2026-03-01", &parts)]);
    assert_eq!(billed(&contracts, "2026-03")[0].2, ["b from 2026-03-01"], "and does not return");
}

#[test]
fn equal_terms_share_a_period_and_others_end_it() {
    let equal = [simple("a", "2026-01-01", ""), simple("b", "2026-01-16", "")];
    let parts = ["a from 2026-01-01", "b from 2026-01-16"];
    assert_eq!(billed(&equal, "2026-01"), [row("2026-01-01", "2026-02-01", &parts)]);
    let sooner =
        [simple("a", "2026-01-01", ""), simple("b", "2026-01-16", "payment_term_days: 5\n")];
    assert_eq!(billed(&sooner, "2026-01"), [row("2026-01-01", "2026-02-01", &parts)]);
    let moved = [simple("a", "2026-01-01", ""), simple("b", "2026-01-16", "billing_anchor: 5\n")];
    assert_eq!(
        billed(&moved, "2026-01"),
        [
            row("2026-01-01", "2026-01-16", &["a from 2026-01-01"]),
            row("2026-01-16", "2026-02-05", &["b from 2026-01-16"]),
        ]
    );
    assert_eq!(
        billed(&moved, "2026-02"),
        [row("2026-02-05", "2026-03-05", &["b from 2026-02-05"])]
    );
}

#[test]
fn periods_belong_to_the_month_in_which_they_begin_in_their_own_zone() {
    let tokyo = [simple("a", "2026-01-01", "time_zone: Asia/Tokyo\nbilling_anchor: 31\n")];
    assert_eq!(
        billed(&tokyo, "2026-01"),
        [
            row("2026-01-01", "2026-01-31", &["a from 2026-01-01"]),
            row("2026-01-31", "2026-02-28", &["a from 2026-01-31"]),
        ]
    );
    assert_eq!(
        billed(&tokyo, "2026-02"),
        [row("2026-02-28", "2026-03-31", &["a from 2026-02-28"])]
    );
    assert_eq!(billed(&tokyo, "2025-12"), []);
}

#[test]
fn gaps_are_where_no_contract_holds_in_the_month_of_the_last_ones_zone() {
    let gaps_of = |contracts: &[Contract], month: &str| {
        gaps(&stretches(contracts), month.parse().unwrap()).unwrap()
    };
    let midnight = |day: &str| format!("{day}T00:00:00+09:00").parse().unwrap();
    let gap = |start: &str, end: &str| Window { start: midnight(start), end: midnight(end) };
    assert_eq!(gaps_of(&[], "2026-01"), []);
    let contracts = [
        simple("a", "2026-01-05", "valid_to: 2026-01-10\ntime_zone: Asia/Tokyo\n"),
        simple("b", "2026-01-10", "valid_to: 2026-01-20\ntime_zone: Asia/Tokyo\n"),
        simple("c", "2026-01-25", "valid_to: 2026-03-02\ntime_zone: Asia/Tokyo\n"),
    ];
    assert_eq!(gaps_of(&contracts, "2025-12"), [gap("2025-12-01", "2026-01-01")]);
    assert_eq!(
        gaps_of(&contracts, "2026-01"),
        [gap("2026-01-01", "2026-01-05"), gap("2026-01-20", "2026-01-25")]
    );
    assert_eq!(gaps_of(&contracts, "2026-02"), []);
    assert_eq!(gaps_of(&contracts, "2026-03"), [gap("2026-03-02", "2026-04-01")]);
}

#[test]
fn months_are_read_printed_and_counted() {
    for (text, next) in [("2024-09", "2024-10"), ("2024-12", "2025-01")] {
        let month: Month = text.parse().unwrap();
        assert_eq!((month.to_string(), month.next().to_string()), (text.into(), next.into()));
        assert_eq!(month.next().previous(), month);
    }
    for wrong in ["", "2024", "2024-9", "2024-13", "24-09"] {
        assert_eq!(wrong.parse::<Month>(), Err(NotAMonth), "{wrong}");
    }
}

proptest::proptest! {
    /// Days of begin and of length for each contract, and which ones it names.
    #[test]
    fn the_order_of_applying_decides_nothing_and_stretches_do_not_overlap(
        agreed in proptest::collection::btree_map(0u8..28, (proptest::option::of(1u8..28), proptest::collection::vec(0u8..28, 0..3)), 1..7),
        seed: u64,
    ) {
        let of = |(start, (length, named)): (&u8, &(Option<u8>, Vec<u8>))| {
            let day = |day: u8| Timestamp::from_micros(i64::from(day) * 86_400_000_000).unwrap();
            let mut contract = simple(&format!("c{start}"), "2026-01-01", "");
            contract.valid_from = day(*start);
            contract.valid_to = length.map(|length| day(*start + length));
            let name = |day: &u8| domain::Name::new(&format!("c{day}")).unwrap();
            contract.supersedes = named.iter().filter(|day| *day != start).map(name).collect();
            contract
        };
        let contracts: Vec<Contract> = agreed.iter().map(of).collect();
        let mut shuffled = contracts.clone();
        shuffled.sort_by_key(|found| (found.valid_from.micros() as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let held = stretches(&contracts);
        proptest::prop_assert_eq!(&stretches(&shuffled), &held);
        for pair in held.windows(2) {
            proptest::prop_assert!(pair[0].window.end <= pair[1].window.start);
        }
        for stretch in &held {
            proptest::prop_assert!(stretch.window.start == stretch.contract.valid_from);
            let named = |other: &Contract| other.supersedes.contains(&stretch.contract.name) && other.valid_from <= stretch.window.start;
            proptest::prop_assert!(!contracts.iter().any(named));
        }
    }
}
