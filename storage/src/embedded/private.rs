//! Files and directories that are their owner's alone.
//!
//! A mode given at creation is narrowed by the umask and never widened, so it is right from the first
//! moment; it is set once more, because an odd umask may also have taken from the owner.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use tracing::{info, warn};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const OF_OTHERS: u32 = 0o077;

/// Makes a directory and those above it, where there are none. One that is there keeps its mode.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return note_wide(path);
    }
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
}

/// Whoever made it may have meant it so; what is in it is private all the same.
fn note_wide(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & OF_OTHERS != 0 {
        info!(path = %path.display(), mode = format_args!("{mode:o}"), "others may list the data directory; its files are private");
    }
    Ok(())
}

/// Opens a file for reading and writing; a new one is private.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(FILE_MODE);
    match options.clone().create_new(true).open(path) {
        Ok(file) => file.set_permissions(Permissions::from_mode(FILE_MODE)).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// Takes the rights of others to these files, and to SQLite's files beside them. What cannot be
/// changed, because it belongs to another user, is said and left.
pub(super) fn tighten(directory: &Path, names: [&str; 3]) {
    for name in names {
        for suffix in ["", "-wal", "-shm"] {
            let path = directory.join(format!("{name}{suffix}"));
            let Ok(found) = fs::metadata(&path) else { continue };
            let mode = found.permissions().mode() & 0o777;
            if mode & OF_OTHERS == 0 {
                continue;
            }
            let (path, mode) = (path.display(), format_args!("{mode:o}"));
            match fs::set_permissions(
                directory.join(format!("{name}{suffix}")),
                Permissions::from_mode(FILE_MODE),
            ) {
                Ok(()) => {
                    info!(%path, mode, "others could read or write this file; it is private now")
                }
                Err(error) => warn!(%path, mode, %error, "others may read or write this file"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private_and_what_is_there_becomes_so() {
        let home = TempDir::new().unwrap();
        let made = home.path().join("a/b");
        make_directory(&made).unwrap();
        assert_eq!([mode(&home.path().join("a")), mode(&made)], [0o700, 0o700]);
        let file = made.join("log.db");
        open_or_create(&file).unwrap();
        assert_eq!(mode(&file), 0o600);

        let wide = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        let wal = made.join("log.db-wal");
        open_or_create(&wal).unwrap();
        let other = made.join("notes.txt");
        open_or_create(&other).unwrap();
        [&made, &file, &wal, &other].into_iter().for_each(|path| wide(path));
        make_directory(&made).unwrap();
        tighten(&made, ["log.db", "store.db", "lock"]);
        assert_eq!([mode(&file), mode(&wal)], [0o600, 0o600]);
        assert_eq!([mode(&made), mode(&other)], [0o755, 0o755], "not ours");
    }
}
