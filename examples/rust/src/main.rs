//! Sends numbered batches over `IngestStream`, and again, unchanged, until each has its final ack.

use std::{collections::BTreeSet, time::Duration, time::SystemTime};

use proto::v1::{Decimal, Pulse, PulseBatch, ingest_service_client::IngestServiceClient};
use tokio::{sync::mpsc, time::sleep};
use tonic::{Code, Status, transport::Channel};

type Client = IngestServiceClient<Channel>;
type Numbers = BTreeSet<u64>;

/// From the oldest batch without an ack to the newest. At most 256: the server remembers no more.
const PLACES: u64 = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7070".into());
    let mut client = IngestServiceClient::connect(server).await?;
    let producer_id = uuid::Uuid::new_v4(); // Another at each start of the process.
    let batches: Vec<_> = (0..100).map(|number| batch(producer_id.as_bytes(), number)).collect();
    let mut open = (0..100).collect();
    while let Err(broken) = stream(&mut client, &batches, &mut open).await {
        println!("{broken}; on with another stream");
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn stream(client: &mut Client, all: &[PulseBatch], open: &mut Numbers) -> Result<(), Status> {
    let (outbound, batches) = mpsc::channel(PLACES as usize);
    let send = |number: &u64| outbound.try_send(all[*number as usize].clone());
    let batches = tokio_stream::wrappers::ReceiverStream::new(batches);
    let mut acks = client.ingest_stream(batches).await?.into_inner();
    let mut sent_below = 0;
    while let Some(oldest) = open.first() {
        let below = oldest + PLACES;
        open.range(sent_below..below).try_for_each(send).map_err(|_| Status::aborted("closed"))?;
        sent_below = below;
        let ack = acks.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        if let Code::ResourceExhausted | Code::Unavailable = Code::from_i32(ack.code) {
            let wait = ack.retry_after.and_then(|wait| wait.try_into().ok());
            sleep(wait.unwrap_or(Duration::from_millis(250))).await;
            send(&ack.batch).map_err(|_| Status::aborted("closed"))?;
        } else {
            println!("{}: {} in, {:?}{}", ack.batch, ack.accepted, ack.errors, ack.message);
            open.remove(&ack.batch);
        }
    }
    Ok(())
}

fn batch(producer_id: &[u8], batch: u64) -> PulseBatch {
    let (tenant, product_sku, use_unity) = ("acme".into(), "vm.small".into(), "hour".into());
    let used_amount = Some(Decimal { unscaled: 25, scale: 2 }); // 0.25, exactly
    let time = Some(SystemTime::now().into());
    let pulse = Pulse { tenant, product_sku, use_unity, used_amount, time, ..Pulse::default() };
    let (producer_id, pulses) = (producer_id.to_vec(), vec![pulse; 500]);
    PulseBatch { batch, producer_id, first_sequence: batch * 500, pulses, ..PulseBatch::default() }
}
