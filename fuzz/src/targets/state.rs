//! Fold states and runs of ids, as a store might give them back: damaged, or made up.

use domain::{
    Conservation, Manifest, Offset, SegmentId, Timestamp,
    segment::Anchor,
    store::{Flush, PartitionKey},
};
use ingestor_consumer::{
    Fold,
    fold::{self, run_of},
};
use proto::record as records;

use super::{
    fold::{fold_one, partition},
    log::{self, Entry},
    record::generation,
};

const SECOND: i64 = 1_700_000_000;

/// The manifest of a segment that came before.
pub(crate) fn manifest() -> Manifest {
    let PartitionKey { log_id, partition, epoch } = partition(&generation());
    Manifest {
        segment: SegmentId { log_id, partition, epoch, start: Offset(0) },
        end: Offset(5),
        eff_ts: Timestamp::from_parts(SECOND, 0).expect("a moment of 2023"),
        counts: Conservation::NONE,
        counts_to_end: Conservation::NONE,
        rows: 0,
        rows_digest: 0,
        dead_letters: 0,
        dead_letters_digest: 0,
        anchor: Anchor { offset: Offset(4), digest: 0 },
        state_digest: 0,
        run_digest: 0,
    }
}

/// A whole state and, where there are more bytes, a delta of it with these changes.
fn states(whole: &[u8], changes: &[u8]) -> Vec<Vec<u8>> {
    let before = fold::digest(whole).to_le_bytes();
    let delta = [&[0], &before[..], changes].concat();
    let deltas = Some(delta).filter(|_| !changes.is_empty());
    std::iter::once(whole.to_vec()).chain(deltas).collect()
}

fn resume(states: &[Vec<u8>]) -> Option<Fold> {
    let resumed = Fold::resume(generation(), partition(&generation()), &manifest(), states);
    resumed.inspect_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// The state at the end of a segment that holds a boundary only.
fn saved(mut fold: Fold) -> Vec<u8> {
    let body = records::encode_boundary(&generation(), "fuzz");
    let appended_at = Timestamp::from_parts(SECOND, 0).expect("a moment of 2023");
    let flushes = fold_one(&mut fold, &Entry { offset: Offset(5), appended_at, body }).unwrap();
    let close = |flush: Flush| flush.close;
    flushes.into_iter().find_map(close).expect("a boundary closes its segment").state
}

/// A state either does not parse, or is saved as it was read; and any log can be folded behind it.
pub(super) fn check(bytes: &[u8]) {
    // The first byte says how much is the state, and the next two how many bytes of it, at its end, are a
    // delta; the rest makes a log.
    let [split, low, high, rest @ ..] = bytes else { return };
    let (state, records) = rest.split_at(rest.len() * usize::from(*split) / 255);
    let changes = usize::from(u16::from_le_bytes([*low, *high])) % (state.len() + 1);
    let (whole, changes) = state.split_at(state.len() - changes);
    let sealed_at = fold::sealed_at(whole);
    let states = states(whole, changes);
    let Some(fold) = resume(&states) else { return };
    assert_eq!(sealed_at, Ok(fold.sealed_at()));
    let once = saved(fold);
    let mut then = states.clone();
    match fold::state_before(&once) {
        Some(before) => assert_eq!(Some(before), then.last().map(|last| fold::digest(last))),
        None => then.clear(),
    }
    then.push(once);
    let again = resume(&then).expect("what a fold saves, it resumes");
    saved(again);
    let mut fold = resume(&states).expect("it did before");
    for mut entry in log::of(records).entries {
        entry.offset = Offset(entry.offset.0 + 5);
        if fold_one(&mut fold, &entry).is_err() {
            return;
        }
    }
    assert!(fold.flush().progress.expect("a flush tells progress").counts.holds());
}

/// A run of ids is remembered up to its last whole id, and a part of it never grows.
pub(super) fn run(bytes: &[u8]) {
    let generation = generation();
    let mut fold = Fold::new(generation, partition(&generation));
    fold.remember(bytes).unwrap();
    assert!(fold.ids_held() <= bytes.len().saturating_sub(4) as u64 / 13);
    let grown = generation.grown(domain::LogId([1; 16]), 3);
    let mut parts = 0;
    for number in grown.partitions() {
        let part = run_of((&grown, number), (&generation, domain::Partition(0)), bytes);
        assert!(part.len() <= bytes.len());
        assert_eq!(run_of((&grown, number), (&generation, domain::Partition(0)), &part), part);
        parts += part.len().saturating_sub(4) / 13;
    }
    assert!(parts >= bytes.len().saturating_sub(4) / 13, "an id belongs to no partition");
}
