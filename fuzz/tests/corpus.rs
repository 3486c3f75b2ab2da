//! Writes the samples of the corpus. Not a test: it is run by hand after a format has changed.

#![allow(clippy::unwrap_used)]

use std::fs;

use fuzz::{TARGETS, corpus, samples};

#[test]
#[ignore = "writes to the repository"]
fn write_the_samples() {
    for target in TARGETS {
        let directory = corpus::directory(target.name);
        fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in samples::of(target.name) {
            fs::write(directory.join(name), bytes).unwrap();
        }
    }
}
