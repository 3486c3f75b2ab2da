//! Cut: the line below which usage is final for a run: one segment end a partition, all proved by
//! manifests.
//!
//! Everything that a run reads is below its cut, and the cut is journalled before anything is rated:
//! so a run that comes back, an explanation and a verification years later read the same rows.

use std::{collections::HashMap, ops::Range};

use crate::{
    BillingError,
    billing::Billing,
    books::runs::{Cut, CutEnd},
};
use domain::{
    Epoch, LogId, Offset, Partition, PulseLog, SegmentId, Timestamp, UsageStore, View,
    epochs::{Journal, Stretch},
    log::AppendError,
    place::Generation,
    store::PartitionKey,
};

/// A cut, ready to tell what is below it.
#[derive(Clone, Debug)]
pub(crate) struct Below {
    view: View,
    /// `None` has no end.
    ends: Option<HashMap<(LogId, Partition), Offset>>,
    /// Of each epoch that counts, the offsets where its segments start.
    stretches: Vec<(PartitionKey, Range<Offset>)>,
}

impl Below {
    /// Everything that counts in some epochs, which no cut ends.
    #[must_use]
    pub(crate) const fn everything(view: View) -> Self {
        Self { view, ends: None, stretches: Vec::new() }
    }

    /// The epochs that are meant.
    #[must_use]
    pub(crate) const fn view(&self) -> &View {
        &self.view
    }

    /// The stretches of the log that are below the cut; none where there is no cut.
    pub(crate) fn stretches(&self) -> &[(PartitionKey, Range<Offset>)] {
        &self.stretches
    }

    /// Tells whether a segment is below the cut.
    #[must_use]
    pub(crate) fn holds(&self, segment: &SegmentId) -> bool {
        let Some(ends) = &self.ends else { return true };
        let end = ends.get(&(segment.log_id, segment.partition));
        end.is_some_and(|end| segment.start < *end)
    }
}

impl<U: UsageStore, B: domain::BillingStore, L: PulseLog> Billing<U, B, L> {
    /// A journalled cut, ready for reading.
    ///
    /// # Errors
    /// When the store fails, or the cut is not one.
    pub(crate) async fn below(&self, cut: &Cut) -> Result<Below, BillingError> {
        let mut events = self.usage.log_events().await?;
        events.truncate(usize::try_from(cut.log_events).unwrap_or(usize::MAX));
        let epochs = Journal::of(events);
        let (mut ends, mut stretches) = (HashMap::new(), Vec::new());
        for CutEnd { log_id, partition, end } in &cut.ends {
            let bytes = u128::from_str_radix(log_id, 16).map_err(|_| BillingError::Journal {
                journal: "run".to_owned(),
                place: 0,
                message: format!("{log_id:?} is no log"),
            })?;
            let (log_id, partition) = (LogId(bytes.to_be_bytes()), Partition(*partition));
            ends.insert((log_id, partition), Offset(*end));
            let history = epochs.log(log_id);
            for Stretch { epoch, from, to } in history.stretches(history.active(), partition) {
                let to = to.map_or(Offset(*end), |to| to.min(Offset(*end)));
                stretches.push((PartitionKey { log_id, partition, epoch }, from..to));
            }
        }
        Ok(Below { view: View::active(epochs), ends: Some(ends), stretches })
    }

    /// Ends the open segment of every partition with a BOUNDARY and waits until all are proved and
    /// reach `complete`. `waiting` is told what it waits for.
    ///
    /// # Errors
    /// When the log or the store fails, or this process does not know the newest log.
    pub(crate) async fn take_cut(
        &self,
        complete: Timestamp,
        catalogue: Option<String>,
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
        let epoch = epochs.log(generation.log_id).active();
        for (partition, boundary) in wanted {
            let end =
                self.proved(&generation, epoch, partition, boundary, complete, waiting).await?;
            ends.push(cut_end(generation.log_id, partition, end));
        }
        Ok(Cut { taken_at: self.clock.now(), log_events, ends, catalogue, contracts })
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
            Err(error) => Err(BillingError::Log { partition, message: message(&error) }),
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

fn message(error: &AppendError) -> String {
    error.to_string()
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
