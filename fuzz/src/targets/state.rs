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

fn resume(state: &[u8]) -> Option<Fold> {
    let resumed = Fold::resume(generation(), partition(&generation()), &manifest(), state);
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
    // The first byte says how much is the state; the rest makes a log.
    let Some((split, rest)) = bytes.split_first() else { return };
    let (state, records) = rest.split_at(rest.len() * usize::from(*split) / 255);
    let sealed_at = fold::sealed_at(state);
    let Some(fold) = resume(state) else { return };
    assert_eq!(sealed_at, Ok(fold.sealed_at()));
    let once = saved(fold);
    let again = resume(&once).expect("what a fold saves, it resumes");
    assert_eq!(saved(again), once);
    let mut fold = resume(state).expect("it did before");
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
