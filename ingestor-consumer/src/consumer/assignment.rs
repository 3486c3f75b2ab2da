//! Assignment: which partitions this process drains, restored when they come and let go when they leave.
//!
//! A partition that cannot be restored is in trouble and tried again; the others are taken. Only where
//! the log itself is another one is none of them taken.

use std::{collections::BTreeSet, sync::Arc};

use domain::{
    Epoch, Partition, PulseLog, Timestamp, UsageStore, log::LogError, store::PartitionKey,
};
use futures_util::{StreamExt as _, stream};
use tracing::info;

use super::{Consumer, ConsumerError, Taken, Work};
use crate::{
    fold::Fold,
    handover::DrainCommand,
    restart::{self, Inheritance, Proof, RestartError, Standing},
};

/// Partitions that are restored at a time. Each holds its state and its runs of ids twice meanwhile,
/// and reads a record or two of the log.
const RESTORED_AT_ONCE: usize = 8;

/// What came of one partition.
type Of<T> = (Partition, Result<T, RestartError>);

impl<L: PulseLog, U: UsageStore> Consumer<L, U> {
    /// Restores partitions that were assigned to this process since it was last asked, and those in
    /// trouble that are due. Lets go of those that were taken from it, and of all of them when
    /// another epoch was made active.
    pub(super) async fn follow_assignment(&mut self) -> Result<(), ConsumerError> {
        let assigned: BTreeSet<_> = self.log.assignment()?.into_iter().flatten().collect();
        let epoch = self.epoch();
        self.read_history().await?;
        let mut stays = if epoch == self.epoch() { assigned.clone() } else { BTreeSet::new() };
        stays.retain(|partition| {
            let said = self.history.rebases(epoch, *partition);
            self.taken.get(partition).is_none_or(|taken| said.eq(&taken.believed))
        });
        let gone: Vec<_> =
            self.taken.keys().copied().filter(|partition| !stays.contains(partition)).collect();
        for partition in gone {
            info!(%partition, epoch = %self.epoch(), "partition let go: another process has it, another epoch is active, or append times were taken back");
            self.let_go(partition)?;
        }
        self.troubles.keep(&assigned);
        let now = self.clock.now();
        let new = assigned.into_iter().filter(|partition| !self.taken.contains_key(partition));
        let mut new: Vec<_> = new.collect();
        let is_due = |partition: &Partition| self.troubles.is_due(*partition, now);
        // Where none is taken, what one says of the log counts for all: they are tried together.
        if !self.taken.is_empty() || !new.iter().any(is_due) {
            new.retain(is_due);
        }
        self.take_on(new, now).await
    }

    /// Nothing is folded by what the journal said before: it may have taken times back since, of records
    /// that this process stopped at and that its clock has come to meanwhile.
    async fn read_history(&mut self) -> Result<(), ConsumerError> {
        self.history = self.store.journal().await?.log(self.generation.log_id).clone();
        Ok(())
    }

    /// Proves and restores partitions, and gives those that could be to their lanes.
    async fn take_on(&mut self, new: Vec<Partition>, now: Timestamp) -> Result<(), ConsumerError> {
        if new.is_empty() {
            return Ok(());
        }
        let proved = self.prove(new).await;
        let another_log = another_log(&proved).filter(|_| self.taken.is_empty());
        let another_log = another_log.map(|cause| Arc::new(ConsumerError::from(cause)));
        let mut standing = Vec::with_capacity(proved.len());
        for (partition, proved) in proved {
            match (proved, &another_log) {
                (Err(error), _) => self.troubles.met(partition, ConsumerError::from(error), now),
                (Ok(_), Some(cause)) => self.troubles.met(partition, Arc::clone(cause), now),
                (Ok(proved), None) => standing.push((partition, proved)),
            }
        }
        for (partition, restored) in self.restore(standing).await {
            match restored {
                Ok(fold) => self.take(partition, fold)?,
                Err(error) => self.troubles.met(partition, ConsumerError::from(error), now),
            }
        }
        Ok(())
    }

