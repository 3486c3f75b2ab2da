//! Agents: one a resource, each with a producer of its own, that send what was used since they last did.

use std::collections::BTreeMap;

use domain::{Clock as _, Partition, PulseLog, Quantity};
use prost::Message as _;
use proto::{record, v1};
use storage::choice::Log;

use super::{super::ledger::Ledger, world::World};
use crate::{cli::serving::YearsArgs, exit::Failure};

/// Agents whose batches share a record.
const AGENTS_PER_RECORD: usize = 250;
/// One pulse in so many is hours late.
const LATE_ONE_IN: u64 = 200;
/// SKUs of a tenant.
const SKUS: u64 = 10;

pub(super) struct Agents {
    /// By partition.
    agents: BTreeMap<Partition, Vec<Agent>>,
    state: u64,
    /// All that was acknowledged.
    pub(super) sent: Ledger,
}

struct Agent {
    producer_id: [u8; 16],
    next_sequence: u64,
    tenant: String,
    sku: String,
    instance: String,
}

impl Agents {
    /// As many as there are resources, spread over the tenants.
    pub(super) fn new(args: &YearsArgs, log: &Log) -> Self {
        let mut agents: BTreeMap<Partition, Vec<Agent>> = BTreeMap::new();
        for number in 0..args.resources.get() {
            let producer_id =
                u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let producer_id = producer_id.to_be_bytes();
            let agent = Agent {
                producer_id,
                next_sequence: 0,
                tenant: tenant(number % args.tenants.get()),
                sku: format!("sku-{}", number / args.tenants.get() % SKUS),
                instance: format!("i-{number:07}"),
            };
            let partition = log.generation().partition_of_batch("", &producer_id);
            agents.entry(partition).or_default().push(agent);
        }
        Self { agents, state: 1, sent: Ledger::default() }
    }

    /// Sends a pulse of each.
    pub(super) async fn send(&mut self, world: &World) -> Result<(), Failure> {
        let now = world.clock.now();
        let generation = *world.log.generation();
        for (partition, agents) in &mut self.agents {
            let mut records = Vec::new();
            for together in agents.chunks_mut(AGENTS_PER_RECORD) {
                let (mut sources, mut pulses) = (Vec::new(), Vec::new());
                for agent in together {
                    self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let random = self.state >> 33;
                    let late = if random.is_multiple_of(LATE_ONE_IN) {
                        3_600 * (1 + random % 20)
                    } else {
                        0
                    };
                    let time = now.minus(std::time::Duration::from_secs(random % 600 + late));
                    let unscaled = i64::try_from(random % 100_000).unwrap_or_default();
                    let amount = Quantity::from_decimal(unscaled, 3).map_err(Failure::internal)?;
                    self.sent.add(&agent.sku, 1, amount);
                    sources.push(v1::SourceBatch {
                        sent: 1,
                        producer_id: agent.producer_id.to_vec(),
                        first_sequence: agent.next_sequence,
                        digest: random,
                        ..v1::SourceBatch::default()
                    });
                    agent.next_sequence += 1;
                    let pulse = v1::Pulse {
                        tenant: agent.tenant.clone(),
                        product_sku: agent.sku.clone(),
                        use_unity: "hour".to_owned(),
                        used_amount: Some(v1::Decimal { unscaled, scale: 3 }),
                        time: Some(proto::convert::wire_time(time)),
                        properties: [("instance".to_owned(), agent.instance.clone())].into(),
                        ..v1::Pulse::default()
                    };
                    let fields = v1::LogRecord { envelope: None, pulses: vec![pulse] };
                    pulses.push(fields.encode_to_vec());
                }
                let count = u32::try_from(pulses.len()).map_err(Failure::internal)?;
                let fields = pulses.iter().map(Vec::as_slice);
                records.push(record::encode(&generation, sources, count, fields));
            }
            world.log.append(*partition, records).await.map_err(Failure::internal)?;
        }
        Ok(())
    }
}

/// Name of a tenant.
pub(super) fn tenant(number: u64) -> String {
    format!("tenant-{number:05}")
}

/// A catalogue with the SKUs of all tenants, whose resources stay apart.
pub(super) fn catalogue() -> String {
    use std::fmt::Write as _;
    let mut text = String::from("catalogue: bench\ncurrency: USD\nskus:\n");
    for sku in 0..SKUS {
        let price = "{valid_from: 2020-01-01T00:00:00Z, model: per_unit, unit_price: \"0.0125\"}";
        let entry =
            format!("{{sku: sku-{sku}, unit: hour, dimensions: [instance], prices: [{price}]}}");
        writeln!(text, "  - {entry}").expect("a String takes all");
    }
    text
}
