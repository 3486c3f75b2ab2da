//! What goes to the log: the accepted pulses, byte for byte, to the right partition.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use prost::Message;
use proto::record;

use super::*;
use crate::batch::Part;

/// The record that a part makes by itself.
fn record_of(part: &Part) -> Vec<u8> {
    let stretches = part.stretches.iter().map(|stretch| &part.message[stretch.clone()]);
    let sources = vec![part.source.clone()];
    record::encode(&Edge::default().generation, sources, part.pulses, stretches)
}

/// Decodes a part's record with prost and gives its pulses, after checking what an envelope proves.
fn pulses_of(part: &Part) -> Vec<v1::Pulse> {
    let bytes = record_of(part);
    assert!(bytes.len() <= part.bytes + crate::config::ENVELOPE_BYTES, "the size was promised");
    record::open(Edge::default().generation.log_id, &bytes).unwrap();
    v1::LogRecord::decode(&bytes[..]).unwrap().pulses
}

#[test]
fn a_clean_numbered_batch_is_one_stretch_of_the_clients_bytes() {
    let batch = numbered(vec![pulse_of("a"), pulse_of("b"), pulse_of("c")]);
    let plan = Edge::default().plan(&batch).unwrap();
    let [part] = &plan.parts[..] else { panic!("{:?}", plan.parts) };
    assert_eq!(part.stretches.len(), 1);
    assert_eq!(pulses_of(part), batch.pulses);
    assert_eq!((plan.batch, plan.accepted, plan.rejected), (7, 3, 0));
    let source = &part.source;
    assert_eq!((&source.producer_id[..], source.first_sequence), (&[9; 16][..], 100));
    assert_eq!((source.sent, &source.refused[..]), (3, &[][..]));
    assert_eq!(source.received_at, Some(prost_types::Timestamp::default()));
    assert_eq!(source.correlation_id, "request-1");
}

#[test]
fn refused_pulses_are_left_out_and_keep_their_places() {
    let mut batch = numbered((0..6).map(|i| pulse_of(&format!("t{i}"))).collect());
    batch.pulses[0].used_amount = None;
    batch.pulses[3].used_amount = None;
    let plan = Edge::default().plan(&batch).unwrap();
    let [part] = &plan.parts[..] else { panic!("{:?}", plan.parts) };
    assert_eq!((part.source.sent, &part.source.refused[..]), (6, &[0, 3][..]));
    let tenants: Vec<_> = pulses_of(part).into_iter().map(|pulse| pulse.tenant).collect();
    assert_eq!(tenants, ["t1", "t2", "t4", "t5"]);
}

#[test]
fn what_stands_between_pulses_never_reaches_the_record() {
    let good = numbered(vec![pulse()]).encode_to_vec();
    // Field 1, bytes: in a batch a number stands there, but in a record it is the envelope. As an
    // unknown field 16 it is legal in a batch.
    let smuggled = [&[0x82, 0x01, 3][..], b"abc"].concat();
    let message = [&good[..], &smuggled, &plain(vec![pulse_of("b")]).encode_to_vec()].concat();
    let plan = Edge::default().plan_bytes(message).unwrap();
    assert_eq!(plan.parts[0].stretches.len(), 2);
    let record = record_of(&plan.parts[0]);
    assert!(!record.windows(3).any(|bytes| bytes == b"abc"));
    assert_eq!(pulses_of(&plan.parts[0]).len(), 2);
}

#[test]
fn a_batch_whose_pulses_are_all_refused_has_no_parts() {
    for batch in [plain(vec![v1::Pulse::default()]), numbered(vec![v1::Pulse::default()])] {
        let plan = Edge::default().plan(&batch).unwrap();
        assert_eq!((plan.accepted, plan.rejected, plan.parts.len()), (0, 1, 0));
    }
}

#[test]
fn a_producer_and_a_backfill_keep_to_one_partition_whatever_they_send() {
    let by_producer = |producer: u8, tenant: &str| {
        let batch =
            v1::PulseBatch { producer_id: vec![producer; 16], ..numbered(vec![pulse_of(tenant)]) };
        Edge::default().plan(&batch).unwrap().parts[0].partition
    };
    let by_backfill = |name: &str, tenant: &str| {
        let backfill = backfill(name, &[0; 32]);
        let batch = v1::PulseBatch { backfill, first_sequence: 5, ..plain(vec![pulse_of(tenant)]) };
        Edge::default().plan(&batch).unwrap().parts[0].partition
    };
    let tenants: Vec<String> = (0..20).map(|i| format!("t{i}")).collect();
    let partitions = |by: &dyn Fn(&str) -> domain::Partition| -> BTreeSet<_> {
        tenants.iter().map(|tenant| by(tenant)).collect()
    };
    assert_eq!(partitions(&|tenant| by_producer(3, tenant)).len(), 1);
    assert_eq!(partitions(&|tenant| by_backfill("2024", tenant)).len(), 1);
    let spread: BTreeSet<_> = (0..40).map(|producer| by_producer(producer, "a")).collect();
    assert_eq!(spread.len(), usize::from(PARTITIONS));
}

