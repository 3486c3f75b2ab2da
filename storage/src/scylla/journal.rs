//! The journal of the logs.
//!
//! One CQL partition, decided by compare-and-set on the next number.

use domain::epochs::LogEvent;

use super::{
    client::Client,
    error::{Failure, damaged},
};
use crate::answers::another_entry;

/// Every entry that was acknowledged, oldest first.
pub(super) async fn all(client: &Client) -> Result<Vec<LogEvent>, Failure> {
    let rows: Vec<(i64, Vec<u8>)> = client.link.read(&client.statements.log_events, ()).await?;
    rows.into_iter().map(|(_, event)| Ok(LogEvent::decode(&event)?)).collect()
}

/// Adds an entry behind exactly so many others.
pub(super) async fn append(client: &Client, entries: u64, event: &LogEvent) -> Result<(), Failure> {
    let sequence = i64::try_from(entries).map_err(|_| damaged("number of entries", entries))?;
    let cell = event.encode();
    let statements = &client.statements;
    let before: Vec<(i64, Vec<u8>)> = client.link.read(&statements.decided_log_events, ()).await?;
    if before.len() as u64 != entries {
        return Err(another_entry(entries).into());
    }
    client.link.decide(&statements.insert_log_event, (sequence, &cell)).await?;
    // Whether it was done is seen by looking again, whatever the answer.
    let after: Vec<(i64, Vec<u8>)> = client.link.read(&statements.decided_log_events, ()).await?;
    match after.into_iter().find(|(found, _)| *found == sequence) {
        Some((_, stands)) if stands == cell => Ok(()),
        _ => Err(another_entry(entries).into()),
    }
}
