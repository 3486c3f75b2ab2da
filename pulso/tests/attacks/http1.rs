//! Attacks on the HTTP door: slow heads, slow bodies, large heads, packed bodies, unread answers.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{
    Attack, Scale, Target,
    messages::bomb,
    wire::{HOSTILE, connect},
};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "slow heads: 100 that drip a header a tenth of a second",
        bound: "`edge.header_timeout`",
        growth_mib_max: 64,
        settings: |settings| settings.with("PULSO_EDGE__HEADER_TIMEOUT", "5s"),
        run: |target, scale| slow_heads(target, scale).boxed(),
    },
    Attack {
        name: "slow bodies: 100 catalogues that drip",
        bound: "`edge.message_timeout`, `edge.request_bytes_in_flight_max`",
        growth_mib_max: 64,
        settings: |settings| settings.with("PULSO_EDGE__MESSAGE_TIMEOUT", "5s"),
        run: |target, scale| slow_bodies(target, scale).boxed(),
    },
    Attack {
        name: "heads of 1 MiB, and of 10,000 headers",
        bound: "`edge.header_bytes_max`",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| large_heads(target, scale).boxed(),
    },
    Attack {
        name: "gzip bombs over HTTP",
        bound: "nothing is unpacked: 415",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| packed_bodies(target, scale).boxed(),
    },
];

/// Sends the beginning, then pieces until the connection is closed, and gives what was answered.
async fn drip(target: &Target, beginning: &str, piece: &str, patience: Duration) -> String {
    let stream = connect(HOSTILE, target.http).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(beginning.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let dripping = async {
        while writer.write_all(piece.as_bytes()).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let reading = timeout(patience, reader.read_to_end(&mut answer));
    tokio::select! {
        // A reset is an end too.
        read = reading => drop(read.expect("it drips for ever")),
        () = dripping => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

async fn all_drip(target: &Target, scale: Scale, beginning: &str, piece: &str) -> Vec<String> {
    let patience = scale.pick(Duration::from_secs(10), Duration::from_secs(30));
    let attackers = (0..scale.pick(10, 100)).map(|_| drip(target, beginning, piece, patience));
    join_all(attackers).await
}

async fn slow_heads(target: &Target, scale: Scale) -> String {
    let beginning = "GET /v1/status HTTP/1.1\r\nhost: localhost\r\n";
    let answers = all_drip(target, scale, beginning, "x: y\r\n").await;
    let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 4")).count();
    format!("{} closed, {refused} of them with an error", answers.len())
}

async fn slow_bodies(target: &Target, scale: Scale) -> String {
    let beginning =
        "POST /v1/catalog HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4000000\r\n\r\n";
    let answers = all_drip(target, scale, beginning, "x").await;
    let with = |status: &str| {
        answers.iter().filter(|answer| answer.starts_with(&format!("HTTP/1.1 {status}"))).count()
    };
    let (slow, busy) = (with("408"), with("429"));
    assert!(slow > 0 && slow + busy == answers.len(), "{:?}", answers.first());
    format!("{slow} answered with 408, {busy} refused with 429")
}

/// Sends a request as a whole and gives the first line of the answer.
async fn whole(target: &Target, request: &[u8]) -> String {
    let mut stream = connect(HOSTILE, target.http).await.unwrap();
    // The server may answer and close before it has all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    let _ = read.await.expect("it stays open");
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

async fn large_heads(target: &Target, scale: Scale) -> String {
    let rounds = scale.pick(2, 200);
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    for _ in 0..rounds {
        for head in [&long, &many] {
            let answer = whole(target, head.as_bytes()).await;
            // Closed with bytes unread, a connection may lose its answer.
            assert!(answer.is_empty() || answer.contains(" 431 "), "{answer}");
        }
    }
    format!("{} closed, with 431", 2 * rounds)
}

async fn packed_bodies(target: &Target, scale: Scale) -> String {
    let rounds = scale.pick(2, 50);
    let bomb = bomb();
    let head = format!(
        "POST /v1/catalog HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        bomb.len()
    );
    let request = [head.as_bytes(), &bomb].concat();
    for _ in 0..rounds {
        let answer = whole(target, &request).await;
        assert!(answer.is_empty() || answer.contains(" 415 "), "{answer}");
    }
    format!("{rounds} refused with 415")
}
