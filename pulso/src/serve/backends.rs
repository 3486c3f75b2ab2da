//! Backends: the log and the stores that the configuration names.
//!
//! Log and store are chosen apart: an embedded log with its totals on ScyllaDB, or Kafka with totals
//! in a file, are one process each; stages in processes of their own need both on servers. What
//! makes no sense is refused before anything is opened.

mod embedded;

use std::sync::Arc;

use domain::{LogId, PulseLog, UsageStore, place::Generation};
use service::clock;
use storage::{
    choice::{Billing, Log, Usage},
    embedded::{DataDirectory, EmbeddedStore, LOG_FILE, STORE_FILE},
    memory::{MemoryBillingStore, MemoryLog, MemoryUsageStore},
};

use crate::{
    config::{
        Loaded,
        place::{LogUrl, Place, StoreUrl},
    },
    exit::{Exit, Failure},
};

/// The ports, open.
pub struct Backends {
    /// Where pulses are kept.
    pub log: Arc<Log>,
    /// Where totals are kept.
    pub usage: Arc<Usage>,
    /// Where catalogues are kept.
    pub billing: Arc<Billing>,
    /// What is kept, and where, for a person.
    pub kept: [(&'static str, String); 2],
    store: Store,
}

/// What serves usage and billing store, to be closed in the end.
enum Store {
    Memory,
    Embedded(EmbeddedStore),
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
        }
    }
}

/// Opens what the configuration names. At start only: files are opened on this thread.
///
/// # Errors
/// With the code that scripts tell apart: held or damaged, not permitted, full, not reachable,
/// configuration.
pub async fn open(loaded: &Loaded) -> Result<Backends, Failure> {
    let config = &loaded.config;
    let log_directory = match &config.log.url {
        LogUrl::Embedded(place) => embedded::hold(loaded, place)?,
        LogUrl::Kafka(_) => return Err(later("log.url", &config.log.url)),
    };
    let (store, store_at) = match &config.store.url {
        StoreUrl::Embedded(place) => open_embedded_store(loaded, place, log_directory.as_ref())?,
        StoreUrl::Scylla { .. } => return Err(later("store.url", &config.store.url)),
    };
    let (usage, billing) = store.ports();
    let (log, log_at) = match &log_directory {
        Some(held) => {
            let log = embedded::open_log(loaded, held)?;
            (Log::Embedded(log), embedded::kept_at(Some(held), LOG_FILE))
        }
        None => {
            let log = MemoryLog::new(fresh_generation(loaded), Arc::new(clock::system()));
            (Log::Memory(log), embedded::kept_at(None, LOG_FILE))
        }
    };
    check_same_log(&usage, log.generation().log_id, &store_at).await?;
    let kept = [("log", log_at), ("totals, catalogues", store_at)];
    let (log, usage, billing) = (Arc::new(log), Arc::new(usage), Arc::new(billing));
    Ok(Backends { log, usage, billing, kept, store })
}

fn later(key: &str, url: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Config, format_args!("{key} = `{url}`: comes with a later release"))
}

/// A generation with an identity and a seed of its own, from the configuration's numbers.
fn fresh_generation(loaded: &Loaded) -> Generation {
    // The fixed bits of one half meet random bits of the other, so all 64 are random.
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    loaded.generation(LogId(uuid::Uuid::new_v4().into_bytes()), high ^ low)
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

/// Refuses a store whose totals came from another log: that log is gone, with whatever of it was
/// not in the store yet, and what is sent again would count again, because what was known of its
/// senders went with it.
async fn check_same_log(usage: &Usage, log_id: LogId, store_at: &str) -> Result<(), Failure> {
    let generations = usage.generations().await.map_err(Failure::internal)?;
    let Some(known) = generations.last().filter(|newest| newest.log_id != log_id) else {
        return Ok(());
    };
    let known = known.log_id;
    let message = format!(
        "{store_at} holds the totals of log {known}, and the log here is another one ({log_id}): put the {LOG_FILE} back that belongs to it, from a backup if it was lost; or name another store for new totals. A log in memory needs a store in memory."
    );
    Err(Failure::new(Exit::Data, message))
}

impl Backends {
    /// Ends the writers and tidies the files. What was acknowledged is durable without it.
    pub async fn close(self) {
        let closing = tokio::task::spawn_blocking(move || {
            if let Log::Embedded(log) = &*self.log {
                log.close();
            }
            if let Store::Embedded(store) = &self.store {
                store.close();
            }
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing the data directory failed; what was acknowledged is in it");
        }
    }
}
