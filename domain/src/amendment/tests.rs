//! What holds when, of a contract and its amendments.

use proptest::prelude::*;

use super::*;
use crate::{
    Quantity,
    catalogue::{Currency, Rounding},
    contract::{CatalogueChoice, DiscountValue, Scope, Terms},
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The first moment of a day, counted from the contract's first.
fn day(day: i64) -> Timestamp {
    Timestamp::from_micros(day * 86_400_000_000).unwrap()
}

fn discount(of: &str, percentage: i64) -> Discount {
    let share = Quantity::from_decimal(percentage, 2).unwrap();
    Discount { name: name(of), scope: Scope::All, value: DiscountValue::Share(share) }
}

fn credit(of: &str, valid_from: Timestamp, expires: Option<Timestamp>) -> Credit {
    let amount = Quantity::from_decimal(500, 0).unwrap();
    Credit { name: name(of), amount, valid_from, expires, priority: 100 }
}

fn contract() -> Contract {
    Contract {
        name: name("acme"),
        tenant: crate::Tenant::new("acme").unwrap(),
        valid_from: day(0),
        valid_to: Some(day(100)),
        supersedes: Vec::new(),
        catalogue: CatalogueChoice::Latest,
        terms: Terms {
            currency: Currency::from_code("BRL").unwrap(),
            rounding: Rounding::Exact,
            time_zone: name("UTC"),
            anchor_day: 1,
            payment_term_days: 30,
        },
        subscriptions: Vec::new(),
        overrides: Vec::new(),
        discounts: vec![discount("partner", 10), discount("launch", 50)],
        commitments: Vec::new(),
        credits: vec![credit("prepaid", day(5), None)],
        exchange: Vec::new(),
        taxes: Vec::new(),
    }
}

fn amendment(of: &str, from: i64, until: Option<i64>, changes: Changes) -> Amendment {
    Amendment {
        name: name(of),
        contract: name("acme"),
        from: day(from),
        until: until.map(day),
        changes,
    }
}

fn discounts(changes: Vec<Change<Discount>>) -> Changes {
    Changes { discounts: changes, ..Changes::default() }
}

/// Days on which a piece begins, with its discounts in percent.
fn shown(pieces: &[Contract]) -> Vec<(i64, Vec<String>)> {
    let shown = |discount: &Discount| match discount.value {
        DiscountValue::Share(share) => {
            format!("{} {}", discount.name, share.raw() / 10_i128.pow(16))
        }
        DiscountValue::Amount(amount) => format!("{} {amount} off", discount.name),
    };
    let piece = |piece: &Contract| {
        let start = piece.valid_from.micros() / 86_400_000_000;
        (start, piece.discounts.iter().map(shown).collect())
    };
    pieces.iter().map(piece).collect()
}

fn row(start: i64, discounts: &[&str]) -> (i64, Vec<String>) {
    (start, discounts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn what_is_stated_takes_its_place_what_is_new_goes_last_and_the_rest_stays() {
    let raised = discounts(vec![
        Change::Stated(discount("partner", 15)),
        Change::Stated(discount("loyalty", 5)),
    ]);
    let ended = discounts(vec![Change::Ended(name("launch"))]);
    let amendments =
        [amendment("raised", 10, None, raised), amendment("ended", 20, Some(30), ended)];
    let pieces = contract().amended(&amendments);
    let expected = [
        row(0, &["partner 10", "launch 50"]),
        row(10, &["partner 15", "launch 50", "loyalty 5"]),
        row(20, &["partner 15", "loyalty 5"]),
        row(30, &["partner 15", "launch 50", "loyalty 5"]),
    ];
    assert_eq!(shown(&pieces), expected);
    assert_eq!(pieces.last().unwrap().valid_to, Some(day(100)));
}

#[test]
fn one_about_the_past_leaves_what_begins_later() {
    let stated = |percentage| discounts(vec![Change::Stated(discount("partner", percentage))]);
    let amendments =
        [amendment("later", 20, None, stated(20)), amendment("earlier", 10, None, stated(12))];
    let expected = [
        row(0, &["partner 10", "launch 50"]),
        row(10, &["partner 12", "launch 50"]),
        row(20, &["partner 20", "launch 50"]),
    ];
    assert_eq!(shown(&contract().amended(&amendments)), expected);
}

#[test]
fn of_two_from_one_day_the_one_that_was_applied_last_counts() {
    let stated = |percentage| discounts(vec![Change::Stated(discount("partner", percentage))]);
    let amendments =
        [amendment("wrong", 10, None, stated(51)), amendment("right", 10, None, stated(15))];
    assert_eq!(shown(&contract().amended(&amendments))[1], row(10, &["partner 15", "launch 50"]));
}

#[test]
fn a_credit_that_ends_stays_with_its_end_and_pays_nothing_behind_it() {
    let ended = Changes { credits: vec![Change::Ended(name("prepaid"))], ..Changes::default() };
    let of = |from: i64| {
        let pieces = contract().amended(&[amendment("ended", from, None, ended.clone())]);
        pieces.last().unwrap().credits[0].clone()
    };
    let pays = |credit: &Credit, start: i64, end: i64| {
        credit.pays_for(crate::Window { start: day(start), end: day(end) })
    };
    let late = of(40);
    assert_eq!(late.expires, Some(day(40)));
    assert_eq!((pays(&late, 31, 61), pays(&late, 40, 61)), (true, false));
    let before_it_begins = of(3);
    assert!(!pays(&before_it_begins, 0, 31), "it was ended before its first day");
}

#[test]
fn a_payment_term_changes_and_periods_go_on() {
    let changes = Changes { payment_term_days: Some(15), ..Changes::default() };
    let pieces = contract().amended(&[amendment("sooner", 10, None, changes)]);
    assert_eq!(pieces[1].terms.payment_term_days, 15);
    assert!(pieces[1].terms.go_on(&pieces[0].terms));
}

proptest! {
    #[test]
    fn the_order_of_applying_decides_nothing_where_days_differ_and_pieces_tile(
        days in proptest::collection::btree_map(0i64..100, (1i64..40, 1i64..99, 0usize..3), 0..8),
        seed: u64,
    ) {
        let of = |(from, (length, percentage, thing)): (&i64, &(i64, i64, usize))| {
            let key = ["partner", "launch", "loyalty"][*thing];
            let change = match percentage % 3 {
                0 => Change::Ended(name(key)),
                _ => Change::Stated(discount(key, *percentage)),
            };
            let until = (length % 2 == 0).then_some(from + length);
            amendment(&format!("a{from}"), *from, until, discounts(vec![change]))
        };
        let in_order: Vec<Amendment> = days.iter().map(of).collect();
        let mut shuffled = in_order.clone();
        shuffled.sort_by_key(|found| (found.from.micros() as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let by_name = |pieces: Vec<Contract>| -> Vec<_> {
            // New things go last in the order in which they begin, whatever the order of applying.
            pieces.into_iter().map(|piece| (piece.valid_from, piece.valid_to, piece.discounts)).collect()
        };
        let pieces = by_name(contract().amended(&in_order));
        prop_assert_eq!(&by_name(contract().amended(&shuffled)), &pieces);
        let mut edge = Some(day(0));
        for (from, to, _) in &pieces {
            prop_assert_eq!(Some(*from), edge);
            edge = *to;
        }
        prop_assert_eq!(edge, Some(day(100)));
    }
}
