//! One SQLite file of a data directory: made whole or not at all, checked before it is used.

use std::{
    cmp::Ordering,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{directory::DataDirectory, error::OpenError, private};

/// Bytes of a page. 16 KiB measured best over record sizes: 64 KiB pages need 3 to 4 times the CPU
/// for records of 35 KB, which then take a page each, and 4 KiB pages need 1.4 times for all.
pub(super) const PAGE_BYTES: u32 = 16 * 1_024;

/// What stands in a file.
pub(super) struct FileKind {
    /// Its name in the data directory.
    pub(super) name: &'static str,
    /// SQLite's mark for whose file it is (`PRAGMA application_id`).
    pub(super) application_id: i32,
    /// Format version (`PRAGMA user_version`), from 1.
    pub(super) version: u32,
    /// The tables of this version.
    pub(super) schema: &'static [&'static str],
    /// The version before that a file is brought up from when it is opened, and by what.
    pub(super) upgrade: Option<(u32, &'static [&'static str])>,
    /// What to do with a file of an earlier version, which is refused.
    pub(super) older_remedy: &'static str,
}

/// A file that was checked; gives out connections to it.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
}

impl DatabaseFile {
    /// Makes the file where there is none, checks it, and opens the one connection that writes.
    pub(super) fn open(
        directory: &DataDirectory,
        kind: &FileKind,
        wal_bytes_target: u64,
    ) -> Result<(Self, Connection), OpenError> {
        let path = directory.path().join(kind.name);
        match fs::exists(&path) {
            Ok(true) => check_length(&path)?,
            Ok(false) => create(directory.path(), kind)?,
            Err(error) => return Err(OpenError::io(&path, &error)),
        }
        let connection = open_writer(&path, kind, directory.options().file_bytes_max)?;
        keep_wal_short(&connection, wal_bytes_target)
            .map_err(|error| OpenError::sqlite(&path, &error))?;
        Ok((Self { path }, connection))
    }

    /// The file where there is one, for who only reads it.
    pub(super) fn existing(directory: &Path, kind: &FileKind) -> Result<Self, OpenError> {
        let path = directory.join(kind.name);
        check_length(&path)?;
        Ok(Self { path })
    }

    /// Opens a connection that only reads.
    pub(super) fn reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4096;")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(connection)
    }

    /// Opens a connection for checkpoints only.
    pub(super) fn checkpointer(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")?;
        // The writer may be waiting at its gate: a reader in the way must not hold it up for long.
        connection.busy_timeout(std::time::Duration::from_millis(20))?;
        Ok(connection)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Refuses a file that is shorter than it says. SQLite itself takes an empty file for a new
/// database, and finds a missing end only when it comes to read there. A file of ours is never
/// empty, because it is made under another name and renamed when it is whole; and after a crash,
/// while pages are still in the write-ahead log, it may rightly be shorter, and recovery completes it.
fn check_length(path: &Path) -> Result<(), OpenError> {
    let io = |error: std::io::Error| OpenError::io(path, &error);
    let damaged = |message: String| Err(OpenError::Damaged { path: path.to_owned(), message });
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return damaged(format!("it has only {length} bytes"));
        }
        Err(error) => return Err(io(error)),
    }
    let wal = path.with_extension("db-wal");
    let in_wal = fs::metadata(wal).map_or(0, |metadata| metadata.len());
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    let expected = u64::from(pages) * page_bytes;
    if header.starts_with(b"SQLite format 3\0") && in_wal == 0 && length < expected {
        return damaged(format!("it has {length} bytes of {expected}: its end is missing"));
    }
    Ok(())
}

/// Bytes of the header of an SQLite file; big-endian, the page size is at 16 and the number of pages
/// at 28 (<https://www.sqlite.org/fileformat.html>, "The Database Header").
const HEADER_BYTES: usize = 100;

