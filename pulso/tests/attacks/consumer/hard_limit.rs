//! Floods under a hard limit, below what `docs/operations.md` adds up for the settings: a process that
//! takes more gets no memory and dies, instead of the machine.
//!
//! All floods reach one server at the same time. `PULSO_TEST_HARD_LIMIT=1` (`make test-faults`) runs
//! them; part of a name instead of `1` runs those of that name. What they would take without bounds is
//! several times the limit.

use futures_util::future::join_all;

use super::{Answered, Counted, Flood, drained, floods, start_again};
use crate::{
    attacks::{Scale, honest, honest::Honest, mib_peak},
    harness::{Home, Server, Settings},
};

/// More than the process takes with the settings of [`small_machine`]. Their sum in
/// `docs/operations.md` is 474 MiB, because it reckons with a store that answers nothing and with a
/// refold.
const MIB_MAX: u64 = 280;

fn small_machine() -> Settings {
    Settings::default()
        .without_access()
        .with("PULSO_LIMITS__SEGMENT_BYTES", "16 MiB")
        .with("PULSO_LIMITS__STATE_BYTES", "4 MiB")
        .with("PULSO_CONSUMER__LANES", "2")
        .with("PULSO_CONSUMER__MEMORY", "32 MiB")
        .with("PULSO_CONSUMER__IDS_MEMORY", "8 MiB")
        .with("PULSO_CONSUMER__CHUNKS_IN_FLIGHT", "4")
        .with("PULSO_CONSUMER__FLUSHES_IN_FLIGHT", "2")
        .with("PULSO_LOG__QUEUE_BYTES_MAX", "16 MiB")
        .with("PULSO_INGEST__BYTES_IN_FLIGHT_MAX", "32 MiB")
        .with("PULSO_INGEST__BYTES_IN_FLIGHT_PER_PEER_MAX", "16 MiB")
        .with("PULSO_INGEST__PARTITION_QUEUE_BYTES_MAX", "8 MiB")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_floods_together_stay_under_a_hard_limit_of_memory() {
    let Ok(wanted) = std::env::var("PULSO_TEST_HARD_LIMIT") else { return };
    let is_wanted = |flood: &&Flood| wanted == "1" || flood.name.contains(&wanted);
    let unlimited = small_machine();
    let settings = unlimited.clone().memory_mib_max(Some(MIB_MAX));
    let home = Home::new();
    let server = Server::start(&home, &settings).await;
    let client = Honest::start(&server).await;
    let sending = floods().filter(is_wanted).map(|flood| (flood.send)(&server, Scale::Full));
    let mut flooded = Answered::default();
    join_all(sending).await.into_iter().for_each(|answered| flooded.add(answered));
    let p99_beside = client.p99();
    let honest = client.end().await;
    drained(&server).await;
    Counted::of(&server, flooded).await.is_whole(honest);
    honest::are_counted(honest, &server).await;
    let most = mib_peak(server.pid());
    eprintln!("{flooded:?}: at most {most} of {MIB_MAX} MiB, p99 beside {p99_beside:?}");
    drop(server);
    let (server, _) = start_again(&home, &settings, honest).await;
    server.terminate().await;
    let (server, _) = start_again(&home, &settings, honest).await;
    server.terminate().await;
    // An audit holds what it compares, beside what the server holds.
    let (server, _) = start_again(&home, &unlimited, honest).await;
    server.audit_is_clean().await;
    server.terminate().await;
}
