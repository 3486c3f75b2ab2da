//! The corpus: committed inputs of each target, in `corpus/TARGET/`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the inputs of a target stand.
#[must_use]
pub fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The inputs of a target by file name, sorted.
///
/// # Errors
/// When the directory or a file in it cannot be read.
pub fn inputs(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(directory(target))? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        inputs.push((name.unwrap_or_default(), fs::read(&path)?));
    }
    inputs.sort();
    Ok(inputs)
}
