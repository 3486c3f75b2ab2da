//! The fold over any log: what it keeps is whole, whoever folds and however often it stops.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, OnceLock},
};

use domain::{
    Cell, Conservation, DeadLetterGroup, DeadLetterKey, Epoch, LogId, Manifest, Offset, Partition,
    RowKey, UsageRow,
    generation::Generation,
    log::LogRecord,
    store::{Flush, PartitionKey, Touched},
};
use ingestor_consumer::{
    Fold,
    fold::{FoldError, IdsMemory, Publishing, run_of, state_before},
};
use proto::{record, walk};

use super::log::{self, Entry, Log};

/// The partition of every log here.
pub(crate) fn partition(generation: &Generation) -> PartitionKey {
    PartitionKey { log_id: generation.log_id, partition: Partition(0), epoch: Epoch(0) }
}

/// A log leaves the same bytes folded in one go, with a flush and a restart behind every record, and with
/// little memory; nothing that was read is missing from them, and the next generation can begin with them.
pub(super) fn check(bytes: &[u8]) {
    let log = log::of(bytes);
    let fold = || Fold::new(log.generation, partition(&log.generation));
    let straight = Straight::of(&log, fold());
    straight.check_conservation(&log);
    straight.check_sums(&log);
    straight.stored.check_manifests(&log.generation);
    assert_eq!(straight.stored, with_restarts(&log, straight.folded));
    let tight = fold().keeping_ids_in(&IdsMemory { bytes_max: 256, scratch: scratch() });
    let tight = tight.flushing(1).publishing(Publishing::On);
    assert_eq!(straight.stored, Straight::of(&log, tight).stored);
    straight.stored.inherit(&log.generation);
}

/// Where ids go that little memory has no room for, in files without names.
fn scratch() -> Arc<Path> {
    static SCRATCH: OnceLock<Arc<Path>> = OnceLock::new();
    Arc::clone(SCRATCH.get_or_init(|| std::env::temp_dir().into()))
}

/// Folds one record.
pub(crate) fn fold_one(fold: &mut Fold, entry: &Entry) -> Result<Vec<Flush>, FoldError> {
    let Entry { offset, appended_at, body } = entry;
    let record = LogRecord { offset: *offset, appended_at: *appended_at, body };
    let mut closed = Vec::new();
    fold.record(record, &mut closed).map(|()| closed)
}

/// A log that was folded in one go.
struct Straight {
    stored: Stored,
    counts: Conservation,
    /// Records before the first of a newer format, where a fold stops.
    folded: usize,
    letters: Vec<domain::DeadLetter>,
}

impl Straight {
    fn of(log: &Log, mut fold: Fold) -> Self {
        fold.list_dead_letters();
        let (mut stored, mut folded) = (Stored::default(), 0);
        for entry in &log.entries {
            match fold_one(&mut fold, entry) {
                Ok(closed) => closed.into_iter().for_each(|flush| stored.take(flush)),
                Err(FoldError::Newer { offset, .. }) => {
                    assert_eq!(offset, entry.offset);
                    break;
                }
                Err(error) => panic!("a log with rising offsets stops the fold: {error}"),
            }
            folded += 1;
        }
        let last = fold.flush();
        let counts = last.progress.expect("a flush tells progress").counts;
        stored.take(last);
        Self { stored, counts, folded, letters: fold.take_dead_letters() }
    }

    /// I1, and that `read` is what the log holds.
    fn check_conservation(&self, log: &Log) {
        let counts = &self.counts;
        assert!(counts.holds(), "{counts:?}");
        let read = log.entries[..self.folded].iter().map(|entry| {
            match record::open(log.generation.log_id, &entry.body) {
                Ok(view) if view.envelope.control.is_none() => view.pulses().count() as u64,
                _ => 1,
            }
        });
        assert_eq!(counts.read, read.sum::<u64>());
        assert_eq!(counts.late + counts.dead_lettered, self.letters.len() as u64);
        let grouped: u64 = self.stored.dead_letters.values().map(|group| group.count).sum();
        assert_eq!(grouped, self.letters.len() as u64);
    }

    /// Rows hold what was accepted; where nothing was a duplicate, also its exact sum.
    fn check_sums(&self, log: &Log) {
        let cells = self.stored.rows.values().map(|cell| Cell::decode(cell).unwrap().aggregate);
        let (count, sum) = cells.fold((0, 0i128), |(count, sum), cell| {
            (count + cell.count, sum.wrapping_add(cell.sum.raw()))
        });
        assert_eq!(count, self.counts.accepted);
        if self.counts.duplicate == 0 {
            // Of 128 bits, in which sums come out right whatever they pass on the way.
            let sent = log.entries[..self.folded].iter().map(|entry| amounts(log, &entry.body));
            let set_aside = self.letters.iter().map(|letter| amount(&letter.payload));
            let wrap = |sum: i128, amount: i128| sum.wrapping_add(amount);
            let expected = sent.fold(0, wrap).wrapping_sub(set_aside.fold(0, wrap));
            assert_eq!(sum, expected);
        }
    }
}

/// The amounts of all pulses of a record together.
fn amounts(log: &Log, body: &[u8]) -> i128 {
    let Ok(view) = record::open(log.generation.log_id, body) else { return amount(body) };
    if view.envelope.control.is_some() {
        return amount(body);
    }
    view.pulses().fold(0, |sum, pulse| sum.wrapping_add(amount(pulse.body)))
}

