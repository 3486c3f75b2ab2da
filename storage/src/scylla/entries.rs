//! Billing's journals, each one CQL partition.
//!
//! An append is one compare-and-set on the journal's next place, which adds the entry and moves that
//! place in one decision: there is no gap and no second entry, whoever else is adding, and nothing is
//! read first. Reads are serial: they finish what is being decided before they answer, so what one
//! reader saw no later one misses, even of a process that died in between.

use domain::billing::Appended;

use super::{
    client::Client,
    error::{Failure, damaged},
    session::Decided,
};
use crate::answers::beyond_next;

/// Adds an entry if `place` is the journal's next one.
pub(super) async fn append(
    client: &Client,
    journal: &str,
    place: u64,
    entry: &[u8],
) -> Result<Appended, Failure> {
    // No journal grows to the last of these, so it is refused for every place behind it as well.
    let at = i64::try_from(place).unwrap_or(i64::MAX).min(i64::MAX - 1);
    // Without entries there is no number yet.
    let expected = (at > 0).then_some(at);
    let values = (at + 1, journal, expected, journal, at, entry);
    let statement = &client.statements.append_entry;
    match client.link.decide_against(statement, values, "next_place").await? {
        Decided::Done => Ok(Appended::Added),
        Decided::Refused(next) => refused(journal, place, next),
    }
}

/// What it means that another place is the next.
fn refused(journal: &str, place: u64, stored: Option<i64>) -> Result<Appended, Failure> {
    let stored = stored.unwrap_or(0);
    let next = u64::try_from(stored).map_err(|_| damaged("next place", stored))?;
    if place < next {
        return Ok(Appended::Taken);
    }
    Err(beyond_next(journal, place, next).into())
}

/// Entries from a place on.
pub(super) async fn page(
    client: &Client,
    journal: &str,
    from: u64,
    limit: usize,
) -> Result<Vec<Vec<u8>>, Failure> {
    let Ok(mut next) = i64::try_from(from) else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    let (mut bytes, mut gap) = (0, None);
    while entries.len() < limit {
        let asked = rows_asked(entries.len(), bytes).min(limit - entries.len());
        let values = (journal, next, i32::try_from(asked).expect("bounded"));
        let rows: Vec<(i64, Vec<u8>)> =
            client.link.read(&client.statements.entries, values).await?;
        let mut is_last = rows.len() < asked;
        for (place, entry) in rows {
            if place != next {
                // Replicas answer one after another, and entries may have come in between. But what
                // is followed by an entry is at a quorum, so the next read finds it.
                if gap.replace(next) == Some(next) {
                    return Err(damaged("journal without its place", (journal, next)));
                }
                is_last = false;
                break;
            }
            bytes += entry.len();
            entries.push(entry);
            next += 1;
        }
        if is_last {
            break;
        }
    }
    Ok(entries)
}

/// Rows to ask for, after so many entries of so many bytes together: most entries are small, some
/// are megabytes, and an answer is held in memory whole, by the server too.
fn rows_asked(entries: usize, bytes: usize) -> usize {
    const FIRST_ROWS: usize = 16;
    const ANSWER_ROWS_MAX: usize = 1_000;
    const ANSWER_BYTES: usize = 8 << 20;
    if entries == 0 {
        return FIRST_ROWS;
    }
    let entry_bytes = (bytes / entries).max(1);
    (ANSWER_BYTES / entry_bytes).clamp(1, ANSWER_ROWS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_the_entries_the_fewer_are_asked_for() {
        for (entries, bytes, asked) in [
            (0, 0, 16),
            (16, 0, 1_000),
            (16, 16 * 500, 1_000),
            (16, 16 << 20, 8),
            (16, 16 * domain::billing::ENTRY_BYTES_MAX, 2),
        ] {
            assert_eq!(rows_asked(entries, bytes), asked, "{entries} of {bytes}");
        }
    }
}
