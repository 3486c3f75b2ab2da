//! Cut: the line below which usage is final for a run: one segment end per partition, all proved by
//! manifests.
//!
//! A run journals its cut before it rates anything. What is below a cut is in `usage.rs`.

use std::{collections::BTreeSet, sync::Arc};

use domain::{
    BillingStore, BlockStore, Clock, Epoch, LogId, Offset, Partition, PulseLog, Timestamp,
    UsageStore,
    epochs::Journal,
    generation::Generation,
    store::{PartitionKey, StoreError},
};

use crate::{
    BillingError,
    books::runs::{Cut, CutEnd, Runs},
    config::RunConfig,
};

/// Marks the cuts of all runs as edges in a store whose map of blocks was never written: one of a version
/// that knew no blocks. To be done before the first block is made or the first cut taken.
///
/// # Errors
/// When a store fails.
pub async fn mark_cuts<U: BlockStore, B: BillingStore>(
    usage: &U,
    billing: Arc<B>,
    clock: Arc<dyn Clock>,
) -> Result<(), BillingError> {
    if usage.block_map().await?.version > 0 {
        return Ok(());
    }
    let generations = usage.generations().await?;
    let runs = Runs::new(billing, clock).all().await?;
    let mut cuts: Vec<Cut> = runs.into_iter().filter_map(|run| run.cut).collect();
    cuts.sort_by_key(|cut| cut.taken_at);
    // In one version, also where nothing was marked, so that it is done whole and once.
    let mut map = usage.block_map().await?.next_version();
    for cut in &cuts {
        for log_id in generations.iter().map(|generation| generation.log_id) {
            let named = log_id.to_string();
            let ends = cut.ends.iter().filter(|end| end.log_id == named);
            let ends: Vec<Offset> = ends.map(|end| Offset(end.end)).collect();
            let edge = map.edge_from(log_id, Epoch(0), &ends);
            let (marks, newest) = map.marks(log_id);
            if newest == edge {
                continue;
            }
            if edge != ends {
                tracing::warn!(taken_at = %cut.taken_at, "the cuts of two runs cross; the later counts");
            }
            usage.put_block_mark(log_id, marks, &edge).await?;
            map.mark(log_id, edge);
        }
    }
    match usage.replace_block_map(&map).await {
        Ok(()) | Err(StoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The epochs of each log whose totals are below the cut of a run, as of the moment of the cut: with them
/// bills are verified and explained.
///
/// # Errors
/// When a store fails.
pub async fn billed_epochs<U: UsageStore, B: BillingStore>(
    usage: &U,
    billing: Arc<B>,
    clock: Arc<dyn Clock>,
) -> Result<BTreeSet<(LogId, Epoch)>, BillingError> {
    let (generations, events) = (usage.generations().await?, usage.log_events().await?);
    let mut billed = BTreeSet::new();
    for cut in Runs::new(billing, clock).all().await?.into_iter().filter_map(|run| run.cut) {
        let known = usize::try_from(cut.log_events).unwrap_or(usize::MAX);
        let journal = Journal::of(events.iter().take(known).cloned());
        for generation in &generations {
            let (log_id, history) = (generation.log_id, journal.log(generation.log_id));
            for partition in generation.partitions() {
                let stretches = history.stretches(history.active(), partition);
                billed.extend(stretches.map(|stretch| (log_id, stretch.epoch)));
            }
        }
    }
    Ok(billed)
}

/// Takes cuts: of the log, proved by the usage store.
pub(crate) struct Cutter<U, L> {
    usage: Arc<U>,
    log: Arc<L>,
    clock: Arc<dyn Clock>,
    config: RunConfig,
}

impl<U: BlockStore, L: PulseLog> Cutter<U, L> {
    /// Takes the ports, and how long to wait and to try.
    pub(crate) fn new(
        usage: Arc<U>,
        log: Arc<L>,
        clock: Arc<dyn Clock>,
        config: RunConfig,
    ) -> Self {
        Self { usage, log, clock, config }
    }

    /// Ends the open segment of every partition with a BOUNDARY and waits until all are proved and
    /// reach `complete`. Calls `waiting` with what it waits for.
    ///
    /// # Errors
    /// When the log or the store fails, or this process does not know the newest log.
    pub(crate) async fn take(
        &self,
        complete: Timestamp,
        catalogues: Vec<String>,
        contracts: u64,
        waiting: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Cut, BillingError> {
        let generation = *self.log.generation();
        let generations = self.usage.generations().await?;
        if generations.last().is_some_and(|newest| newest.log_id != generation.log_id) {
            return Err(BillingError::Grown);
        }
        let mut wanted = Vec::new();
        for partition in generation.partitions() {
            wanted.push((partition, self.append_boundary(&generation, partition).await?));
        }
        let events = self.usage.log_events().await?;
        let log_events = events.len() as u64;
        let epochs = Journal::of(events);
        let mut ends = Vec::new();
        for older in generations.iter().filter(|older| older.log_id != generation.log_id) {
            ends.extend(sealed_ends(older, &epochs)?);
        }
        let (log_id, epoch) = (generation.log_id, epochs.log(generation.log_id).active());
        let mut proved = Vec::new();
        for (partition, boundary) in wanted {
            proved.push(
                self.proved(&generation, epoch, partition, boundary, complete, waiting).await?,
            );
        }
        // What is below a cut is asked for years later, so no block may hold usage from both sides.
        let edge = self.usage.mark_edge(log_id, epoch, &proved).await?;
        let edges = generation.partitions().zip(edge);
        ends.extend(edges.map(|(partition, end)| cut_end(log_id, partition, end)));
        Ok(Cut { taken_at: self.clock.now(), log_events, ends, catalogues, contracts })
    }

    async fn append_boundary(
        &self,
        generation: &Generation,
        partition: Partition,
    ) -> Result<Offset, BillingError> {
        let mut backoff = self.config.backoff();
        let boundary = proto::record::encode_boundary(generation, "billing");
        for _ in 1..self.config.tries_max.max(1) {
            match self.log.append(partition, vec![boundary.clone()]).await {
                Ok(offsets) => return last(&offsets, partition),
                Err(error) => {
                    // One boundary more, where the outcome is unknown, does no harm.
                    tracing::warn!(%partition, %error, "the boundary of a cut was not appended");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
        match self.log.append(partition, vec![boundary]).await {
            Ok(offsets) => last(&offsets, partition),
            Err(error) => Err(BillingError::Log { partition, message: error.to_string() }),
        }
    }

    /// The end of the newest proved segment, once that holds the boundary and reaches `complete`.
    async fn proved(
        &self,
        generation: &Generation,
        epoch: Epoch,
        partition: Partition,
        boundary: Offset,
        complete: Timestamp,
        waiting: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Offset, BillingError> {
        let key = PartitionKey { log_id: generation.log_id, partition, epoch };
        loop {
            let newest = self.usage.newest_manifest(key).await?;
            match newest {
                Some(manifest) if manifest.end > boundary && manifest.eff_ts >= complete => {
                    return Ok(manifest.end);
                }
                Some(manifest) if manifest.end > boundary => waiting(format!(
                    "partition {partition} is proved to log time {}, and {complete} is needed: the clock of the log is behind",
                    manifest.eff_ts
                )),
                newest => waiting(format!(
                    "partition {partition} is proved to offset {} and the cut is at {}: a running consumer folds it at its next tick",
                    newest.map_or(Offset(0), |manifest| manifest.end),
                    boundary.next()
                )),
            }
            tokio::time::sleep(self.config.poll_interval).await;
        }
    }
}

fn last(offsets: &[Offset], partition: Partition) -> Result<Offset, BillingError> {
    let last = offsets.last().copied();
    last.ok_or_else(|| BillingError::Log { partition, message: "gave no offset".to_owned() })
}

/// A log that has ended is proved as a whole before the next begins.
fn sealed_ends(older: &Generation, epochs: &Journal) -> Result<Vec<CutEnd>, BillingError> {
    let sealed = epochs.log(older.log_id).sealed().ok_or(BillingError::Grown)?;
    let ends = older.partitions().zip(&sealed.ends);
    Ok(ends.map(|(partition, end)| cut_end(older.log_id, partition, *end)).collect())
}

fn cut_end(log_id: LogId, partition: Partition, end: Offset) -> CutEnd {
    CutEnd { log_id: log_id.to_string(), partition: partition.0, end: end.0 }
}

#[cfg(test)]
mod tests {
    use domain::UsageStore as _;
    use storage::memory::{MemoryBillingStore, MemoryUsageStore};

    use super::*;
    use crate::testing::town;

    #[tokio::test]
    async fn the_cuts_of_a_store_without_blocks_become_edges_once() {
        let generation = Generation::new(LogId([7; 16]), 2, 0);
        let usage = MemoryUsageStore::new();
        usage.register(&generation, None).await.unwrap();
        let billing = Arc::new(MemoryBillingStore::new());
        let clock: Arc<dyn Clock> = Arc::new(runtime::clock::SystemClock);
        let runs = Runs::new(Arc::clone(&billing), Arc::clone(&clock));
        // The second run took its cut first; the third has none.
        for (month, cut) in [("2024-09", Some(2)), ("2024-10", Some(1)), ("2024-11", None)] {
            let run = runs.open(town::month(month)).await.unwrap();
            let Some(minute) = cut else { continue };
            let end = |partition: u16| {
                let end = Offset(minute * 10 + u64::from(partition));
                cut_end(generation.log_id, Partition(partition), end)
            };
            let taken_at = format!("2024-11-01T00:0{minute}:00Z").parse().unwrap();
            let (ends, catalogues) = (vec![end(0), end(1)], Vec::new());
            let cut = Cut { taken_at, log_events: 0, ends, catalogues, contracts: 0 };
            runs.set_cut(&run, cut).await.unwrap();
        }
        for _start in 0..2 {
            mark_cuts(&usage, Arc::clone(&billing), Arc::clone(&clock)).await.unwrap();
            let map = usage.block_map().await.unwrap();
            assert_eq!((map.version, map.marks(generation.log_id).0), (1, 2));
            let marked = usage.block_marks(generation.log_id).await.unwrap();
            assert_eq!(marked, [[Offset(10), Offset(11)], [Offset(20), Offset(21)]]);
        }
    }
}
