//! Blocks beside the consumer: on a thread of their own, because sorting a day takes a core for a while.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::generation::Generation;
use ingestor_consumer::{
    blocks::{BlockMaker, BlocksConfig},
    retention::{Deleted, Retention, RetentionConfig},
};
use runtime::{Shutdown, clock};
use storage::choice::{Log, Usage};
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::{backends::Backends, scratch};
use crate::config::Config;

/// How often is looked whether a block is due or something may be deleted, by default both by the hour.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(5);
/// How often is looked for what is not needed any more: it is little by the hour.
const RETAIN_EVERY: Duration = Duration::from_secs(3_600);
/// How long to wait after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Makes the blocks of every generation of the log.
pub(crate) struct Blocks {
    usage: Arc<Usage>,
    generations: Vec<Generation>,
    logs: Vec<Arc<Log>>,
    config: BlocksConfig,
    retention: RetentionConfig,
}

impl Blocks {
    /// Of the generations that these backends have, as the settings say.
    pub(crate) fn new(backends: &Backends, config: &Config) -> Self {
        let older = backends.older.iter().map(|older| older.generation);
        let generations = older.chain([*domain::PulseLog::generation(&*backends.log)]).collect();
        let keep = config.log.keep.duration();
        let retention = RetentionConfig { log: (keep > Duration::ZERO).then_some(keep) };
        let (usage, logs) = (Arc::clone(&backends.usage), backends.logs());
        Self { usage, generations, logs, config: blocks_config(config), retention }
    }

    /// Makes what is due now and deletes what may go, until shutdown.
    pub(crate) async fn keep(&self, shutdown: &Shutdown) {
        self.on_a_thread(Some(shutdown.clone())).await;
    }

    /// Makes what is due now.
    pub(crate) async fn once(&self) {
        self.on_a_thread(None).await;
    }

    async fn on_a_thread(&self, until: Option<Shutdown>) {
        if !makes_blocks(&self.usage) {
            return;
        }
        let mut keeper = self.keeper();
        let look_every = (self.config.every / 4).min(LOOK_EVERY_MAX);
        let handle = Handle::current();
        let working = tokio::task::spawn_blocking(move || match until {
            Some(until) => handle.block_on(keeper.keep(look_every, &until)),
            None => handle.block_on(async { note(&keeper.work().await) }),
        });
        if let Err(error) = working.await {
            warn!(%error, "the maker of blocks has ended; the next start goes on");
        }
    }

    fn keeper(&self) -> Keeper {
        let (usage, clock) = (Arc::clone(&self.usage), Arc::new(clock::system()));
        let (generations, logs) = (self.generations.clone(), self.logs.clone());
        let retention = Retention::new(usage, generations, logs, clock, self.retention.clone());
        Keeper { makers: self.makers(), retention, retained_at: None }
    }

    fn makers(&self) -> Vec<BlockMaker<Usage>> {
        let maker = |generation: &Generation| {
            let (usage, clock) = (Arc::clone(&self.usage), Arc::new(clock::system()));
            BlockMaker::new(usage, *generation, clock, self.config.clone())
        };
        self.generations.iter().map(maker).collect()
    }
}

/// Rows of a CQL store stay as they were flushed: deleted one by one they would leave more tombstones in
/// a tenant's day than its servers read over.
const fn makes_blocks(usage: &Usage) -> bool {
    !matches!(usage, Usage::Scylla(_))
}

/// Who makes blocks, and deletes what is not needed any more.
struct Keeper {
    makers: Vec<BlockMaker<Usage>>,
    retention: Retention<Log, Usage>,
    retained_at: Option<Instant>,
}

impl Keeper {
    async fn keep(&mut self, look_every: Duration, until: &Shutdown) {
        loop {
            // What is dropped in the middle is made again.
            let worked = tokio::select! {
                () = until.requested() => return,
                worked = self.work() => worked,
            };
            note(&worked);
            let pause = if worked.is_ok() { look_every } else { RETRY_AFTER };
            tokio::select! {
                () = until.requested() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does everything, also behind something that fails; gives the last failure.
    async fn work(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut worked = Ok(());
        for maker in &mut self.makers {
            match maker.run().await {
                Ok(made) if made.deleted > 0 => {
                    info!(deleted = made.deleted, "what blocks stand for was deleted");
                }
                Ok(_) => {}
                Err(error) => worked = Err(error.into()),
            }
        }
        if self.retained_at.is_none_or(|at| at.elapsed() >= RETAIN_EVERY) {
            let Deleted { states, runs, records, rows } = self.retention.run().await?;
            if states + runs + records + rows > 0 {
                info!(states, runs, records, rows, "what is not needed any more was deleted");
            }
            self.retained_at = Some(Instant::now());
        }
        worked
    }
}

fn note(worked: &Result<(), Box<dyn Error + Send + Sync>>) {
    if let Err(error) = worked {
        warn!(%error, "blocks or retention failed; tried again soon, and what counts stays as it was");
    }
}

/// How blocks are made on this machine.
fn blocks_config(config: &Config) -> BlocksConfig {
    let of = &config.blocks;
    BlocksConfig {
        every: of.every.duration(),
        delay: of.delay.duration(),
        keep_replaced: of.keep_replaced.duration(),
        room: scratch::sort_room(config),
    }
}
