//! Attacks with gRPC messages: almost whole, slow, or packed.

use std::{
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use edge::problem::{reason_of, reasons};
use futures_util::{FutureExt, future::join_all};
use proto::v1::{PulseBatch, ingest_service_client::IngestServiceClient};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Status,
    codegen::Service,
    transport::{Channel, Endpoint},
};

use super::{Attack, Scale, Target, wire::HOSTILE};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "400 unary calls one byte short of 4 MiB",
        bound: "`ingest.bytes_in_flight_per_peer_max`",
        growth_mib_max: 220,
        settings: |settings| settings,
        run: |target, scale| almost_whole(target, scale, "pulso.v1.IngestService/Ingest").boxed(),
    },
    Attack {
        name: "400 streams with a message one byte short of 4 MiB",
        bound: "`ingest.bytes_in_flight_per_peer_max`",
        growth_mib_max: 280,
        settings: |settings| settings,
        run: |target, scale| {
            almost_whole(target, scale, "pulso.v1.IngestService/IngestStream").boxed()
        },
    },
    Attack {
        name: "400 catalogues one byte short of 4 MiB",
        bound: "`edge.request_bytes_in_flight_max`",
        growth_mib_max: 140,
        settings: |settings| settings,
        run: |target, scale| {
            almost_whole(target, scale, "pulso.v1.CatalogService/PublishCatalogue").boxed()
        },
    },
    Attack {
        name: "slow messages: 400 that drip",
        bound: "`edge.message_timeout`",
        growth_mib_max: 64,
        settings: |settings| settings.with("PULSO_EDGE__MESSAGE_TIMEOUT", "5s"),
        run: |target, scale| slow(target, scale).boxed(),
    },
    Attack {
        name: "gzip bombs: 256 MiB of zeros in 1.7 MB",
        bound: "nothing is unpacked: COMPRESSION_UNSUPPORTED",
        growth_mib_max: 64,
        settings: |settings| settings,
        run: |target, scale| gzip_bombs(target, scale).boxed(),
    },
];

/// The greatest message that the server takes, by default.
const MESSAGE_BYTES: usize = 4 << 20;

/// A body that a test sends piece by piece, and that ends when its sender goes.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

async fn channel(target: &Target) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", target.grpc)).unwrap();
    endpoint.local_address(Some(IpAddr::V4(HOSTILE))).connect().await.unwrap()
}

