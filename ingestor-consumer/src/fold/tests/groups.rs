//! The law of groups: pulses that are added together give what they give one after the other.

use std::collections::BTreeMap;

use domain::Aggregate;
use proptest::prelude::*;

use super::*;

/// A pulse of one of three resources in one of two hours. Some leave out the tenant, which the scope
/// then is, some have a name that is none, and some amounts leave the range of a total together.
fn any_pulse() -> impl Strategy<Value = v1::Pulse> {
    let tenant = prop_oneof![4 => Just("acme"), 4 => Just(""), 1 => Just("a\nb")];
    let amount = prop_oneof![12 => Just(i64::MAX), 2 => Just(i64::MIN), 3 => -9i64..9];
    (tenant, prop_oneof![Just("vm"), Just("disk")], amount, 0i64..2, 0i64..4).prop_map(
        |(tenant, sku, amount, hour, second)| v1::Pulse {
            tenant: tenant.into(),
            ..pulse(sku, amount, NOW - hour * HOUR + second)
        },
    )
}

fn scoped(sent: usize) -> v1::SourceBatch {
    v1::SourceBatch { scope: "acme".into(), ..plain(sent) }
}

/// One record for each list of pulses, of two sources where there are enough of them.
fn log_of(records: &[Vec<v1::Pulse>]) -> Log {
    let bodies = records.iter().map(|pulses| {
        let (first, rest) = (pulses.len() / 2, pulses.len() - pulses.len() / 2);
        let sources = [first, rest].into_iter().filter(|sent| *sent > 0).map(scoped).collect();
        let fields = v1::LogRecord { envelope: None, pulses: pulses.clone() }.encode_to_vec();
        record::encode(&generation(), sources, pulses.len() as u32, [&fields[..]].into_iter())
    });
    bodies.map(|body| (NOW, body)).collect()
}

/// What adding up by hand gives: aggregates and the last record by resource and hour, and the places
/// of the pulses that were not added.
type ByHand = (BTreeMap<(String, Timestamp), (Aggregate, Offset)>, Vec<(Offset, u32)>);

fn by_hand(records: &[Vec<v1::Pulse>]) -> ByHand {
    let (mut rows, mut refused) = (BTreeMap::new(), Vec::new());
    for (offset, pulses) in (0..).map(Offset).zip(records) {
        for (index, pulse) in (0..).zip(pulses) {
            let seconds = pulse.time.unwrap().seconds;
            let key = (pulse.product_sku.clone(), at(seconds - seconds.rem_euclid(HOUR)));
            let unscaled = pulse.used_amount.unwrap().unscaled;
            let amount = Quantity::from_raw(i128::from(unscaled) * Quantity::ONE.raw());
            let added = match rows.get_mut(&key) {
                _ if pulse.tenant == "a\nb" => false,
                None => {
                    rows.insert(key, (Aggregate::of(amount, at(seconds)), offset));
                    true
                }
                Some((aggregate, offset_last)) => {
                    let added = aggregate.add(amount, at(seconds)).is_ok();
                    if added {
                        *offset_last = offset;
                    }
                    added
                }
            };
            if !added {
                refused.push((offset, index));
            }
        }
    }
    (rows, refused)
}

proptest! {
    #[test]
    fn a_group_of_any_size_gives_what_its_pulses_give_one_by_one(
        records in proptest::collection::vec(proptest::collection::vec(any_pulse(), 1..90), 1..4),
        size in 1usize..80,
    ) {
        let mut fold = Fold::new(generation(), partition());
        fold.group_pulses = size;
        fold.list_dead_letters();
        let log = log_of(&records);
        prop_assert!(fold_on(&mut fold, &log, 0, log.len()).is_empty());
        let flush = fold.flush();
        let rows = flush.rows.into_iter().map(|UsageRow { key, cell }| {
            assert_eq!(key.resource.tenant.as_str(), "acme");
            let key = (key.resource.product_sku.as_str().to_owned(), key.window_start);
            (key, (cell.aggregate, cell.offset_last))
        });
        let letters = fold.take_dead_letters();
        let refused = letters.iter().map(|letter| (letter.offset, letter.index));
        let (rows, refused): ByHand = (rows.collect(), refused.collect());
        let accepted: usize = records.iter().map(Vec::len).sum::<usize>() - refused.len();
        prop_assert_eq!(flush.progress.unwrap().counts.accepted, accepted as u64);
        prop_assert_eq!((rows, refused), by_hand(&records));
    }
}
