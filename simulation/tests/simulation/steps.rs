//! One step of a run: the seed chooses who does something, and what goes wrong with it.

use std::sync::{Arc, atomic::Ordering};

use domain::{
    Offset, Partition, PulseLog as _,
    log::{LogDrain as _, LogRecord},
    store::PartitionKey,
};
use ingestor_consumer::{Work, restart::anchors};
use storage::memory::{AppendFault, FlushFault};

use crate::{
    clients::Client,
    consuming::{Activity, all_of},
    process::{AppendFate, FlushFate, Reads},
    swarm::Action,
    world::World,
};

const SECOND: i64 = 1_000_000;

/// Furthest that the log's clock is ahead: more than a day.
pub(crate) const LOG_AHEAD_MAX: i64 = 100_000 * SECOND;

impl World {
    pub(crate) async fn step(&mut self) {
        let action = self.swarm.draw(&mut self.random);
        match action {
            Action::Send => self.send(),
            Action::Resend => self.resend(),
            Action::Step => self.step_consumer().await,
            Action::StartConsumer => self.start_consumer().await,
            Action::KillConsumer => self.kill_consumer(),
            Action::Reassign => self.reassign(),
            Action::Pass => {
                let seconds = self.random.below(40) as i64;
                // Whole seconds mostly, so that times meet exactly.
                let rest =
                    if self.random.one_in(4) { self.random.below(1_000_000) as i64 } else { 0 };
                self.pass(seconds * SECOND + rest);
            }
            Action::PassFar => self.pass_far(),
            Action::StartIngest => self.start_ingest().await,
            Action::KillIngest => self.kill_ingest(),
            Action::Release => self.release(),
            Action::Land => self.land().await,
            Action::JumpLogClock => self.jump_log_clock(),
            Action::Rebase => self.rebase_one().await,
            Action::Grow => self.grow().await,
            Action::Seal => self.seal_one().await,
            Action::OpenEpoch => self.open_epoch().await,
            Action::Swap => self.swap().await,
            Action::Limit => self.limit(),
            Action::Declare => self.declare().await,
            Action::Junk => self.junk().await,
            Action::Burst => self.burst().await,
            Action::Policy => {
                let refuses = self.random.one_in(2);
                self.refuses_negative.store(refuses, Ordering::SeqCst);
                self.note(format_args!("ingest refuses negative amounts: {refuses}"));
            }
        }
        self.settle().await;
    }

    fn send(&mut self) {
        let client = self.random.place(self.clients.len());
        let count = self.random.between(1, 6);
        let batch = self.make(client, count);
        self.submit(client, batch);
    }

    fn make(&mut self, client: usize, count: u64) -> usize {
        let times = self.times();
        self.clients[client].make(&mut self.random, &mut self.ledger, times, count)
    }

    /// More batches in a row than the fold remembers of a producer.
    async fn burst(&mut self) {
        let Some(client) = self.clients.iter().position(Client::may_burst) else { return };
        for _ in 0..300 {
            let batch = self.make(client, 1);
            self.submit(client, batch);
            if batch.is_multiple_of(16) {
                self.settle().await;
            }
        }
    }

    fn resend(&mut self) {
        let client = self.random.place(self.clients.len());
        let batches = &self.clients[client].batches;
        let open: Vec<usize> = (0..batches.len())
            .filter(|batch| !batches[*batch].is_answered && batches[*batch].is_safe)
            .collect();
        // A batch with an ack is sent again now and then, too.
        let batch = match open.is_empty() || self.random.one_in(4) {
            true if batches.is_empty() => return,
            true => self.random.place(batches.len()),
            false => self.random.pick(&open),
        };
        if self.clients[client].batches[batch].is_safe {
            self.submit(client, batch);
        }
    }