/// The amount of a pulse; of what is none, nothing.
fn amount(body: &[u8]) -> i128 {
    let amount = walk::pulse(body).ok().and_then(|pulse| pulse.used_amount);
    let quantity =
        amount.and_then(|(unscaled, scale)| domain::Quantity::from_decimal(unscaled, scale).ok());
    quantity.map_or(0, domain::Quantity::raw)
}

/// What a store would hold.
#[derive(Debug, Default, PartialEq)]
struct Stored {
    rows: HashMap<RowKey, Vec<u8>>,
    /// Manifest, run and state by the segment's start.
    manifests: BTreeMap<Offset, (Manifest, Vec<u8>, Vec<u8>)>,
    dead_letters: BTreeMap<DeadLetterKey, DeadLetterGroup>,
    touched: BTreeMap<Offset, Vec<Touched>>,
}

impl Stored {
    fn take(&mut self, flush: Flush) {
        for UsageRow { key, cell } in flush.rows {
            let known = self.rows.get(&key).map(|known| Cell::decode(known).unwrap().offset_last);
            if known.is_none_or(|known| known <= cell.offset_last) {
                self.rows.insert(key, cell.encode());
            }
        }
        for group in flush.dead_letters {
            let known = self.dead_letters.get(&group.key);
            if known.is_none_or(|known| known.offset_last <= group.offset_last) {
                self.dead_letters.insert(group.key.clone(), group);
            }
        }
        if let Some(close) = flush.close {
            let start = flush.segment.start;
            self.manifests.insert(start, (close.manifest, close.run, close.state));
            self.touched.insert(start, close.touched);
        }
    }

    /// Each manifest proves its own segment, and segments tile (I2, I3).
    fn check_manifests(&self, generation: &Generation) {
        let mut end = Offset(0);
        let mut counts_to_end = Conservation::NONE;
        for (start, (manifest, run, state)) in &self.manifests {
            assert_eq!(*start, end);
            manifest.check().unwrap();
            assert_eq!(Manifest::decode(manifest.segment, &manifest.encode()), Ok(*manifest));
            let here = |row: &&RowKey| row.segment == manifest.segment;
            assert_eq!(self.rows.keys().filter(here).count() as u64, manifest.rows);
            let rows = self.rows.iter().filter(|(key, _)| key.segment == manifest.segment);
            let mut digest = rows.fold(0, |digest, (key, cell)| {
                let cell = Cell::decode(cell).unwrap();
                digest ^ UsageRow { key: key.clone(), cell }.digest(generation.hash_seed)
            });
            for Touched { tenant, window_day } in &self.touched[start] {
                let day = window_day.to_le_bytes();
                let parts = [&b"touched"[..], tenant.as_str().as_bytes(), &day];
                digest ^= domain::hash::parts(generation.hash_seed, parts);
            }
            assert_eq!(digest, manifest.rows_digest);
            assert_eq!(ingestor_consumer::fold::digest(run), manifest.run_digest);
            assert_eq!(ingestor_consumer::fold::digest(state), manifest.state_digest);
            counts_to_end = counts_to_end.plus(&manifest.counts);
            assert_eq!(counts_to_end, manifest.counts_to_end);
            end = manifest.end;
        }
    }

    /// A stored state, and before it those that it goes back to.
    fn states(&self, state: &[u8]) -> Vec<Vec<u8>> {
        let mut states = vec![state.to_vec()];
        while let Some(before) = state_before(&states[0]) {
            let mut all = self.manifests.values();
            let (.., state) = all.find(|(manifest, ..)| manifest.state_digest == before).unwrap();
            states.insert(0, state.clone());
        }
        states
    }

    /// Two partitions begin with what one has left.
    fn inherit(&self, generation: &Generation) {
        let Some((manifest, run, state)) = self.manifests.values().next_back() else { return };
        let grown = generation.grown(LogId([1; 16]), 2);
        for number in grown.partitions() {
            let key = PartitionKey { partition: number, ..partition(&grown) };
            let mut fold =
                Fold::inherit(grown, key, [(manifest, &self.states(state)[..])]).unwrap();
            fold.remember(&run_of((&grown, number), (generation, Partition(0)), run)).unwrap();
            assert!(fold.sealed_at().is_none() && fold.folded_to() == Offset(0));
        }
    }

    /// A fold that knows only what is stored.
    fn restart(&self, generation: &Generation) -> Fold {
        let partition = partition(generation);
        let Some((manifest, _, state)) = self.manifests.values().next_back() else {
            return Fold::new(*generation, partition);
        };
        let mut fold = Fold::resume(*generation, partition, manifest, &self.states(state)).unwrap();
        for (_, run, _) in self.manifests.values() {
            fold.remember(run).unwrap();
        }
        fold
    }
}

/// Folds with a flush and a restart behind every record.
fn with_restarts(log: &Log, folded: usize) -> Stored {
    let entries = &log.entries[..folded];
    let mut stored = Stored::default();
    for end in 1..=entries.len() {
        let mut fold = stored.restart(&log.generation).flushing(1);
        let from = fold.folded_to();
        for entry in entries[..end].iter().filter(|entry| entry.offset >= from) {
            for flush in fold_one(&mut fold, entry).expect("it was folded before") {
                stored.take(flush);
            }
        }
        while let Some(part) = fold.flush_part() {
            stored.take(part);
        }
        stored.take(fold.flush());
    }
    stored
}
