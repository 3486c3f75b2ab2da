//! Refold: folds chosen segments again, for who has to explain a total down to its pulses.
//!
//! It folds with the consumer's own fold, from the state that the segment before left, so it sees
//! exactly the pulses that were counted. A segment is used only if the log still holds the very
//! record that its manifest ends with.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use domain::{
    DeadLetter, Manifest, Offset, PulseLog, ResourceKey, RowKey, SegmentId, Timestamp, UsageStore,
    epochs::{Journal, LogHistory},
    log::{LogDrain, LogError},
    refold::{
        OutcomesPiece, Question, RecordPlace, Refold, RefoldError, Refolded, Refolding,
        RequestPlace,
    },
    store::{Flush, PartitionKey, StoreError},
};
use tokio::runtime::Handle;

use crate::{
    ConsumerError,
    fold::{Fold, FoldError, IdsMemory},
    restart,
};

/// Bytes of records folded at once.
const READ_BYTES: usize = 1 << 20;

/// The rows of each segment whose pulses are wanted.
type Watched = HashMap<SegmentId, Vec<(ResourceKey, Timestamp)>>;

/// Folds again from the logs that can be read here.
pub struct Refolder<L, U> {
    logs: Vec<Arc<L>>,
    store: Arc<U>,
    ids: Option<IdsMemory>,
}

impl<L: PulseLog, U: UsageStore> Refolder<L, U> {
    /// Over the generations whose logs can be read, and the store that has what they were folded to.
    #[must_use]
    pub const fn new(logs: Vec<Arc<L>>, store: Arc<U>) -> Self {
        Self { logs, store, ids: None }
    }

    /// The same with the ids of a partition in bounded memory.
    #[must_use]
    pub fn keeping_ids_in(mut self, memory: IdsMemory) -> Self {
        self.ids = Some(memory);
        self
    }

    /// Folds on a thread that may block.
    fn folding<T: Send + 'static>(
        &self,
        fold: impl FnOnce(&Sources<L, U>) -> Result<T, ConsumerError> + Send + 'static,
    ) -> Refolding<'_, T> {
        let sources = Sources {
            logs: self.logs.clone(),
            store: Arc::clone(&self.store),
            handle: Handle::current(),
            ids: self.ids.clone(),
        };
        Box::pin(async move {
            let folding = tokio::task::spawn_blocking(move || fold(&sources));
            let folded = folding.await.map_err(|error| RefoldError(error.to_string()))?;
            folded.map_err(|error| RefoldError(error.to_string()))
        })
    }
}

impl<L: PulseLog, U: UsageStore> Refold for Refolder<L, U> {
    fn refold(&self, question: Question) -> Refolding<'_, Refolded> {
        self.folding(move |sources| answer(sources, &question))
    }

    fn dead_letters(&self, record: RecordPlace) -> Refolding<'_, Vec<DeadLetter>> {
        let RecordPlace { key, offset } = record;
        self.folding(move |sources| {
            let stretch = Stretch { key, offsets: offset..offset.next() };
            let (mut fold, _) = stretch.fold(sources, Fold::list_dead_letters)?;
            Ok(fold.take_dead_letters())
        })
    }

    fn outcomes(&self, request: RequestPlace) -> Refolding<'_, OutcomesPiece> {
        let RequestPlace { key, offsets, request_id } = request;
        self.folding(move |sources| {
            let stretch = Stretch { key, offsets };
            let (mut fold, next) = stretch.fold(sources, |fold| fold.tally(request_id))?;
            Ok(OutcomesPiece { outcomes: fold.take_tally(), next })
        })
    }
}

/// What is folded from, on a thread that may block.
struct Sources<L, U> {
    logs: Vec<Arc<L>>,
    store: Arc<U>,
    handle: Handle,
    ids: Option<IdsMemory>,
}

impl<L: PulseLog, U: UsageStore> Sources<L, U> {
    /// An epoch of a partition, where its log can be read.
    fn place<'a>(&'a self, key: PartitionKey, journal: &'a Journal) -> Option<FoldPlace<'a, L, U>> {
        let log = self.logs.iter().find(|log| log.generation().log_id == key.log_id)?;
        let Self { store, handle, ids, .. } = self;
        let history = journal.log(key.log_id);
        Some(FoldPlace { log, store, handle, ids: ids.as_ref(), history, key })
    }
}

/// Some records of one epoch of a partition.
struct Stretch {
    key: PartitionKey,
    offsets: Range<Offset>,
}

