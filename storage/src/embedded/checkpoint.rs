//! Checkpoints: pages go from the write-ahead log into the file, on a thread of their own.
//!
//! A checkpoint inside a commit would make that commit wait for the whole copy. So the writer only
//! says how long the write-ahead log is, and this thread copies while the writer goes on (`PASSIVE`).
//! That alone would let it grow for ever under steady load, because something new always stands
//! behind what was copied; so once it is long, the last small remainder is copied with the writer
//! held at its gate (`RESTART`), and the writer begins it anew. A read that holds an old snapshot
//! keeps it from that: when it is twice that long, such reads are ended.
//!
//! Length is counted in frames, as SQLite's own hook tells it at each commit. What callers hand over
//! says little: a write of 40 bytes costs at least a page.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use metrics::gauge;
use rusqlite::{Connection, hooks};
use tracing::{debug, warn};

use super::{file::PAGE_BYTES, snapshots::Snapshots};

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
const REMAINDER_FRAMES_MAX: u64 = 1_024 * 1_024 / PAGE_BYTES as u64;
/// Bytes of a page with its header in the write-ahead log.
const FRAME_BYTES: u64 = PAGE_BYTES as u64 + 24;
/// Reads look whether they are told to end each time that they have done this much work at most.
const READS_END_WITHIN: Duration = Duration::from_millis(5);
/// How often a write-ahead log that cannot be begun anew is worth a line.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The write-ahead log of a file, as its writer's last commit left it. Clones share it.
#[derive(Clone)]
pub(super) struct Wal {
    frames: Arc<AtomicU64>,
    /// Of these, those that the last checkpoint has seen, copied or not.
    seen: Arc<AtomicU64>,
}

impl Wal {
    /// Follows the commits of the connection that writes a file.
    pub(super) fn follow(writer: &mut Connection, file: &'static str) -> rusqlite::Result<Self> {
        let wal = Self { frames: Arc::default(), seen: Arc::default() };
        let frames = Arc::clone(&wal.frames);
        let committed = move |_: &mut hooks::Wal, pages| {
            let pages = u64::try_from(pages).unwrap_or(0);
            frames.store(pages, Ordering::Relaxed);
            #[allow(clippy::cast_precision_loss)] // A gauge is a float; below 2^53 it is exact.
            gauge!("pulso_wal_bytes", "file" => file).set((pages * FRAME_BYTES) as f64);
            Ok(())
        };
        writer.wal_hook(Some(committed))?;
        Ok(wal)
    }

    /// Frames that came since the last checkpoint.
    fn unseen(&self) -> u64 {
        let frames = self.frames.load(Ordering::Relaxed);
        // Where more were seen, it has been begun anew since.
        frames - self.seen.fetch_min(frames, Ordering::Relaxed).min(frames)
    }
}

/// How long the write-ahead log may get, in frames.
#[derive(Clone, Copy)]
struct Lengths {
    /// Copied at a time, beside the writer.
    target: u64,
    /// Begun anew, when little is left to copy.
    long: u64,
    /// Reads that are in the way are ended.
    too_long: u64,
    /// The writer waits, however much is left: the disk sets the pace.
    stalled: u64,
}

impl Lengths {
    fn of(wal_bytes_target: u64) -> Self {
        let target = (wal_bytes_target / u64::from(PAGE_BYTES)).max(1);
        let times = |factor| target.saturating_mul(factor);
        Self { target, long: times(4), too_long: times(8), stalled: times(16) }
    }
}

/// The writer's end: looks at the length after each commit and wakes the thread.
pub(super) struct Checkpointer {
    /// `None` once the thread is told to end.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    wal: Wal,
    target: u64,
}

