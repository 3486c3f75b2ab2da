//! A data directory of 20 MiB that a client fills. No honest client gets anything acknowledged then;
//! what counts is that the process stays up, says why, answers questions, and does not grow. Once there
//! is room, what was refused is sent again, and the totals have to be exact, after a kill too.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use edge::problem::{reason_of, reasons};
use proto::v1::{Decimal, Pulse, PulseBatch, ingest_service_client::IngestServiceClient};
use pulso::client::Channel;

use super::{Attack, Measured, Watch, mib};
use crate::harness::{Home, PATIENCE, Server, Settings, http_get, load::stored_totals, now};

/// For the report; it runs by [`fill`] and not beside an honest client.
pub(crate) const ATTACK: Attack = Attack {
    name: "a data directory of 20 MiB, filled",
    bound: "`LOG_UNAVAILABLE`; `/readyz` says why",
    growth_mib_max: 120,
    settings: |settings| settings,
    run: |_, _| unreachable!("it is run by `fill`"),
};

/// Pulses of a batch.
const PULSES: u64 = 3_000;

/// Batches that must be refused one after the other before the disk counts as full.
const REFUSED: u32 = 20;

/// Fills such a directory. `None` where the system lets the test mount nothing.
pub(crate) async fn fill() -> Option<Measured> {
    let home = Home::new();
    std::fs::create_dir(home.data()).unwrap();
    let Some(disk) = SmallDisk::mount(&home.data()) else {
        eprintln!("{}: skipped, because mounting a file system needs root", ATTACK.name);
        return None;
    };
    let server = Server::start(&home, &Settings::default().without_access()).await;
    let mib_before = mib(server.pid());
    let watch = Watch::start(server.pid());
    let mut client = IngestServiceClient::new(server.channel().await);
    let (mut accepted, mut in_turn, mut last, mut refused) = (0_u64, 0, None, Vec::new());
    for number in 0.. {
        match client.ingest(batch(number)).await {
            Ok(_) => (accepted, in_turn) = (accepted + 1, 0),
            Err(status) => {
                in_turn += 1;
                refused.push(number);
                last = reason_of(&status);
            }
        }
        assert!(number < 1_000, "20 MiB are never full");
        if in_turn == REFUSED {
            break;
        }
    }
    let reason = last.unwrap_or_default();
    assert!([reasons::LOG_UNAVAILABLE, reasons::LOG_OVERLOADED].contains(&&*reason), "{reason}");
    let (ready, why) = http_get(&server.http, "/readyz?verbose").await;
    assert!(ready == 503 && why.contains("full"), "{ready} {why}");
    assert_eq!(http_get(&server.http, "/livez").await.0, 200);
    assert_eq!(http_get(&server.http, "/v1/status").await.0, 200);
    let mib_most = watch.most();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mib_after = mib(server.pid());
    disk.grow();
    for number in &refused {
        send_until_taken(&mut client, *number).await;
    }
    let pulses = (accepted + refused.len() as u64) * PULSES;
    server.drained().await;
    are_counted(pulses, &server).await;
    server.audit_is_clean().await;
    drop(server);
    let server = Server::start(&home, &Settings::default().without_access()).await;
    server.drained().await;
    are_counted(pulses, &server).await;
    server.terminate().await;
    let seen = format!(
        "{accepted} batches of 500 kB acknowledged, then {reason}; with room again all {pulses} pulses counted once"
    );
    let (p99_alone, p99_beside) = (Duration::ZERO, Duration::ZERO);
    Some(Measured { mib_before, mib_most, mib_after, p99_alone, p99_beside, seen })
}

/// Sends a batch again, unchanged, until it is acknowledged.
async fn send_until_taken(client: &mut IngestServiceClient<Channel>, number: u64) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = client.ingest(batch(number)).await {
        assert!(Instant::now() < deadline, "there is room: {status:?}");
    }
}

/// Checks that so many pulses are in the totals.
async fn are_counted(pulses: u64, server: &Server) {
    let totals = stored_totals(server).await;
    let counted: Vec<u64> = totals.values().map(|(count, _)| *count).collect();
    assert_eq!(counted, [pulses]);
}

fn batch(number: u64) -> PulseBatch {
    let pulse = Pulse {
        tenant: "full".to_owned(),
        product_sku: "x".repeat(120),
        use_unity: "hour".to_owned(),
        used_amount: Some(Decimal { unscaled: 1, scale: 0 }),
        time: Some(prost_types::Timestamp { seconds: now(), nanos: 0 }),
        ..Pulse::default()
    };
    PulseBatch {
        batch: number,
        producer_id: vec![8; 16],
        first_sequence: number * PULSES,
        pulses: vec![pulse; usize::try_from(PULSES).unwrap()],
        ..PulseBatch::default()
    }
}

/// A file system of 20 MiB in memory, unmounted when dropped.
struct SmallDisk(std::ffi::CString);

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        let target = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        let (kind, options) = (c"tmpfs".as_ptr(), c"size=20m".as_ptr());
        // SAFETY: all pointers are to strings that end in NUL and live through the call.
        let answer = unsafe { libc::mount(kind, target.as_ptr(), kind, 0, options.cast()) };
        (answer == 0).then_some(Self(target))
    }

    /// Makes it ten times as large.
    fn grow(&self) {
        let (none, options) = (std::ptr::null(), c"size=200m".as_ptr());
        // SAFETY: as above; source and kind are not read when options change.
        let answer =
            unsafe { libc::mount(none, self.0.as_ptr(), none, libc::MS_REMOUNT, options.cast()) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}