impl Stretch {
    /// Folds the segment again that holds the first of the records, up to it; then, once the fold was
    /// told what to note of them, the records that are in this segment. Gives the offset behind them.
    fn fold<L: PulseLog, U: UsageStore>(
        self,
        sources: &Sources<L, U>,
        note: impl FnOnce(&mut Fold),
    ) -> Result<(Fold, Offset), ConsumerError> {
        let Self { key, offsets } = self;
        let stopped = |reason: String| ConsumerError::Stopped { partition: key.partition, reason };
        let journal = sources.handle.block_on(sources.store.journal())?;
        let Some(place) = sources.place(key, &journal) else {
            return Err(stopped(format!("log generation {} cannot be read here", key.log_id)));
        };
        let segment = sources.handle.block_on(place.segment(offsets.start))?;
        if segment.is_empty() {
            return Err(stopped(format!("record {} was not folded yet", offsets.start)));
        }
        let until = segment.end.min(offsets.end);
        let mut fold = place.fold_at(segment.start)?;
        let mut reader = place.log.drain(key.partition, segment.start)?;
        fold_to(&mut fold, &mut reader, offsets.start)?
            .map_err(|error| stopped(error.to_string()))?;
        note(&mut fold);
        fold_to(&mut fold, &mut reader, until)?.map_err(|error| stopped(error.to_string()))?;
        Ok((fold, until))
    }
}

/// Folds the records below `until` that are not folded yet.
fn fold_to(
    fold: &mut Fold,
    reader: &mut impl LogDrain,
    until: Offset,
) -> Result<Result<(), FoldError>, LogError> {
    let mut next = fold.folded_to();
    while next < until {
        match fold_on(fold, reader, until, &mut Discard)? {
            Ok(folded_to) => next = folded_to,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// Flushes that nobody needs.
struct Discard;

impl Extend<Flush> for Discard {
    fn extend<T: IntoIterator<Item = Flush>>(&mut self, flushes: T) {
        flushes.into_iter().for_each(drop);
    }
}

fn answer<L: PulseLog, U: UsageStore>(
    sources: &Sources<L, U>,
    question: &Question,
) -> Result<Refolded, ConsumerError> {
    let (handle, store) = (&sources.handle, &*sources.store);
    let journal = handle.block_on(store.journal())?;
    let mut by_partition: BTreeMap<PartitionKey, BTreeSet<(Offset, Offset)>> = BTreeMap::new();
    for (key, offsets) in &question.stretches {
        by_partition.entry(*key).or_default().insert((offsets.start, offsets.end));
    }
    let mut watched: Watched = HashMap::new();
    for RowKey { resource, window_start, segment } in &question.pulses_of {
        watched.entry(*segment).or_default().push((resource.clone(), *window_start));
    }
    let (mut refolded, mut room) = (Refolded::default(), question.pulses_max);
    for (key, stretches) in by_partition {
        let mut manifests: Vec<Manifest> = Vec::new();
        for (from, to) in stretches {
            manifests.extend(handle.block_on(restart::manifests_between(store, key, from, to))?);
        }
        let Some(place) = sources.place(key, &journal) else {
            refolded.missing.extend(manifests.iter().map(|manifest| manifest.segment));
            continue;
        };
        let partition = PartitionRefold { place, question, watched: &watched };
        partition.run(&manifests, &mut room, &mut refolded)?;
    }
    Ok(refolded)
}

/// An epoch of a partition, where it can be folded.
struct FoldPlace<'a, L, U> {
    log: &'a Arc<L>,
    store: &'a U,
    handle: &'a Handle,
    ids: Option<&'a IdsMemory>,
    history: &'a LogHistory,
    key: PartitionKey,
}

impl<L: PulseLog, U: UsageStore> FoldPlace<'_, L, U> {
    /// The segment that holds a record, up to its end or, of an open one, as far as it is stored. Empty
    /// where the record is not folded yet.
    async fn segment(&self, offset: Offset) -> Result<Range<Offset>, StoreError> {
        let begin = self.history.start_of(self.key.epoch, self.key.partition);
        let closed_to = self.store.newest_manifest(self.key).await?.map_or(begin, |last| last.end);
        if closed_to <= offset {
            let progress = self.store.progress(self.key).await?;
            let folded_to = progress.map_or(closed_to, |progress| progress.folded_to);
            return Ok(closed_to..if offset < folded_to { folded_to } else { closed_to });
        }
        let holds = |manifest: &Manifest| manifest.end > offset;
        let start = restart::first_from(self.store, self.key, begin, closed_to, holds).await?;
        let found = self.store.manifests(self.key, start, 1).await?.into_iter().next();
        Ok(start..found.map_or(closed_to, |manifest| manifest.end))
    }

    /// The fold as it was before the first record of a segment: resumed at the last segment before it
    /// whose state is kept, and folded on from there.
    fn fold_at(&self, start: Offset) -> Result<Fold, ConsumerError> {
        let mut fold = self.handle.block_on(self.resumed_before(start))?;
        if fold.folded_to() < start {
            let mut reader = self.log.drain(self.key.partition, fold.folded_to())?;
            fold_to(&mut fold, &mut reader, start)?.map_err(|error| {
                let (partition, reason) = (self.key.partition, error.to_string());
                ConsumerError::Stopped { partition, reason }
            })?;
        }
        Ok(fold)
    }

    async fn resumed_before(&self, start: Offset) -> Result<Fold, restart::RestartError> {
        let (generation, history, key) = (self.log.generation(), self.history, self.key);
        let inheritance = &restart::Inheritance::alone(key.partition, self.ids);
        let mut at = start;
        loop {
            if at == history.start_of(key.epoch, key.partition) {
                return restart::begin(generation, self.store, history, key, inheritance).await;
            }
            let before = restart::manifest_ending_at(self.store, history, key, at).await?;
            // Without a state to go back to, the one that is missing is named.
            let is_last = before.segment.start == Offset(0);
            if is_last || restart::has_state(self.store, before.state_digest).await? {
                return restart::resume(generation, self.store, history, key, &before, inheritance)
                    .await;
            }
            at = before.segment.start;
        }
    }
}

/// Folds segments of one epoch of a partition again.
struct PartitionRefold<'a, L, U> {
    place: FoldPlace<'a, L, U>,
    question: &'a Question,
    watched: &'a Watched,
}

