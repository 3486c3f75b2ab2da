//! A server to which nothing comes does next to nothing, and what it keeps is its owner's alone.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use crate::harness::{Home, Server, Settings, now, until};
use crate::pipeline::{numbered, pulse, take};

/// The value of a metric, added up over its labels.
fn sum(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.map(|value| value as u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_ticks_and_writes_nothing() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    take(&server, numbered(1, 0, vec![pulse("a", "s", 1, now())])).await;
    server.drained().await;
    let ticks = async |server: &Server, more: u64| {
        let wanted = sum(&server.get("/metrics").await, "pulso_schedule_ticks_total") + more;
        loop {
            let metrics = server.get("/metrics").await;
            if sum(&metrics, "pulso_schedule_ticks_total") >= wanted {
                return metrics;
            }
        }
    };
    // Those under way have ended, and every partition was noted as caught up.
    let before = ticks(&server, 2).await;
    let after = ticks(&server, 20).await;
    for name in ["pulso_flushes_total", "pulso_store_write_seconds_count", "pulso_wal_bytes"] {
        assert!(sum(&before, name) > 0, "{name}: {before}");
        assert_eq!(sum(&before, name), sum(&after, name), "{name}");
    }
    // Nobody had to write that the answer is fresh.
    let asked_at = jiff::Timestamp::now();
    let usage = ["query", "usage", "--from", "2024-09", "--to", "2024-10", "--window", "total"];
    let answer = server.json(&usage).await;
    let as_of: jiff::Timestamp = answer["freshness"]["as_of"].as_str().unwrap().parse().unwrap();
    assert!(asked_at.duration_since(as_of).as_secs() < 2, "{as_of} {asked_at}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_its_owners_alone_whatever_the_umask() {
    let home = Home::new();
    let consume = home.command(&["consume", "--once"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 0; exec \"$@\"", "sh"]);
    shell.arg(consume.get_program()).args(consume.get_args()).current_dir(home.path("."));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(mode(&home.data()), 0o700);
    // What a server adds, and what others could read before.
    fs::set_permissions(home.data().join("store.db"), fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::start(&home, &Settings::default()).await;
    take(&server, numbered(1, 0, vec![pulse("a", "s", 1, now())])).await;
    server.drained().await;
    let names = ["pulso.lock", "log.db", "log.db-wal", "log.db-shm", "store.db", "store.db-wal"];
    until("both files have their write-ahead logs", || {
        names.iter().all(|name| home.data().join(name).exists())
    })
    .await;
    for found in fs::read_dir(home.data()).unwrap() {
        let path = found.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert!(server.log().contains("it is private now"), "{}", server.log());
    server.terminate().await;
}
