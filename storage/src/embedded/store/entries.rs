//! Billing journals: a table of entries by journal and place.
//!
//! An append is a look at the journal's last place and an insert, each one step down the index. One
//! thread writes, so nobody can add between the two, and all appends that wait share a commit.

use domain::{Offset, billing::Appended};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::failure::{Failure, damaged, limit_of, signed_bound};
use crate::{answers::beyond_next, embedded::file::PAGE_BYTES};

/// Bytes that an append puts into the write-ahead log, about: the entry, and the page of the index
/// that its place falls on, for neighbours in a commit are mostly of different journals.
pub(super) const fn bytes_about(entry: &[u8]) -> usize {
    entry.len() + PAGE_BYTES as usize
}

/// The last place of a journal.
const LAST: &str = "
    SELECT place FROM journal_entry WHERE journal = ?1 ORDER BY place DESC LIMIT 1";

const INSERT: &str = "INSERT INTO journal_entry (journal, place, entry) VALUES (?1, ?2, ?3)";

const PAGE: &str = "
    SELECT place, entry FROM journal_entry WHERE journal = ?1 AND place >= ?2
    ORDER BY place LIMIT ?3";

/// Adds an entry if `place` is the journal's next one.
pub(super) fn append(
    connection: &Connection,
    journal: &str,
    place: u64,
    entry: &[u8],
) -> Result<Appended, Failure> {
    let next = next_place(&mut connection.prepare_cached(LAST)?, journal)?;
    if place > next {
        return Err(beyond_next(journal, place, next).into());
    }
    if place < next {
        return Ok(Appended::Taken);
    }
    let place = signed_bound(Offset(place));
    connection.prepare_cached(INSERT)?.execute(params![journal, place, entry])?;
    Ok(Appended::Added)
}

fn next_place(last: &mut CachedStatement<'_>, journal: &str) -> Result<u64, Failure> {
    let last: Option<i64> = last.query_row([journal], |row| row.get(0)).optional()?;
    let Some(last) = last else { return Ok(0) };
    let next = u64::try_from(last).map_err(|_| damaged("place", &last.to_string()))?;
    Ok(next + 1)
}

/// Entries from a place on.
pub(super) fn page(
    connection: &Connection,
    journal: &str,
    from: u64,
    limit: usize,
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut statement = connection.prepare_cached(PAGE)?;
    let values = params![journal, signed_bound(Offset(from)), limit_of(limit)];
    let mut rows = statement.query(values)?;
    let mut entries: Vec<Vec<u8>> = Vec::new();
    while let Some(row) = rows.next()? {
        let (found, place): (i64, u64) = (row.get(0)?, from + entries.len() as u64);
        if u64::try_from(found) != Ok(place) {
            return Err(damaged("journal without its place", &format!("{journal}/{place}")));
        }
        entries.push(row.get(1)?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_and_pages_are_found_by_a_step_down_the_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&super::super::schema::KIND.schema.concat()).unwrap();
        for sql in [LAST, PAGE] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
            let plan: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(plan.len(), 1, "no sorting: {plan:?}");
            assert!(plan[0].starts_with("SEARCH") && plan[0].contains("(journal=?"), "{plan:?}");
        }
    }

    #[test]
    fn a_journal_that_lost_an_entry_is_damaged() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&super::super::schema::KIND.schema.concat()).unwrap();
        for place in 0..3 {
            append(&connection, "j", place, b"entry").unwrap();
        }
        connection.execute("DELETE FROM journal_entry WHERE place = 1", []).unwrap();
        assert_eq!(page(&connection, "j", 2, 9).unwrap().len(), 1);
        for from in [0, 1] {
            let found =
                domain::store::StoreError::from(page(&connection, "j", from, 9).unwrap_err());
            assert!(matches!(found, domain::store::StoreError::Damaged(_)), "{found}");
        }
    }
}
