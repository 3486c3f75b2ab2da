//! Ingest processes: the product's own `Ingest` with its packers, on the driver's one thread.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use edge::{CorrelationId, Problem, listen::Peer};
use ingestor_api::{Ingest, Limits, Origin, Packers, Ports, Scope};
use proto::v1::IngestAck;
use runtime::Shutdown;
use tokio::task::JoinHandle;

use crate::{
    ports::SimLog,
    process::{Process, ProcessClock},
};

pub(crate) struct Serving {
    pub(crate) process: Arc<Process>,
    ingest: Ingest<SimLog>,
    /// Its tasks, which end with it.
    _packers: Packers,
    calls: Vec<Call>,
}

/// A batch by its client and its place there.
pub(crate) type Place = (usize, usize);

struct Call {
    batch: Place,
    answer: JoinHandle<Result<IngestAck, Problem>>,
}

impl Serving {
    pub(crate) fn start(log: SimLog, refuses: Arc<AtomicBool>) -> Self {
        let process = Arc::clone(&log.process);
        let ports = Ports {
            log: Arc::new(log),
            clock: Arc::new(ProcessClock(Arc::clone(&process))),
            negative: Arc::new(move |sku: &str| sku == "net" && refuses.load(Ordering::SeqCst)),
            shutdown: Shutdown::new(),
        };
        // Small, so that records are cut and what waits is packed together.
        let limits =
            Limits { record_bytes_target: 600, appends_in_flight_max: 2, ..Limits::default() };
        let (ingest, packers) = Ingest::start(limits, ports).unwrap();
        Self { process, ingest, _packers: packers, calls: Vec::new() }
    }

    pub(crate) fn send(&mut self, batch: Place, bytes: Bytes, scope: Scope) {
        let correlation_id = CorrelationId::parse(&format!("batch-{}-{}", batch.0, batch.1));
        let peer = Peer::of(Ipv4Addr::LOCALHOST.into());
        let origin = Origin { scope, correlation_id: correlation_id.unwrap(), peer };
        let ingest = self.ingest.clone();
        let answer = tokio::spawn(async move { ingest.submit(bytes, &origin).await });
        self.calls.push(Call { batch, answer });
    }

    /// Takes the answers that are there.
    pub(crate) async fn answers(&mut self) -> Vec<(Place, Result<IngestAck, Problem>)> {
        let mut answers = Vec::new();
        for call in std::mem::take(&mut self.calls) {
            match call.answer.is_finished() {
                true => answers.push((call.batch, call.answer.await.unwrap())),
                false => self.calls.push(call),
            }
        }
        answers
    }

    pub(crate) fn kill(self) {
        self.process.die();
        self.calls.iter().for_each(|call| call.answer.abort());
    }
}
