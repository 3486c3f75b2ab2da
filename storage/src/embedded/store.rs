//! The usage store and the billing store in `store.db`.
//!
//! Writes go to one thread, which does all that are queued in one transaction, so that rows,
//! manifest, run and state of a close are there together or not at all. Reads go to a few threads
//! with read-only connections. Totals stand in plain columns: an analyst can open a copy of the file
//! with any SQLite tool, and the view `usage` names what the columns hold.

mod failure;
mod entries;
mod billing;
mod blocks;
mod journal;
mod letters;
mod pieces;
mod readers;
mod records;
mod retention;
mod rows;
mod flush;
mod schema;
mod writer;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    BlockStore, DeadLetterGroup, DeadLetterKey, Epoch, LogId, Manifest, Offset, RowKey, SegmentId,
    Tenant, UsageRow, UsageStore,
    blocks::{BlockManifest, BlockMap, BlockNumber, Page},
    epochs::{Journal, LogEvent},
    generation::Generation,
    segment::Progress,
    store::{DeadLetterFilter, Flush, PartitionKey, StoreError, UsageFilter},
};
use rusqlite::Connection;
use tracing::info;

pub use self::billing::EmbeddedBillingStore;
pub(super) use self::schema::KIND;
use self::{failure::Failure, readers::Readers, writer::Writes};
use super::{
    checkpoint::{Checkpointer, Gate, Wal},
    directory::{DataDirectory, STORE_FILE},
    error::{FatalHook, OpenError},
    file::DatabaseFile,
    generation,
    snapshots::Snapshots,
};
use crate::answers::{another_log, other_parameters};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Called when a commit or sync failed; see [`FatalHook`].
    pub fatal: FatalHook,
    /// Threads that read, each with a connection and about 4 MiB of cache. Default 4.
    pub readers: usize,
    /// Reads that may wait; one more is `Unavailable`. Default 1,024.
    pub reads_queued_max: usize,
    /// Writes that may wait; one more is `Unavailable`. Default 256. A flush in the queue keeps its
    /// rows in memory.
    pub writes_queued_max: usize,
    /// Bytes of pages written between checkpoints. Default 64 MiB; the write-ahead log takes about
    /// four times as much of the disk, and twice that where a read holds a snapshot.
    pub wal_bytes_target: u64,
    /// How long a read may take; then it is `Unavailable`. Default 30 s. Short ones refuse scans that
    /// find little in much; during long ones the write-ahead log grows, until it is twice as long as
    /// it should be, and the read is ended all the same.
    pub read_timeout: Duration,
}

