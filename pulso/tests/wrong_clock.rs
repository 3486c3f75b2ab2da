//! A server that ran for a while with a clock two days ahead: what it says, and that its advice works.
//!
//! The machine's clock cannot be set, so the test writes what such a server would have written into
//! the log that it left.

use proto::v1::ingest_service_client::IngestServiceClient;
use serde_json::Value;

use crate::harness::{Home, Server, Settings, now};
use crate::pipeline::{numbered, pulse, take};

const TWO_DAYS: i64 = 172_800_000_000;

/// Puts the append times of every record but each partition's first two days ahead; gives how many.
fn put_ahead(home: &Home) -> usize {
    let log = rusqlite::Connection::open(home.data().join("log.db")).unwrap();
    let later = "UPDATE record SET appended_at = appended_at + ?1
                 WHERE place > (SELECT min(first.place) FROM record AS first
                                WHERE first.place >> 48 = record.place >> 48)";
    log.execute(later, [TWO_DAYS]).unwrap()
}

/// What a command that works on the files answers, and what it notes.
fn rebase(home: &Home, arguments: &[&str]) -> (Value, String) {
    let command = [&["log", "rebase", "-o", "json"], arguments].concat();
    let output = home.command(&command).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    (serde_json::from_slice(&output.stdout).unwrap(), stderr)
}

/// A server that does not fold, killed as it is.
async fn unfolded(home: &Home, batches: std::ops::Range<u64>) {
    let never = Settings::default().with("PULSO_CONSUMER__SCHEDULE", "0 0 0 1 1 *");
    let mut server = Server::start(home, &never).await;
    for batch in batches {
        take(&server, numbered(1, batch, vec![pulse("a", "s", 1, now())])).await;
    }
    server.signal(libc::SIGKILL);
    server.end_status().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_wrong_clock_wrote_is_taken_back_and_everything_counts() {
    let home = Home::new();
    unfolded(&home, 0..3).await;
    assert_eq!(put_ahead(&home), 2);

    let mut server = Server::start(&home, &Settings::default()).await;
    let status = server.pulso(&["status", "--wait-drained", "1s"]).await;
    assert!(!status.status.success());
    let mut client = IngestServiceClient::new(server.channel().await);
    let refused = client.ingest(numbered(1, 3, vec![pulse("a", "s", 1, now())])).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unavailable);
    let log = server.log();
    assert!(log.contains("run `pulso log rebase --reason TEXT`"), "{log}");
    assert!(log.contains("run `pulso log rebase --partition"), "{log}");
    server.signal(libc::SIGKILL);
    server.end_status().await;

    let reason = ["--reason", "NTP was off"];
    let (dry, _) = rebase(&home, &[&reason[..], &["--validate-only"]].concat());
    let (done, notes) = rebase(&home, &reason);
    assert_eq!(dry["rebases"][0]["to"], done["rebases"][0]["to"]);
    let [one] = &done["rebases"].as_array().unwrap()[..] else { panic!("{done}") };
    assert_eq!((&one["from"], &one["to"], &one["epoch"]), (&"1".into(), &"3".into(), &0.into()));
    let ahead: i64 = one["ahead_seconds"].as_str().unwrap().parse().unwrap();
    assert!((172_000..=172_800).contains(&ahead), "{ahead}");
    assert!(!notes.contains("replay"), "{notes}");
    assert_eq!(rebase(&home, &["--list"]).0["rebases"][0]["reason"], "NTP was off");
    assert_eq!(rebase(&home, &reason).0["rebases"], Value::Array(Vec::new()), "it is known");

    let server = Server::start(&home, &Settings::default()).await;
    take(&server, numbered(1, 3, vec![pulse("a", "s", 1, now())])).await;
    server.drained().await;
    let counts = server.status().await.pulses.unwrap();
    assert_eq!((counts.accepted, counts.late, counts.dead_lettered), (4, 0, 0), "{counts:?}");
    server.audit_is_clean().await;
    server.terminate().await;
}
