//! The honest client beside an attack: a batch at a time, and how long each ack takes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto::v1::{
    Decimal, Pulse, PulseBatch, QueryUsageRequest, ingest_service_client::IngestServiceClient,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{PATIENCE, Server, now};

const PULSES: u64 = 100;
const BETWEEN: Duration = Duration::from_millis(5);

/// A running client. It panics when a batch is refused or gets no ack.
pub(crate) struct Honest {
    latencies: Arc<Mutex<Vec<Duration>>>,
    acked: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    sending: JoinHandle<()>,
}

impl Honest {
    pub(crate) async fn start(server: &Server) -> Self {
        let (batches, requests) = mpsc::channel(1);
        let mut client = IngestServiceClient::new(server.channel().await);
        let mut acks =
            client.ingest_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
        let (latencies, acked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let is_over = Arc::new(AtomicBool::new(false));
        let (kept, counted, over) =
            (Arc::clone(&latencies), Arc::clone(&acked), Arc::clone(&is_over));
        let sending = tokio::spawn(async move {
            for number in 0.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let start = Instant::now();
                batches.send(batch(number)).await.expect("the stream is open");
                let ack = tokio::time::timeout(PATIENCE, acks.message()).await;
                let ack = ack.expect("no ack").unwrap().expect("the stream is open");
                assert_eq!((ack.code, u64::from(ack.accepted)), (0, PULSES), "{ack:?}");
                kept.lock().unwrap().push(start.elapsed());
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(BETWEEN).await;
            }
        });
        Self { latencies, acked, is_over, sending }
    }

    /// Forgets how long acks took until now.
    pub(crate) fn forget(&self) {
        self.latencies.lock().unwrap().clear();
    }

    /// Batches that were acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        assert!(!self.sending.is_finished(), "the honest client failed");
        self.acked.load(Ordering::SeqCst)
    }

    /// What 99 of 100 acks since the last [`Self::forget`] did not take longer than.
    pub(crate) fn p99(&self) -> Duration {
        let mut latencies = self.latencies.lock().unwrap().clone();
        latencies.sort_unstable();
        latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// Ends it behind the ack of its last batch and gives how many pulses were acknowledged.
    pub(crate) async fn end(self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        self.sending.await.expect("the honest client failed");
        self.acked.load(Ordering::SeqCst) * PULSES
    }

    /// Ends it and checks that what it was acknowledged is in the totals, exactly.
    pub(crate) async fn all_is_counted(self, server: &Server) {
        let acked = self.end().await;
        server.drained().await;
        are_counted(acked, server).await;
    }
}

/// Checks that the honest client's totals are those of so many pulses.
pub(crate) async fn are_counted(acked: u64, server: &Server) {
    let day = 86_400;
    let request = QueryUsageRequest {
        tenant: "honest".to_owned(),
        from: Some(time((now() / day - 1) * day)),
        to: Some(time((now() / day + 2) * day)),
        window: "total".to_owned(),
        ..QueryUsageRequest::default()
    };
    let rows = server.usage(request).await;
    let [row] = &rows[..] else { panic!("the honest client has one total, not {rows:?}") };
    assert_eq!((row.count, &row.sum), (acked, &acked.to_string()), "pulses of 1 each");
}

fn time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn batch(number: u64) -> PulseBatch {
    let pulse = Pulse {
        tenant: "honest".to_owned(),
        product_sku: "vm.small".to_owned(),
        use_unity: "hour".to_owned(),
        used_amount: Some(Decimal { unscaled: 1, scale: 0 }),
        time: Some(time(now())),
        ..Pulse::default()
    };
    PulseBatch {
        batch: number,
        producer_id: vec![9; 16],
        first_sequence: number * PULSES,
        pulses: vec![pulse; usize::try_from(PULSES).unwrap()],
        ..PulseBatch::default()
    }
}
