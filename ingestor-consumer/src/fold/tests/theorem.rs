//! The theorem: however the work is cut and wherever it stops and starts again, the same log gives the
//! same bytes.

use proptest::prelude::*;

use super::*;

/// A record of a log of all kinds, with resends, reuse, late usage and boundaries: kind, seconds since the
/// one before, pulses, number, producer.
type Step = (u8, i64, Vec<(&'static str, i64, i64, u8)>, u64, u8);

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let second = prop_oneof![4 => 0i64..30, 1 => 500i64..700];
    let time = prop_oneof![8 => -HOUR..200, 1 => -30 * HOUR..-23 * HOUR, 1 => 250i64..400];
    let sku = prop_oneof![Just("vm"), Just("disk")];
    let pulses = proptest::collection::vec((sku, -5i64..100, time, 0u8..12), 1..5);
    proptest::collection::vec((0u8..11, second, pulses, 0u64..6, 0u8..2), 1..40)
}

/// `deltas` is how many deltas the limits among them allow.
fn log_of(steps: &[Step], deltas: impl Fn(u64) -> u32) -> Log {
    let mut now = NOW;
    let record = |(kind, later, pulses, number, producer): &Step| {
        let (kind, number, producer, sent) = (*kind, *number, *producer, pulses.len());
        now += later;
        let made: Vec<_> = pulses
            .iter()
            .map(|(sku, amount, time, id)| {
                let region = HashMap::from([("region".to_owned(), (id % 2).to_string())]);
                let id = if kind < 3 { id.to_string() } else { String::new() };
                v1::Pulse { id, properties: region, ..pulse(sku, *amount, now + time) }
            })
            .collect();
        let body = match kind {
            0..3 => record_of(plain(sent), &made),
            3..6 => record_of(numbered(producer, number * 3, number, sent), &made),
            6 => record_of(backfill("old", &[producer], number, sent), &made),
            7 => boundary(),
            8 => declare("vm", &["region"][..usize::from(producer)], number),
            9 => set_limits(FoldLimits {
                segment_bytes: 1_024 * (1 + number),
                state_bytes: 400 * (1 + number),
                keys_per_tenant: 1 + number as u32 / 2,
                values_per_dimension: 1 + u32::from(producer),
                state_deltas: deltas(number),
                ranges_per_backfill: number as u32,
            }),
            _ => vec![producer; 3],
        };
        (now, body)
    };
    steps.iter().map(record).collect()
}

fn any_log() -> impl Strategy<Value = Log> {
    any_steps().prop_map(|steps| log_of(&steps, |number| [1, 3, 0, 64][number as usize % 4]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn flushes_and_crashes_never_change_a_byte(
        log in any_log(),
        flushes in proptest::collection::vec(1usize..40, 0..10),
        crashes in proptest::collection::vec(1usize..40, 0..6),
    ) {
        let straight = Stored::of(fold_all(&log).1);
        prop_assert_eq!(fold_with_crashes(&log, &flushes, &crashes), straight);
    }

    #[test]
    fn a_state_that_was_stored_as_deltas_is_the_whole_one(steps in any_steps(), deltas in 1u32..8) {
        let [stored, whole] = [deltas, 0].map(|deltas| {
            let limits = (NOW, set_limits(FoldLimits { state_deltas: deltas, ..FoldLimits::FIRST }));
            let log = std::iter::once(limits).chain(log_of(&steps, |_| deltas));
            Stored::of(fold_all(&log.collect()).1)
        });
        prop_assert!(stored.manifests.keys().eq(whole.manifests.keys()));
        let mut in_a_row = 0;
        for ([.., state], [.., whole]) in stored.manifests.values().zip(whole.manifests.values()) {
            in_a_row = if state_before(state).is_some() { in_a_row + 1 } else { 0 };
            prop_assert!(in_a_row <= deltas);
            let states = stored.states(state);
            let mut read = State::decode(&states, Timestamp::EPOCH, Conservation::NONE).unwrap();
            read.limits.state_deltas = 0;
            prop_assert_eq!(&read.encode(), whole);
        }
    }

    #[test]
    fn a_zombie_that_flushes_late_changes_nothing(log in any_log(), at in any::<prop::sample::Index>()) {
        let straight = Stored::of(fold_all(&log).1);
        // The zombie folded a first part and flushes it after the other has finished.
        let mut zombie = Fold::new(generation(), partition());
        let mut late = fold_on(&mut zombie, &log, 0, at.index(log.len()));
        late.push(zombie.flush());
        let mut stored = Stored::of(fold_all(&log).1);
        late.into_iter().for_each(|flush| stored.take(flush));
        prop_assert_eq!(stored, straight);
    }

    #[test]
    fn every_pulse_read_is_accounted_for(log in any_log()) {
        let (fold, flushes) = fold_all(&log);
        let counts = flushes.last().unwrap().progress.unwrap().counts;
        prop_assert!(counts.holds(), "{:?}", counts);
        let read: u64 = log.iter().map(|(_, body)| {
            let pulses = v1::LogRecord::decode(&body[..]).map_or(0, |record| record.pulses.len());
            (pulses as u64).max(1)
        }).sum();
        prop_assert_eq!(counts.read, read);
        let stored = Stored::of(flushes);
        let accepted: u64 = stored.rows.values()
            .map(|cell| domain::Cell::decode(cell).unwrap().aggregate.count).sum();
        prop_assert_eq!(counts.accepted, accepted);
        let letters: u64 = stored.dead_letters.values().map(|group| group.count).sum();
        prop_assert_eq!(counts.late + counts.dead_lettered, letters);
        prop_assert_eq!(fold.folded_to(), Offset(log.len() as u64));
    }
}