#[test]
fn pulses_without_a_batch_identity_meet_by_tenant() {
    let tenants: Vec<String> = (0..50).map(|i| format!("t{}", i % 10)).collect();
    let batch = plain(tenants.iter().map(|tenant| pulse_of(tenant)).collect());
    let plan = Edge::default().plan(&batch).unwrap();
    let mut home = HashMap::new();
    for part in &plan.parts {
        assert_eq!((part.source.sent, part.source.refused.len()), (part.pulses, 0));
        for pulse in pulses_of(part) {
            assert_eq!(*home.entry(pulse.tenant).or_insert(part.partition), part.partition);
        }
    }
    assert_eq!(plan.accepted, 50);
    // A tenant that stands in goes where the tenant itself goes.
    let named = Edge::default().plan(&plain(vec![pulse_of("acme")])).unwrap();
    let stood_in = Edge::of("acme").plan(&plain(vec![pulse_of("")])).unwrap();
    assert_eq!(named.parts[0].partition, stood_in.parts[0].partition);
    assert_eq!(stood_in.parts[0].source.scope, "acme");
}

#[test]
fn a_batch_without_identity_is_split_to_fit_records() {
    let record_bytes_max = 64 << 10;
    let limits = Limits { record_bytes_max, record_bytes_target: 1_000, ..Limits::default() };
    let edge = Edge { limits, ..Edge::default() };
    let batch = plain(vec![pulse(); 5_000]);
    let plan = edge.plan(&batch).unwrap();
    assert!(plan.parts.len() > 2, "{}", plan.parts.len());
    assert_eq!(plan.accepted, 5_000);
    assert!(plan.parts.iter().all(|part| record_of(part).len() <= record_bytes_max));
    assert_eq!(plan.parts.iter().flat_map(pulses_of).count(), 5_000);
}

#[test]
fn the_digest_sees_refused_pulses_and_no_order_of_fields() {
    let digest =
        |batch: &v1::PulseBatch| Edge::default().plan(batch).unwrap().parts[0].source.digest;
    let mut batch = numbered(vec![pulse_of("a"), pulse_of("b")]);
    let whole = digest(&batch);
    assert_eq!(digest(&batch), whole);
    batch.pulses[0].properties = [("k".into(), "v".into())].into();
    assert_eq!(digest(&batch), whole, "properties are left out");
    batch.pulses[0].tenant.clear();
    let with_refused = digest(&batch);
    assert_ne!(with_refused, whole);
    batch.pulses[0].use_unity = "day".into();
    assert_ne!(digest(&batch), with_refused);
}

/// Pulses, good and bad, with a few tenants.
fn some_pulse() -> impl Strategy<Value = v1::Pulse> {
    let name = "[a-c]|[a-c]{2}|\u{e9}|\u{1}|";
    let time = proptest::option::weighted(0.9, (any::<i32>(), 0..1_000_000_000i32));
    let amount = proptest::option::weighted(0.9, (any::<i64>(), 0u32..20));
    (name, name, name, amount, time, "[ab]?", proptest::collection::hash_map("k?", "v?", 0..2))
        .prop_map(|(tenant, product_sku, use_unity, amount, time, id, properties)| v1::Pulse {
            tenant,
            product_sku,
            use_unity,
            used_amount: amount.map(|(unscaled, scale)| v1::Decimal { unscaled, scale }),
            time: time.map(|(s, nanos)| prost_types::Timestamp { seconds: s.into(), nanos }),
            id,
            properties,
            ..v1::Pulse::default()
        })
}

proptest! {
    #[test]
    fn records_decode_to_exactly_the_accepted_pulses(
        pulses in proptest::collection::vec(some_pulse(), 1..40), identity in 0..3u8,
    ) {
        let mut batch = plain(pulses);
        match identity {
            0 => {}
            1 => batch.producer_id = vec![4; 16],
            _ => batch.backfill = backfill("old", &[0; 16]),
        }
        let plan = Edge::default().plan(&batch).unwrap();
        let refused: BTreeSet<u32> = plan.errors.iter().map(|error| error.index).collect();
        let mut expected = Vec::new();
        for (index, pulse) in (0u32..).zip(&batch.pulses) {
            // Each pulse is judged alone: by itself it has the same fate.
            let alone = v1::PulseBatch { pulses: vec![pulse.clone()], ..batch.clone() };
            let alone = Edge::default().plan(&alone).unwrap();
            prop_assert_eq!(alone.rejected == 1, refused.contains(&index));
            if alone.rejected == 0 {
                expected.push(pulse.clone());
            }
        }
        let mut found: Vec<_> = plan.parts.iter().flat_map(pulses_of).collect();
        if identity == 0 {
            // Parts keep the order within each; over all of them only the set is the same.
            let key = |pulse: &v1::Pulse| format!("{pulse:?}");
            expected.sort_by_key(key);
            found.sort_by_key(key);
        }
        prop_assert_eq!(found, expected);
    }
}
