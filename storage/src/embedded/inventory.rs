//! Inventory: what the files of embedded directories hold, by kind, and what keeps it from going.
//!
//! It reads the files whole, a gigabyte in some seconds, beside the process that uses them.

use std::{collections::BTreeMap, path::Path};

use domain::{Epoch, LogId, Partition, Timestamp, generation::Generation, store::StoreError};
use rusqlite::Connection;

use super::{
    error::OpenError,
    file::{DatabaseFile, FileKind, check_identity},
    generation, log, store,
};

/// What is kept of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What it is, for a person.
    pub kind: &'static str,
    /// Bytes of the pages that it takes, with its indexes.
    pub bytes: u64,
    /// Rows of its tables, where they say something.
    pub entries: Option<u64>,
    /// The time of its oldest, where it has one: of a record its append, of usage the window's start.
    pub oldest: Option<Timestamp>,
}

/// What a store holds, and what it says about what may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInventory {
    /// By kind.
    pub holdings: Vec<Holding>,
    /// Epochs that were opened after the one in use, and not dropped.
    pub unused: Vec<(LogId, Epoch)>,
    /// Whether anything of the newest log was ever billed.
    pub is_billed: bool,
}

/// A kind: the tables that are of it, and where the time of its oldest is asked for.
type Kind = (&'static str, &'static [&'static str], &'static str);

const LOG: [Kind; 1] = [("records of the log", &["record"], "")];

const STORE: [Kind; 6] = [
    ("rows of usage", &["usage_segment"], "SELECT min(window_start) FROM usage_segment"),
    (
        "blocks of usage",
        &["block_page", "block_manifest", "block_map", "block_mark", "block_end", "usage_tenant"],
        "",
    ),
    ("fold states", &["fold_state"], ""),
    ("runs of ids", &["id_run"], ""),
    ("manifests", &["segment_manifest", "partition_progress"], ""),
    ("dead letters", &["dead_letter_group"], "SELECT min(time_first) FROM dead_letter_group"),
];

/// What is in a store and of no kind: catalogues, contracts, invoices, the audit trail.
const OTHERS: &str = "billing and journals";
/// Pages that hold nothing.
pub const FREE: &str = "free pages";
const WAL: &str = "write-ahead log";

/// What the log in a directory holds.
///
/// # Errors
/// When the file is not there or not a log of this version.
pub fn of_log(directory: &Path) -> Result<Vec<Holding>, OpenError> {
    let file = File::open(directory, &log::KIND)?;
    let mut holdings = file.holdings(&LOG, "generations")?;
    holdings[0].oldest = file.ask(oldest_record)?;
    Ok(holdings)
}

/// What the store in a directory holds.
///
/// # Errors
/// When the file is not there or not a store of this version.
pub fn of_store(directory: &Path) -> Result<StoreInventory, OpenError> {
    let file = File::open(directory, &store::KIND)?;
    let damaged = |error: StoreError| {
        let path = file.file.path().to_owned();
        OpenError::Damaged { path, message: error.to_string() }
    };
    let (map, journal) = store::map_and_journal(&file.connection).map_err(damaged)?;
    let mut holdings = file.holdings(&STORE, OTHERS)?;
    let windows = map.epochs().flat_map(|(_, _, blocks)| &blocks.blocks);
    holdings[1].oldest = windows.filter_map(|block| block.windows).map(|(least, _)| least).min();
    let logs: Vec<LogId> =
        file.ask(generation::all)?.iter().map(|generation| generation.log_id).collect();
    let unused = logs.iter().flat_map(|log_id| {
        let history = journal.log(*log_id);
        let opened = history.all_opened().map(|opened| opened.epoch);
        opened.filter(|epoch| *epoch > history.active()).map(|epoch| (*log_id, epoch))
    });
    let unused = unused.collect();
    let is_billed = logs.last().is_some_and(|newest| map.marks(*newest).0 > 0);
    Ok(StoreInventory { holdings, unused, is_billed })
}

/// A file that is only read.
struct File {
    connection: Connection,
    file: DatabaseFile,
}

impl File {
    fn open(directory: &Path, kind: &FileKind) -> Result<Self, OpenError> {
        let file = DatabaseFile::existing(directory, kind)?;
        let connection = file.reader().map_err(|error| OpenError::sqlite(file.path(), &error))?;
        check_identity(&connection, file.path(), kind)?;
        Ok(Self { connection, file })
    }

    fn ask<T>(&self, of: fn(&Connection) -> rusqlite::Result<T>) -> Result<T, OpenError> {
        of(&self.connection).map_err(|error| OpenError::sqlite(self.file.path(), &error))
    }

    fn holdings(&self, kinds: &[Kind], others: &'static str) -> Result<Vec<Holding>, OpenError> {
        let mut of_tables = self.ask(bytes_of_tables)?;
        let free = of_tables.remove(FREE).unwrap_or(0);
        let mut holdings = Vec::new();
        for (kind, tables, oldest) in kinds {
            let bytes = tables.iter().filter_map(|table| of_tables.remove(*table)).sum();
            let entries = count(&self.connection, tables[0]);
            let oldest = match *oldest {
                "" => Ok(None),
                asked => self.connection.query_row(asked, [], |row| row.get::<_, Option<i64>>(0)),
            };
            let sqlite = |error| OpenError::sqlite(self.file.path(), &error);
            let (entries, oldest) = (entries.map_err(sqlite)?, oldest.map_err(sqlite)?);
            let oldest = oldest.and_then(Timestamp::from_micros);
            holdings.push(Holding { kind, bytes, entries: Some(entries), oldest });
        }
        let wal = self.file.path().with_extension("db-wal");
        let wal = std::fs::metadata(wal).map_or(0, |metadata| metadata.len());
        for (kind, bytes) in [(others, of_tables.values().sum()), (FREE, free), (WAL, wal)] {
            holdings.push(Holding { kind, bytes, entries: None, oldest: None });
        }
        Ok(holdings)
    }
}

/// Bytes by table, with its indexes, and of free pages.
fn bytes_of_tables(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement = connection.prepare(
        "SELECT coalesce(tbl_name, name), sum(pgsize) FROM
         (SELECT name AS tree, pgsize FROM dbstat WHERE aggregate = TRUE)
         LEFT JOIN sqlite_schema ON name = tree GROUP BY 1",
    )?;
    let found = statement.query_map([], |row| {
        Ok((row.get::<_, Option<String>>(0)?.unwrap_or_default(), unsigned(row.get(1)?)))
    })?;
    let mut bytes: BTreeMap<String, u64> = found.collect::<rusqlite::Result<_>>()?;
    let pragma = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| Ok(unsigned(row.get(0)?)))
    };
    bytes.insert(FREE.to_owned(), pragma("freelist_count")? * pragma("page_size")?);
    Ok(bytes)
}

fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let count = format!("SELECT count(*) FROM {table}");
    connection.query_row(&count, [], |row| Ok(unsigned(row.get(0)?)))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Of the first record of each partition the one that was appended first.
fn oldest_record(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let generation = generation::newest(connection)?;
    let mut first = connection.prepare(
        "SELECT appended_at FROM record WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT 1",
    )?;
    let mut oldest = None::<i64>;
    for partition in generation.iter().flat_map(Generation::partitions) {
        let places = [partition, Partition(partition.0 + 1)].map(|of| log::place(of, 0));
        let mut rows = first.query(places)?;
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(0)?;
            oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
        }
    }
    Ok(oldest.and_then(Timestamp::from_micros))
}
