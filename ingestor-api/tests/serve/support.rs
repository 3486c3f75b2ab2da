//! A server on loopback with a log in memory, and what a client sends to it.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use domain::{LogId, PulseLog, Timestamp, generation::Generation, log::LogDrain};
use edge::access::{
    Access, AccessLayer, Rules,
    rate::{RateLimits, Rates},
    trail::Trail,
};
use http_body_util::BodyExt;
use ingestor_api::{Ingest, Limits, Packers, Ports};
use prost::Message;
use proto::v1::{
    self, ingest_service_client::IngestServiceClient, usage_service_client::UsageServiceClient,
};
use runtime::Shutdown;
use storage::memory::{MemoryBillingStore, MemoryLog};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Status, Streaming,
    codegen::Service,
    transport::{Channel, Endpoint},
};

/// Longest that anything in these tests may take before it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) log: MemoryLog,
    pub(crate) shutdown: Shutdown,
    /// Batches that were taken, counted by how often the clock was asked.
    taken: Arc<AtomicUsize>,
    address: String,
    packers: Packers,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    pub(crate) async fn start(limits: Limits, partitions: u16) -> Self {
        let generation = Generation::new(LogId([5; 16]), partitions, 11);
        let log = MemoryLog::new(generation, Arc::new(|| Timestamp::EPOCH));
        let shutdown = Shutdown::new();
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let clock = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Timestamp::EPOCH
        };
        let ports = Ports {
            log: Arc::new(log.clone()),
            clock: Arc::new(clock),
            negative: Arc::new(|_: &str| false),
            shutdown: shutdown.clone(),
        };
        let (ingest, packers) = Ingest::start(limits, ports).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let clock: Arc<dyn domain::Clock> = Arc::new(|| Timestamp::EPOCH);
        let access = Access::off(
            Rules::new(ingestor_api::RULES).unwrap(),
            Rates::new(&RateLimits::default(), &clock),
            Arc::new(Trail::new(Arc::new(MemoryBillingStore::new()), clock)),
        );
        let router = tonic::transport::Server::builder()
            .layer(AccessLayer::grpc(access))
            .add_service(ingest.ingest_server())
            .add_service(ingest.usage_server());
        drop(ingest);
        let asked = shutdown.clone();
        let serving = tokio::spawn(
            router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                asked.requested().await
            }),
        );
        Self { log, shutdown, taken, address, packers, serving }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) async fn channel(&self) -> Channel {
        // A small window, so that unread acks fill it soon.
        let endpoint = Endpoint::from_shared(self.address.clone()).unwrap();
        endpoint.initial_stream_window_size(65_535).connect().await.unwrap()
    }

    pub(crate) async fn client(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel().await)
    }

    pub(crate) async fn usage_client(&self) -> UsageServiceClient<Channel> {
        UsageServiceClient::new(self.channel().await)
    }

    pub(crate) async fn stream(&self) -> Client {
        Client::open(self.client().await).await.unwrap()
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Waits until so many batches were taken.
    pub(crate) async fn has_taken(&self, batches: usize) {
        until(|| self.taken() >= batches).await;
    }

    /// Ends it as a process does and checks that nothing is left behind.
    pub(crate) async fn stop(self) {
        self.shutdown.request();
        within(self.serving).await.unwrap().unwrap();
        within(self.packers.finish()).await;
    }

    /// The records of all partitions, decoded by prost.
    pub(crate) fn records(&self) -> Vec<v1::LogRecord> {
        let mut records = Vec::new();
        for partition in self.log.generation().partitions() {
            let mut drain = self.log.drain(partition, domain::Offset(0)).unwrap();
            let end = domain::Offset(u64::MAX);
            drain
                .read(end, usize::MAX, &mut |record| {
                    records.push(v1::LogRecord::decode(record.body).unwrap());
                })
                .unwrap();
        }
        records
    }

    pub(crate) fn pulses(&self) -> Vec<v1::Pulse> {
        self.records().into_iter().flat_map(|record| record.pulses).collect()
    }
}

/// A body of which the end does not come for as long as its sender lives.
pub(crate) struct Partial(mpsc::Receiver<Bytes>);

impl Partial {
    pub(crate) fn of(bytes: Vec<u8>) -> (Self, mpsc::Sender<Bytes>) {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(bytes.into()).unwrap();
        (Self(receiver), sender)
    }
}

impl http_body::Body for Partial {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

/// Calls a method of the service with a body of the test's own, and gives how it ended.
pub(crate) async fn post(address: &str, method: &str, body: Partial) -> Status {
    let mut channel = Endpoint::from_shared(address.to_owned()).unwrap().connect().await.unwrap();
    let request = http::Request::post(format!("{address}/pulso.v1.IngestService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body))
        .unwrap();
    poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let answer = channel.call(request).await.unwrap();
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return status;
    }
    let trailers = answer.into_body().collect().await.unwrap().trailers().cloned();
    Status::from_header_map(&trailers.unwrap_or_default()).expect("it ends with a status")
}

/// One open stream.
pub(crate) struct Client {
    pub(crate) batches: mpsc::Sender<v1::PulseBatch>,
    pub(crate) acks: Streaming<v1::IngestAck>,
}

impl Client {
    pub(crate) async fn open(
        mut client: IngestServiceClient<Channel>,
    ) -> Result<Self, tonic::Status> {
        let (batches, requests) = mpsc::channel(1);
        let acks = within(client.ingest_stream(ReceiverStream::new(requests))).await?.into_inner();
        Ok(Self { batches, acks })
    }

    pub(crate) async fn send(&self, batch: v1::PulseBatch) {
        within(self.batches.send(batch)).await.unwrap();
    }

    pub(crate) async fn ack(&mut self) -> v1::IngestAck {
        within(self.acks.message()).await.unwrap().expect("the stream is open")
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Gives other tasks their turn until it holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(crate) fn pulse(tenant: &str) -> v1::Pulse {
    v1::Pulse {
        tenant: tenant.into(),
        product_sku: "vm.small".into(),
        use_unity: "hour".into(),
        used_amount: Some(v1::Decimal { unscaled: 1, scale: 0 }),
        time: Some(prost_types::Timestamp { seconds: 1_726_696_800, nanos: 0 }),
        ..v1::Pulse::default()
    }
}

/// A numbered batch of so many pulses.
pub(crate) fn numbered(batch: u64, pulses: usize) -> v1::PulseBatch {
    v1::PulseBatch {
        batch,
        producer_id: vec![1; 16],
        first_sequence: batch * 1_000,
        pulses: vec![pulse("acme"); pulses],
        ..v1::PulseBatch::default()
    }
}