    /// Compares each partition's anchors with the log; ascending.
    async fn prove(&self, partitions: Vec<Partition>) -> Vec<Of<Standing>> {
        let history = Arc::new(self.history.clone());
        let proving = stream::iter(partitions).map(|partition| {
            let (log, store) = (Arc::clone(&self.log), Arc::clone(&self.store));
            let (history, key) = (Arc::clone(&history), self.key(partition));
            async move { (partition, restart::prove(&log, &*store, &history, key).await) }
        });
        sorted(proving.buffer_unordered(RESTORED_AT_ONCE).collect().await)
    }

    /// Makes each partition's fold; ascending.
    async fn restore(&self, standing: Vec<(Partition, Standing)>) -> Vec<Of<Fold>> {
        let heirs = standing.iter().map(|(partition, _)| *partition).collect();
        let mut inheritance = Inheritance::of(heirs);
        if let Some(ids) = &self.ids {
            inheritance = inheritance.keeping_ids_in(ids.clone());
        }
        let (history, inheritance) = (Arc::new(self.history.clone()), Arc::new(inheritance));
        let restoring = stream::iter(standing).map(|(partition, standing)| {
            let (generation, store) = (self.generation, Arc::clone(&self.store));
            let (history, inheritance) = (Arc::clone(&history), Arc::clone(&inheritance));
            let key = self.key(partition);
            // A task of its own, because a horizon's ids take a core for a while.
            let restored = tokio::spawn(async move {
                restart::restore(&generation, &*store, &history, key, standing, &inheritance).await
            });
            async move { (partition, restored.await.expect("restoring does not panic")) }
        });
        sorted(restoring.buffer_unordered(RESTORED_AT_ONCE).collect().await)
    }

    fn take(&mut self, partition: Partition, fold: Fold) -> Result<(), ConsumerError> {
        let folded_to = fold.folded_to();
        info!(%partition, epoch = %self.epoch(), %folded_to, ids = fold.ids_held(), "partition restored");
        let taken = Taken {
            folded_to,
            has_ended: fold.sealed_at().is_some(),
            believed: self.history.rebases(self.epoch(), partition).cloned().collect(),
            lacks_limits: self.log_lacks_limits(&fold),
            stored_at: self.clock.now(),
        };
        let fold = Box::new(fold.publishing(self.publishing));
        self.lanes.command(partition, DrainCommand::Take { partition, fold })?;
        self.taken.insert(partition, taken);
        Ok(())
    }

    /// Gives a partition up; what of it was not flushed is folded again by whoever takes it next.
    pub(super) fn let_go(&mut self, partition: Partition) -> Result<(), ConsumerError> {
        self.taken.remove(&partition);
        self.idle.forget(partition);
        self.memory.forget(partition);
        self.lanes.command(partition, DrainCommand::LetGo { partition })
    }

    const fn key(&self, partition: Partition) -> PartitionKey {
        PartitionKey { log_id: self.generation.log_id, partition, epoch: self.epoch() }
    }

    const fn epoch(&self) -> Epoch {
        match self.work {
            Work::Live => self.history.active(),
            Work::Rebuild(epoch) => epoch,
        }
    }
}

fn sorted<T>(mut found: Vec<Of<T>>) -> Vec<Of<T>> {
    found.sort_unstable_by_key(|(partition, _)| *partition);
    found
}

/// What says that the log is not the one that was counted, if something does and no partition proves
/// that it is.
fn another_log(proved: &[Of<Standing>]) -> Option<RestartError> {
    let is_same = |(_, proved): &Of<Standing>| {
        proved.as_ref().is_ok_and(|standing| standing.proof == Proof::Same)
    };
    if proved.iter().any(is_same) {
        return None;
    }
    let mut errors = proved.iter().filter_map(|(_, proved)| proved.as_ref().err());
    errors.find(|error| speaks_of_another_log(error)).cloned()
}

/// Whether a partition that fails so may belong to another log. One whose first records expired does
/// not say so.
fn speaks_of_another_log(error: &RestartError) -> bool {
    match error {
        RestartError::AnotherLog { .. } | RestartError::Log(LogError::Replaced { .. }) => true,
        RestartError::Log(LogError::OutOfRange { wanted, end, .. }) => wanted > end,
        _ => false,
    }
}
