//! The end of a run: no more faults, everything is sent and drained, and then all has to be right.

use domain::{Epoch, Offset, PulseLog as _};
use ingestor_consumer::Work;

use crate::{
    consuming::{Activity, Consuming, all_of},
    process::{FlushFate, Reads},
    steps::LOG_AHEAD_MAX,
    world::World,
};

/// Steps until everything has come to rest, far more than any run needs.
const PATIENCE: usize = 200;

impl World {
    /// Ends the faults and drains all there is.
    pub(crate) async fn end(&mut self) {
        if self.swarm.has_wrong_clocks {
            // A consumer with a wrong clock may have counted what every other one stops at until then.
            self.pass(LOG_AHEAD_MAX);
        }
        self.swarm = self.swarm.without_faults();
        self.set_log_ahead(0);
        self.let_sleepers_go_on().await;
        self.seal_old_logs().await;
        self.send_what_is_open().await;
        for of in 0..self.logs.len() {
            for partition in all_of(self.generation(of).partitions) {
                // Jumps of several sizes in a row are one stretch, which is taken back by its last one.
                while self.rebase(of, partition, None).await > 0 {}
            }
            self.drain(of, Work::Live).await;
        }
    }

    /// Puts an epoch of each log to use: one that was opened before, or one that is opened now.
    pub(crate) async fn replay(&mut self) {
        for of in 0..self.logs.len() {
            let epoch = self.epoch_to_fold(of).await;
            let mut is_in_use = false;
            for _ in 0..3 {
                self.drain(of, Work::Rebuild(epoch)).await;
                is_in_use = self.put_to_use(of, epoch).await;
                // What cut the last segment in use may cut none of an epoch that believes other times.
                self.drain(of, Work::Live).await;
                if is_in_use {
                    break;
                }
            }
            if !is_in_use {
                self.watch.violated("a replay ends behind", format!("log {of} epoch {epoch}"));
            }
        }
    }

    async fn epoch_to_fold(&mut self, of: usize) -> Epoch {
        loop {
            match self.opened(of).await {
                Some(epoch) => return epoch,
                None => self.open(of).await,
            }
        }
    }

    /// Processes that slept, appends and flushes that were on their way: they come to their end.
    async fn let_sleepers_go_on(&mut self) {
        for place in (0..self.consumers.len()).rev() {
            self.consumers[place].process.set_reads(Reads::default());
            self.consumers[place].process.forget_planned_appends();
            while self.consumers.get(place).is_some_and(|one| !one.is_idle()) {
                self.decide(place, FlushFate::Stored).await;
            }
        }
        for process in self.servings.iter().map(|one| one.process.clone()).collect::<Vec<_>>() {
            process.forget_planned_appends();
            while process.held() > 0 {
                process.release_one();
                self.settle().await;
            }
        }
        while self.watch.postponed() > 0 {
            self.land().await;
        }
        self.keep_a_consumer_of_each_log();
        self.servings.drain(..).for_each(|one| one.kill());
    }

    /// The others die. Who has lived through all of it has to catch up like one that is new.
    fn keep_a_consumer_of_each_log(&mut self) {
        let mut kept = vec![false; self.logs.len()];
        for one in std::mem::take(&mut self.consumers) {
            let is_wanted = one.is_started()
                && one.work == Work::Live
                && one.process.has_right_clock()
                && !kept[one.generation];
            if is_wanted && self.random.one_in(2) {
                kept[one.generation] = true;
                self.consumers.push(one);
            } else {
                one.kill();
            }
        }
    }

    async fn seal_old_logs(&mut self) {
        for of in 0..self.newest() {
            for partition in all_of(self.generation(of).partitions) {
                if !self.sealed[of][usize::from(partition.0)] {
                    self.seal(of, partition).await;
                }
            }
        }
    }

    async fn send_what_is_open(&mut self) {
        self.add_serving(self.newest());
        for client in 0..self.clients.len() {
            for batch in 0..self.clients[client].batches.len() {
                let one = &self.clients[client].batches[batch];
                let is_wanted = !one.is_answered || self.swarm.sends_all_again;
                if is_wanted && one.is_safe {
                    self.submit(client, batch);
                    self.settle().await;
                    let one = &self.clients[client].batches[batch];
                    if !one.is_answered {
                        self.watch.violated("no answer", format!("{client}.{batch}"));
                    }
                }
            }
        }
    }

    /// Folds a log to its end with one process and closes its segments.
    async fn drain(&mut self, of: usize, work: Work) {
        let there = self.consumers.iter().position(|one| one.generation == of && one.work == work);
        let place = there.unwrap_or_else(|| self.add_consumer(of, work));
        self.consumers[place].process.assign(all_of(self.generation(of).partitions));
        let closing = if work == Work::Live { Activity::CloseSegments } else { Activity::Tick };
        for activity in [Activity::Start, Activity::Tick, closing] {
            self.run(place, activity).await;
        }
        // A tick may add to the log what only the next one folds.
        let mut ends = None;
        for _ in 0..PATIENCE {
            let before = ends.replace(self.ends(of).await);
            if before == ends {
                break;
            }
            self.run(place, Activity::Tick).await;
        }
        let is_well = |one: &Consuming| one.is_idle() && one.is_started();
        if !self.consumers.get(place).is_some_and(is_well) {
            self.watch.violated("a drain does not end", format!("log {of} {work:?}"));
        }
        if work != Work::Live {
            self.consumers.remove(place).kill();
        }
    }

    /// Does one thing from its beginning to its end.
    async fn run(&mut self, place: usize, activity: Activity) {
        self.begin(place, activity).await;
        for _ in 0..100 * PATIENCE {
            if self.consumers.get(place).is_none_or(Consuming::is_idle) {
                break;
            }
            self.decide(place, FlushFate::Stored).await;
        }
        // Troubles wait a while before they are tried again.
        self.pass(16_000_000);
    }

    async fn ends(&self, of: usize) -> Vec<Offset> {
        let mut ends = Vec::new();
        for partition in all_of(self.generation(of).partitions) {
            ends.push(self.logs[of].bounds(partition).await.unwrap().end);
        }
        ends
    }
}
