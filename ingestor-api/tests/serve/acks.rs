//! What a client is told about its batches, and when.

use crate::support::{Server, numbered, pulse, until, within};
use edge::problem::{reason_of, reasons, retry_after_of};
use ingestor_api::{Limits, Packing};
use proto::v1::IngestAck;
use storage::memory::AppendFault;
use tonic::Code;

#[tokio::test]
async fn an_ack_waits_for_the_log_and_not_for_other_acks() {
    let server = Server::start(Limits::default(), 4).await;
    let mut client = server.stream().await;
    let held = server.log.hold_acks();
    client.send(numbered(1, 10)).await;
    client.send(numbered(2, 0)).await;
    // Batch 1 is in the log but not durable; batch 2 is refused and overtakes it.
    let ack = client.ack().await;
    assert_eq!((ack.batch, ack.code(), &*ack.reason), (2, 3, reasons::BATCH_EMPTY));
    drop(held);
    assert_eq!(client.ack().await, IngestAck { batch: 1, accepted: 10, ..IngestAck::default() });
    drop(client);
    server.stop().await;
}

/// The code as a number; the field is one already, but reads as what it is.
trait AckCode {
    fn code(&self) -> i32;
}

impl AckCode for IngestAck {
    fn code(&self) -> i32 {
        self.code
    }
}

#[tokio::test]
async fn each_failure_of_the_log_is_an_ack_and_the_stream_stays_open_for_the_same_batch() {
    let server = Server::start(Limits::default(), 4).await;
    let mut client = server.stream().await;
    for (number, (fault, code, reason)) in (0u64..).zip([
        (AppendFault::Overloaded, Code::ResourceExhausted, reasons::LOG_OVERLOADED),
        (AppendFault::Unavailable, Code::Unavailable, reasons::LOG_UNAVAILABLE),
        (AppendFault::UnknownButAppended, Code::Unavailable, reasons::OUTCOME_UNKNOWN),
        (AppendFault::UnknownAndLost, Code::Unavailable, reasons::OUTCOME_UNKNOWN),
    ]) {
        server.log.fail_next_append(fault);
        client.send(numbered(number, 3)).await;
        let ack = client.ack().await;
        assert_eq!((ack.batch, ack.code, &*ack.reason), (number, code.into(), reason), "{fault:?}");
        assert_eq!(ack.accepted, 0, "{fault:?}");
        assert_eq!(ack.retry_after.is_some(), reason != reasons::OUTCOME_UNKNOWN, "{fault:?}");
        client.send(numbered(number, 3)).await;
        assert_eq!((client.ack().await.accepted, client.batches.is_closed()), (3, false));
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn each_failure_of_the_log_is_the_status_of_a_single_call() {
    let server = Server::start(Limits::default(), 4).await;
    let mut client = server.client().await;
    for (fault, code, reason) in [
        (AppendFault::Overloaded, Code::ResourceExhausted, reasons::LOG_OVERLOADED),
        (AppendFault::Unavailable, Code::Unavailable, reasons::LOG_UNAVAILABLE),
        (AppendFault::UnknownAndLost, Code::Unavailable, reasons::OUTCOME_UNKNOWN),
    ] {
        server.log.fail_next_append(fault);
        let status = within(client.ingest(numbered(1, 3))).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status).as_deref()), (code, Some(reason)));
        let waits = retry_after_of(&status).is_some();
        assert_eq!(waits, reason != reasons::OUTCOME_UNKNOWN, "{fault:?}");
    }
    let status = within(client.ingest(numbered(1, 0))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::BATCH_EMPTY));
    assert_eq!(within(client.ingest(numbered(1, 3))).await.unwrap().into_inner().accepted, 3);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_in_the_log_only_in_part_is_unknown() {
    let server = Server::start(Limits::default(), 4).await;
    let mut client = server.client().await;
    let tenants = (0..40).map(|i| pulse(&format!("tenant-{i}")));
    let batch = proto::v1::PulseBatch { pulses: tenants.collect(), ..numbered(1, 0) };
    let batch = proto::v1::PulseBatch { producer_id: vec![], first_sequence: 0, ..batch };
    server.log.fail_next_append(AppendFault::Overloaded);
    let status = within(client.ingest(batch)).await.unwrap_err();
    assert_eq!(reason_of(&status).as_deref(), Some(reasons::OUTCOME_UNKNOWN));
    assert!((1..40).contains(&server.pulses().len()));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_full_queue_answers_at_once_and_takes_the_same_batch_later() {
    let limits = Limits {
        record_bytes_max: 40_000,
        record_bytes_target: 30_000,
        partition_queue_bytes_max: 60_000,
        ..Limits::default()
    };
    let server = Server::start(limits, 1).await;
    let mut client = server.stream().await;
    let held = server.log.hold_acks();
    // Some 22 KB each: the third has no room.
    for number in 0..3 {
        client.send(numbered(number, 600)).await;
    }
    let ack = client.ack().await;
    assert_eq!((ack.batch, ack.code, &*ack.reason), (2, 8, reasons::LOG_OVERLOADED));
    assert!(ack.retry_after.is_some());
    drop(held);
    let mut landed = [client.ack().await.batch, client.ack().await.batch];
    landed.sort_unstable();
    assert_eq!(landed, [0, 1]);
    client.send(numbered(2, 600)).await;
    assert_eq!(client.ack().await.accepted, 600);
    assert_eq!(server.pulses().len(), 1_800);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_producers_batches_stand_in_the_log_in_the_order_they_were_sent() {
    for packing in [Packing::On, Packing::Off] {
        let server = Server::start(Limits { packing, ..Limits::default() }, 4).await;
        let mut client = server.stream().await;
        for number in 0..200 {
            client.send(numbered(number, 2)).await;
        }
        for _ in 0..200 {
            assert_eq!(client.ack().await.accepted, 2);
        }
        let sources = server.records().into_iter().flat_map(|r| r.envelope.unwrap().sources);
        let starts: Vec<u64> = sources.map(|source| source.first_sequence).collect();
        assert_eq!(starts, (0..200).map(|number| number * 1_000).collect::<Vec<_>>());
        drop(client);
        server.stop().await;
    }
}

#[tokio::test]
async fn what_arrives_while_the_appends_are_busy_leaves_in_one_record() {
    let server = Server::start(Limits { appends_in_flight_max: 2, ..Limits::default() }, 1).await;
    let mut client = server.stream().await;
    let held = server.log.hold_acks();
    for number in 0..12 {
        client.send(numbered(number, 1)).await;
        server.has_taken(usize::try_from(number).unwrap() + 1).await;
        until(|| server.records().len() > usize::try_from(number.min(1)).unwrap()).await;
    }
    assert_eq!(server.records().len(), 2);
    drop(held);
    for _ in 0..12 {
        assert_eq!(client.ack().await.accepted, 1);
    }
    let sizes: Vec<_> = server.records().iter().map(|record| record.pulses.len()).collect();
    assert_eq!(sizes, [1, 1, 10]);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_bad_pulse_is_listed_and_its_neighbours_are_in_the_log() {
    let server = Server::start(Limits::default(), 4).await;
    let mut client = server.client().await;
    let mut batch = numbered(1, 3);
    batch.pulses[1].use_unity.clear();
    let ack = within(client.ingest(batch)).await.unwrap().into_inner();
    assert_eq!((ack.code, ack.accepted, ack.rejected), (0, 2, 1));
    assert_eq!((ack.errors[0].index, &*ack.errors[0].field), (1, "pulses[1].use_unity"));
    assert_eq!(server.pulses().len(), 2);
    drop(client);
    server.stop().await;
}