impl Checkpointer {
    /// Starts the thread. `wal_bytes_target` bytes of pages are copied at a time.
    pub(super) fn start(
        connection: Connection,
        gate: Gate,
        (wal, snapshots): (Wal, Snapshots),
        wal_bytes_target: u64,
    ) -> io::Result<Self> {
        let lengths = Lengths::of(wal_bytes_target);
        let worker =
            Worker { connection, gate, wal: wal.clone(), snapshots, lengths, warned_at: None };
        let (wake, wakes) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || worker.run(&wakes))?;
        Ok(Self { wake: Some(wake), thread: Some(thread), wal, target: lengths.target })
    }

    /// Wakes the thread when it is time. To be called after each commit.
    pub(super) fn committed(&self) {
        if self.wal.unseen() < self.target {
            return;
        }
        match self.wake.as_ref().map(|wake| wake.try_send(())) {
            // It is still at the last one; the frames stay, so the next commit asks again.
            Some(Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) | None => {}
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
    wal: Wal,
    snapshots: Snapshots,
    lengths: Lengths,
    warned_at: Option<Instant>,
}

/// What a checkpoint says.
#[derive(Clone, Copy)]
struct Progress {
    /// Whether a reader or writer kept it from all that was asked.
    is_blocked: bool,
    /// Frames in the write-ahead log.
    frames: u64,
    /// Of these, those that are in the file.
    copied: u64,
}

impl Worker {
    fn run(mut self, wakes: &Receiver<()>) {
        // What a process that was killed has left.
        self.copy();
        while wakes.recv().is_ok() {
            self.copy();
        }
        // The writer has closed; readers may still be there, then as much is copied as can be.
        self.checkpoint("TRUNCATE");
    }

    /// Copies beside the writer until little is left, at most eight times: what the writer adds
    /// during a copy is less each time, unless the disk cannot keep up at all.
    fn copy(&mut self) {
        let mut copied_before = None;
        for _ in 0..8 {
            let Some(Progress { frames, copied, .. }) = self.checkpoint("PASSIVE") else { return };
            let small = frames - copied <= REMAINDER_FRAMES_MAX;
            if (small && frames >= self.lengths.long) || frames >= self.lengths.stalled {
                return self.begin_anew();
            }
            if small {
                return;
            }
            if copied_before.replace(copied) == Some(copied) {
                // A read's snapshot is in the way. It may have its time while there is room.
                if frames < self.lengths.too_long {
                    return;
                }
                self.end_reads();
            }
        }
    }

    /// Copies the remainder while the writer waits, so that the writer's next frame is the first.
    fn begin_anew(&mut self) {
        let gate = self.gate.clone();
        let _writer_waits = gate.pass();
        let Some(progress) = self.checkpoint("RESTART") else { return };
        if !progress.is_blocked || progress.frames < self.lengths.too_long {
            return;
        }
        self.end_reads();
        if self.checkpoint("RESTART").is_some_and(|progress| progress.is_blocked) {
            self.warn_of(progress.frames);
        }
    }

    fn end_reads(&self) {
        self.snapshots.end_all();
        std::thread::sleep(READS_END_WITHIN);
    }

    /// Reads of this process end; another program's cannot be ended.
    fn warn_of(&mut self, frames: u64) {
        if self.warned_at.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned_at = Some(Instant::now());
        let (file, bytes) = (self.connection.path(), frames * FRAME_BYTES);
        warn!(
            file,
            bytes,
            "a reader keeps the write-ahead log from being begun anew, and it grows: end other programs that read the file"
        );
    }

    /// A checkpoint that fails loses nothing: the write-ahead log keeps all until it is copied. If
    /// the disk is really broken, the next commit finds out.
    fn checkpoint(&self, mode: &str) -> Option<Progress> {
        let started = Instant::now();
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let answer = self.connection.query_row(&sql, [], |row| {
            let frames =
                |column| row.get(column).map(|frames: i64| u64::try_from(frames).unwrap_or(0));
            Ok(Progress { is_blocked: row.get(0)?, frames: frames(1)?, copied: frames(2)? })
        });
        match answer {
            Ok(progress) => {
                let Progress { frames, copied, is_blocked } = progress;
                self.wal.seen.store(frames, Ordering::Relaxed);
                debug!(mode, frames, copied, is_blocked, elapsed = ?started.elapsed(), "checkpoint");
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
