//! The planted bugs still fit the sources, so that the simulation can be tested at any time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// How many the simulation has to find at the least.
const BUGS_MIN: usize = 20;

#[test]
fn every_planted_bug_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let planted = root.join("simulation/planted");
    let mut patches: Vec<PathBuf> =
        fs::read_dir(planted).unwrap().map(|entry| entry.unwrap().path()).collect();
    patches.sort();
    assert!(patches.len() >= BUGS_MIN, "{patches:?}");
    let mut wrong = Vec::new();
    for patch in patches {
        let mut git = Command::new("git");
        git.current_dir(root).args(["apply", "--check"]).arg(&patch);
        let checked = git.output().expect("git is there, as in any checkout");
        if !checked.status.success() {
            wrong.push(format!(
                "{}: {}",
                patch.display(),
                String::from_utf8_lossy(&checked.stderr)
            ));
        }
    }
    assert!(wrong.is_empty(), "mend these patches: {wrong:#?}");
}
