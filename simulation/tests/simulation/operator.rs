//! What operators do in the middle of it all: they take times back, let the log grow, seal it, fold it
//! again, set limits and declare dimensions; and what foreign hands leave in the log.

use std::{sync::Arc, time::Duration};

use domain::{
    Epoch, FoldLimits, LogId, Offset, Partition, PulseLog as _, UsageStore as _, WindowLength,
    epochs::{Declared, Journal},
    store::PartitionKey,
};
use ingestor_consumer::{
    rebase::{self, Asked},
    replay::{self, ReplayError, ReplayFrom, ReplayPlan},
};
use proto::{record, v1};

use crate::{consuming::all_of, world::World};

/// Generations of the log in one run at the most.
const GENERATIONS_MAX: usize = 3;

impl World {
    pub(crate) async fn rebase_one(&mut self) {
        let of = self.random.place(self.logs.len());
        let partition = self.any_partition(of);
        let seconds = self.random.below(60);
        let ahead = self.random.one_in(4).then(|| Duration::from_secs(601 + seconds));
        self.rebase(of, partition, ahead).await;
    }

    /// Gives how many stretches were taken back.
    pub(crate) async fn rebase(
        &mut self,
        of: usize,
        partition: Partition,
        ahead: Option<Duration>,
    ) -> usize {
        let log = Arc::new(self.logs[of].clone());
        let asked = Asked { now: self.now(), ahead, reason: "simulation".to_owned() };
        let found = rebase::find(&log, &self.store, partition, &asked).await.unwrap();
        for rebase in &found {
            self.note(format_args!("{rebase:?}"));
        }
        rebase::note(&self.store, &found).await.unwrap();
        found.len()
    }

    pub(crate) async fn grow(&mut self) {
        if self.logs.len() == GENERATIONS_MAX {
            return;
        }
        let before = self.generation(self.newest());
        let mut log_id = before.log_id.0;
        log_id[0] = log_id[0].wrapping_add(1);
        let partitions = (before.partitions + self.random.between(1, 3) as u16).min(6);
        // Half of the growths give it shorter windows too.
        let shortest = WindowLength::new(Duration::from_secs(300)).unwrap();
        let window = if partitions.is_multiple_of(2) { shortest } else { before.window };
        let next = before.grown(LogId(log_id), partitions).with_windows(window);
        self.store.register(&next, Some(before.log_id)).await.unwrap();
        self.add_log(next);
        self.note(format_args!("the log grows to {partitions} partitions, windows of {window}"));
    }

    pub(crate) async fn seal_one(&mut self) {
        if self.logs.len() == 1 {
            return;
        }
        let of = self.random.place(self.newest());
        let partition = self.any_partition(of);
        self.seal(of, partition).await;
    }

    pub(crate) async fn seal(&mut self, of: usize, partition: Partition) {
        let seal = record::encode_seal(&self.generation(of), "simulation");
        self.logs[of].append(partition, vec![seal]).await.unwrap();
        self.sealed[of][usize::from(partition.0)] = true;
        self.note(format_args!("partition {partition} of log {of} gets a SEAL"));
    }

    pub(crate) async fn journal(&self) -> Journal {
        self.store.journal().await.unwrap()
    }

    /// The newest epoch of a log that is not in use, if any was opened.
    pub(crate) async fn opened(&self, of: usize) -> Option<Epoch> {
        let journal = self.journal().await;
        let history = journal.log(self.generation(of).log_id);
        let newest = history.all_opened().last().map(|opened| opened.epoch);
        newest.filter(|epoch| *epoch > history.active())
    }

    pub(crate) async fn open_epoch(&mut self) {
        let of = self.random.place(self.logs.len());
        if self.opened(of).await.is_none() {
            self.open(of).await;
        }
    }

    /// Opens an epoch that begins somewhere.
    pub(crate) async fn open(&mut self, of: usize) {
        let journal = self.journal().await;
        let newest = journal.log(self.generation(of).log_id).all_opened().last();
        let into = Epoch(newest.map_or(0, |opened| opened.epoch.0) + 1);
        let back = self.random.below(self.generation(of).horizon.as_micros() as u64);
        let from = match self.random.below(3) {
            0 => ReplayFrom::Start,
            _ => ReplayFrom::Time(self.now().minus(Duration::from_micros(back))),
        };
        let declared = match self.random.one_in(3) {
            true => vec![self.declaration()],
            false => Vec::new(),
        };
        let plan = ReplayPlan { into, from, declared };
        let opened = replay::open(&self.logs[of], &self.store, &plan).await.unwrap();
        self.note(format_args!("log {of}: {opened:?}"));
    }