    pub(crate) fn submit(&mut self, client: usize, batch: usize) {
        let Some(place) = self.any_serving() else { return };
        if self.random.one_in(self.swarm.append_faults_one_in) {
            let fate = self.random.pick(&[
                AppendFate::Failed(AppendFault::Overloaded),
                AppendFate::Failed(AppendFault::Unavailable),
                AppendFate::Failed(AppendFault::UnknownButAppended),
                AppendFate::Failed(AppendFault::UnknownAndLost),
                AppendFate::HeldBefore,
                AppendFate::HeldAfter,
            ]);
            self.servings[place].process.plan_append(fate);
            self.note(format_args!("an append is to be {fate:?}"));
        }
        let (number, scope) = (self.servings[place].process.number, &self.clients[client].scope);
        let (bytes, scope) = (self.clients[client].batches[batch].bytes.clone(), scope.clone());
        self.servings[place].send((client, batch), bytes, scope);
        self.note(format_args!("client {client} sends {client}.{batch} to ingest {number}"));
    }

    fn any_serving(&mut self) -> Option<usize> {
        (!self.servings.is_empty()).then(|| self.random.place(self.servings.len()))
    }

    fn any_consumer(&mut self) -> Option<usize> {
        (!self.consumers.is_empty()).then(|| self.random.place(self.consumers.len()))
    }

    async fn step_consumer(&mut self) {
        let Some(place) = self.any_consumer() else { return };
        if self.consumers[place].is_idle() {
            let activity = match self.random.below(8) {
                0 => Activity::CloseSegments,
                _ => Activity::Tick,
            };
            self.begin(place, activity).await;
        } else {
            let fate = self.flush_fate();
            self.decide(place, fate).await;
        }
    }

    pub(crate) async fn begin(&mut self, place: usize, activity: Activity) {
        let reads = Reads {
            failing_one_in: self.swarm.read_faults_one_in,
            stale_one_in: self.swarm.stale_reads_one_in,
            salt: self.random.next(),
        };
        let now = self.now();
        let process = &self.consumers[place].process;
        process.set_clock(now.micros());
        process.set_reads(reads);
        if self.random.one_in(self.swarm.append_faults_one_in) {
            process.plan_append(self.random.pick(&[
                AppendFate::Failed(AppendFault::Unavailable),
                AppendFate::Failed(AppendFault::UnknownButAppended),
                AppendFate::Failed(AppendFault::UnknownAndLost),
            ]));
        }
        let number = process.number;
        self.note(format_args!("consumer {number}: {activity:?}"));
        self.consumers[place].owes = self.owed(place).await;
        let standing = self.consumers[place].begin(activity).await;
        self.stands(place, &standing);
    }

    /// What a tick that begins now will have stored when it ends well.
    async fn owed(&self, place: usize) -> Vec<(PartitionKey, Offset)> {
        let one = &self.consumers[place];
        // One that lets a partition go for want of memory restores it in a later tick.
        if !one.is_started() || self.swarm.has_little_memory {
            return Vec::new();
        }
        let log_id = self.generation(one.generation).log_id;
        let epoch = match one.work {
            Work::Live => self.journal().await.log(log_id).active(),
            Work::Rebuild(epoch) => epoch,
        };
        let mut owed = Vec::new();
        for partition in one.process.assigned() {
            // Behind the last record, which may have a hole behind it.
            let mut end = Offset(0);
            let mut drain = self.logs[one.generation].drain(partition, end).unwrap();
            let mut look = |record: LogRecord<'_>| end = record.offset.next();
            drain.read(Offset(u64::MAX), usize::MAX, &mut look).unwrap();
            owed.push((PartitionKey { log_id, partition, epoch }, end));
        }
        owed
    }

    fn flush_fate(&mut self) -> FlushFate {
        if !self.random.one_in(self.swarm.flush_faults_one_in) {
            return FlushFate::Stored;
        }
        let fault = self.random.pick(&[
            FlushFault::BeforeRows,
            FlushFault::HalfOfTheRows,
            FlushFault::BeforeManifest,
            FlushFault::BeforeProgress,
            FlushFault::AfterAll,
        ]);
        match self.random.below(4) {
            0 | 1 => FlushFate::Failed(fault),
            2 => FlushFate::Died(fault),
            _ => FlushFate::Postponed,
        }
    }

