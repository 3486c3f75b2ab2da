//! Every reason, with its field, and that a refusal stays with its pulse.

use edge::{
    access::{CredentialKind, IdentityScope, Principal, Tenants, principal},
    problem::reasons,
};
use proptest::prelude::*;
use prost::Message;

use super::{super::ERRORS_LISTED_MAX, *};

type Change = fn(&mut v1::Pulse);

/// Reason and field of the one refused pulse between two good neighbours.
fn refused(edge: &Edge, batch: &v1::PulseBatch) -> (String, String) {
    let plan = edge.plan(batch).unwrap();
    assert_eq!((plan.accepted, plan.rejected), (2, 1), "{batch:?}");
    let [error] = &plan.errors[..] else { panic!("{:?}", plan.errors) };
    assert_eq!((error.index, error.code), (1, 3));
    assert!(!error.message.is_empty());
    (error.reason.clone(), error.field.clone())
}

#[test]
fn each_bad_pulse_has_its_reason_and_field_and_spares_its_neighbours() {
    let table: &[(Change, &str, &str)] = &[
        (|p| p.tenant.clear(), reasons::TENANT_MISSING, "tenant"),
        (|p| p.tenant = "x".repeat(129), reasons::NAME_TOO_LONG, "tenant"),
        (|p| p.tenant = "a\u{7f}".into(), reasons::NAME_CONTROL_CHARACTER, "tenant"),
        (|p| p.product_sku.clear(), reasons::NAME_EMPTY, "product_sku"),
        (|p| p.product_sku = "x".repeat(129), reasons::NAME_TOO_LONG, "product_sku"),
        (|p| p.use_unity.clear(), reasons::NAME_EMPTY, "use_unity"),
        (|p| p.use_unity = "a\nb".into(), reasons::NAME_CONTROL_CHARACTER, "use_unity"),
        (|p| p.used_amount = None, reasons::AMOUNT_MISSING, "used_amount"),
        (|p| p.used_amount = amount(1, 19), reasons::AMOUNT_SCALE, "used_amount"),
        (|p| p.used_amount = amount(0, u32::MAX), reasons::AMOUNT_SCALE, "used_amount"),
        (
            |p| (p.product_sku, p.used_amount) = ("no-refunds".into(), amount(-1, 0)),
            reasons::NEGATIVE_REFUSED,
            "used_amount",
        ),
        (|p| p.time = time(-62_135_596_801, 0), reasons::TIME_OUT_OF_RANGE, "time"),
        (|p| p.time = time(253_370_764_800, 0), reasons::TIME_OUT_OF_RANGE, "time"),
        (|p| p.time = time(253_402_300_800, 0), reasons::TIME_OUT_OF_RANGE, "time"),
        (|p| p.time = time(0, -1), reasons::TIME_OUT_OF_RANGE, "time"),
        (|p| p.time = time(0, 1_000_000_000), reasons::TIME_OUT_OF_RANGE, "time"),
        (|p| p.time = time(i64::MAX, 0), reasons::TIME_OUT_OF_RANGE, "time"),
        (|p| (p.id, p.time) = ("a".into(), None), reasons::TIME_MISSING, "time"),
        (|p| p.id = "x".repeat(129), reasons::ID_TOO_LONG, "id"),
        (|p| p.id = "\u{0}".into(), reasons::NAME_CONTROL_CHARACTER, "id"),
        (|p| p.source = "x".repeat(129), reasons::ID_TOO_LONG, "source"),
        (|p| p.properties = properties(65, 2, 1), reasons::PROPERTIES_TOO_MANY, "properties"),
        (|p| p.properties = properties(1, 65, 1), reasons::PROPERTY_INVALID, "properties"),
        (|p| p.properties = properties(1, 0, 1), reasons::PROPERTY_INVALID, "properties"),
        (|p| p.properties = properties(1, 1, 257), reasons::PROPERTY_INVALID, "properties"),
        (
            |p| drop(p.properties.insert("k".into(), "\r".into())),
            reasons::PROPERTY_INVALID,
            "properties",
        ),
    ];
    for (change, reason, field) in table {
        let mut bad = pulse();
        change(&mut bad);
        let batch = plain(vec![pulse(), bad, pulse()]);
        let expected = ((*reason).to_owned(), format!("pulses[1].{field}"));
        assert_eq!(refused(&Edge::default(), &batch), expected);
    }
}

#[test]
fn what_is_at_its_limit_passes() {
    let table: &[Change] = &[
        |p| p.tenant = "x".repeat(128),
        |p| p.use_unity = "GiB/Second-Months \u{e9}".into(),
        |p| p.used_amount = Some(v1::Decimal::default()),
        |p| p.used_amount = amount(i64::MIN, 0),
        |p| p.used_amount = amount(i64::MAX, 18),
        |p| p.time = None,
        |p| p.time = time(-62_135_596_800, 0),
        |p| p.time = time(253_370_764_799, 999_999_999),
        |p| (p.id, p.source) = ("x".repeat(128), "y".repeat(128)),
        |p| p.properties = properties(64, 64, 256),
        |p| drop(p.properties.insert("empty".into(), String::new())),
    ];
    for (row, change) in table.iter().enumerate() {
        let mut good = pulse();
        change(&mut good);
        let plan = Edge::default().plan(&plain(vec![good])).unwrap();
        assert_eq!((plan.accepted, plan.errors), (1, vec![]), "row {row}");
    }
}

