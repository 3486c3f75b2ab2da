//! Snapshots: what a read sees is kept for it in the write-ahead log, which cannot be begun anew
//! until the read has ended. So no read may last for ever.

use std::{
    os::raw::c_int,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::counter;
use rusqlite::Connection;

/// Steps of SQLite's machine between two looks at the clock: some ten microseconds.
const STEPS: c_int = 4_000;

/// The reads under way on one file. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Snapshots {
    /// How often all reads were told to end.
    ended: Arc<AtomicU64>,
}

impl Snapshots {
    /// Ends the reads that are under way now, within some steps; later ones are not touched.
    pub(super) fn end_all(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Limits the reads of a connection.
    pub(super) fn limit(
        &self,
        connection: &mut Connection,
        timeout: Duration,
    ) -> rusqlite::Result<ReadLimit> {
        let limit = ReadLimit { timeout, snapshots: self.clone(), read: Arc::default() };
        let (snapshots, read) = (self.clone(), Arc::clone(&limit.read));
        let is_over = move || match *read.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Read { ended, .. }) if ended != snapshots.ended.load(Ordering::Relaxed) => {
                counter!("pulso_store_reads_ended_total", "cause" => "wal").increment(1);
                true
            }
            Some(Read { until, .. }) if Instant::now() >= until => {
                counter!("pulso_store_reads_ended_total", "cause" => "timeout").increment(1);
                true
            }
            _ => false,
        };
        connection.progress_handler(STEPS, Some(is_over))?;
        Ok(limit)
    }
}

/// What limits the reads of one connection.
pub(super) struct ReadLimit {
    timeout: Duration,
    snapshots: Snapshots,
    read: Arc<Mutex<Option<Read>>>,
}

#[derive(Clone, Copy)]
struct Read {
    until: Instant,
    ended: u64,
}

impl ReadLimit {
    /// A read begins. It fails as interrupted once it has taken too long or is told to end.
    pub(super) fn begin(&self) {
        let until = Instant::now() + self.timeout;
        let ended = self.snapshots.ended.load(Ordering::Relaxed);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(Read { until, ended });
    }
}
