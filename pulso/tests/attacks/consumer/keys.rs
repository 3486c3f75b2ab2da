//! Key bombs: a row a pulse, from an id that is sent as a SKU, as a dimension or as a tenant.

use std::collections::HashMap;

use futures_util::FutureExt;
use proto::v1::Pulse;

use super::{
    Flood,
    flood::{Answered, batch, late_pulse, numbered, pulse, send},
};
use crate::{
    attacks::Scale,
    harness::{Server, Settings},
};

pub(crate) const FLOODS: &[Flood] = &[
    Flood {
        name: "400,000 SKUs of one tenant",
        bound: "`limits.keys_per_tenant`, 250,000",
        growth_mib_max: 450,
        settings: |settings, scale| {
            let keys = scale.pick("2000", "250000");
            in_one_segment(settings).with("PULSO_LIMITS__KEYS_PER_TENANT", keys)
        },
        send: |server, scale| skus(server, scale).boxed(),
        check: |counted, scale| {
            let refused = counted.dead("too_many_keys");
            assert_eq!(refused, scale.pick(3_000, 150_000), "those above the cap");
            format!("{refused} too_many_keys")
        },
    },
    Flood {
        name: "200,000 values of a declared dimension",
        bound: "`limits.values_per_dimension`, 100,000",
        growth_mib_max: 400,
        settings: |settings, scale| {
            let values = scale.pick("2000", "100000");
            in_one_segment(settings).with("PULSO_LIMITS__VALUES_PER_DIMENSION", values)
        },
        send: |server, scale| values(server, scale).boxed(),
        check: |counted, scale| {
            let refused = counted.dead("too_many_keys");
            assert_eq!(refused, scale.pick(3_000, 100_000), "those above the cap");
            format!("{refused} too_many_keys")
        },
    },
    Flood {
        name: "400,000 tenants",
        bound: "`limits.segment_bytes` at 64 MiB: segments close before their time",
        growth_mib_max: 400,
        settings: |settings, scale| {
            settings.with("PULSO_LIMITS__SEGMENT_BYTES", scale.pick("1 MiB", "64 MiB"))
        },
        send: |server, scale| tenants(server, scale).boxed(),
        check: |counted, scale| {
            let tenants = scale.pick(10_000, 400_000);
            assert!(counted.pulses.accepted >= tenants, "all count: {counted:?}");
            assert!(counted.segments_closed > 0, "no segment is full: {counted:?}");
            format!("all counted, {} segments closed early", counted.segments_closed)
        },
    },
    Flood {
        name: "400,000 tenants, all too late",
        bound: "`limits.segment_bytes` at 64 MiB: dead letters close segments, too",
        growth_mib_max: 400,
        settings: |settings, scale| {
            settings.with("PULSO_LIMITS__SEGMENT_BYTES", scale.pick("1 MiB", "64 MiB"))
        },
        send: |server, scale| late_tenants(server, scale).boxed(),
        check: |counted, scale| {
            assert_eq!(counted.pulses.late, scale.pick(10_000, 400_000), "{counted:?}");
            assert!(counted.segments_closed > 0, "no segment is full: {counted:?}");
            format!("all too_late, {} segments closed early", counted.segments_closed)
        },
    },
];

/// A segment ends at each full ten minutes by default, and its caps begin anew: a flood across one would
/// have less refused.
fn in_one_segment(settings: Settings) -> Settings {
    settings.with("PULSO_LOG__SEGMENT_SPAN", "13h").with("PULSO_LOG__LATENESS", "1h")
}

const PULSES: u64 = 1_000;

/// Sends pulses that one producer, so one partition, gets, as `change` makes them of their number.
///
/// In two waves: the record behind a full segment closes it, and one wave may be packed into one record.
async fn each(
    server: &Server,
    (flood, count): (u8, u64),
    change: impl Fn(u64, Pulse) -> Pulse + Clone + Send + 'static,
) -> Answered {
    let one = pulse();
    let sent = move |number: u64| {
        let numbers = number * PULSES..(number + 1) * PULSES;
        batch(
            numbered(flood, 0, number * PULSES),
            numbers.map(|number| change(number, one.clone())),
        )
    };
    let batches = count / PULSES;
    let first = batches / 2;
    let mut answered = send(server, first, sent.clone()).await;
    answered.add(send(server, batches - first, move |number| sent(first + number)).await);
    answered
}

async fn skus(server: &Server, scale: Scale) -> Answered {
    let sku = |number, pulse| Pulse { product_sku: format!("request-{number}"), ..pulse };
    each(server, (b's', scale.pick(5_000, 400_000)), sku).await
}

async fn tenants(server: &Server, scale: Scale) -> Answered {
    let tenant = |number, pulse| Pulse { tenant: format!("tenant-{number}"), ..pulse };
    each(server, (b't', scale.pick(10_000, 400_000)), tenant).await
}

async fn late_tenants(server: &Server, scale: Scale) -> Answered {
    let time = late_pulse().time;
    let tenant = move |number, pulse| Pulse { tenant: format!("late-{number}"), time, ..pulse };
    each(server, (b'd', scale.pick(10_000, 400_000)), tenant).await
}

const CATALOGUE: &str = r#"
catalogue: "2024-01"
currency: USD
skus:
  - sku: vm.small
    unit: hour
    dimensions: [region]
    prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.50"}]
"#;

async fn values(server: &Server, scale: Scale) -> Answered {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), CATALOGUE).unwrap();
    server.json(&["catalog", "publish", file.path().to_str().unwrap()]).await;
    // Declared in every partition before the first value comes.
    server.drained().await;
    let region = |number, pulse| Pulse {
        properties: HashMap::from([("region".to_owned(), format!("request-{number}"))]),
        ..pulse
    };
    each(server, (b'v', scale.pick(5_000, 200_000)), region).await
}
