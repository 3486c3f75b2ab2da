//! Backends: the log and the stores that the configuration names.
//!
//! Log and store are chosen apart: an embedded log with its totals on ScyllaDB, or Kafka with totals
//! in a file, are one process each; stages in processes of their own need both on servers. What
//! makes no sense is refused before anything is opened.

pub(crate) mod embedded;
pub mod kafka;
pub mod scylla;

use std::sync::Arc;

use billing::outbox::Queue;
use domain::{PulseLog, UsageStore, generation::Generation, store::StoreError};
use runtime::clock;
use storage::{
    choice::{Billing, Log, Usage},
    embedded::{DataDirectory, EmbeddedStore, LOG_FILE, STORE_FILE},
    identity,
    kafka::{KafkaFeed, KafkaOutlet},
    memory::{MemoryBillingStore, MemoryLog, MemoryUsageStore},
    scylla::ScyllaStore,
};

use crate::{
    cli::serving::Stage,
    config::{
        Loaded,
        urls::{LogUrl, Place, StoreUrl},
    },
    exit::{Exit, Failure},
};

/// The ports, open.
pub struct Backends {
    /// Where pulses are kept.
    pub log: Arc<Log>,
    /// The generations of the log before that one, oldest first.
    pub older: Vec<OlderLog>,
    /// Where totals are kept.
    pub usage: Arc<Usage>,
    /// Where catalogues are kept.
    pub billing: Arc<Billing>,
    /// Where final totals are published, beside a log on a broker.
    pub feed: Option<Arc<KafkaFeed>>,
    /// Where the queues of billing are forwarded to, beside a log on a broker; with the stage that
    /// prices alone.
    pub outlets: Vec<(Queue, KafkaOutlet)>,
    /// What is kept, and where, for a person.
    pub kept: [(&'static str, String); 2],
    store: Store,
}

/// A generation of the log before the newest.
pub struct OlderLog {
    /// Its identity and fixed parameters.
    pub generation: Generation,
    /// Its records, if they are still there and this process has to do with them.
    pub log: Option<Arc<Log>>,
}

/// What serves usage and billing store, to be closed in the end.
enum Store {
    Memory,
    Embedded(EmbeddedStore),
    Scylla(ScyllaStore),
}

impl Store {
    fn ports(&self) -> (Usage, Billing) {
        match self {
            Self::Memory => {
                (Usage::Memory(MemoryUsageStore::new()), Billing::Memory(MemoryBillingStore::new()))
            }
            Self::Embedded(store) => {
                (Usage::Embedded(store.usage()), Billing::Embedded(store.billing()))
            }
            Self::Scylla(store) => (Usage::Scylla(store.usage()), Billing::Scylla(store.billing())),
        }
    }

    async fn close(self) {
        match self {
            Self::Memory => {}
            Self::Embedded(store) => {
                let closing = tokio::task::spawn_blocking(move || store.close());
                if let Err(error) = closing.await {
                    tracing::error!(%error, "closing the store failed; what it acknowledged is in it");
                }
            }
            Self::Scylla(store) => store.close().await,
        }
    }
}

/// Opens what the configuration names. At start only: files are opened on this thread.
///
/// # Errors
/// With the code that scripts tell apart: held or damaged, not permitted, full, not reachable,
/// configuration.
pub async fn open(loaded: &Loaded, stages: &[Stage]) -> Result<Backends, Failure> {
    check_stages(loaded, stages)?;
    let config = &loaded.config;
    let log_directory = match &config.log.url {
        LogUrl::Embedded(place) => embedded::hold(loaded, place)?,
        LogUrl::Kafka(_) => None,
    };
    let (store, store_at) = open_store(loaded, log_directory.as_ref()).await?;
    let (usage, billing) = store.ports();
    let (mut older, mut outlets) = (Vec::new(), Vec::new());
    let (log, feed, log_at) = match (&config.log.url, &log_directory) {
        (LogUrl::Kafka(brokers), _) => {
            let (log, feed) = kafka::open_log(loaded, brokers, &usage, stages).await?;
            let log_id = log.generation().log_id;
            older = kafka::open_older(loaded, brokers, &usage, stages, log_id).await?;
            if stages.contains(&Stage::Price) {
                outlets = kafka::open_outlets(loaded, brokers).await?;
            }
            (Log::Kafka(log), Some(Arc::new(feed)), config.log.url.to_string())
        }
        (LogUrl::Embedded(_), Some(held)) => {
            let log = embedded::open_log(loaded, held)?;
            (Log::Embedded(log), None, embedded::kept_at(Some(held), LOG_FILE))
        }
        (LogUrl::Embedded(_), None) => {
            let log =
                MemoryLog::new(identity::fresh(loaded.generation()), Arc::new(clock::system()));
            (Log::Memory(log), None, embedded::kept_at(None, LOG_FILE))
        }
    };
    if let LogUrl::Embedded(_) = config.log.url {
        register(&usage, log.generation(), &store_at).await?;
    }
    let kept = [("log", log_at), ("totals, catalogues", store_at)];
    let (log, usage, billing) = (Arc::new(log), Arc::new(usage), Arc::new(billing));
    let marked = billing::mark_cuts(&*usage, Arc::clone(&billing), Arc::new(clock::system()));
    marked.await.map_err(Failure::internal)?;
    Ok(Backends { log, older, usage, billing, feed, outlets, kept, store })
}

/// The stores alone, for a command that needs no log or one on a broker.
pub struct OpenStores {
    /// The port, until [`OpenStores::close`].
    pub usage: Usage,
    /// The same of what billing keeps.
    pub billing: Arc<Billing>,
    store: Store,
}

impl OpenStores {
    /// Opens the store that the configuration names.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn open(loaded: &Loaded) -> Result<Self, Failure> {
        let (store, _) = open_store(loaded, None).await?;
        let (usage, billing) = store.ports();
        Ok(Self { usage, billing: Arc::new(billing), store })
    }

    /// Leaves it in order.
    pub async fn close(self) {
        self.store.close().await;
    }
}

async fn open_store(
    loaded: &Loaded,
    log_directory: Option<&DataDirectory>,
) -> Result<(Store, String), Failure> {
    match &loaded.config.store.url {
        StoreUrl::Embedded(place) => open_embedded_store(loaded, place, log_directory),
        url @ StoreUrl::Scylla { .. } => {
            Ok((Store::Scylla(scylla::open(loaded).await?), url.to_string()))
        }
    }
}

/// Refuses stages that could never meet: what is in memory is seen by this process alone.
fn check_stages(loaded: &Loaded, stages: &[Stage]) -> Result<(), Failure> {
    let config = &loaded.config;
    let refuse = |key: &str, url: &dyn std::fmt::Display, why: &str| {
        Err(Failure::new(Exit::Config, format_args!("{key} = `{url}`: {why}")))
    };
    let runs = |stage| stages.contains(&stage);
    if config.log.url == LogUrl::Embedded(Place::Memory)
        && !(runs(Stage::Ingest) && runs(Stage::Consume))
    {
        let why = "a log in memory needs the stages ingest and consume in this process: nobody else sees it";
        return refuse("log.url", &config.log.url, why);
    }
    if config.store.url == StoreUrl::Embedded(Place::Memory) && !runs(Stage::Query) {
        let why = "totals in memory need the stage query in this process: nobody else sees them";
        return refuse("store.url", &config.store.url, why);
    }
    Ok(())
}

fn open_embedded_store(
    loaded: &Loaded,
    place: &Place,
    log_directory: Option<&DataDirectory>,
) -> Result<(Store, String), Failure> {
    let Some(held) = embedded::hold_beside(loaded, place, log_directory)? else {
        return Ok((Store::Memory, embedded::kept_at(None, STORE_FILE)));
    };
    let store = embedded::open_store(loaded, &held)?;
    let at = embedded::kept_at(Some(&held), STORE_FILE);
    Ok((Store::Embedded(store), at))
}

/// The exit for what the store says.
#[must_use]
pub fn store_failure(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Unavailable(_) => Exit::Unavailable,
        StoreError::Conflict(_) | StoreError::Damaged(_) | StoreError::TooLarge(_) => Exit::Data,
        StoreError::Fatal(_) => Exit::Internal,
    };
    Failure::new(exit, format_args!("store.url: {error}"))
}

