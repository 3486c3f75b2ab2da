//! Usage that is too late is never silent: `ingest` says it before it sends, `--wait` tells what became
//! of every row, and the remedy counts each row once.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::harness::{Home, Server, Settings};

const HOUR: i64 = 3_600;

/// A time so many seconds from now.
fn from_now(seconds: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string()
}

/// A row of the tenant `acme` with a count of one, at a time, perhaps with an id.
fn row(time: &str, id: &str) -> String {
    format!(
        r#"{{"tenant":"acme","product_sku":"vm","use_unity":"hour","used_amount":"1","time":"{time}","id":"{id}"}}"#
    )
}

fn file(home: &Home, rows: &[String]) -> PathBuf {
    let path = home.path("usage.jsonl");
    std::fs::write(&path, rows.join("\n")).unwrap();
    path
}

/// Runs `ingest` and gives its exit code, its report and what it said.
async fn ingest(server: &Server, file: &Path, more: &[&str]) -> (i32, Value, String) {
    let path = file.to_str().unwrap();
    let arguments = ["ingest", path, "--format", "jsonl", "-o", "json"];
    let Output { status, stdout, stderr } = server.pulso(&[&arguments, more].concat()).await;
    let said = String::from_utf8(stderr).unwrap();
    let report = serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{said}"));
    (status.code().unwrap(), report, said)
}

/// Rows in totals.
async fn counted(server: &Server) -> u64 {
    server.drained().await;
    server.status().await.pulses.unwrap().accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_will_not_count_are_told_before_and_after_they_are_sent() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let (now, old, ahead) = (from_now(0), from_now(-25 * HOUR), from_now(HOUR));
    let rows = [row(&now, ""), row(&old, ""), row(&now, ""), row(&old, ""), row(&ahead, "")];
    let file = file(&home, &rows);

    let (exit, report, said) = ingest(&server, &file, &[]).await;
    assert_eq!(exit, 65, "{said}");
    assert_eq!((&report["accepted"], &report["rejected"]), (&"5".into(), &"0".into()));
    assert_eq!((&report["too_late"], &report["in_the_future"]), (&"2".into(), &"1".into()));
    assert_eq!(report["outcomes"], Value::Null);
    let late = said.find("warning: row 2 has time ").unwrap_or_else(|| panic!("{said}"));
    assert!(late < said.find("warning: row 5 has time ").unwrap(), "{said}");
    let earliest = report["in_time_from"].as_str().unwrap();
    let remedy = format!("--backfill NAME --before {earliest}");
    assert!(said.contains(&remedy), "{said}");
    assert_eq!(counted(&server).await, 2);

    let (exit, report, said) = ingest(&server, &file, &["--wait=30s"]).await;
    assert_eq!(exit, 65, "{said}");
    let outcomes = &report["outcomes"];
    assert_eq!((&outcomes["counted"], &outcomes["duplicate"]), (&"2".into(), &"0".into()));
    let reasons: Vec<(&str, &str)> = outcomes["set_aside"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["reason"].as_str().unwrap(), entry["count"].as_str().unwrap()))
        .collect();
    assert_eq!(reasons, [("in_the_future", "1"), ("too_late", "2")]);

    // For a person, the same in words.
    let path = file.to_str().unwrap();
    let table = server.pulso(&["ingest", path, "--format", "jsonl", "--wait"]).await;
    let shown = String::from_utf8(table.stdout).unwrap();
    for words in [
        "5 sent, 5 accepted, 0 rejected",
        "2 counted, 0 duplicate, 3 set aside",
        "2 too_late of ",
        "--backfill NAME --before ",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_remedy_counts_the_late_rows_and_no_other_again() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let (now, old) = (from_now(0), from_now(-25 * HOUR));
    let rows = [row(&now, ""), row(&old, ""), row(&now, "by-id"), row(&old, "old-by-id")];
    let file = file(&home, &rows);
    let (_, report, _) = ingest(&server, &file, &[]).await;
    let before = report["in_time_from"].as_str().unwrap();
    let remedy = ["--backfill", "late", "--before", before, "--wait"];

    let (exit, report, said) = ingest(&server, &file, &remedy).await;
    assert_eq!(exit, 0, "{said}");
    assert_eq!((&report["sent"], &report["left_out"]), (&"2".into(), &"2".into()));
    assert_eq!(report["outcomes"]["counted"], "2");
    assert_eq!(counted(&server).await, 4);

    // The same again, and with a later end: the rows have their numbers in the file.
    let (exit, report, said) = ingest(&server, &file, &remedy).await;
    assert_eq!((exit, &report["outcomes"]["duplicate"]), (0, &"2".into()), "{said}");
    assert_eq!(counted(&server).await, 4);

    // Without --before the rows that counted would count again, and that is said.
    let (exit, _, said) = ingest(&server, &file, &["--backfill", "all"]).await;
    assert!(exit == 0 && said.contains("warning: row 1 has time "), "{said}");
    assert!(said.contains("Leave them out by --before TIME"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_all_count_say_nothing() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let rows: Vec<String> = (0..1_200).map(|at| row(&from_now(-at), &at.to_string())).collect();
    let file = file(&home, &rows);
    for (counted, duplicate) in [("1200", "0"), ("0", "1200")] {
        let (exit, report, said) = ingest(&server, &file, &["--wait", "--batch-size", "100"]).await;
        assert_eq!(exit, 0, "{said}");
        let outcomes = &report["outcomes"];
        assert_eq!(
            (&outcomes["counted"], &outcomes["duplicate"]),
            (&counted.into(), &duplicate.into())
        );
        assert!(!said.contains("warning"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_cannot_tell_ends_with_75_and_the_report_of_what_was_sent() {
    let home = Home::new();
    // The totals are drained once an hour.
    let settings = Settings::default().with("PULSO_CONSUMER__FOLLOW_INTERVAL", "1h");
    let server = Server::start(&home, &settings).await;
    let file = file(&home, &[row(&from_now(0), "")]);
    let (exit, report, said) = ingest(&server, &file, &["--wait=200ms"]).await;
    assert_eq!(exit, 75, "{said}");
    assert_eq!((&report["accepted"], &report["outcomes"]), (&"1".into(), &Value::Null));
}
