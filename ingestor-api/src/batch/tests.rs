//! Batches: what is refused and why, what is forwarded, and where to.

mod forward;
mod refuse;
mod speed;

use bytes::Bytes;
use domain::{LogId, Tenant, Timestamp, generation::Generation};
use proto::v1;

use super::{Context, Plan, Refusal, plan};
use crate::{Limits, NegativePolicy, Scope};

const PARTITIONS: u16 = 4;
const SECONDS: i64 = 1_726_696_800;

fn pulse() -> v1::Pulse {
    v1::Pulse {
        tenant: "acme".into(),
        product_sku: "vm.small".into(),
        use_unity: "hour".into(),
        used_amount: Some(v1::Decimal { unscaled: 125, scale: 1 }),
        time: Some(prost_types::Timestamp { seconds: SECONDS, nanos: 0 }),
        ..v1::Pulse::default()
    }
}

fn pulse_of(tenant: &str) -> v1::Pulse {
    v1::Pulse { tenant: tenant.into(), ..pulse() }
}

/// A batch without identity.
fn plain(pulses: Vec<v1::Pulse>) -> v1::PulseBatch {
    v1::PulseBatch { batch: 7, pulses, ..v1::PulseBatch::default() }
}

fn numbered(pulses: Vec<v1::Pulse>) -> v1::PulseBatch {
    v1::PulseBatch { producer_id: vec![9; 16], first_sequence: 100, ..plain(pulses) }
}

fn backfill(name: &str, content_digest: &[u8]) -> Option<v1::Backfill> {
    Some(v1::Backfill { name: name.into(), content_digest: content_digest.to_vec() })
}

/// The other side of [`plan`], with what a test may change.
struct Edge {
    generation: Generation,
    limits: Limits,
    scope: Scope,
}

impl Default for Edge {
    fn default() -> Self {
        let generation = Generation::new(LogId([1; 16]), PARTITIONS, 42);
        Self { generation, limits: Limits::default(), scope: Scope::ALL }
    }
}

impl Edge {
    fn of(tenant: &str) -> Self {
        Self { scope: Scope::of(Tenant::new(tenant).unwrap()), ..Self::default() }
    }

    fn plan(&self, batch: &v1::PulseBatch) -> Result<Plan, Box<Refusal>> {
        self.plan_bytes(prost::Message::encode_to_vec(batch))
    }

    fn plan_bytes(&self, message: impl Into<Bytes>) -> Result<Plan, Box<Refusal>> {
        let refuse_refunds: &dyn NegativePolicy = &|sku: &str| sku == "no-refunds";
        let context = Context {
            generation: &self.generation,
            limits: &self.limits,
            negative: refuse_refunds,
            scope: &self.scope,
            received_at: Timestamp::EPOCH,
            correlation_id: "request-1",
        };
        plan(&message.into(), &context)
    }
}