#[test]
fn names_that_are_not_utf8_and_pulses_that_do_not_parse_are_refused_alone() {
    let good = pulse().encode_to_vec();
    let sku_at = good.windows(8).position(|bytes| bytes == b"vm.small").unwrap();
    let mut not_utf8 = good.clone();
    not_utf8[sku_at] = 0xff;
    let twice = [&[0x0a, 1, 0xff][..], &good].concat();
    let wrong_type = [&[0x08, 1][..], &good].concat();
    for (bad, reason, field) in [
        (not_utf8, reasons::NAME_NOT_UTF8, "pulses[1].product_sku"),
        (good[..good.len() - 1].to_vec(), reasons::PULSE_UNDECODABLE, "pulses[1]"),
        (wrong_type, reasons::PULSE_UNDECODABLE, "pulses[1]"),
        (twice, reasons::PULSE_UNDECODABLE, "pulses[1]"),
        (vec![0xff; 30], reasons::PULSE_UNDECODABLE, "pulses[1]"),
    ] {
        let message = message_of(&[&good, &bad, &good]);
        let plan = Edge::default().plan_bytes(message).unwrap();
        assert_eq!((plan.accepted, plan.rejected), (2, 1), "{reason}");
        assert_eq!((&*plan.errors[0].reason, &*plan.errors[0].field), (reason, field));
    }
}

#[test]
fn a_pulse_above_its_bytes_is_refused_alone() {
    let mut large = pulse().encode_to_vec();
    // An unknown field, which is legal and forwarded as it stands.
    large.extend([0xfa, 0x06, 0x80, 0x80, 0x02]);
    large.extend([0; 32 << 10]);
    let message = message_of(&[&pulse().encode_to_vec(), &large]);
    let plan = Edge::default().plan_bytes(message).unwrap();
    assert_eq!((plan.accepted, plan.rejected), (1, 1));
    assert_eq!(plan.errors[0].reason, reasons::PULSE_TOO_LARGE);
}

#[test]
fn a_credential_of_one_tenant_stands_in_and_excludes_others() {
    let batch = plain(vec![pulse_of("acme"), pulse_of("other"), pulse_of("")]);
    let (reason, field) = refused(&Edge::of("acme"), &batch);
    assert_eq!((&*reason, &*field), (reasons::TENANT_MISMATCH, "pulses[1].tenant"));
}

#[test]
fn a_batch_with_an_identity_needs_times() {
    let timeless = v1::Pulse { time: None, ..pulse() };
    let mut batch = numbered(vec![pulse(), timeless, pulse()]);
    let missing = (reasons::TIME_MISSING.to_owned(), "pulses[1].time".to_owned());
    assert_eq!(refused(&Edge::default(), &batch), missing);
    batch.producer_id.clear();
    batch.backfill = backfill("2024", &[0; 16]);
    assert_eq!(refused(&Edge::default(), &batch), missing);
}

#[test]
fn each_bad_batch_has_its_reason_and_keeps_its_number() {
    type Change = fn(&mut v1::PulseBatch);
    let table: &[(Change, &str)] = &[
        (|b| b.pulses.clear(), reasons::BATCH_EMPTY),
        (|b| b.pulses = vec![v1::Pulse::default(); 10_001], reasons::BATCH_TOO_LARGE),
        (|b| b.producer_id = vec![1; 15], reasons::PRODUCER_ID_INVALID),
        (|b| b.producer_id = vec![1; 17], reasons::PRODUCER_ID_INVALID),
        (|b| b.producer_id = vec![], reasons::PRODUCER_ID_INVALID),
        (|b| b.backfill = backfill("2024", &[0; 16]), reasons::IDENTITY_AMBIGUOUS),
        (
            |b| (b.producer_id, b.backfill) = (vec![], backfill("", &[0; 16])),
            reasons::BACKFILL_INVALID,
        ),
        (
            |b| (b.producer_id, b.backfill) = (vec![], backfill("\n", &[0; 16])),
            reasons::BACKFILL_INVALID,
        ),
        (
            |b| (b.producer_id, b.backfill) = (vec![], backfill("x", &[0; 15])),
            reasons::BACKFILL_INVALID,
        ),
        (
            |b| (b.producer_id, b.backfill) = (vec![], backfill("x", &[0; 65])),
            reasons::BACKFILL_INVALID,
        ),
        (|b| b.first_sequence = u64::MAX - 1, reasons::SEQUENCE_OVERFLOW),
    ];
    for (row, (change, reason)) in table.iter().enumerate() {
        let mut batch = numbered(vec![pulse(), pulse()]);
        change(&mut batch);
        let refusal = Edge::default().plan(&batch).unwrap_err();
        assert_eq!(refusal.problem.reason, *reason, "row {row}");
        assert_eq!((refusal.batch, refusal.pulses), (7, batch.pulses.len()), "row {row}");
    }
}

