//! What one segment and one partition may keep, at the edges, and that the bounds change no byte of
//! what is stored however the work is cut.

use super::*;

const LIMITS: FoldLimits = FoldLimits::FIRST;

fn sku(number: usize) -> v1::Pulse {
    pulse(&format!("sku-{number}"), 1, NOW)
}

fn in_regions(regions: impl IntoIterator<Item = usize>) -> Vec<v1::Pulse> {
    let pulse = |region: usize| {
        let properties = HashMap::from([("region".to_owned(), region.to_string())]);
        v1::Pulse { properties, ..pulse("vm", 1, NOW) }
    };
    regions.into_iter().map(pulse).collect()
}

fn segment_ends(log: &Log) -> Vec<u64> {
    let closes = fold_all(log).1.into_iter().filter_map(|flush| flush.close);
    closes.map(|close| close.manifest.end.0).collect()
}

#[test]
fn a_segment_ends_behind_the_record_that_reached_its_bytes() {
    let limits = FoldLimits { segment_bytes: 2_000, ..LIMITS };
    let mut log: Log = vec![(NOW, set_limits(limits))];
    // A row is counted as 384 bytes and its names, here some 20: the fifth one passes 2,000.
    log.extend((0..7).map(|number| (NOW, record_of(plain(1), &[sku(number)]))));
    assert_eq!(segment_ends(&log), [6]);

    // Of one resource a million pulses are one row.
    let mut log: Log = vec![(NOW, set_limits(limits))];
    log.extend((0..6).map(|_| (NOW, record_of(plain(99), &vec![sku(0); 99]))));
    assert_eq!(segment_ends(&log), [0; 0]);

    // Ids and dead letters count too.
    let mut log: Log = vec![(NOW, set_limits(limits))];
    let ids = |from: usize| {
        let pulses: Vec<_> = (from..from + 60).map(|id| with_id(&id.to_string(), 1, NOW)).collect();
        record_of(plain(60), &pulses)
    };
    log.extend((0..4).map(|number| (NOW, ids(number * 60))));
    assert_eq!(segment_ends(&log), [3]);
    let late = |number: usize| {
        let tenant = format!("tenant-{number}");
        record_of(plain(1), &[v1::Pulse { tenant, ..pulse("vm", 1, NOW - 25 * HOUR) }])
    };
    let mut log: Log = vec![(NOW, set_limits(limits))];
    log.extend((0..5).map(|number| (NOW, late(number))));
    assert_eq!(segment_ends(&log), [4]);
}

#[test]
fn a_tenant_has_so_many_resources_in_a_segment_and_no_more() {
    let limits = FoldLimits { keys_per_tenant: 3, ..LIMITS };
    let other = v1::Pulse { tenant: "other".into(), ..sku(9) };
    let pulses = [sku(0), sku(1), sku(2), sku(3), sku(1), other, sku(4)];
    let log = vec![
        (NOW, set_limits(limits)),
        (NOW, record_of(plain(7), &pulses)),
        (NOW, boundary()),
        (NOW, record_of(plain(1), &[sku(3)])),
    ];
    assert_eq!(reasons(&log), [DeadLetterReason::TooManyKeys; 2]);
    let (fold, _) = fold_all(&log);
    assert_eq!((counts(&log).accepted, counts(&log).dead_lettered), (6, 2));
    // Those that were refused are not kept.
    assert!(fold.rows.held_bytes() < 10_000);
}

#[test]
fn a_dimension_has_so_many_values_in_a_segment_and_no_more() {
    let limits = FoldLimits { values_per_dimension: 2, ..LIMITS };
    let log = vec![
        (NOW, set_limits(limits)),
        (NOW, declare("vm", &["region"], 1)),
        (NOW, record_of(plain(5), &in_regions([1, 2, 3, 2, 4]))),
        (NOW, boundary()),
        (NOW, record_of(plain(1), &in_regions([3]))),
    ];
    assert_eq!(reasons(&log), [DeadLetterReason::TooManyKeys; 2]);
    assert_eq!(counts(&log).accepted, 4);
    assert!(letters(&log)[0].message.contains("limits.values_per_dimension"));
}

#[test]
fn a_flood_of_keys_holds_the_memory_of_its_cap() {
    let limits = FoldLimits { keys_per_tenant: 100, ..LIMITS };
    let mut fold = Fold::new(generation(), partition());
    let mut log: Log = vec![(NOW, set_limits(limits)), (NOW, declare("vm", &["region"], 1))];
    log.extend((0..6).map(|part| {
        let skus = (part * 1_000..part * 1_000 + 1_000).map(sku);
        let pulses: Vec<_> = skus.chain(in_regions(part * 1_000..part * 1_000 + 1_000)).collect();
        (NOW, record_of(plain(2_000), &pulses))
    }));
    fold_on(&mut fold, &log, 0, log.len());
    assert_eq!(fold.open.counts.accepted, 100);
    assert!(fold.held_bytes() < 200_000, "{}", fold.held_bytes());
}

#[test]
fn millions_of_late_pulses_hold_a_few_bytes_and_leave_one_group() {
    let late: Vec<_> = (0..5_000).map(|_| pulse("vm", 1, NOW - 25 * HOUR)).collect();
    let body = record_of(plain(late.len()), &late);
    let log: Log = (0..7).map(|_| (NOW, body.clone())).collect();
    let (fold, flushes) = fold_all(&log);
    assert!(fold.held_bytes() < 10_000, "{}", fold.held_bytes());
    let [flush] = &flushes[..] else { panic!() };
    let [group] = &flush.dead_letters[..] else { panic!() };
    assert_eq!((group.count, group.offset_last), (35_000, Offset(6)));
}

