//! What is measured after some days.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{BlockStore as _, Clock as _, Timestamp};
use edge::{Compute, access::Principal, paging::TokenKey};
use query_api::{
    QueryApi, QueryConfig,
    usage::request::{FieldNames, Moment, UsageRequest},
};
use runtime::Health;
use serde_json::{Value, json};
use storage::{
    choice::{Log, Usage},
    embedded::{LOG_FILE, STORE_FILE},
};

use super::{
    super::cpu,
    agents,
    world::{Cost, World},
};
use crate::{cli::serving::YearsArgs, exit::Failure};

/// Questions of each kind.
const QUESTIONS: u64 = 60;

/// A column of the answer.
#[derive(Debug)]
pub(super) struct Measured {
    day: u64,
    store_bytes: u64,
    log_bytes: u64,
    block_bytes: u64,
    blocks: usize,
    bytes_per_resource_hour: f64,
    month_of_hours: Spread,
    month_by_day: Spread,
    year_by_month: Spread,
    start: Duration,
    rss_mib: u64,
    cost: Cost,
}

/// Half and 99 of 100 were at most so long.
#[derive(Clone, Copy, Debug)]
struct Spread {
    p50: Duration,
    p99: Duration,
}

impl Measured {
    /// What a table shows.
    pub(super) const COLUMNS: [&str; 10] = [
        "day",
        "store_mib",
        "bytes_per_resource_hour",
        "blocks",
        "month_of_hours_p99_ms",
        "month_by_day_p99_ms",
        "year_by_month_p99_ms",
        "start_ms",
        "rss_mib",
        "block_ms",
    ];

    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss)] // Measures, not amounts.
    pub(super) fn document(&self) -> Value {
        let millis = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
        let Cost { hours, making, longest_making, blocks, consuming, billing } = self.cost;
        let mib = |bytes: u64| (bytes as f64 / 1_048_576.0 * 10.0).round() / 10.0;
        let each = |time: Duration, count: u64| millis(time.div_f64(count.max(1) as f64));
        json!({
            "day": self.day,
            "store_mib": mib(self.store_bytes),
            "log_mib": mib(self.log_bytes),
            "block_mib": mib(self.block_bytes),
            "blocks": self.blocks,
            "bytes_per_resource_hour": (self.bytes_per_resource_hour * 10.0).round() / 10.0,
            "month_of_hours_p50_ms": millis(self.month_of_hours.p50),
            "month_of_hours_p99_ms": millis(self.month_of_hours.p99),
            "month_by_day_p50_ms": millis(self.month_by_day.p50),
            "month_by_day_p99_ms": millis(self.month_by_day.p99),
            "year_by_month_p50_ms": millis(self.year_by_month.p50),
            "year_by_month_p99_ms": millis(self.year_by_month.p99),
            "start_ms": millis(self.start),
            "rss_mib": self.rss_mib,
            "blocks_made": blocks,
            "block_ms": each(making, blocks),
            "longest_block_ms": millis(longest_making),
            "consume_ms_per_hour": each(consuming, hours),
            "billing_ms": millis(billing),
        })
    }
}

/// Measures the world after so many days, and starts it again on the way.
///
/// # Errors
/// When a question or the start fails.
#[allow(clippy::float_arithmetic, clippy::cast_precision_loss)] // Measures, not amounts.
pub(super) async fn of(world: &mut World, args: &YearsArgs, day: u64) -> Result<Measured, Failure> {
    let start = world.restart().await?;
    let map = world.usage.block_map().await.map_err(Failure::internal)?;
    let numbers: Vec<u64> =
        map.epochs().flat_map(|(_, _, of)| of.blocks.iter().map(|block| block.number)).collect();
    let mut block_bytes = 0;
    for number in &numbers {
        let manifest = world.usage.block_manifest(*number).await.map_err(Failure::internal)?;
        block_bytes += manifest.map_or(0, |manifest| manifest.bytes);
    }
    let store_bytes = world.bytes_of(STORE_FILE);
    let hours = day * 24 * args.resources.get();
    let api = query_api(world);
    let now = world.clock.now();
    Ok(Measured {
        day,
        store_bytes,
        log_bytes: world.bytes_of(LOG_FILE),
        block_bytes,
        blocks: numbers.len(),
        bytes_per_resource_hour: store_bytes as f64 / hours as f64,
        month_of_hours: ask(&api, args, now, ("PT1H", 30, false)).await?,
        month_by_day: ask(&api, args, now, ("P1D", 30, true)).await?,
        year_by_month: ask(&api, args, now, ("P1M", 365, true)).await?,
        start,
        rss_mib: cpu::resident_mib().unwrap_or_default(),
        cost: std::mem::take(&mut world.cost),
    })
}

fn query_api(world: &World) -> QueryApi<Usage, Log> {
    let mut config = QueryConfig::new(TokenKey::new([7; 16]));
    config.compute = Compute::default();
    let ports = (Arc::clone(&world.usage), Arc::clone(&world.log));
    QueryApi::new(ports, Arc::new(world.clock.clone()), Health::new(), config)
}

/// Asks for the first page of one tenant's usage up to now, tenant by tenant.
async fn ask(
    api: &QueryApi<Usage, Log>,
    args: &YearsArgs,
    now: Timestamp,
    (window, days, by_sku): (&str, u64, bool),
) -> Result<Spread, Failure> {
    let day = domain::WindowLength::DAY;
    let to = day.start_of(now);
    let from = to.minus(Duration::from_secs(days * 86_400));
    let group_by: &[&str] = if by_sku { &["tenant", "product_sku", "use_unity"] } else { &[] };
    let mut times = Vec::new();
    for number in 0..QUESTIONS {
        let request = UsageRequest {
            tenant: agents::tenant(number * 7 % args.tenants.get()),
            from: Some(Moment::Text(from.to_string())),
            to: Some(Moment::Text(to.to_string())),
            window: window.to_owned(),
            group_by: group_by.iter().map(|name| (*name).to_owned()).collect(),
            page_size: "1000".to_owned(),
            ..UsageRequest::default()
        };
        let started = Instant::now();
        let answer = api.usage(&request, FieldNames::HTTP, &Principal::local()).await;
        times.push(started.elapsed());
        answer.map_err(|problem| Failure::internal(problem.message))?;
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    Ok(Spread { p50: at(50), p99: at(99) })
}
