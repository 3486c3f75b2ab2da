//! Attacks with HTTP/2 frames: resets, pings, settings, headers, and windows that never open.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::{
    Attack, Scale, Target,
    wire::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING,
        RST_STREAM, Wire, call, frame, grpc_headers, header, settings, streams,
    },
};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "rapid reset",
        bound: "`edge.resets_pending_max`",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| rapid_reset(target, scale).boxed(),
    },
    Attack {
        name: "ping flood, answers read",
        bound: "one answer at a time",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| flood(target, scale, ping(), Answers::Read).boxed(),
    },
    Attack {
        name: "ping flood, answers unread",
        bound: "one answer at a time, then `edge.write_timeout`",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| flood(target, scale, ping(), Answers::Unread).boxed(),
    },
    Attack {
        name: "settings flood",
        bound: "one answer at a time",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| flood(target, scale, settings(&[]), Answers::Read).boxed(),
    },
    Attack {
        name: "header bombs: 1 MiB of headers in continuations, and one header named 4,000 times",
        bound: "`edge.header_bytes_max`",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| header_bombs(target, scale).boxed(),
    },
    Attack {
        name: "stalled windows: 4,096 calls whose answers are never taken",
        bound: "`edge.calls_per_peer_max`",
        growth_mib_max: 400,
        settings: |settings| settings,
        run: |target, scale| stalled_windows(target, scale).boxed(),
    },
];

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8])
}

async fn rapid_reset(target: &Target, scale: Scale) -> String {
    let rounds = scale.pick(5, 200);
    let mut sent = 0;
    for _ in 0..rounds {
        let mut wire = Wire::open(target.grpc, &[]).await.unwrap();
        let pair = |stream| [call(stream, HEALTH), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])];
        let burst: Vec<u8> = streams(2_000).flat_map(pair).flatten().collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        let _ = wire.send(&burst).await;
        while !wire.is_closed() {
            assert!(Instant::now() < deadline, "2,000 resets do not end a connection");
            sleep(Duration::from_millis(5)).await;
        }
        sent += 2_000;
    }
    format!("{sent} resets, {rounds} connections ended by the server")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Read,
    Unread,
}

/// Ten connections that send one frame over and over.
async fn flood(target: &Target, scale: Scale, one: Vec<u8>, answers: Answers) -> String {
    let lasting = scale.pick(Duration::from_millis(300), Duration::from_secs(5));
    let burst = one.repeat(1_000);
    let deadline = Instant::now() + lasting;
    let burst = &burst;
    let attackers = (0..10).map(|_| async move {
        let wire = match answers {
            Answers::Read => Wire::open(target.grpc, &[]).await,
            Answers::Unread => Wire::unread(target.grpc, &[]).await,
        };
        let (mut wire, mut sent) = (wire.unwrap(), 0_u64);
        while let Ok(Ok(())) = tokio::time::timeout_at(deadline, wire.send(burst)).await {
            sent += 1_000;
        }
        // Held to the end, so that what the server keeps for it counts.
        tokio::time::sleep_until(deadline).await;
        sent
    });
    let sent: u64 = futures_util::future::join_all(attackers).await.iter().sum();
    format!("{sent} frames taken")
}

async fn header_bombs(target: &Target, scale: Scale) -> String {
    let rounds = scale.pick(3, 300);
    let mut ended = 0;
    for _ in 0..rounds {
        let mut wire = Wire::open(target.grpc, &[]).await.unwrap();
        let mut bytes = frame(HEADERS, END_STREAM, 1, &grpc_headers(HEALTH, &[]));
        let piece = header("x-bomb", &"y".repeat(15_000));
        for _ in 0..70 {
            bytes.extend(frame(CONTINUATION, 0, 1, &piece));
        }
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
        let _ = wire.send(&bytes).await;
        // Put into the table of headers once, with an index from then on: one byte each.
        let mut block = grpc_headers(HEALTH, &[]);
        let mut named = header("x-bomb", &"y".repeat(3_500));
        named[0] = 0x40;
        block.extend(named);
        block.extend([0xbe; 4_000]);
        let _ = wire.send(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &block)).await;
        sleep(Duration::from_millis(10)).await;
        ended += u32::from(wire.is_closed());
    }
    format!("{rounds} of each, {ended} connections ended by the server")
}

async fn stalled_windows(target: &Target, scale: Scale) -> String {
    let (connections, calls) = scale.pick((2, 100), (32, 128));
    // Asks for a description of some ten thousand bytes.
    let symbol = b"pulso.v1.IngestService";
    let message = [&[0x22, u8::try_from(symbol.len()).unwrap()], &symbol[..]].concat();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0], &length[..], &message].concat();
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut wire = Wire::open(target.grpc, &[(INITIAL_WINDOW_SIZE, 0)]).await.unwrap();
        for stream in streams(calls) {
            let call = call(stream, REFLECTION);
            wire.send(&[call, frame(DATA, END_STREAM, stream, &message)].concat()).await.unwrap();
        }
        open.push(wire);
    }
    sleep(scale.pick(Duration::from_millis(300), Duration::from_secs(5))).await;
    format!("{} calls left unread", connections * calls)
}