#[test]
fn what_is_remembered_of_a_refusing_client_is_bounded() {
    let mut state_bytes = Vec::new();
    for refused in [vec![], (1..10_000).collect(), (1..10_000).step_by(2).collect::<Vec<u32>>()] {
        let accepted = vec![pulse("vm", 1, NOW); 10_000 - refused.len()];
        let batch = |number| v1::SourceBatch {
            refused: refused.clone(),
            ..numbered(1, number * 10_000, number, 10_000)
        };
        let log: Log = (0..8).map(|number| (NOW, record_of(batch(number), &accepted))).collect();
        let (fold, _) = fold_all(&log);
        state_bytes.push(fold.state.encode().len());
    }
    assert!(state_bytes.iter().all(|bytes| *bytes < state_bytes[0] + 8 * 20), "{state_bytes:?}");
}

#[test]
fn new_producers_and_backfills_are_set_aside_while_the_state_is_full() {
    let limits = FoldLimits { state_bytes: 1_000, ..LIMITS };
    let mut log: Log = vec![(NOW, set_limits(limits))];
    let one = [pulse("vm", 1, NOW)];
    log.extend((0..5).map(|producer| (NOW, record_of(numbered(producer, 0, 5, 1), &one))));
    log.push((NOW, boundary()));
    log.extend(
        (0..9)
            .map(|name| (NOW, record_of(backfill(&format!("name-{name}"), b"digest", 0, 1), &one))),
    );
    // Half of the bytes each: three producers, two backfills and the name of a third.
    let reasons = reasons(&log);
    assert_eq!(reasons, [DeadLetterReason::TooManyIdentities; 2 + 7]);
    let (fold, _) = fold_all(&log);
    assert!(fold.state.producers.bytes() + fold.state.backfills.bytes() <= 1_200);
    assert_eq!(counts(&log).accepted, 14 - 9);
}

#[test]
fn limits_hold_from_the_next_record_on_and_over_a_restart() {
    let limits = FoldLimits { keys_per_tenant: 1, ..LIMITS };
    let log = vec![
        (NOW, record_of(plain(2), &[sku(0), sku(1)])),
        (NOW, set_limits(limits)),
        (NOW, boundary()),
        (NOW, record_of(plain(2), &[sku(0), sku(1)])),
    ];
    assert_eq!((counts(&log).accepted, counts(&log).control), (3, 2));
    assert_eq!(fold_with_crashes(&log, &[], &[3, 4]), Stored::of(fold_all(&log).1));
    assert_eq!(fold_all(&log).0.limits(), limits);
}

#[test]
fn a_large_segment_leaves_in_several_flushes_that_are_the_same_rows() {
    let mut log: Log = (0..5)
        .map(|part| {
            let pulses: Vec<_> = (part * 100..part * 100 + 100).map(sku).collect();
            (NOW, record_of(plain(100), &pulses))
        })
        .collect();
    log.push((NOW, boundary()));
    let whole = fold_all(&log).1;
    for publishing in [Publishing::Off, Publishing::On] {
        let mut fold = Fold::new(generation(), partition()).flushing(64).publishing(publishing);
        let mut parts = fold_on(&mut fold, &log, 0, 2);
        parts.extend(std::iter::from_fn(|| fold.flush_part()));
        parts.push(fold.flush());
        parts.extend(fold_on(&mut fold, &log, 2, log.len()));
        assert!(parts.iter().all(|flush| flush.rows.len() <= 64));
        let finals = parts.iter().filter(|flush| flush.progress.is_none() || flush.close.is_some());
        let published: usize =
            finals.map(|flush| flush.stored_before.len() + flush.rows.len()).sum();
        assert_eq!(published, if publishing == Publishing::On { 500 } else { 300 });
        assert_eq!(Stored::of(parts), Stored::of(whole.clone()));
    }
}

#[test]
fn what_a_close_stores_of_the_state_follows_what_changed() {
    let limits = FoldLimits { state_deltas: 3, ..LIMITS };
    let one = [pulse("vm", 1, NOW)];
    let batch = |producer: u16, first| v1::SourceBatch {
        producer_id: [&producer.to_be_bytes()[..], &[0; 14]].concat(),
        ..numbered(0, first, 5, 1)
    };
    let many = |producers: std::ops::Range<u16>, first| -> Log {
        producers.map(|producer| (NOW, record_of(batch(producer, first), &one))).collect()
    };
    let mut log: Log = vec![(NOW, set_limits(limits))];
    for (producers, first) in [(0..2_000, 0), (7..8, 1), (0..1, 2), (0..50, 3), (9..10, 4)] {
        log.extend(many(producers, first));
        log.push((NOW, boundary()));
    }
    // More than the whole one, which is greater than 64 KiB.
    log.extend(many(0..2_000, 5));
    log.extend(many(0..2_000, 6));
    log.push((NOW, boundary()));
    let generation = Generation { segment_records_max: 1 << 20, ..generation() };
    let mut fold = Fold::new(generation, partition());
    let closes = fold_on(&mut fold, &log, 0, log.len());
    let states = closes.into_iter().filter_map(|flush| flush.close).map(|close| close.state);
    let sizes: Vec<_> = states.map(|state| (state_before(&state).is_some(), state.len())).collect();
    let [(false, first), (true, second), (true, third), (true, fourth), (false, _), (false, _)] =
        sizes[..]
    else {
        panic!("{sizes:?}")
    };
    assert!(first > 64 << 10 && second < 100 && third < 100 && fourth < 50 * 60, "{sizes:?}");
}