/// Makes a call with a body of the test's own and gives how it ended.
async fn post(mut channel: Channel, method: &str, encoding: &str, body: Pieces) -> Status {
    let request = http::Request::post(format!("http://a/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(tonic::body::Body::new(body))
        .unwrap();
    if poll_fn(|context| channel.poll_ready(context)).await.is_err() {
        return Status::unavailable("no connection");
    }
    match channel.call(request).await {
        Err(error) => Status::unavailable(error.to_string()),
        Ok(answer) => match Status::from_header_map(answer.headers()) {
            Some(status) => status,
            None => {
                let mut body = tonic::Streaming::<()>::new_empty(Nothing, answer.into_body());
                match body.message().await {
                    Err(status) => status,
                    Ok(_) => body
                        .trailers()
                        .await
                        .ok()
                        .flatten()
                        .and_then(|trailers| Status::from_header_map(&trailers.into_headers()))
                        .unwrap_or_else(|| Status::unknown("no status")),
                }
            }
        },
    }
}

/// Decodes nothing: only how a call ends is asked for.
struct Nothing;

impl tonic::codec::Decoder for Nothing {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, bytes: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes::Buf::advance(bytes, bytes::Buf::remaining(bytes));
        Ok(Some(()))
    }
}

fn head(flag: u8, bytes: usize) -> Bytes {
    let length = u32::try_from(bytes).unwrap().to_be_bytes();
    [&[flag], &length[..]].concat().into()
}

/// How calls ended.
fn ended(statuses: &[Status]) -> String {
    let busy = |status: &&Status| status.code() == Code::ResourceExhausted;
    let late = |status: &&Status| status.code() == Code::DeadlineExceeded;
    let given_up = |status: &&Status| status.code() == Code::Cancelled;
    let [busy, late, given_up] = [
        statuses.iter().filter(busy).count(),
        statuses.iter().filter(late).count(),
        statuses.iter().filter(given_up).count(),
    ];
    format!(
        "of {} calls {busy} refused for want of room, {late} cut as too slow, {given_up} held until the attacker gave up",
        statuses.len()
    )
}

async fn almost_whole(target: &Target, scale: Scale, method: &'static str) -> String {
    let (channels, calls) = scale.pick((1, 40), (4, 100));
    let lasting = scale.pick(Duration::from_millis(300), Duration::from_secs(5));
    let mut running = Vec::new();
    for _ in 0..channels {
        let channel = channel(target).await;
        for _ in 0..calls {
            running.push(one_almost_whole(channel.clone(), method, lasting));
        }
    }
    ended(&join_all(running).await)
}

async fn one_almost_whole(channel: Channel, method: &str, lasting: Duration) -> Status {
    let (pieces, body) = mpsc::channel(1);
    let deadline = Instant::now() + lasting;
    let sending = async move {
        let _ = pieces.send(head(0, MESSAGE_BYTES)).await;
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        let mut left = MESSAGE_BYTES - 1;
        while left > 0 {
            let next = piece.slice(..left.min(piece.len()));
            left -= next.len();
            if !matches!(tokio::time::timeout_at(deadline, pieces.send(next)).await, Ok(Ok(()))) {
                break;
            }
        }
        tokio::time::sleep_until(deadline).await;
    };
    // A stream that waits for room is held, not answered, so its client has to give up.
    let call = post(channel, method, "identity", Pieces(body));
    let call = timeout(lasting + Duration::from_secs(1), call);
    let (ended, ()) = tokio::join!(call, sending);
    ended.unwrap_or_else(|_| Status::cancelled("given up"))
}

async fn slow(target: &Target, scale: Scale) -> String {
    let (channels, calls) = scale.pick((1, 20), (4, 100));
    let patience = scale.pick(Duration::from_secs(10), Duration::from_secs(30));
    let mut running = Vec::new();
    for _ in 0..channels {
        let channel = channel(target).await;
        for number in 0..calls {
            let method = ["pulso.v1.IngestService/Ingest", "pulso.v1.IngestService/IngestStream"]
                [number % 2];
            let channel = channel.clone();
            running.push(async move {
                let (pieces, body) = mpsc::channel(1);
                let sending = async move {
                    let _ = pieces.send(head(0, 10_000)).await;
                    while pieces.send(Bytes::from_static(b"x")).await.is_ok() {
                        sleep(Duration::from_millis(100)).await;
                    }
                };
                let call = post(channel, method, "identity", Pieces(body));
                let call = async { timeout(patience, call).await.expect("it drips for ever") };
                tokio::select! {
                    status = call => status,
                    // Hung up on, it waits for the answer all the same.
                    never = sending.then(|()| std::future::pending()) => never,
                }
            });
        }
    }
    let statuses = join_all(running).await;
    let in_words = ended(&statuses);
    let late = statuses.iter().filter(|status| status.code() == Code::DeadlineExceeded).count();
    assert!(late > 0, "{in_words}: {:?}", statuses.first());
    in_words
}

async fn gzip_bombs(target: &Target, scale: Scale) -> String {
    let rounds = scale.pick(2, 50);
    let bomb = Bytes::from(bomb());
    for round in 0..rounds {
        let channel = channel(target).await;
        let (pieces, body) = mpsc::channel(2);
        pieces.try_send(head(1, bomb.len())).unwrap();
        pieces.try_send(bomb.clone()).unwrap();
        let method = ["pulso.v1.IngestService/Ingest", "pulso.v1.CatalogService/PublishCatalogue"]
            [round % 2];
        let status = post(channel.clone(), method, "gzip", Pieces(body)).await;
        assert_eq!(
            reason_of(&status).as_deref(),
            Some(reasons::COMPRESSION_UNSUPPORTED),
            "{status:?}"
        );
        // One that says in its frame only that it is packed.
        let (pieces, body) = mpsc::channel(2);
        pieces.try_send(head(1, bomb.len())).unwrap();
        pieces.try_send(bomb.clone()).unwrap();
        let status = post(channel.clone(), method, "identity", Pieces(body)).await;
        assert_eq!(reason_of(&status).as_deref(), Some(reasons::REQUEST_UNDECODABLE), "{status:?}");
        // The connection serves on.
        let empty = IngestServiceClient::new(channel).ingest(PulseBatch::default()).await;
        assert_eq!(reason_of(&empty.unwrap_err()).as_deref(), Some(reasons::BATCH_EMPTY));
    }
    format!("{} refused", 2 * rounds)
}

/// 256 MiB of zeros, packed by RFC 1951's fixed codes: a zero, then repeats of 258 bytes at distance
/// one, 13 bits each; in the frame of RFC 1952.
pub(crate) fn bomb() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(1, 1); // The last block,
    bits.push(0b01, 2); // with fixed codes.
    bits.push_code(0b0011_0000, 8);
    for _ in 0..(256 << 20) / 258 {
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.push_code(0, 7);
    bits.push(0, 7);
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    [&head[..], &bits.bytes, &[0; 8]].concat()
}

/// Bits as DEFLATE orders them: from the least significant of each byte on.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    kept: u8,
    have: u32,
}

impl Bits {
    fn push(&mut self, value: u16, count: u32) {
        for place in 0..count {
            self.kept |= u8::try_from(value >> place & 1).unwrap() << self.have;
            self.have += 1;
            if self.have == 8 {
                self.bytes.push(self.kept);
                (self.kept, self.have) = (0, 0);
            }
        }
    }

    /// A Huffman code, which goes from its most significant bit on.
    fn push_code(&mut self, code: u16, count: u32) {
        self.push(code.reverse_bits() >> (16 - count), count);
    }
}
