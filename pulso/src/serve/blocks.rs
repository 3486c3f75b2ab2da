//! Blocks beside the consumer: on a thread of their own, because sorting a day takes a core for a while.

use std::{sync::Arc, time::Duration};

use domain::generation::Generation;
use ingestor_consumer::blocks::{BlockMaker, BlocksConfig, BlocksError};
use runtime::{Shutdown, clock};
use storage::choice::Usage;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::{backends::Backends, scratch};
use crate::config::Config;

/// How often is looked whether a block is due or something may be deleted, by default both by the hour.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(5);
/// How long to wait after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Makes the blocks of every generation of the log.
pub(crate) struct Blocks {
    usage: Arc<Usage>,
    generations: Vec<Generation>,
    config: BlocksConfig,
}

impl Blocks {
    /// Of the generations that these backends have, as the settings say.
    pub(crate) fn new(backends: &Backends, config: &Config) -> Self {
        let older = backends.older.iter().map(|older| older.generation);
        let generations = older.chain([*domain::PulseLog::generation(&*backends.log)]).collect();
        Self { usage: Arc::clone(&backends.usage), generations, config: blocks_config(config) }
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
        let makers = self.makers();
        let look_every = (self.config.every / 4).min(LOOK_EVERY_MAX);
        let handle = Handle::current();
        let working = tokio::task::spawn_blocking(move || match until {
            Some(until) => handle.block_on(keep(makers, look_every, &until)),
            None => handle.block_on(async {
                let mut makers = makers;
                note(&make_all(&mut makers).await);
            }),
        });
        if let Err(error) = working.await {
            warn!(%error, "the maker of blocks has ended; the next start goes on");
        }
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

async fn keep(mut makers: Vec<BlockMaker<Usage>>, look_every: Duration, until: &Shutdown) {
    loop {
        // What is dropped in the middle is made again.
        let made = tokio::select! {
            () = until.requested() => return,
            made = make_all(&mut makers) => made,
        };
        note(&made);
        let pause = if made.is_ok() { look_every } else { RETRY_AFTER };
        tokio::select! {
            () = until.requested() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn make_all(makers: &mut [BlockMaker<Usage>]) -> Result<(), BlocksError> {
    for maker in makers {
        let made = maker.run().await?;
        if made.deleted > 0 {
            info!(deleted = made.deleted, "what blocks stand for was deleted");
        }
    }
    Ok(())
}

fn note(made: &Result<(), BlocksError>) {
    if let Err(error) = made {
        warn!(%error, "no block was made; tried again soon, and what counts stays as it was");
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