/// Makes the file under another name, brings it to disk, and gives it its name: a crash leaves a
/// whole file or none.
fn create(directory: &Path, kind: &FileKind) -> Result<(), OpenError> {
    let path = directory.join(kind.name);
    let unfinished = directory.join(format!("{}.new", kind.name));
    let io = |error: std::io::Error| OpenError::io(&path, &error);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    // SQLite gives its other files the mode of this one.
    private::open_or_create(&unfinished).map_err(io)?;
    write_schema(&unfinished, kind).map_err(|error| OpenError::sqlite(&path, &error))?;
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&unfinished, &path).map_err(io)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

fn write_schema(path: &Path, kind: &FileKind) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    // So that what is deleted can be given back to the file system.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.execute_batch(&format!(
        "BEGIN; {} PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT;",
        kind.schema.concat(),
        kind.application_id,
        kind.version
    ))?;
    connection.close().map_err(|(_, error)| error)
}

fn open_writer(
    path: &Path,
    kind: &FileKind,
    file_bytes_max: Option<u64>,
) -> Result<Connection, OpenError> {
    let sqlite = |error: rusqlite::Error| OpenError::sqlite(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    // Opening creates nothing and reads nothing yet: the first pragma finds the damage.
    upgrade(&connection, kind).map_err(sqlite)?;
    check_identity(&connection, path, kind)?;
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(sqlite)? {
        let message = "SQLite can open it for reading only".to_owned();
        return Err(OpenError::ReadOnly { path: path.to_owned(), message });
    }
    connection.execute_batch(WRITER_PRAGMAS).map_err(sqlite)?;
    if let Some(bytes) = file_bytes_max {
        let pages = i64::try_from(bytes / u64::from(PAGE_BYTES)).unwrap_or(i64::MAX).max(1);
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .map_err(sqlite)?;
    }
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(sqlite)?;
    Ok(connection)
}

/// Without it, the file of a write-ahead log that was long once stays as long on the disk.
fn keep_wal_short(connection: &Connection, wal_bytes_target: u64) -> rusqlite::Result<()> {
    let bytes = i64::try_from(wal_bytes_target.saturating_mul(4)).unwrap_or(i64::MAX);
    connection.query_row(&format!("PRAGMA journal_size_limit = {bytes}"), [], |_| Ok(()))
}

/// FULL syncs the WAL in every commit, which is what makes an answer a promise. Checkpoints are
/// another thread's work. The cache keeps 8 MiB: more only spreads the writes over more memory.
const WRITER_PRAGMAS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA cache_size = -8192;
    PRAGMA temp_store = MEMORY;
";

/// Gives free pages at the end of a file back to the file system, at most so many. Each costs moving a
/// page from the end.
pub(super) fn give_back(connection: &Connection, pages_max: u32) -> rusqlite::Result<()> {
    // A step frees a page, and says so in a row.
    let mut freeing = connection.prepare(&format!("PRAGMA incremental_vacuum({pages_max})"))?;
    let mut rows = freeing.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Adds what the version before does not have, whole or not at all.
fn upgrade(connection: &Connection, kind: &FileKind) -> rusqlite::Result<()> {
    let Some((before, statements)) = kind.upgrade else { return Ok(()) };
    let pragma = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0))
    };
    let is_ours = pragma("application_id")? == kind.application_id;
    if !is_ours || pragma("user_version")?.unsigned_abs() != before {
        return Ok(());
    }
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {} PRAGMA user_version = {}; COMMIT;",
        statements.concat(),
        kind.version
    ))
}

/// Whether a file is of this kind and version.
pub(super) fn check_identity(
    connection: &Connection,
    path: &Path,
    kind: &FileKind,
) -> Result<(), OpenError> {
    let pragma = |name: &str| {
        connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0))
            .map_err(|error| OpenError::sqlite(path, &error))
    };
    let found = pragma("application_id")?;
    if found != kind.application_id {
        return Err(OpenError::Foreign { path: path.to_owned(), found });
    }
    let (found, supported) = (pragma("user_version")?.unsigned_abs(), kind.version);
    let path = path.to_owned();
    match found.cmp(&supported) {
        Ordering::Less => {
            Err(OpenError::Older { path, found, supported, remedy: kind.older_remedy })
        }
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(OpenError::Newer { path, found, supported }),
    }
}
