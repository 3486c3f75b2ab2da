//! The log generations that the store knows, in the order of their registration.
//!
//! One CQL partition, decided by compare-and-set on the next number: of two processes that register
//! at once one writes it, and the other looks again at what stands there now.

use std::time::Duration;

use domain::{LogId, WindowLength, generation::Generation, store::StoreError};

use super::{
    client::Client,
    error::{Failure, damaged, small},
};
use crate::answers::{another_log, other_parameters, unregistered};

pub(super) async fn register(
    client: &Client,
    given: &Generation,
    after: Option<LogId>,
) -> Result<(), Failure> {
    let values = columns(given)?;
    loop {
        let registered = read(client, Knowing::Decided).await?;
        if let Some(found) = registered.iter().find(|found| found.log_id == given.log_id) {
            let same = found == given;
            return if same { Ok(()) } else { Err(other_parameters(found, given).into()) };
        }
        let newest = registered.last().map(|newest| newest.log_id);
        if newest != after {
            return Err(another_log(newest, given.log_id).into());
        }
        let next = i32::try_from(registered.len()).map_err(|_| damaged("generations", "many"))?;
        let (id, partitions, records, span, horizon, lateness, future, window, seed) = &values;
        let values = (next, id, partitions, records, span, horizon, lateness, future, window, seed);
        // Whether it was done is seen by looking again, whatever the answer.
        client.link.decide(&client.statements.insert_generation, values).await?;
    }
}

/// Every generation, oldest first.
pub(super) async fn all(client: &Client) -> Result<Vec<Generation>, Failure> {
    read(client, Knowing::Settled).await
}

/// The generation of this id, from memory where it was seen before.
///
/// # Errors
/// `Conflict` where there is none.
pub(super) async fn find(client: &Client, log_id: LogId) -> Result<Generation, Failure> {
    if let Some(seen) = client.generations.get(log_id) {
        return Ok(seen);
    }
    let all = all(client).await?;
    all.into_iter()
        .find(|generation| generation.log_id == log_id)
        .ok_or_else(|| unregistered(log_id).into())
}

/// How much of what is being decided elsewhere a read must know.
enum Knowing {
    /// All that may have been decided, finishing it if need be.
    Decided,
    /// What was acknowledged.
    Settled,
}

/// log_id, partitions, segment_records_max, segment_span, horizon, lateness, future_tolerance,
/// window_length, hash_seed.
type Columns = (Vec<u8>, i32, i64, i64, i64, i64, i64, i64, i64);

async fn read(client: &Client, knowing: Knowing) -> Result<Vec<Generation>, Failure> {
    let statement = match knowing {
        Knowing::Decided => &client.statements.decided_generations,
        Knowing::Settled => &client.statements.generations,
    };
    let rows: Vec<Columns> = client.link.read(statement, ()).await?;
    let generations = rows.into_iter().map(generation).collect::<Result<Vec<_>, _>>()?;
    client.generations.add(&generations);
    Ok(generations)
}

/// # Errors
/// `Fatal` where the table would keep it otherwise than it was given.
fn columns(given: &Generation) -> Result<Columns, Failure> {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let columns = (
        given.log_id.0.to_vec(),
        i32::from(given.partitions),
        given.segment_records_max.cast_signed(),
        micros(given.segment_span),
        micros(given.horizon),
        micros(given.lateness),
        micros(given.future_tolerance),
        micros(given.window.duration()),
        given.hash_seed.cast_signed(),
    );
    if generation(columns.clone())? == *given {
        return Ok(columns);
    }
    Err(StoreError::Fatal(format!(
        "log generation {}: durations must be whole microseconds, at most 292,000 years",
        given.log_id
    ))
    .into())
}

fn generation(columns: Columns) -> Result<Generation, Failure> {
    let (id, partitions, records, span, horizon, lateness, future, window, seed) = columns;
    let duration = |micros: i64| {
        u64::try_from(micros).map(Duration::from_micros).map_err(|_| damaged("duration", micros))
    };
    let log_id = id.try_into().map_err(|bytes: Vec<u8>| damaged("log id", bytes))?;
    Ok(Generation {
        log_id: LogId(log_id),
        partitions: small("partitions", partitions)?,
        segment_records_max: records.cast_unsigned(),
        segment_span: duration(span)?,
        horizon: duration(horizon)?,
        lateness: duration(lateness)?,
        future_tolerance: duration(future)?,
        window: WindowLength::new(duration(window)?).ok_or_else(|| damaged("window", window))?,
        hash_seed: seed.cast_unsigned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_that_would_not_come_back_whole_is_refused() {
        let mut given = Generation::new(LogId([9; 16]), 1_024, u64::MAX);
        given.segment_records_max = u64::MAX;
        assert_eq!(generation(columns(&given).unwrap()).unwrap(), given);
        given.lateness += Duration::from_nanos(1);
        assert!(matches!(columns(&given), Err(Failure(StoreError::Fatal(_)))));
        given.lateness = Duration::MAX;
        assert!(matches!(columns(&given), Err(Failure(StoreError::Fatal(_)))));
    }
}
