//! Small files that a command reads whole: catalogues and contracts.

use std::{fs, path::Path};

use crate::exit::Failure;

/// Reads a file.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::file("read", path, &error))
}

/// Reads a file's text, to be checked by a server.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let text = String::from_utf8(read_bytes(path)?);
    text.map_err(|_| Failure::data(format_args!("{}: not UTF-8 text", path.display())))
}
