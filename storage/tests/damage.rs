//! What stands in a data directory's way: each is named, with the path and what to do, and nothing
//! that was acknowledged is given out wrong.

#![allow(clippy::unwrap_used)] // In helpers of tests it is as good as in the tests.

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use common::{FIRST, directory, open_log, open_store, options, other_program, read_all};
use domain::{
    Offset, PulseLog, UsageStore,
    log::{AppendError, LogDrain as _, LogError},
    store::StoreError,
};
use storage::{
    conformance::samples::{LOG, at, flush, generation, key, row, segment},
    embedded::{
        DataDirectory, EmbeddedLog, EmbeddedStore, LOG_FILE, OpenError, OpenOptions, STORE_FILE,
        StoreOptions,
    },
};

/// Makes a directory with records and rows in both files, and closes it.
async fn filled() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let log = open_log(home.path()).unwrap();
    for number in 0..50u8 {
        log.append(FIRST, vec![vec![number; 3_000]]).await.unwrap();
    }
    drop(log);
    let store = open_store(home.path()).unwrap();
    store.usage().register(&generation(LOG), None).await.unwrap();
    let mine = segment(0, 0);
    let rows = (0..2_000).map(|i| row(key(&format!("t{i}"), "s", at(0), mine), 1, 1)).collect();
    store.usage().flush(flush(mine, rows, 50).into()).await.unwrap();
    drop(store);
    home
}

fn open(home: &Path, file: &str) -> Result<(), OpenError> {
    if file == LOG_FILE { open_log(home).map(drop) } else { open_store(home).map(drop) }
}

/// The message names the path and says what to do.
fn assert_helps(error: &OpenError, path: &Path, remedy: &str) {
    let text = error.to_string();
    assert!(text.contains(&*path.to_string_lossy()) && text.contains(remedy), "{text}");
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    for file in [LOG_FILE, STORE_FILE] {
        for keep_permille in [0, 1, 500, 999] {
            let home = filled().await;
            let path = home.path().join(file);
            let length = fs::metadata(&path).unwrap().len() * keep_permille / 1_000;
            fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            let error = open(home.path(), file).unwrap_err();
            assert!(
                matches!(error, OpenError::Damaged { .. }),
                "{file} {keep_permille}: {error:?}"
            );
            assert_helps(&error, &path, "backup");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_something_else_is_refused() {
    for file in [LOG_FILE, STORE_FILE] {
        let home = filled().await;
        let path = home.path().join(file);
        fs::write(&path, vec![b'x'; 100_000]).unwrap();
        assert!(matches!(open(home.path(), file), Err(OpenError::Damaged { .. })));
        fs::remove_file(&path).unwrap();
        rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
        let error = open(home.path(), file).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { found: 0, .. }), "{error:?}");
        assert_helps(&error, &path, "another data directory");
    }
}

#[tokio::test]
async fn a_file_written_by_a_newer_version_is_refused() {
    for (file, version) in [(LOG_FILE, 1), (STORE_FILE, 5)] {
        let home = filled().await;
        let newer = version + 1;
        let pragma = format!("PRAGMA user_version = {newer}");
        other_program(home.path(), file).execute_batch(&pragma).unwrap();
        let error = open(home.path(), file).unwrap_err();
        assert!(
            matches!(error, OpenError::Newer { found, supported, .. } if (found, supported) == (newer, version)),
            "{error:?}"
        );
        assert_helps(&error, &home.path().join(file), "later");
    }
}

#[tokio::test]
async fn a_store_of_the_version_before_gets_the_tables_that_it_lacks() {
    let home = filled().await;
    let before = "DROP TABLE block_map; DROP TABLE block_mark; DROP TABLE block_manifest;
        DROP TABLE block_page; DROP TABLE usage_tenant; DROP VIEW usage; DROP TABLE block_end;
        CREATE VIEW usage AS SELECT 1; PRAGMA user_version = 4;";
    other_program(home.path(), STORE_FILE).execute_batch(before).unwrap();
    open(home.path(), STORE_FILE).unwrap();
    let other = other_program(home.path(), STORE_FILE);
    let version = other.query_row("PRAGMA user_version", [], |row| row.get::<_, i32>(0)).unwrap();
    let pages = other.query_row("SELECT count(*) FROM block_page", [], |row| row.get::<_, i32>(0));
    assert_eq!((version, pages.unwrap()), (5, 0));
}

#[test]
fn a_directory_that_is_held_names_its_holder() {
    let home = tempfile::tempdir().unwrap();
    let held = directory(home.path()).unwrap();
    let error = directory(home.path()).unwrap_err();
    let me = std::process::id();
    assert!(matches!(error, OpenError::Held { pid: Some(pid), .. } if pid == me), "{error:?}");
    assert_helps(&error, home.path(), &format!("process {me}"));
    drop(held);
    // Log and store hold the directory, too.
    let log = open_log(home.path()).unwrap();
    assert!(matches!(directory(home.path()), Err(OpenError::Held { .. })));
    drop(log);
    directory(home.path()).unwrap();
}

#[test]
fn what_is_not_a_directory_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = directory(&path).unwrap_err();
        assert!(matches!(error, OpenError::NotADirectory { .. }), "{error:?}");
        assert_helps(&error, &path, "name a directory");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut path = home.path().join("sealed");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(path.join("probe"), "").is_ok() {
        // The superuser writes anywhere but into the kernel's own file system.
        path = "/sys/kernel/pulso".into();
    }
    let error = directory(&path).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    assert_helps(&error, &path, "writable");
}