impl StoreOptions {
    /// The options of a store with this hook and defaults else.
    #[must_use]
    pub fn new(fatal: FatalHook) -> Self {
        Self {
            fatal,
            readers: 4,
            reads_queued_max: 1_024,
            writes_queued_max: 256,
            wal_bytes_target: 64 << 20,
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// `store.db` of a data directory: gives out the two ports it serves. Clones are handles of the
/// same store.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

struct Inner {
    writes: Writes,
    readers: Readers,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Let go last.
    _directory: DataDirectory,
}

impl EmbeddedStore {
    /// Opens the store of a data directory, or makes one. Blocking.
    ///
    /// # Errors
    /// Any [`OpenError`] but `Held`, `Partitions` and `Generation`.
    pub fn open(directory: &DataDirectory, options: &StoreOptions) -> Result<Self, OpenError> {
        let (file, mut connection) =
            DatabaseFile::open(directory, &KIND, options.wal_bytes_target)?;
        let sqlite = |error: rusqlite::Error| OpenError::sqlite(file.path(), &error);
        let io = |error: std::io::Error| OpenError::io(file.path(), &error);
        let gate = Gate::default();
        let checkpoints = file.checkpointer().map_err(sqlite)?;
        let snapshots = Snapshots::default();
        let wal = (Wal::follow(&mut connection, STORE_FILE).map_err(sqlite)?, snapshots.clone());
        let target = options.wal_bytes_target;
        let checkpointer =
            Checkpointer::start(checkpoints, gate.clone(), wal, target).map_err(io)?;
        let (writes, writer) =
            writer::start(connection, gate, checkpointer, options).map_err(io)?;
        let connections = (0..options.readers.max(1)).map(|_| {
            let mut connection = file.reader()?;
            let limit = snapshots.limit(&mut connection, options.read_timeout)?;
            Ok((connection, limit))
        });
        let connections = connections.collect::<Result<Vec<_>, _>>().map_err(sqlite)?;
        let readers = Readers::start(connections, options.reads_queued_max).map_err(io)?;
        info!(path = %file.path().display(), "store opened");
        let (writer, _directory) = (Mutex::new(Some(writer)), directory.clone());
        let inner = Inner { writes, readers, writer, _directory };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The usage store in it.
    #[must_use]
    pub fn usage(&self) -> EmbeddedUsageStore {
        EmbeddedUsageStore { store: self.clone() }
    }

    /// The billing store in it.
    #[must_use]
    pub fn billing(&self) -> EmbeddedBillingStore {
        EmbeddedBillingStore::new(self.clone())
    }

    /// Does what is queued, copies the write-ahead log into the file, and ends the threads.
    /// Everything is `Unavailable` afterwards. Blocking; does nothing the second time.
    pub fn close(&self) {
        self.inner.close();
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inner.readers.run(work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inner.writes.run(0, work).await
    }
}

impl Inner {
    fn close(&self) {
        self.readers.close();
        self.writes.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked; what was acknowledged is in the store");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The embedded usage store.
#[derive(Clone)]
pub struct EmbeddedUsageStore {
    store: EmbeddedStore,
}

impl UsageStore for EmbeddedUsageStore {
    async fn register(&self, given: &Generation, after: Option<LogId>) -> Result<(), StoreError> {
        let given = *given;
        generation::check_storable(&given).map_err(|error| StoreError::Fatal(error.to_string()))?;
        self.store
            .write(move |connection| match generation::find(connection, given.log_id)? {
                Some(registered) if registered == given => Ok(()),
                Some(registered) => Err(other_parameters(&registered, &given).into()),
                None => {
                    let newest = generation::newest(connection)?.map(|newest| newest.log_id);
                    if newest != after {
                        return Err(another_log(newest, given.log_id).into());
                    }
                    Ok(generation::insert(connection, &given)?)
                }
            })
            .await
    }

    async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        self.store.read(|connection| Ok(generation::all(connection)?)).await
    }

    async fn flush(&self, flush: Arc<Flush>) -> Result<(), StoreError> {
        let bytes = flush::bytes_about(&flush);
        self.store.inner.writes.run(bytes, move |connection| flush::write(connection, &flush)).await
    }

    async fn newest_manifest(&self, key: PartitionKey) -> Result<Option<Manifest>, StoreError> {
        self.store.read(move |connection| records::newest_manifest(connection, key)).await
    }

    async fn manifests(
        &self,
        key: PartitionKey,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<Manifest>, StoreError> {
        self.store.read(move |connection| records::manifests(connection, key, from, limit)).await
    }

    async fn progress(&self, key: PartitionKey) -> Result<Option<Progress>, StoreError> {
        self.store.read(move |connection| records::progress(connection, key)).await
    }

    async fn state(&self, digest: u128) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read(move |connection| pieces::state(connection, digest)).await
    }

    async fn state_head(&self, digest: u128, bytes: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read(move |connection| pieces::state_head(connection, digest, bytes)).await
    }

    async fn run(&self, segment: SegmentId) -> Result<Vec<u8>, StoreError> {
        self.store.read(move |connection| pieces::run(connection, segment)).await
    }

    async fn segment_rows(
        &self,
        segment: SegmentId,
        places: &[(Tenant, i32)],
    ) -> Result<Vec<UsageRow>, StoreError> {
        let places = places.to_vec();
        self.store.read(move |connection| rows::of_segment(connection, segment, &places)).await
    }

    async fn scan(
        &self,
        filter: &UsageFilter,
        after: Option<&RowKey>,
        limit: usize,
    ) -> Result<Vec<UsageRow>, StoreError> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.store
            .read(move |connection| rows::scan(connection, &filter, after.as_ref(), limit))
            .await
    }

    async fn tenants(
        &self,
        after: Option<&Tenant>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let after = after.cloned();
        self.store.read(move |connection| rows::tenants(connection, after.as_ref(), limit)).await
    }

    async fn scan_dead_letters(
        &self,
        log_id: LogId,
        filter: &DeadLetterFilter,
        after: Option<&DeadLetterKey>,
        limit: usize,
    ) -> Result<Vec<DeadLetterGroup>, StoreError> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.store
            .read(move |connection| {
                letters::page(connection, log_id, &filter, after.as_ref(), limit)
            })
            .await
    }

    async fn log_events(&self) -> Result<Vec<LogEvent>, StoreError> {
        self.store.read(journal::all).await
    }

    async fn append_log_event(&self, entries: u64, event: &LogEvent) -> Result<(), StoreError> {
        let event = event.clone();
        self.store.write(move |connection| journal::append(connection, entries, &event)).await
    }
}

impl BlockStore for EmbeddedUsageStore {
    async fn block_map(&self) -> Result<BlockMap, StoreError> {
        self.store.read(blocks::map).await
    }

    async fn replace_block_map(&self, map: &BlockMap) -> Result<(), StoreError> {
        let map = map.clone();
        self.store.write(move |connection| blocks::replace_map(connection, &map)).await
    }

    async fn block_marks(&self, log_id: LogId) -> Result<Vec<Vec<Offset>>, StoreError> {
        self.store.read(move |connection| blocks::marks(connection, log_id)).await
    }

    async fn put_block_mark(
        &self,
        log_id: LogId,
        number: u64,
        edge: &[Offset],
    ) -> Result<(), StoreError> {
        let edge = edge.to_vec();
        self.store
            .write(move |connection| blocks::put_mark(connection, log_id, number, &edge))
            .await
    }

    async fn write_block_pages(
        &self,
        block: BlockNumber,
        pages: Vec<Page>,
        tenants: Vec<Tenant>,
    ) -> Result<(), StoreError> {
        let bytes = pages.iter().map(|page| page.bytes.len()).sum();
        let write =
            move |connection: &Connection| blocks::write_pages(connection, block, &pages, &tenants);
        self.store.inner.writes.run(bytes, write).await
    }

    async fn write_block_manifest(
        &self,
        block: BlockNumber,
        manifest: &BlockManifest,
    ) -> Result<(), StoreError> {
        let manifest = manifest.clone();
        self.store
            .write(move |connection| blocks::write_manifest(connection, block, &manifest))
            .await
    }

    async fn block_manifest(
        &self,
        block: BlockNumber,
    ) -> Result<Option<BlockManifest>, StoreError> {
        self.store.read(move |connection| blocks::manifest(connection, block)).await
    }

    async fn find_block_page(&self, block: BlockNumber, key: &[u8]) -> Result<u32, StoreError> {
        let key = key.to_vec();
        self.store.read(move |connection| blocks::find_page(connection, block, &key)).await
    }

    async fn block_pages(
        &self,
        block: BlockNumber,
        from: u32,
        limit: usize,
    ) -> Result<Vec<Page>, StoreError> {
        self.store.read(move |connection| blocks::pages(connection, block, from, limit)).await
    }

    async fn stored_blocks(&self) -> Result<Vec<BlockNumber>, StoreError> {
        self.store.read(blocks::stored).await
    }

    async fn delete_block(&self, block: BlockNumber) -> Result<bool, StoreError> {
        self.store.write(move |connection| blocks::delete(connection, block)).await
    }

    async fn delete_rows(&self, rows: Vec<RowKey>) -> Result<(), StoreError> {
        self.store.write(move |connection| blocks::delete_rows(connection, &rows)).await
    }

    async fn keep_states(
        &self,
        digests: Vec<u128>,
        seen: Vec<SegmentId>,
    ) -> Result<u64, StoreError> {
        self.store
            .write(move |connection| retention::keep_states(connection, &digests, &seen))
            .await
    }

    async fn delete_epoch(&self, log_id: LogId, epoch: Epoch) -> Result<u64, StoreError> {
        self.store.write(move |connection| retention::delete_epoch(connection, log_id, epoch)).await
    }

    async fn runs_below(
        &self,
        partition: PartitionKey,
        below: Offset,
    ) -> Result<Vec<Offset>, StoreError> {
        self.store.read(move |connection| retention::runs_below(connection, partition, below)).await
    }

    async fn delete_run(&self, segment: SegmentId) -> Result<(), StoreError> {
        self.store.write(move |connection| retention::delete_run(connection, segment)).await
    }
}

/// Which blocks there are, and what the journal says, for who only reads the file.
pub(super) fn map_and_journal(connection: &Connection) -> Result<(BlockMap, Journal), StoreError> {
    Ok((blocks::map(connection)?, Journal::of(journal::all(connection)?)))
}

#[cfg(test)]
mod tests;
