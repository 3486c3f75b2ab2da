//! Streams that are cut, clogged, too many, too large or told to end.

use std::time::Duration;

use crate::support::{Client, Partial, Server, numbered, post, until, within};
use edge::problem::{reason_of, reasons};
use ingestor_api::Limits;
use prost::Message;
use proto::v1::{IngestAck, Pulse, PulseBatch};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

#[tokio::test]
async fn a_client_that_never_reads_its_acks_stops_being_read() {
    let server = Server::start(Limits::default(), 1).await;
    let mut client = server.stream().await;
    // Each ack lists a hundred refusals and has some ten thousand bytes.
    let bad = Pulse { product_sku: "x".repeat(200), ..crate::support::pulse("acme") };
    let bad = |batch| PulseBatch { batch, pulses: vec![bad.clone(); 100], ..numbered(0, 0) };
    let mut sent = 0;
    while let Ok(taken) = timeout(Duration::from_millis(500), client.batches.send(bad(sent))).await
    {
        taken.unwrap();
        sent += 1;
        assert!(sent < 2_000, "the server reads on though nobody reads its acks");
    }
    let bound = Limits::default().stream_batches_in_flight_max;
    assert!(server.taken() <= bound, "{} batches are held for unread acks", server.taken());
    // Once they are read, all goes on.
    for batch in 0..sent {
        let ack = client.ack().await;
        assert_eq!((ack.batch, ack.rejected), (batch, 100));
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_at_its_own_bound_is_not_read_until_an_ack_leaves() {
    for (limits, batches_max) in [
        (Limits { stream_batches_in_flight_max: 3, ..Limits::default() }, 3),
        (Limits { stream_bytes_in_flight_max: 1, ..Limits::default() }, 1),
    ] {
        let server = Server::start(limits, 1).await;
        let mut single = server.client().await;
        let mut client = Client::open(single.clone()).await.unwrap();
        let held = server.log.hold_acks();
        for number in 0..10 {
            client.send(numbered(number, 1)).await;
        }
        // Travels behind those batches on the same connection, so they have arrived by now.
        let refused = within(single.ingest(numbered(99, 0))).await.unwrap_err();
        assert_eq!(reason_of(&refused).as_deref(), Some(reasons::BATCH_EMPTY));
        assert_eq!(server.taken(), batches_max + 1);
        drop(held);
        for _ in 0..10 {
            assert_eq!(client.ack().await.accepted, 1);
        }
        drop((client, single));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_pulses_in_the_log_and_nothing_else() {
    let limits = Limits {
        message_bytes_max: 50_000,
        bytes_in_flight_max: 50_000,
        streams_max: 1,
        ..Limits::default()
    };
    let server = Server::start(limits, 4).await;
    let client = server.stream().await;
    let held = server.log.hold_acks();
    for number in 0..3 {
        client.send(numbered(number, 100)).await;
    }
    server.has_taken(3).await;
    drop(client);
    drop(held);
    until(|| server.pulses().len() == 300).await;
    // The only slot and all of the room come back.
    let mut single = server.client().await;
    within(async {
        let large = || numbered(9, 1_300);
        assert!(large().encoded_len() > 40_000);
        while single.ingest(large()).await.is_err() {}
        while Client::open(single.clone()).await.is_err() {}
    })
    .await;
    drop(single);
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_refuses_new_batches_answers_those_in_flight_and_ends_the_stream() {
    let server = Server::start(Limits::default(), 4).await;
    let mut client = server.stream().await;
    let held = server.log.hold_acks();
    client.send(numbered(1, 10)).await;
    server.has_taken(1).await;
    server.shutdown.request();
    client.send(numbered(2, 10)).await;
    let ack = client.ack().await;
    assert_eq!((ack.batch, ack.code, &*ack.reason), (2, 14, reasons::SHUTTING_DOWN));
    drop(held);
    assert_eq!(client.ack().await, IngestAck { batch: 1, accepted: 10, ..IngestAck::default() });
    let status = within(client.acks.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::SHUTTING_DOWN));
    assert_eq!(server.pulses().len(), 10);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_done_gets_its_last_acks_and_a_clean_end() {
    let server = Server::start(Limits::default(), 4).await;
    let Client { batches, mut acks } = server.stream().await;
    let held = server.log.hold_acks();
    within(batches.send(numbered(1, 5))).await.unwrap();
    drop(batches);
    server.has_taken(1).await;
    drop(held);
    assert_eq!(within(acks.message()).await.unwrap().unwrap().accepted, 5);
    assert_eq!(within(acks.message()).await.unwrap(), None);
    server.stop().await;
}

#[tokio::test]
async fn one_stream_too_many_is_refused_until_another_ends() {
    let server = Server::start(Limits { streams_max: 2, ..Limits::default() }, 4).await;
    let client = server.client().await;
    let mut first = Client::open(client.clone()).await.unwrap();
    let _second = Client::open(client.clone()).await.unwrap();
    let Err(status) = Client::open(client.clone()).await else { panic!("a third was opened") };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::STREAMS_EXHAUSTED));
    drop(first.batches);
    assert_eq!(within(first.acks.message()).await.unwrap(), None);
    within(async { while Client::open(client.clone()).await.is_err() {} }).await;
    drop((_second, client));
    server.stop().await;
}

#[tokio::test]
async fn one_peer_leaves_streams_to_the_others() {
    let limits = Limits { streams_max: 3, streams_per_peer_max: 2, ..Limits::default() };
    let server = Server::start(limits, 4).await;
    let client = server.client().await;
    let _first = Client::open(client.clone()).await.unwrap();
    let _second = Client::open(client.clone()).await.unwrap();
    let Err(status) = Client::open(client.clone()).await else { panic!("a third was opened") };
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::STREAMS_EXHAUSTED));
    assert!(status.message().contains("2 streams from your address"), "{}", status.message());
    drop((_first, _second, client));
    server.stop().await;
}

#[tokio::test]
async fn a_message_takes_its_room_with_its_first_bytes_and_gives_it_back_with_its_call() {
    let limits = Limits {
        message_bytes_max: 60_000,
        bytes_in_flight_max: 60_000,
        pulse_bytes_max: 30_000,
        ..Limits::default()
    };
    let server = Server::start(limits, 1).await;
    // The head of a message of 55,000 bytes and one byte of it; then nothing more comes.
    let (body, bytes) = Partial::of([&[0], &55_000_u32.to_be_bytes()[..], &[8]].concat());
    let address = server.address();
    let call = tokio::spawn(async move { post(&address, "IngestStream", body).await });
    let mut single = server.client().await;
    let refused = within(async {
        loop {
            if let Err(status) = single.ingest(numbered(3, 200)).await {
                return status;
            }
        }
    });
    assert_eq!(reason_of(&refused.await).as_deref(), Some(reasons::LOG_OVERLOADED));
    call.abort();
    drop(bytes);
    within(async { while single.ingest(numbered(4, 200)).await.is_err() {} }).await;
    drop(single);
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_does_not_come_in_time_ends_its_call() {
    let limits = Limits { message_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(limits, 1).await;
    for method in ["Ingest", "IngestStream"] {
        let (body, bytes) = Partial::of([&[0], &100_u32.to_be_bytes()[..], &[8]].concat());
        let status = within(post(&server.address(), method, body)).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{method}: {status:?}");
        assert_eq!(reason_of(&status).as_deref(), Some(reasons::REQUEST_TIMEOUT));
        drop(bytes);
    }
    // A stream may be quiet for as long as it likes.
    let mut quiet = server.stream().await;
    let acked = timeout(Duration::from_millis(500), quiet.acks.message()).await;
    assert!(acked.is_err(), "{acked:?}");
    quiet.send(numbered(1, 1)).await;
    assert_eq!(quiet.ack().await.accepted, 1);
    drop(quiet);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_waits_while_there_is_no_room_and_a_single_call_is_told() {
    let limits = Limits {
        message_bytes_max: 60_000,
        bytes_in_flight_max: 60_000,
        pulse_bytes_max: 30_000,
        ..Limits::default()
    };
    let server = Server::start(limits, 1).await;
    let mut one = server.stream().await;
    let held = server.log.hold_acks();
    one.send(numbered(1, 1_300)).await;
    server.has_taken(1).await;
    let mut other = server.stream().await;
    other.send(numbered(2, 1_300)).await;
    let mut single = server.client().await;
    let status = within(single.ingest(numbered(3, 1_300))).await.unwrap_err();
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::LOG_OVERLOADED));
    assert_eq!(server.taken(), 1, "the second stream's batch waits");
    drop(held);
    assert_eq!((one.ack().await.batch, other.ack().await.batch), (1, 2));
    drop((one, other, single));
    server.stop().await;
}

#[tokio::test]
async fn a_message_above_the_limit_ends_its_own_call_and_no_other() {
    let server = Server::start(Limits::default(), 4).await;
    let client = server.client().await;
    let mut other = Client::open(client.clone()).await.unwrap();
    let mut stream = Client::open(client.clone()).await.unwrap();
    let ten_mebibytes = || {
        let mut batch = numbered(7, 1);
        batch.pulses[0].id = "x".repeat(10 << 20);
        batch
    };
    stream.send(numbered(6, 1)).await;
    assert_eq!(stream.ack().await.accepted, 1);
    stream.send(ten_mebibytes()).await;
    let of_stream = within(stream.acks.message()).await.unwrap_err();
    let of_call = within(client.clone().ingest(ten_mebibytes())).await.unwrap_err();
    for status in [of_stream, of_call] {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(reason_of(&status).as_deref(), Some(reasons::BATCH_TOO_LARGE));
        assert!(status.message().contains("4194304"), "{}", status.message());
    }
    other.send(numbered(1, 1)).await;
    assert_eq!(other.ack().await.accepted, 1);
    drop((client, other, stream));
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_batch_are_an_ack_and_the_stream_goes_on() {
    let server = Server::start(Limits::default(), 4).await;
    let good = numbered(3, 2).encode_to_vec();
    let messages = vec![vec![0xff; 40], good[..good.len() - 1].to_vec(), vec![], good];
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/pulso.v1.IngestService/IngestStream");
    let request = Request::new(tokio_stream::iter(messages));
    let mut acks = within(grpc.streaming(request, path, Raw)).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while let Some(ack) = within(acks.message()).await.unwrap() {
        answers.push((ack.batch, ack.code, ack.reason, ack.accepted));
    }
    answers.sort_unstable();
    let refused = |batch, reason: &str| (batch, 3, reason.to_owned(), 0);
    assert_eq!(
        answers,
        [
            refused(0, reasons::BATCH_EMPTY),
            refused(0, reasons::BATCH_UNDECODABLE),
            (3, 0, String::new(), 2),
            refused(3, reasons::BATCH_UNDECODABLE),
        ]
    );
    drop(grpc);
    server.stop().await;
}

/// Sends bytes as they are.
#[derive(Clone)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = IngestAck;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(out, &message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = IngestAck;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<IngestAck>, Status> {
        Ok(Some(IngestAck::decode(message).unwrap()))
    }
}
