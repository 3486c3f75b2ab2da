//! Cut: the line below which usage is final for a run: one segment end per partition, all proved by
//! manifests.
//!
//! A run journals its cut before it rates anything. What is below a cut is in `usage.rs`.

use std::sync::Arc;

use domain::{
    BlockStore, Clock, Epoch, LogId, Offset, Partition, PulseLog, Timestamp, epochs::Journal,
    generation::Generation, store::PartitionKey,
};

use crate::{
    BillingError,
    books::runs::{Cut, CutEnd},
    config::RunConfig,
};

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
