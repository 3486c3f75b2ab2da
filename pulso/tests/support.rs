//! A server of `IngestService` that keeps nothing but what tests ask about, and errs on request.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, Mutex},
};

use prost::Message;
use proto::v1::{
    GetTimeBoundsRequest, IngestAck, PulseBatch, PulseError, TimeBounds,
    ingest_service_server::{IngestService, IngestServiceServer},
};
use tokio::sync::mpsc;
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

/// What goes wrong, once, with the batch that arrives at a given place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is taken, and the answer asks for a resend.
    Overload,
    /// The batch is taken, but the answer says that this is not known.
    OutcomeUnknown,
    /// The stream ends with an error before the batch is taken.
    HangUp,
    /// The stream ends with an error after it.
    HangUpAfterTaking,
    /// The batch is taken and never answered.
    Silence,
    /// The stream ends with an error that no retry helps against.
    RefuseStream,
}

/// What the server has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Batches that came again.
    pub(crate) resent_batches: usize,
    /// Batches that came again with other bytes.
    pub(crate) changed_batches: usize,
    /// Faults that have happened.
    pub(crate) faults_met: usize,
    /// Sequences of numbered pulses, without repeats.
    pub(crate) numbered_pulses: Vec<u64>,
    /// Rows of backfilled pulses, without repeats.
    pub(crate) backfill_rows: Vec<u64>,
    /// Digests that backfills gave.
    pub(crate) backfill_digests: BTreeSet<Vec<u8>>,
    /// Pulses taken by id.
    pub(crate) pulses_by_id: u64,
}

#[derive(Default)]
struct State {
    seen: Seen,
    arrived: usize,
    faults: BTreeMap<usize, Fault>,
    /// Batches by producer and sequence, or by their bytes.
    batches: BTreeMap<(Vec<u8>, u64), Vec<u8>>,
}

/// A running server. It ends with the test's runtime.
pub(crate) struct FakeServer {
    /// Its address.
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl FakeServer {
    /// Starts one on a free port of loopback.
    pub(crate) async fn start(faults: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let faults = faults.into_iter().collect();
        let state = Arc::new(Mutex::new(State { faults, ..State::default() }));
        let service = IngestServiceServer::new(Fake { state: Arc::clone(&state) });
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, state }
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        let mut seen = self.state.lock().unwrap().seen.clone();
        for places in [&mut seen.numbered_pulses, &mut seen.backfill_rows] {
            places.sort_unstable();
            places.dedup();
        }
        seen
    }
}

struct Fake {
    state: Arc<Mutex<State>>,
}

#[tonic::async_trait]
impl IngestService for Fake {
    type IngestStreamStream = Pin<Box<dyn Stream<Item = Result<IngestAck, Status>> + Send>>;

    async fn ingest_stream(
        &self,
        request: Request<Streaming<PulseBatch>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        let (state, mut batches) = (Arc::clone(&self.state), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                let answer = state.lock().unwrap().receive(&batch);
                let Some(answer) = answer else { continue };
                let ends = answer.is_err();
                if answers.send(answer).await.is_err() || ends {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_time_bounds(
        &self,
        _: Request<GetTimeBoundsRequest>,
    ) -> Result<Response<TimeBounds>, Status> {
        Err(Status::unimplemented("an older server"))
    }

    async fn ingest(&self, _: Request<PulseBatch>) -> Result<Response<IngestAck>, Status> {
        Err(Status::unimplemented("only the stream is faked"))
    }
}

impl State {
    /// Takes a batch, unless a fault is due, and answers it, unless it is to stay silent.
    fn receive(&mut self, batch: &PulseBatch) -> Option<Result<IngestAck, Status>> {
        let place = self.arrived;
        self.arrived += 1;
        let fault = self.faults.get(&place).copied();
        self.seen.faults_met += usize::from(fault.is_some());
        let refusal = |code: Code, reason: &str| IngestAck {
            batch: batch.batch,
            code: code as i32,
            reason: reason.to_owned(),
            message: "as the test asked".to_owned(),
            retry_after: Some(prost_types::Duration { seconds: 0, nanos: 5_000_000 }),
            ..IngestAck::default()
        };
        match fault {
            Some(Fault::Overload) => {
                return Some(Ok(refusal(Code::ResourceExhausted, "LOG_OVERLOADED")));
            }
            Some(Fault::HangUp) => return Some(Err(Status::unavailable("hung up"))),
            Some(Fault::RefuseStream) => return Some(Err(Status::permission_denied("no entry"))),
            _ => {}
        }
        let ack = self.take(batch);
        match fault {
            Some(Fault::OutcomeUnknown) => Some(Ok(refusal(Code::Unavailable, "OUTCOME_UNKNOWN"))),
            Some(Fault::HangUpAfterTaking) => Some(Err(Status::unavailable("hung up"))),
            Some(Fault::Silence) => None,
            _ => Some(Ok(ack)),
        }
    }

    fn take(&mut self, batch: &PulseBatch) -> IngestAck {
        self.remember(batch);
        let sequences = batch.first_sequence..batch.first_sequence + batch.pulses.len() as u64;
        match &batch.backfill {
            Some(backfill) => {
                self.seen.backfill_digests.insert(backfill.content_digest.clone());
                self.seen.backfill_rows.extend(sequences);
            }
            None if !batch.producer_id.is_empty() => self.seen.numbered_pulses.extend(sequences),
            None => self.seen.pulses_by_id += batch.pulses.len() as u64,
        }
        let errors: Vec<PulseError> = refused(batch).collect();
        let rejected = u32::try_from(errors.len()).unwrap();
        let accepted = u32::try_from(batch.pulses.len()).unwrap() - rejected;
        IngestAck { batch: batch.batch, accepted, rejected, errors, ..IngestAck::default() }
    }

    fn remember(&mut self, batch: &PulseBatch) {
        let bytes = batch.encode_to_vec();
        let name = batch.backfill.as_ref().map(|backfill| backfill.name.clone().into_bytes());
        let of = name.unwrap_or_else(|| batch.producer_id.clone());
        if of.is_empty() {
            return;
        }
        if let Some(earlier) = self.batches.insert((of, batch.first_sequence), bytes.clone()) {
            self.seen.resent_batches += 1;
            self.seen.changed_batches += usize::from(earlier != bytes);
        }
    }
}

/// Pulses whose source asks for it are refused.
fn refused(batch: &PulseBatch) -> impl Iterator<Item = PulseError> {
    let refuse = batch.pulses.iter().enumerate().filter(|(_, pulse)| pulse.source == "refuse");
    refuse.map(|(index, _)| PulseError {
        index: u32::try_from(index).unwrap(),
        code: Code::InvalidArgument as i32,
        reason: "ID_TOO_LONG".to_owned(),
        field: format!("pulses[{index}].source"),
        message: "as the test asked".to_owned(),
    })
}
