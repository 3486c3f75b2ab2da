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
fn a_contract_supersedes_what_was_applied_before_it_from_its_first_day_on() {
    let contracts = [
        simple("a", "2026-01-01", ""),
        simple("b", "2026-03-01", ""),
        // Applied last, and about the past: b never holds.
        simple("c", "2026-02-01", "valid_to: 2026-04-01\n"),
    ];
    assert_eq!(
        billed(&contracts, "2026-01"),
        [row("2026-01-01", "2026-02-01", &["a from 2026-01-01"])]
    );
    for month in ["2026-02", "2026-03"] {
        assert_eq!(billed(&contracts, month)[0].2, [format!("c from {month}-01")]);
    }
    assert_eq!(billed(&contracts, "2026-04"), [], "it ended, and what it superseded stays so");
}

#[test]
fn equal_terms_share_a_period_and_others_end_it() {
    let equal = [simple("a", "2026-01-01", ""), simple("b", "2026-01-16", "")];
    let parts = ["a from 2026-01-01", "b from 2026-01-16"];
    assert_eq!(billed(&equal, "2026-01"), [row("2026-01-01", "2026-02-01", &parts)]);
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
