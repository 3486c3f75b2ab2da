//! `pulso bench years`: what a store is like after a day, a month, half a year and a year.
//!
//! Simulated time through the true ports: agents append numbered batches to an embedded log whose clock
//! is the bench's, a consumer folds them, blocks are made as they fall due, and each month is billed.
//! Some usage is late, and once the log is folded again from a while ago. It counts only if the totals
//! at the end equal what was sent to the last unit.

mod world;
mod agents;
mod measure;

use std::time::{Duration, Instant};

use domain::{Clock as _, Timestamp};
use serde_json::{Value, json};

use self::{agents::Agents, measure::Measured, world::World};
use super::ledger::Ledger;
use crate::{
    cli::serving::YearsArgs,
    exit::{Exit, Failure},
    output::Answer,
    serve::Serving,
};

/// Days after which is measured, as far as the bench goes, and at its end.
const MEASURED_AT: [u64; 4] = [1, 30, 180, 365];
/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200;
/// How often agents send: once a segment.
const STEP: Duration = Duration::from_secs(600);
const STEPS_PER_HOUR: u64 = 6;

/// Runs the bench.
///
/// # Errors
/// When a step fails; totals that do not match are an exit code, not an error.
pub async fn run(serving: Serving, args: YearsArgs) -> Result<Exit, Failure> {
    crate::serve::start_logs(&serving.loaded.config)?;
    let directory = tempfile::tempdir().map_err(Failure::internal)?;
    let start = Timestamp::from_parts(START, 0).expect("a moment");
    let mut world = World::open(directory.path(), &serving.loaded.config, &args, start).await?;
    world.publish(agents::catalogue()).await?;
    let mut agents = Agents::new(&args, world.log.as_ref());
    let mut measured: Vec<Measured> = Vec::new();
    let began = Instant::now();
    for day in 1..=args.days.get() {
        for _hour in 0..24 {
            for _ in 0..STEPS_PER_HOUR {
                world.clock.pass(STEP);
                agents.send(&world).await?;
            }
            world.consume().await?;
            world.make_blocks().await?;
        }
        world.bill().await?;
        world.retain().await?;
        if day == args.days.get() / 2 && args.replay {
            world.replay(Duration::from_secs(86_400)).await?;
        }
        if MEASURED_AT.contains(&day) || day == args.days.get() {
            let after = measure::of(&mut world, &args, day).await?;
            tracing::info!(?after, "measured");
            measured.push(after);
        }
    }
    world.close_segments().await?;
    let found = Ledger::of_store(&*world.usage).await?;
    let totals_match = found == agents.sent;
    if !totals_match {
        tracing::error!(differs = ?agents.sent.differences(&found), "totals differ");
    }
    let columns = Measured::COLUMNS;
    let document = json!({
        "resources": args.resources,
        "tenants": args.tenants,
        "partitions": args.partitions,
        "days": args.days,
        "simulated_from": start.to_string(),
        "simulated_to": world.clock.now().to_string(),
        "seconds": began.elapsed().as_secs(),
        "totals_match": totals_match,
        "after": measured.iter().map(Measured::document).collect::<Vec<Value>>(),
    });
    world.close().await;
    serving.printer.print(&Answer::list(document, "after", &columns))?;
    Ok(if totals_match { Exit::Success } else { Exit::CheckFailed })
}
