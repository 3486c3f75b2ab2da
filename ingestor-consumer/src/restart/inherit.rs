//! Where a generation of the log begins: at what the one before leaves.

use domain::{
    Manifest, Offset, Partition, Timestamp, UsageStore,
    epochs::{LogHistory, SealedLog},
    generation::Generation,
    store::{PartitionKey, StoreError},
};

use tokio::sync::OnceCell;

use super::{
    RestartError, manifest_ending_at, manifests_since, remembered_since, run_of, state_of,
};
use crate::fold::{self, Fold, IdsMemory};

/// A generation before, which has ended.
struct Ancestor {
    generation: Generation,
    history: LogHistory,
    sealed: SealedLog,
}

/// What generations before leave to some partitions of this one. It is read from the store once for
/// all of them, and only if one of them needs it.
#[derive(Debug)]
pub struct Inheritance {
    heirs: Vec<Partition>,
    left: OnceCell<Left>,
    /// Where the folds keep their ids; in memory without a bound, if nothing is said.
    ids: Option<IdsMemory>,
}

#[derive(Debug, Default)]
struct Left {
    /// How the partitions of the last generation before ended, with their stored states; none where this
    /// is the first.
    ended: Vec<(Manifest, Vec<Vec<u8>>)>,
    /// Runs of ids that may still matter, oldest first.
    runs: Vec<LeftRun>,
}

#[derive(Debug)]
struct LeftRun {
    /// Log time at the end of its segment.
    eff_ts: Timestamp,
    /// What of it may come to each heir, in their order.
    parts: Vec<Vec<u8>>,
}

impl Inheritance {
    /// Of these partitions. Reads nothing yet.
    #[must_use]
    pub const fn of(heirs: Vec<Partition>) -> Self {
        Self { heirs, left: OnceCell::const_new(), ids: None }
    }

    /// Of one partition, for who folds it beside the consumer, in as much memory as that takes for it.
    #[must_use]
    pub fn alone(heir: Partition, ids: Option<&IdsMemory>) -> Self {
        Self { ids: ids.cloned(), ..Self::of(vec![heir]) }
    }

    /// The same for folds that keep their ids in bounded memory.
    #[must_use]
    pub fn keeping_ids_in(mut self, memory: IdsMemory) -> Self {
        self.ids = Some(memory);
        self
    }

    /// A fold that knows no id yet, as these folds are to be.
    pub(super) fn keep(&self, fold: Fold) -> Fold {
        match &self.ids {
            Some(memory) => fold.keeping_ids_in(memory),
            None => fold,
        }
    }

    /// The fold before the first record of a partition.
    ///
    /// # Errors
    /// `NotSealed` while nobody knows how it begins; see [`RestartError`].
    pub(super) async fn first_fold<U: UsageStore>(
        &self,
        generation: &Generation,
        store: &U,
        key: PartitionKey,
    ) -> Result<Fold, RestartError> {
        let heir = self.place_of(key.partition);
        let Left { ended, runs } = self.read(generation, store).await?;
        if ended.is_empty() {
            return Ok(self.keep(Fold::new(*generation, key)));
        }
        let ended = ended.iter().map(|(manifest, state)| (manifest, state.as_slice()));
        let mut fold = self.keep(Fold::inherit(*generation, key, ended)?);
        for run in runs {
            let taken = fold.remember(&run.parts[heir]);
            taken.map_err(|error| RestartError::Ids(key.partition, error))?;
        }
        Ok(fold)
    }

    /// Runs of ids that may be this partition's and were seen at `since` or later, oldest first.
    ///
    /// # Errors
    /// See [`RestartError`].
    pub(super) async fn runs_since<U: UsageStore>(
        &self,
        generation: &Generation,
        store: &U,
        partition: Partition,
        since: Timestamp,
    ) -> Result<Vec<&[u8]>, RestartError> {
        let heir = self.place_of(partition);
        let runs = self.read(generation, store).await?.runs.iter();
        let runs = runs.filter(|run| run.eff_ts >= since);
        Ok(runs.map(|run| run.parts[heir].as_slice()).collect())
    }

    fn place_of(&self, partition: Partition) -> usize {
        let place = self.heirs.iter().position(|heir| *heir == partition);
        place.expect("only heirs ask for what is left to them")
    }

    async fn read<U: UsageStore>(
        &self,
        generation: &Generation,
        store: &U,
    ) -> Result<&Left, RestartError> {
        self.left.get_or_try_init(|| left(generation, store, &self.heirs)).await
    }
}

async fn left<U: UsageStore>(
    generation: &Generation,
    store: &U,
    heirs: &[Partition],
) -> Result<Left, RestartError> {
    let ancestors = ancestors(generation, store).await?;
    let Some(before) = ancestors.last() else { return Ok(Left::default()) };
    let mut ended = Vec::new();
    for partition in before.generation.partitions() {
        let last = before.last_manifest(store, partition).await?;
        ended.push((last, state_of(store, &last).await?));
    }
    let log_time = ended.iter().map(|(manifest, _)| manifest.eff_ts).max();
    let since = remembered_since(generation, log_time.unwrap_or(Timestamp::MIN));
    let mut runs = Vec::new();
    for before in &ancestors {
        for was in before.generation.partitions() {
            let last = before.last_manifest(store, was).await?;
            for manifest in manifests_since(store, &before.history, &last, since).await? {
                let run = run_of(store, &manifest).await?;
                let part = |now| fold::run_of((generation, now), (&before.generation, was), &run);
                let parts = heirs.iter().copied().map(part).collect();
                runs.push(LeftRun { eff_ts: manifest.eff_ts, parts });
            }
        }
    }
    // Partitions ran side by side. A fold forgets runs from the front, so one that came before an
    // older one would keep that remembered beyond its horizon, until the next restart leaves it out.
    runs.sort_by_key(|run| run.eff_ts);
    Ok(Left { ended, runs })
}

/// Every generation before this one, oldest first.
async fn ancestors<U: UsageStore>(
    generation: &Generation,
    store: &U,
) -> Result<Vec<Ancestor>, RestartError> {
    let registered = store.generations().await?;
    let place = registered.iter().position(|found| found.log_id == generation.log_id);
    let older = &registered[..place.unwrap_or(0)];
    if older.is_empty() {
        return Ok(Vec::new());
    }
    let journal = store.journal().await?;
    let ancestor = |before: &Generation| {
        if !generation.may_follow(before) {
            let message = format!(
                "log generation {} differs from {} in more than its partitions and shorter windows",
                generation.log_id, before.log_id
            );
            return Err(RestartError::Store(StoreError::Fatal(message)));
        }
        let history = journal.log(before.log_id).clone();
        let not_sealed =
            || RestartError::NotSealed { log_id: generation.log_id, before: before.log_id };
        let sealed = history.sealed().cloned().ok_or_else(not_sealed)?;
        Ok(Ancestor { generation: *before, history, sealed })
    };
    older.iter().map(ancestor).collect()
}

impl Ancestor {
    async fn last_manifest<U: UsageStore>(
        &self,
        store: &U,
        partition: Partition,
    ) -> Result<Manifest, RestartError> {
        let SealedLog { epoch, ends } = &self.sealed;
        let key = PartitionKey { log_id: self.generation.log_id, partition, epoch: *epoch };
        let end = ends.get(usize::from(partition.0)).copied().unwrap_or(Offset(0));
        manifest_ending_at(store, &self.history, key, end).await
    }
}