impl<L: PulseLog, U: UsageStore> PartitionRefold<'_, L, U> {
    /// `manifests` ascend; `room` is how many pulses may still be listed.
    fn run(
        &self,
        manifests: &[Manifest],
        room: &mut usize,
        refolded: &mut Refolded,
    ) -> Result<(), ConsumerError> {
        let low = self.place.handle.block_on(self.place.log.bounds(self.place.key.partition))?.low;
        let mut going: Option<(Fold, L::Drain)> = None;
        for manifest in manifests {
            let start = manifest.segment.start;
            if start < low {
                refolded.missing.push(manifest.segment);
                continue;
            }
            let (mut fold, mut reader) = match going.take() {
                Some(going) if going.0.folded_to() == start => going,
                _ => (
                    self.place.fold_at(start)?,
                    self.place.log.drain(self.place.key.partition, start)?,
                ),
            };
            self.segment(manifest, (&mut fold, &mut reader), room, refolded)?;
            going = Some((fold, reader));
        }
        Ok(())
    }

    fn segment(
        &self,
        manifest: &Manifest,
        (fold, reader): (&mut Fold, &mut L::Drain),
        room: &mut usize,
        refolded: &mut Refolded,
    ) -> Result<(), ConsumerError> {
        let watched = self.watched.get(&manifest.segment).cloned().unwrap_or_default();
        fold.watch(watched, *room);
        let (mut closed, mut next) = (Vec::new(), manifest.segment.start);
        while next < manifest.end {
            next = fold_on(fold, reader, manifest.end, &mut closed)?.map_err(|error| {
                let (partition, reason) = (self.place.key.partition, error.to_string());
                ConsumerError::Stopped { partition, reason }
            })?;
        }
        // A segment that ends with its own record is closed by now, others by the next record.
        let is_this = |flush: &Flush| flush.segment == manifest.segment;
        let flush = closed.into_iter().find(is_this).unwrap_or_else(|| fold.flush());
        if flush.progress.is_none_or(|progress| progress.anchor != Some(manifest.anchor)) {
            let (partition, offset) = (self.place.key.partition, manifest.anchor.offset);
            return Err(restart::RestartError::AnotherLog { partition, offset }.into());
        }
        refolded.segments += 1;
        let Question { tenant, window, .. } = self.question;
        refolded.rows.extend(flush.rows.into_iter().filter(|row| {
            let at = row.key.window_start;
            row.key.resource.tenant == *tenant && window.start <= at && at < window.end
        }));
        for ((resource, window_start), pulses) in fold.take_watched() {
            let key = RowKey { resource, window_start, segment: manifest.segment };
            *room -= pulses.listed.len();
            refolded.pulses.insert(key, pulses);
        }
        Ok(())
    }
}

/// Folds some more records below `until` and gives the offset to go on from, or what the fold could not
/// take; behind that it takes nothing.
pub(crate) fn fold_on(
    fold: &mut Fold,
    reader: &mut impl LogDrain,
    until: Offset,
    closed: &mut impl Extend<Flush>,
) -> Result<Result<Offset, FoldError>, LogError> {
    let mut folded = Ok(());
    let next = reader.read(until, READ_BYTES, &mut |record| {
        if folded.is_ok() {
            folded = fold.record(record, closed);
        }
    })?;
    Ok(folded.map(|()| next))
}

#[cfg(test)]
mod tests;