#[test]
fn a_numbered_batch_that_no_record_holds_is_refused_whole() {
    let edge = Edge {
        limits: Limits { record_bytes_max: 64 << 10, ..Limits::default() },
        ..Edge::default()
    };
    let batch = |pulses| numbered(vec![pulse(); pulses]);
    assert_eq!(edge.plan(&batch(1_000)).unwrap().accepted, 1_000);
    let refusal = edge.plan(&batch(2_000)).unwrap_err();
    assert_eq!(refusal.problem.reason, reasons::BATCH_TOO_LARGE);
}

#[test]
fn a_batch_cut_short_is_refused_with_the_number_it_starts_with() {
    let bytes = numbered(vec![pulse(); 3]).encode_to_vec();
    for cut in 1..bytes.len() {
        match Edge::default().plan_bytes(bytes[..cut].to_vec()) {
            // Between two pulses a shorter batch ends as well as a longer one.
            Ok(plan) => assert!(plan.accepted < 3),
            Err(refusal) if cut >= 2 => assert_eq!(refusal.batch, 7, "{cut}"),
            Err(refusal) => assert_eq!(refusal.batch, 0),
        }
    }
}

#[test]
fn at_most_a_hundred_refusals_are_listed_and_all_are_counted() {
    let mut pulses = vec![v1::Pulse::default(); 250];
    pulses.push(pulse());
    let plan = Edge::default().plan(&numbered(pulses)).unwrap();
    assert_eq!((plan.accepted, plan.rejected), (1, 250));
    assert_eq!(plan.errors.len(), ERRORS_LISTED_MAX);
    assert_eq!(plan.parts[0].source.refused, (0..250).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let plan = Edge::default().plan_bytes(bytes);
        prop_assert!(plan.is_err() || plan.is_ok());
    }

    #[test]
    fn no_damage_makes_it_panic_or_lose_count(
        at in any::<prop::sample::Index>(), byte: u8, whole in any::<prop::sample::Index>(),
    ) {
        let mut bytes = numbered(vec![pulse(); 5]).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(whole.index(bytes.len()) + 1);
        if let Ok(plan) = Edge::default().plan_bytes(bytes) {
            let carried: u32 = plan.parts.iter().map(|part| part.pulses).sum();
            prop_assert_eq!(plan.accepted, carried);
            prop_assert_eq!(plan.rejected as usize, plan.errors.len());
        }
    }
}

fn amount(unscaled: i64, scale: u32) -> Option<v1::Decimal> {
    Some(v1::Decimal { unscaled, scale })
}

fn time(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos })
}

fn properties(count: usize, key: usize, value: usize) -> std::collections::HashMap<String, String> {
    (0..count).map(|i| (format!("{i:0>65}")[65 - key..].into(), "v".repeat(value))).collect()
}

/// A message of encoded pulses, which need not be right.
fn message_of(pulses: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![];
    for pulse in pulses {
        message.push(0x7a);
        prost::encoding::encode_varint(pulse.len() as u64, &mut message);
        message.extend_from_slice(pulse);
    }
    message
}

/// Of a credential of several tenants each pulse names its own, and only those of others are refused.
#[test]
fn a_credential_of_several_tenants_sends_for_these_and_no_other() {
    let tenants = ["acme", "bolt"].map(|name| Tenant::new(name).unwrap());
    let local = Principal::local();
    let parts = principal::Parts {
        tenants: Tenants::these(tenants).unwrap(),
        scope: IdentityScope::of(CredentialKind::ApiKey, "", "meter"),
        ..principal::Parts::clone(&local)
    };
    let scope = Scope::of_principal(&Principal::new(parts));
    let client = scope.client();
    let edge = Edge { scope, ..Edge::default() };
    let sent = ["acme", "cold", "bolt", ""].map(pulse_of);
    let plan = edge.plan(&plain(sent.to_vec())).unwrap();
    assert_eq!((plan.accepted, plan.rejected), (2, 2));
    let errors = plan.errors.iter().map(|error| (&*error.reason, &*error.field));
    let expected = [
        (reasons::TENANT_MISMATCH, "pulses[1].tenant"),
        (reasons::TENANT_MISSING, "pulses[3].tenant"),
    ];
    assert_eq!(errors.collect::<Vec<_>>(), expected);
    for part in &plan.parts {
        assert_eq!((&*part.source.scope, &*part.source.client), ("", &*client));
    }
    assert_eq!(client.len(), 32);
}
