//! `pulso bench rate`: how fast hourly rows become lines, and nothing else.
//!
//! Tenants are rated one after the other on one core, as a billing run does with each, so memory is
//! that of one tenant. Making a tenant's rows is not measured. It counts only if the quantities of all
//! lines equal what the rows were made of, and the steps of each line add up to it.

use std::time::{Duration, Instant};

use domain::{
    Aggregate, Cell, Dimensions, Epoch, LogId, Offset, Partition, Quantity, ResourceKey, RowKey,
    SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow, Window, catalogue::Catalogue,
};
use pricing::{
    Amount, file,
    moment::Calendar,
    rate::{self, RatingTerms, Sources},
};
use serde_json::{Value, json};

use super::cpu;
use crate::{
    cli::serving::RateArgs,
    exit::{Exit, Failure},
    output::Answer,
    serve::Serving,
};

/// Runs the bench.
///
/// # Errors
/// When memory or the clock cannot be read; totals that do not match are an exit code.
pub fn run(serving: &Serving, args: &RateArgs) -> Result<Exit, Failure> {
    let document = measure(args)?;
    let matches = document["totals_match"] == Value::Bool(true);
    let columns =
        ["rows", "rows_per_second", "ns_per_row", "tenants", "lines", "rss_mib", "totals_match"];
    serving.printer.print(&Answer::single(document, &columns))?;
    Ok(if matches { Exit::Success } else { Exit::CheckFailed })
}

#[allow(clippy::float_arithmetic, clippy::cast_precision_loss)] // Rates, not amounts.
fn measure(args: &RateArgs) -> Result<Value, Failure> {
    let catalogue = catalogue(args.skus_per_tenant.get())?;
    let calendar = Calendar::UTC;
    let month = pricing::moment::month("2026-01").expect("a month");
    let (mut rated_for, mut rows, mut lines) = (Duration::ZERO, 0u64, 0u64);
    let (mut made, mut found, mut adds_up) = (Amount::ZERO, Amount::ZERO, true);
    let out_of_range = || Failure::internal("the bench's sums leave the range of an amount");
    for number in 0..args.tenants.get() {
        let usage = usage(number, args, month);
        for row in &usage {
            let sum = Amount::of(row.cell.aggregate.sum);
            made = made.checked_add(sum).ok_or_else(out_of_range)?;
        }
        let terms = RatingTerms {
            sources: Sources::LeftOut,
            ..RatingTerms::of(&catalogue, month, &calendar)
        };
        let started = Instant::now();
        let rated = rate::rate_under(&terms, &usage);
        rated_for += started.elapsed();
        rows += usage.len() as u64;
        lines += rated.lines.len() as u64;
        for line in &rated.lines {
            found = found.checked_add(line.quantity).ok_or_else(out_of_range)?;
            adds_up &= line.steps_total() == line.amount;
        }
    }
    let per_row = rated_for.as_secs_f64() * 1e9 / rows as f64;
    Ok(json!({
        "rows": rows.to_string(),
        "rows_per_second": (rows as f64 / rated_for.as_secs_f64()).round(),
        "ns_per_row": (per_row * 10.0).round() / 10.0,
        "tenants": args.tenants.to_string(),
        "keys": (args.tenants.get() * args.skus_per_tenant.get()).to_string(),
        "lines": lines.to_string(),
        "rss_mib": cpu::resident_mib().unwrap_or_default(),
        "totals_match": adds_up && made == found,
    }))
}

/// Prices of all the usual kinds, in turn.
fn catalogue(skus: u64) -> Result<Catalogue, Failure> {
    use std::fmt::Write as _;
    let models = [
        "model: per_unit, unit_price: \"0.0125\"",
        "model: graduated, tiers: [{up_to: \"1000\", unit_price: \"0.50\"}, {unit_price: \"0.40\"}]",
        "model: volume, tiers: [{up_to: \"1000\", unit_price: \"0.50\"}, {unit_price: \"0.40\"}]",
        "model: package, package_size: \"100\", package_price: \"3\"",
    ];
    let mut text = String::from("catalogue: bench\ncurrency: USD\nskus:\n");
    for (sku, model) in (0..skus).zip(models.iter().cycle()) {
        let written = writeln!(
            text,
            "  - {{sku: sku-{sku:06}, unit: hour, prices: [{{valid_from: 2020-01-01T00:00:00Z, {model}}}]}}"
        );
        written.map_err(Failure::internal)?;
    }
    Ok(file::parse("bench", text.as_bytes()).map_err(Failure::internal)?.catalogue)
}

/// A tenant's rows in the order in which a store gives them: by hour, then by SKU.
fn usage(tenant: u64, args: &RateArgs, month: Window) -> Vec<UsageRow> {
    let name = |text: String| domain::Name::new(&text).expect("a name").as_str().to_owned();
    let tenant = Tenant::new(&name(format!("tenant-{tenant:06}"))).expect("a name");
    let unit = Unit::new("hour").expect("a name");
    let skus = (0..args.skus_per_tenant.get()).map(|sku| format!("sku-{sku:06}"));
    let skus: Vec<Sku> = skus.map(|sku| Sku::new(&sku).expect("a name")).collect();
    let mut rows = Vec::new();
    let mut start = month.start;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    while start < month.end {
        for sku in &skus {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let amount = Quantity::from_raw(i128::from(state >> 20) * 1_000_003);
            let resource = ResourceKey {
                tenant: tenant.clone(),
                product_sku: sku.clone(),
                use_unity: unit.clone(),
                dimensions: Dimensions::none(),
            };
            rows.push(row(resource, start, amount));
        }
        start = start.plus(Duration::from_secs(3_600));
    }
    rows
}

fn row(resource: ResourceKey, window_start: Timestamp, amount: Quantity) -> UsageRow {
    let segment = SegmentId {
        log_id: LogId([1; 16]),
        partition: Partition(0),
        epoch: Epoch(0),
        start: Offset(0),
    };
    let aggregate = Aggregate::of(amount, window_start);
    UsageRow {
        key: RowKey { resource, window_start, segment },
        cell: Cell { offset_last: Offset(1), aggregate },
    }
}