#[tokio::test]
async fn a_damaged_record_is_named_and_not_lent() {
    for (change, message) in [
        ("UPDATE record SET body = zeroblob(3000) WHERE place = 7", "checksum"),
        ("UPDATE record SET crc32c = crc32c + 1 WHERE place = 7", "checksum"),
        ("DELETE FROM record WHERE place = 7", "missing"),
    ] {
        let home = filled().await;
        other_program(home.path(), LOG_FILE).execute_batch(change).unwrap();
        let log = open_log(home.path()).unwrap();
        let mut drain = log.drain(FIRST, Offset(5)).unwrap();
        let mut lent = Vec::new();
        for _ in 0..2 {
            let visit = &mut |record: domain::log::LogRecord<'_>| lent.push(record.offset.0);
            match drain.read(Offset(50), usize::MAX, visit) {
                Err(LogError::Damaged { partition: FIRST, offset: Offset(7), message: found }) => {
                    assert!(found.contains(message), "{found}");
                }
                other => panic!("{change}: {other:?}"),
            }
        }
        assert_eq!(lent, [5, 6], "what stands before it was lent once");
        let mut behind = log.drain(FIRST, Offset(8)).unwrap();
        behind.read(Offset(50), usize::MAX, &mut |record| lent.push(record.offset.0)).unwrap();
        assert_eq!(lent.len(), 44, "what stands behind it can be read");
    }
}

#[tokio::test]
async fn a_damaged_row_is_told() {
    let home = filled().await;
    let other = other_program(home.path(), STORE_FILE);
    for change in [
        "UPDATE partition_progress SET cell = zeroblob(100)",
        "UPDATE usage_segment SET dimensions = '{b}'",
    ] {
        other.execute_batch(change).unwrap();
    }
    let usage = open_store(home.path()).unwrap().usage();
    let key =
        domain::store::PartitionKey { log_id: LOG, partition: FIRST, epoch: domain::Epoch(0) };
    assert!(matches!(usage.progress(key).await, Err(StoreError::Damaged(_))));
    let places = [(domain::Tenant::new("t1").unwrap(), 0)];
    let rows = usage.segment_rows(segment(0, 0), &places).await;
    assert!(matches!(rows, Err(StoreError::Damaged(_))), "{rows:?}");
}