    fn declaration(&mut self) -> Declared {
        self.declarations += 1;
        let product_sku = self.random.pick(&["vm", "disk"]).to_owned();
        let dimensions = if self.random.one_in(4) { vec![] } else { vec!["zone".to_owned()] };
        Declared { product_sku, version: self.declarations, dimensions }
    }

    pub(crate) async fn swap(&mut self) {
        let of = self.random.place(self.logs.len());
        if let Some(epoch) = self.opened(of).await {
            self.put_to_use(of, epoch).await;
        }
    }

    /// Tells whether the epoch is in use now.
    pub(crate) async fn put_to_use(&mut self, of: usize, epoch: Epoch) -> bool {
        let active = self.journal().await.log(self.generation(of).log_id).active();
        let final_before = self.closed_to(of, active).await;
        let swapped = replay::swap(&self.logs[of], &self.store, epoch).await;
        let final_after = self.closed_to(of, epoch).await;
        let falls = final_before.iter().zip(&final_after).any(|(before, after)| after < before);
        if swapped.is_ok() && falls {
            let message = format!("log {of} epoch {epoch}: {final_before:?}, then {final_after:?}");
            self.watch.violated("final totals fall", message);
        }
        self.note(format_args!("log {of}: swap to epoch {epoch}: {swapped:?}"));
        match swapped {
            Ok(()) => true,
            Err(ReplayError::Behind { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// By partition, up to where an epoch's totals are final.
    async fn closed_to(&self, of: usize, epoch: Epoch) -> Vec<Offset> {
        let (journal, log_id) = (self.journal().await, self.generation(of).log_id);
        let mut ends = Vec::new();
        for partition in all_of(self.generation(of).partitions) {
            let key = PartitionKey { log_id, partition, epoch };
            let newest = self.store.newest_manifest(key).await.unwrap();
            let begin = journal.log(log_id).start_of(epoch, partition);
            ends.push(newest.map_or(begin, |newest| newest.end));
        }
        ends
    }

    pub(crate) fn limit(&mut self) {
        self.limits = FoldLimits {
            segment_bytes: self.random.pick(&[FoldLimits::SEGMENT_BYTES_MIN, 3_000, 256 << 20]),
            keys_per_tenant: self.random.pick(&[1, 2, 4, 250_000]),
            values_per_dimension: self.random.pick(&[1, 2, 100_000]),
            state_deltas: self.random.pick(&[0, 1, 3, 64]),
            ..FoldLimits::FIRST
        };
        let limits = self.limits;
        self.note(format_args!("consumers that start are told {limits:?}"));
    }

    pub(crate) async fn declare(&mut self) {
        let of = self.newest();
        let Declared { product_sku, version, dimensions } = self.declaration();
        self.note(format_args!("{product_sku} {version}: {dimensions:?}"));
        let declare = v1::DeclareDimensions { product_sku, dimensions, version };
        let kind = Some(v1::control::Kind::DeclareDimensions(declare));
        let record = record::encode_control(&self.generation(of), &v1::Control { kind });
        for partition in all_of(self.generation(of).partitions) {
            self.logs[of].append(partition, vec![record.clone()]).await.unwrap();
        }
    }

    /// What no Pulso wrote, and holes as brokers leave them.
    pub(crate) async fn junk(&mut self) {
        let of = self.random.place(self.logs.len());
        let partition = self.any_partition(of);
        let other = self.generation(0).grown(LogId([7; 16]), 1);
        match self.random.below(3) {
            0 => self.logs[of].skip_offsets(partition, self.random.between(1, 5)),
            1 => drop(self.logs[of].append(partition, vec![vec![0xff; 5]]).await),
            _ => {
                let foreign = record::encode_boundary(&other, "another log");
                drop(self.logs[of].append(partition, vec![foreign]).await);
            }
        }
        self.note(format_args!("junk in partition {partition} of log {of}"));
    }
}