    pub(crate) async fn decide(&mut self, place: usize, fate: FlushFate) {
        let number = self.consumers[place].process.number;
        self.note(format_args!("consumer {number}: a flush is {fate:?}"));
        let standing = self.consumers[place].decide(fate).await;
        self.stands(place, &standing);
    }

    async fn start_consumer(&mut self) {
        if self.consumers.len() as u64 >= self.swarm.consumers_max {
            return;
        }
        let of = self.random.place(self.logs.len());
        let opened = self.opened(of).await;
        let work = match opened {
            Some(epoch) if self.random.one_in(2) => Work::Rebuild(epoch),
            _ => Work::Live,
        };
        let place = self.add_consumer(of, work);
        let partitions = self.some_partitions(of);
        self.note(format_args!("log {of} {work:?} gets {partitions:?}"));
        self.consumers[place].process.assign(partitions);
        self.begin(place, Activity::Start).await;
        // One that cannot start is gone; another may be tried later.
        if let Some(one) = self.consumers.get(place)
            && one.is_idle()
            && !one.is_started()
        {
            self.consumers.remove(place).kill();
        }
    }

    /// Mostly all of them. Two processes may have the same ones.
    fn some_partitions(&mut self, of: usize) -> Vec<Partition> {
        let mut partitions = all_of(self.generation(of).partitions);
        if self.random.one_in(2) {
            partitions.retain(|_| self.random.one_in(2));
        }
        partitions
    }

    fn kill_consumer(&mut self) {
        let Some(place) = self.any_consumer() else { return };
        let killed = self.consumers.remove(place);
        self.note(format_args!("consumer {} is killed", killed.process.number));
        killed.kill();
    }

    fn reassign(&mut self) {
        let Some(place) = self.any_consumer() else { return };
        let partitions = self.some_partitions(self.consumers[place].generation);
        let process = &self.consumers[place].process;
        process.assign(partitions);
        let (number, partitions) = (process.number, process.assigned());
        self.note(format_args!("consumer {number} gets {partitions:?}"));
    }

    fn pass_far(&mut self) {
        let generation = self.generation(0);
        let longest = match self.random.below(3) {
            0 => generation.horizon * 2,
            _ => generation.segment_span * 3,
        };
        let micros = self.random.below(longest.as_micros() as u64);
        self.note(format_args!("{micros} microseconds pass"));
        self.pass(micros as i64);
    }

    async fn start_ingest(&mut self) {
        if self.servings.len() >= 3 {
            return;
        }
        let of =
            if self.random.one_in(4) { self.random.place(self.logs.len()) } else { self.newest() };
        // A start proves the log first.
        if let Err(error) = anchors::check_log(&Arc::new(self.logs[of].clone()), &self.store).await
        {
            self.watch.violated("ingest refuses its own log", error.to_string());
        }
        self.add_serving(of);
    }

    fn kill_ingest(&mut self) {
        let Some(place) = self.any_serving() else { return };
        let killed = self.servings.remove(place);
        self.note(format_args!("ingest {} is killed", killed.process.number));
        killed.kill();
    }

    fn release(&mut self) {
        let holding = self.servings.iter().filter(|one| one.process.held() > 0);
        let holding: Vec<_> = holding.map(|one| Arc::clone(&one.process)).collect();
        if let Some(process) = holding.get(self.random.place(holding.len())) {
            self.note(format_args!("an append of ingest {} goes on", process.number));
            process.release_one();
        }
    }

    pub(crate) async fn land(&mut self) {
        let postponed = self.watch.postponed();
        if postponed > 0 {
            let place = self.random.place(postponed);
            self.note(format_args!("postponed flush {place} is stored"));
            self.watch.land(place).await;
        }
    }

    fn jump_log_clock(&mut self) {
        let seconds = match self.random.below(7) {
            0..3 => 0,
            3 => -(self.random.below(300) as i64),
            4 => self.random.below(600) as i64,
            // Some consumers' clocks are as wrong.
            5 => 601 + self.random.below(3_000) as i64,
            _ => self.random.below((LOG_AHEAD_MAX / SECOND) as u64) as i64,
        };
        self.note(format_args!("the log's clock is {seconds} s ahead"));
        self.set_log_ahead(seconds * SECOND);
    }
}