/// Appends large records until there is no room, then small ones.
async fn fill_up(log: &EmbeddedLog) -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    let full = loop {
        assert!(kept.len() < 1_000, "the disk is never full");
        let body = vec![1; 300_000];
        match log.append(FIRST, vec![body.clone()]).await {
            Ok(_) => kept.push(body),
            Err(error) => break error,
        }
    };
    assert!(matches!(&full, AppendError::Unavailable(why) if why.contains("disk is full")));
    kept
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_keeps_the_log_up() {
    let home = tempfile::tempdir().unwrap();
    let bounded = |bytes| {
        let directory =
            DataDirectory::open(home.path(), OpenOptions { file_bytes_max: bytes }).unwrap();
        EmbeddedLog::open(&directory, options()).unwrap()
    };
    let log = bounded(Some(2 << 20));
    let mut kept = fill_up(&log).await;
    assert!(kept.len() > 3);
    // A small record still has room: the large one was rolled back whole.
    let small = b"small".to_vec();
    assert_eq!(log.append(FIRST, vec![small.clone()]).await.unwrap(), [Offset(kept.len() as u64)]);
    kept.push(small);
    drop(log);
    let log = bounded(None);
    let read = read_all(&log, FIRST, Offset(kept.len() as u64));
    assert!(read.into_iter().map(|(_, body)| body).eq(kept));
    log.append(FIRST, vec![vec![1; 3_000_000]]).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_flushes_and_keeps_the_store_up() {
    let home = tempfile::tempdir().unwrap();
    let options = OpenOptions { file_bytes_max: Some(1 << 20) };
    let directory = DataDirectory::open(home.path(), options).unwrap();
    let store = EmbeddedStore::open(&directory, &StoreOptions::new(common::no_fatal())).unwrap();
    let usage = store.usage();
    usage.register(&generation(LOG), None).await.unwrap();
    let mine = segment(0, 0);
    let rows = |count| (0..count).map(|i| row(key(&format!("t{i}"), "s", at(0), mine), 1, 1));
    let refused = usage.flush(flush(mine, rows(20_000).collect(), 10).into()).await;
    assert!(
        matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("disk is full")),
        "{refused:?}"
    );
    let everything = domain::store::UsageFilter {
        tenant: None,
        product_sku: None,
        use_unity: None,
        from: domain::Timestamp::MIN,
        to: domain::Timestamp::MAX,
    };
    assert_eq!(usage.scan(&everything, None, 10).await.unwrap(), [], "all or nothing");
    usage.flush(flush(mine, rows(5).collect(), 10).into()).await.unwrap();
    assert_eq!(usage.scan(&everything, None, 10).await.unwrap().len(), 5);
}

/// With a disk that is really full, where the system lets the test have one (as the superuser).
#[tokio::test]
async fn a_log_on_a_full_disk_works_again_once_there_is_room() {
    let home = tempfile::tempdir().unwrap();
    let Some(_mounted) = SmallDisk::mount(home.path()) else {
        eprintln!("not the superuser: only the bounded file is tested");
        return;
    };
    let ballast = home.path().join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let log = open_log(&home.path().join("data")).unwrap();
    let mut kept = fill_up(&log).await;
    fs::remove_file(&ballast).unwrap();
    let body = vec![2; 300_000];
    log.append(FIRST, vec![body.clone()]).await.unwrap();
    kept.push(body);
    let read = read_all(&log, FIRST, Offset(kept.len() as u64));
    assert!(read.into_iter().map(|(_, body)| body).eq(kept));
    log.close();
}

/// A file system of 8 MiB in memory, unmounted when dropped.
struct SmallDisk(std::ffi::CString);

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        let target = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: all pointers are to strings that end in NUL and live through the call.
        let answer = unsafe {
            libc::mount(
                c"tmpfs".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=8m".as_ptr().cast(),
            )
        };
        (answer == 0).then_some(Self(target))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}
