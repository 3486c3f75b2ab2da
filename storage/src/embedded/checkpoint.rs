//! Checkpoints: pages go from the write-ahead log into the file, on a thread of their own.
//!
//! A checkpoint inside a commit would make that commit wait for the whole copy. So the writer only
//! counts what it wrote, and this thread copies while the writer goes on (`PASSIVE`). That alone
//! would let the write-ahead log grow for ever under steady load, because something new always
//! stands behind what was copied; so once the log is long, the last small remainder is copied with
//! the writer held at its gate (`RESTART`), and the writer begins the log anew.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use rusqlite::Connection;
use tracing::{debug, warn};

use super::file::PAGE_BYTES;

/// Held by the writer for the length of a transaction, and by a checkpoint that needs the writer to
/// stand still. SQLite's own lock would do, but waits for it by sleeping.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<()>>);

impl Gate {
    pub(super) fn pass(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frames of the write-ahead log that may be copied while the writer waits: 1 MiB, a few ms.
const REMAINDER_FRAMES_MAX: i64 = 1_024 * 1_024 / PAGE_BYTES as i64;

/// The writer's end: counts bytes and wakes the thread.
pub(super) struct Checkpointer {
    /// `None` once the thread is told to end.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    wal_bytes_target: u64,
    written: u64,
}

impl Checkpointer {
    /// Starts the thread. `wal_bytes_target` written bytes are copied at a time.
    pub(super) fn start(
        connection: Connection,
        gate: Gate,
        wal_bytes_target: u64,
    ) -> io::Result<Self> {
        let wal_frames_max =
            i64::try_from(4 * (wal_bytes_target / u64::from(PAGE_BYTES))).unwrap_or(i64::MAX);
        let worker = Worker { connection, gate, wal_frames_max };
        let (wake, wakes) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || worker.run(&wakes))?;
        Ok(Self { wake: Some(wake), thread: Some(thread), wal_bytes_target, written: 0 })
    }

    /// Counts what a transaction wrote, and wakes the thread when it is time.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
        if self.written < self.wal_bytes_target {
            return;
        }
        match self.wake.as_ref().map(|wake| wake.try_send(())) {
            Some(Ok(())) => self.written = 0,
            // It is still at the last one; the count stands, so the next commit asks again.
            Some(Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) | None => {}
        }
    }

    /// Ends the thread; it copies everything and cuts the write-ahead log to nothing.
    pub(super) fn finish(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the checkpoint thread panicked; the next start recovers from the WAL");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.join();
    }
}

struct Worker {
    connection: Connection,
    gate: Gate,
    wal_frames_max: i64,
}

/// What a checkpoint says: frames in the write-ahead log, and how many of them are in the file.
struct Progress {
    frames: i64,
    copied: i64,
}

impl Worker {
    fn run(self, wakes: &Receiver<()>) {
        while wakes.recv().is_ok() {
            self.copy();
        }
        // The writer has closed; readers may still be there, then as much is copied as can be.
        self.checkpoint("TRUNCATE");
    }

    /// Copies beside the writer until little is left, at most eight times: what the writer adds
    /// during a copy is less each time, unless the disk cannot keep up at all.
    fn copy(&self) {
        for _ in 0..8 {
            let Some(progress) = self.checkpoint("PASSIVE") else { return };
            let small = progress.frames - progress.copied <= REMAINDER_FRAMES_MAX;
            let long = progress.frames >= self.wal_frames_max;
            // Four times too long: then the disk sets the pace, and the writer has to wait for it.
            if (long && small) || progress.frames >= self.wal_frames_max.saturating_mul(4) {
                let _writer_waits = self.gate.pass();
                self.checkpoint("RESTART");
                return;
            }
            if small {
                return;
            }
        }
    }

    /// A checkpoint that fails loses nothing: the write-ahead log keeps all until it is copied. If
    /// the disk is really broken, the next commit finds out.
    fn checkpoint(&self, mode: &str) -> Option<Progress> {
        let started = std::time::Instant::now();
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let answer = self
            .connection
            .query_row(&sql, [], |row| Ok(Progress { frames: row.get(1)?, copied: row.get(2)? }));
        match answer {
            Ok(progress) => {
                let Progress { frames, copied } = progress;
                debug!(mode, frames, copied, elapsed = ?started.elapsed(), "checkpoint");
                Some(progress)
            }
            Err(error) => {
                let file = self.connection.path();
                warn!(file, mode, %error, "checkpoint failed; the write-ahead log grows until one succeeds");
                None
            }
        }
    }
}
