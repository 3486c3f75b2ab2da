//! The built program and the sender against a server that refuses, overloads and hangs up.

use std::{num::NonZeroUsize, path::Path, process::Output, time::Duration};

use crate::support::{FakeServer, Fault};
use proto::v1::Pulse;
use pulso::client::{self, Identity, Pulses, SendError, Sender, SenderOptions};
use serde_json::Value;

const ROWS: usize = 1_000;

async fn ingest(server: &FakeServer, file: &Path, arguments: &[&str]) -> (Output, Value) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pulso"));
    command.args(["ingest", file.to_str().unwrap(), "-o", "json", "--server", &server.url]);
    command.args(arguments).env_remove("PULSO_OUTPUT");
    let output = crate::harness::output(command).await;
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, report)
}

fn jsonl(rows: usize, id: impl Fn(usize) -> String) -> tempfile::NamedTempFile {
    let line = |row| {
        format!(
            r#"{{"tenant":"a","product_sku":"s","use_unity":"h","used_amount":"{row}","time":"2024-09-18T22:00:00Z"{}}}"#,
            id(row)
        )
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let text: Vec<String> = (0..rows).map(line).collect();
    std::fs::write(file.path(), text.join("\n")).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gets_through_overload_and_broken_streams_unchanged() {
    let faults = [
        (3, Fault::Overload),
        (6, Fault::HangUp),
        (9, Fault::OutcomeUnknown),
        (12, Fault::HangUpAfterTaking),
    ];
    let server = FakeServer::start(faults).await;
    let file = jsonl(ROWS, |_| String::new());
    let arguments = ["--format", "jsonl", "--batch-size", "50", "--in-flight", "4"];
    let (output, report) = ingest(&server, file.path(), &arguments).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["accepted"], ROWS.to_string());
    assert_eq!(report["rejected"], "0");
    let seen = server.seen();
    assert_eq!(seen.faults_met, 4);
    // Two of the faults took the batch, so that the server sees those two again.
    assert!(seen.resent_batches >= 2, "{}", seen.resent_batches);
    assert_eq!(seen.changed_batches, 0, "a batch was not resent as it was");
    assert_eq!(seen.numbered_pulses, (0..ROWS as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_rows_are_named_and_the_others_are_in() {
    let server = FakeServer::start([]).await;
    let file = jsonl(ROWS, |row| match row {
        10 => r#","tenat":"b""#.to_owned(),
        700 => r#","source":"refuse""#.to_owned(),
        _ => format!(r#","id":"{row}""#),
    });
    let (output, report) = ingest(&server, file.path(), &["--format", "jsonl"]).await;
    assert_eq!(output.status.code(), Some(65), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&report["sent"], &report["accepted"]), (&"999".into(), &"998".into()));
    assert_eq!(report["rejected"], "2");
    let rejections = report["rejections"].as_array().unwrap();
    let of = |place: usize| {
        let Value::Object(fields) = &rejections[place] else { panic!("{report}") };
        ["row", "code", "reason", "field"].map(|key| fields[key].as_str().unwrap().to_owned())
    };
    assert_eq!(of(0), ["11", "INVALID_ARGUMENT", "FIELD_UNKNOWN", "tenat"]);
    assert_eq!(of(1), ["701", "INVALID_ARGUMENT", "ID_TOO_LONG", "source"]);
    assert_eq!(server.seen().pulses_by_id, 998);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_keeps_its_digest_and_numbers_its_rows_by_the_file() {
    let server = FakeServer::start([(1, Fault::HangUpAfterTaking)]).await;
    let file = jsonl(100, |row| if row == 40 { ",".to_owned() } else { String::new() });
    for batch_size in ["7", "100"] {
        let arguments = ["--format", "jsonl", "--backfill", "old", "--batch-size", batch_size];
        let (output, report) = ingest(&server, file.path(), &arguments).await;
        assert_eq!(output.status.code(), Some(65), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(report["accepted"], "99");
    }
    let seen = server.seen();
    assert_eq!(seen.backfill_digests.len(), 1, "one content has one digest: {seen:?}");
    let rows: Vec<u64> = (1..=100).filter(|row| *row != 41).collect();
    assert_eq!(seen.backfill_rows, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_the_stream_ends_the_transfer_with_its_reason() {
    let server = FakeServer::start([(0, Fault::RefuseStream)]).await;
    let file = jsonl(10, |_| String::new());
    let (output, report) = ingest(&server, file.path(), &["--format", "jsonl"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(77), "{stderr}");
    assert!(stderr.contains("no entry"), "{stderr}");
    assert_eq!((&report["accepted"], &report["outcome_unknown"]), (&"0".into(), &"10".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_not_understood_sends_nothing() {
    let server = FakeServer::start([]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "tenant,product_sku,used_amount,time\n").unwrap();
    let (output, _) = ingest(&server, file.path(), &["--format", "csv"]).await;
    assert_eq!(output.status.code(), Some(65));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("column `use_unity` or `unit` is missing"), "{stderr}");
}

fn batch(identity: Identity) -> client::Batch {
    let mut pulses = Pulses::default();
    pulses.push(&Pulse { tenant: "a".to_owned(), ..Pulse::default() });
    pulses.into_batch(identity)
}

fn numbered(first_sequence: u64) -> Identity {
    Identity::Numbered { producer_id: [1; 16], first_sequence }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_identity_is_never_sent_twice() {
    let server =
        FakeServer::start([(0, Fault::HangUpAfterTaking), (1, Fault::OutcomeUnknown)]).await;
    let channel = client::connect(&server.url).await.unwrap();
    let sender = Sender::start(channel, SenderOptions::default());
    for _ in 0..2 {
        let answer = sender.send(batch(Identity::None)).await.unwrap().await;
        assert!(matches!(answer, Err(SendError::OutcomeUnknown(_))), "{answer:?}");
    }
    let answer = sender.send(batch(Identity::None)).await.unwrap().await.unwrap();
    assert_eq!((answer.ack.accepted, answer.resends), (1, 0));
    sender.finish().await;
    assert_eq!(server.seen().resent_batches, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_gives_up_when_nothing_is_acknowledged_for_too_long() {
    let server = FakeServer::start([(0, Fault::Silence)]).await;
    let channel = client::connect(&server.url).await.unwrap();
    let patience = Duration::from_millis(300);
    let sender = Sender::start(channel, SenderOptions { patience, ..SenderOptions::default() });
    let answer = sender.send(batch(numbered(0))).await.unwrap().await;
    assert!(matches!(answer, Err(SendError::GaveUp { .. })), "{answer:?}");
    assert!(matches!(sender.send(batch(numbered(1))).await.map(drop), Err(SendError::Ended)));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_allowed_batches_are_in_flight() {
    let server = FakeServer::start([(0, Fault::Silence)]).await;
    let channel = client::connect(&server.url).await.unwrap();
    let in_flight = NonZeroUsize::new(300).unwrap();
    let patience = Duration::from_secs(2);
    let sender = Sender::start(channel, SenderOptions { in_flight, patience, request_id: None });
    let mut receipts = Vec::new();
    // The first is never acknowledged, so the server's memory of 256 places is the bound: 256
    // admitted, one waiting to be handed over.
    for sequence in 0..400 {
        let sent = tokio::time::timeout(
            Duration::from_millis(500),
            sender.send(batch(numbered(sequence))),
        );
        match sent.await {
            Ok(receipt) => receipts.push(receipt.unwrap()),
            Err(_) => break,
        }
    }
    assert_eq!(receipts.len(), 257);
    assert_eq!(server.seen().numbered_pulses, (0..256).collect::<Vec<_>>());
}