/// Refuses a store whose totals came from another log: that log is gone, with whatever of it was
/// not in the store yet, and what is sent again would count again, because what was known of its
/// senders went with it.
async fn register(usage: &Usage, log: &Generation, store_at: &str) -> Result<(), Failure> {
    usage.register(log, None).await.map_err(|error| match error {
        StoreError::Conflict(why) => Failure::data(format_args!(
            "{store_at}: {why}. The log here is {LOG_FILE}, from a backup if it was lost; a log in memory needs a store in memory"
        )),
        error => store_failure(&error),
    })
}

impl Backends {
    /// Every generation's log that can be read here, oldest first.
    #[must_use]
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let older = self.older.iter().filter_map(|older| older.log.clone());
        older.chain([Arc::clone(&self.log)]).collect()
    }

    /// Whether the log may get a next generation while it is open.
    #[must_use]
    pub fn can_grow(&self) -> bool {
        matches!(*self.log, Log::Kafka(_))
    }

    /// Ends the writers and tidies the files; leaves brokers and servers in order. What was
    /// acknowledged is durable without it.
    pub async fn close(self) {
        let Self { log, older, feed, store, .. } = self;
        let closing = tokio::task::spawn_blocking(move || {
            if let Log::Embedded(log) = &*log {
                log.close();
            }
            // Clients of a broker wait for their threads.
            drop((log, older, feed));
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing the log failed; what was acknowledged is in it");
        }
        store.close().await;
    }
}
