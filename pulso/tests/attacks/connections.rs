//! Attacks by connections alone: many, silent, or more than there are descriptors for.

use std::{net::Ipv4Addr, time::Duration};

use futures_util::FutureExt;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{Attack, Scale, Target, wire::connect};
use crate::harness::http_get;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "1,000 silent connections, from one address, to each door",
        bound: "`edge.connections_per_peer_max`, then `edge.first_byte_timeout`",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| silent_from_one(target, scale).boxed(),
    },
    Attack {
        name: "1,000 silent connections, from eight addresses",
        bound: "`edge.connections_max`, then `edge.first_byte_timeout`",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| silent_from_many(target, scale).boxed(),
    },
    Attack {
        name: "1,000 silent connections, with 256 file descriptors",
        bound: "`edge.descriptors_reserved`",
        growth_mib_max: 64,
        settings: |settings| settings.open_files_max(256),
        run: |target, scale| silent_from_many(target, scale).boxed(),
    },
];

/// Opens connections that send nothing, and waits until the server has closed them all.
async fn silent(
    target: &Target,
    addresses: &[Ipv4Addr],
    count: usize,
    patience: Duration,
) -> String {
    let mut open = Vec::new();
    for number in 0..count {
        let door = [target.grpc, target.http][number % 2];
        // A full backlog makes the client wait, which is no refusal and no harm to anyone.
        let from = addresses[number / 2 % addresses.len()];
        if let Ok(Ok(stream)) = timeout(Duration::from_millis(200), connect(from, door)).await {
            open.push(stream);
        }
    }
    let connected = open.len();
    let start = Instant::now();
    sleep(Duration::from_millis(50)).await;
    let at_once = closed(&mut open);
    let patient = start + patience;
    while !open.is_empty() {
        assert!(Instant::now() < patient, "{} of {connected} stay open", open.len());
        sleep(Duration::from_millis(20)).await;
        closed(&mut open);
    }
    format!("{at_once} of {connected} closed at once, the others after {:.1?}", start.elapsed())
}

/// Removes those that the server has closed and says how many that were.
fn closed(open: &mut Vec<TcpStream>) -> usize {
    let before = open.len();
    open.retain(|stream| {
        // HTTP/2 servers speak first, so an open connection may have something to say.
        let mut said = [0; 1_024];
        loop {
            match stream.try_read(&mut said) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    });
    before - open.len()
}

async fn silent_from_one(target: &Target, scale: Scale) -> String {
    let count = scale.pick(60, 1_000);
    let seen = silent(target, &[Ipv4Addr::new(127, 0, 0, 2)], count, patience(scale)).await;
    healthy(target).await;
    seen
}

async fn silent_from_many(target: &Target, scale: Scale) -> String {
    let addresses: Vec<_> = (2..10).map(|last| Ipv4Addr::new(127, 0, 0, last)).collect();
    let seen = silent(target, &addresses, scale.pick(60, 1_000), patience(scale)).await;
    healthy(target).await;
    seen
}

fn patience(scale: Scale) -> Duration {
    scale.pick(Duration::from_secs(20), Duration::from_secs(60))
}

/// Whoever asks afterwards is answered.
async fn healthy(target: &Target) {
    let (status, body) = http_get(&target.http.to_string(), "/readyz?verbose").await;
    assert_eq!(status, 200, "{body}");
}
