//! `pulso demo`: the first thing that a new user runs tells the truth and ends by itself.

use std::process::Output;

use crate::harness::{Home, root};
use serde_json::Value;

/// On a directory that the test owns: without `--data-dir` the demo keeps one for the user.
fn demo(home: &Home, arguments: &[&str]) -> Output {
    let sample = root().join("samples/focus-1.0-sample-1000.csv");
    let mut command = home.command(&["demo", "--sample", sample.to_str().unwrap()]);
    let output = command.args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains('\r'), "a progress bar outside a terminal: {stderr}");
    output
}

#[test]
fn it_rates_every_checkable_row_as_the_provider_does() {
    let output = demo(&Home::new(), &["-o", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["rows_compared"], 968);
    assert_eq!(found["lines_compared"], 943);
    assert_eq!(found["differences"], 0);
    assert_eq!(found["accepted"], "1000");
    assert_eq!(found["bills"].as_array().unwrap().len(), 3);
}

#[test]
fn it_tells_totals_bills_the_reason_of_a_line_and_what_to_do_next() {
    let home = Home::new();
    let output = demo(&home, &[]);
    let story = String::from_utf8(output.stdout).unwrap();
    for needed in [
        "968 rows in 943 hour lines compared, 0 differ",
        "Why: the dearest line",
        "partition",
        "pulso dev --data-dir",
        "pulso bill preview --tenant",
    ] {
        assert!(story.contains(needed), "`{needed}` is missing:\n{story}");
    }
    // What it says is kept is there.
    assert!(story.contains(home.data().to_str().unwrap()), "{story}");
    assert!(home.data().join("log.db").is_file() && home.data().join("store.db").is_file());
}

#[test]
fn a_second_demo_on_the_same_directory_counts_nothing_twice() {
    let home = Home::new();
    demo(&home, &["-o", "json"]);
    let again: Value = serde_json::from_slice(&demo(&home, &["-o", "json"]).stdout).unwrap();
    assert_eq!((&again["differences"], &again["rows_compared"]), (&0.into(), &968.into()));
}
