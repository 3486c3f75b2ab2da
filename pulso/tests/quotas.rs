//! Quotas of one client through the program: its streams and its bytes are bounded, and another client,
//! from the same address, is not affected.

use std::time::Duration;

use edge::problem::reason_of;
use proto::v1::{
    Decimal, IngestAck, Pulse, PulseBatch, ingest_service_client::IngestServiceClient,
};
use pulso::client::Channel;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, timeout},
};
use tonic::{Request, Status, Streaming, metadata::MetadataValue};

use crate::{
    access::{create, text},
    harness::{Home, PATIENCE, Server, Settings, now},
};

fn required() -> Settings {
    Settings::default().without_access().with("PULSO_ACCESS__MODE", "required")
}

/// A client of the tenant `*` with this name.
fn key(home: &Home, name: &str, role: &str) -> String {
    text(&create(home, &[name, "--role", role, "--tenant", "*"], None)).to_owned()
}

fn with_key<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// A numbered batch of one pulse with about so many bytes.
fn batch(sequence: u64, bytes: usize) -> PulseBatch {
    let pulse = Pulse {
        tenant: "acme".to_owned(),
        product_sku: "vm".to_owned(),
        use_unity: "hour".to_owned(),
        used_amount: Some(Decimal { unscaled: 1, scale: 0 }),
        time: Some(prost_types::Timestamp { seconds: now(), nanos: 0 }),
        ..Pulse::default()
    };
    let pulses = vec![pulse; bytes / 32 + 1];
    PulseBatch {
        producer_id: vec![7; 16],
        first_sequence: sequence,
        pulses,
        ..PulseBatch::default()
    }
}

struct Stream {
    batches: mpsc::Sender<PulseBatch>,
    acks: Streaming<IngestAck>,
}

impl Stream {
    async fn open(channel: &Channel, key: &str) -> Result<Self, Status> {
        let (batches, requests) = mpsc::channel(64);
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut client = IngestServiceClient::new(channel.clone());
        let acks = client.ingest_stream(with_key(requests, key)).await?.into_inner();
        Ok(Self { batches, acks })
    }

    /// Waits for an ack, and gives how many pulses it accepts.
    async fn accepted(&mut self) -> u64 {
        let ack = timeout(PATIENCE, self.acks.message()).await.expect("an ack comes");
        ack.unwrap().expect("the stream is open").accepted.into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_streams_to_its_quota_takes_none_of_anothers() {
    let home = Home::new();
    let (greedy, honest) = (key(&home, "greedy", "writer"), key(&home, "honest", "writer"));
    let settings = required().with("PULSO_ACCESS__STREAMS_PER_CLIENT", "20");
    let server = Server::start(&home, &settings).await;
    let channel = server.channel_of_nobody().await;
    let mut open = Vec::new();
    let refused = loop {
        match Stream::open(&channel, &greedy).await {
            Ok(stream) => open.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!(open.len(), 20);
    assert_eq!(reason_of(&refused).as_deref(), Some("QUOTA_EXCEEDED"), "{refused:?}");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    // Its other calls are not streams.
    let mut client = IngestServiceClient::new(channel.clone());
    client.ingest(with_key(batch(1, 1), &greedy)).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(Stream::open(&channel, &honest).await.unwrap());
    }
    let last = others.last_mut().unwrap();
    last.batches.send(batch(1, 1)).await.unwrap();
    assert_eq!(last.accepted().await, 1);
    // One that is closed makes room for the next.
    drop(open.pop());
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = Stream::open(&channel, &greedy).await {
        assert_eq!(reason_of(&status).as_deref(), Some("QUOTA_EXCEEDED"), "{status:?}");
        assert!(Instant::now() < deadline, "the place does not come back");
    }
    drop((open, others));
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_too_fast_is_read_later_and_loses_nothing() {
    const BATCH_BYTES: usize = 16 << 10;
    const BATCHES: u64 = 24;
    let home = Home::new();
    let (greedy, honest) = (key(&home, "greedy", "admin"), key(&home, "honest", "writer"));
    let settings = required().with("PULSO_ACCESS__BYTES_PER_CLIENT", "64 KiB");
    let server = Server::start(&home, &settings).await;
    let channel = server.channel_of_nobody().await;
    let start = Instant::now();
    let mut stream = Stream::open(&channel, &greedy).await.unwrap();
    let pulses = u64::try_from(batch(0, BATCH_BYTES).pulses.len()).unwrap();
    for number in 0..BATCHES {
        stream.batches.send(batch(1 + number * pulses, BATCH_BYTES)).await.unwrap();
    }
    // Until a second's bytes are used up, which all of these are.
    let mut accepted = 0;
    for _ in 0..5 {
        accepted += stream.accepted().await;
    }
    let mut client = IngestServiceClient::new(channel.clone());
    let refused =
        client.ingest(with_key(batch(1_000_000, BATCH_BYTES), &greedy)).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("QUOTA_EXCEEDED"), "{refused:?}");
    client.ingest(with_key(batch(2_000_000, 1), &greedy)).await.expect("a small one is taken");
    let answer = post(&server, &greedy, BATCH_BYTES).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("retry-after: ") && answer.contains("QUOTA_EXCEEDED"), "{answer}");
    // The other client does not wait for that.
    let asked = Instant::now();
    client.ingest(with_key(batch(1, BATCH_BYTES), &honest)).await.unwrap();
    let waited = asked.elapsed();
    for _ in 5..BATCHES {
        accepted += stream.accepted().await;
    }
    assert_eq!(accepted, BATCHES * pulses, "every batch is acknowledged");
    let took = start.elapsed();
    // 24 batches of 16 KiB and more are at least 384 KiB: 64 KiB at once, and 64 KiB a second.
    assert!(took >= Duration::from_secs(4), "{took:?}");
    assert!(waited < took / 2, "{waited:?} of {took:?}");
    server.terminate().await;
}

async fn post(server: &Server, key: &str, bytes: usize) -> String {
    let mut connection = tokio::net::TcpStream::connect(&server.http).await.unwrap();
    let head = format!(
        "POST /v1/catalog HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/yaml\r\ncontent-length: {bytes}\r\nx-api-key: {key}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // Refused before it is read.
    let mut answer = String::new();
    timeout(PATIENCE, connection.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}
