//! Fold states and runs of ids, cut into pieces, because neither has a bound of its own that SQLite
//! would keep in one value.

use domain::SegmentId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::failure::{Failure, damaged, signed, signed_bound};

/// Bytes of a piece. SQLite refuses a value above 10^9 bytes, and holds each that it reads or writes
/// in memory at least once; at 1 MiB that is nothing, and a state of a gigabyte is a thousand rows.
const PIECE_BYTES: usize = 1 << 20;

/// Writes the fold state of a digest. The same digest has the same bytes.
pub(super) fn write_state(
    connection: &Connection,
    digest: u128,
    state: &[u8],
) -> Result<(), Failure> {
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO fold_state VALUES (?1, ?2, ?3, ?4)")?;
    let digest = digest.to_be_bytes();
    for (piece, pieces, bytes) in cut(state) {
        insert.execute(params![digest.as_slice(), piece, pieces, bytes])?;
    }
    Ok(())
}

/// Writes the run of ids of a segment, which is the same whoever folds it.
pub(super) fn write_run(
    connection: &Connection,
    segment: SegmentId,
    run: &[u8],
) -> Result<(), Failure> {
    let mut insert = connection
        .prepare_cached("INSERT OR REPLACE INTO id_run VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let SegmentId { log_id, partition, epoch, start } = segment;
    let (log_id, start) = (log_id.0.as_slice(), signed(start)?);
    for (piece, pieces, bytes) in cut(run) {
        insert.execute(params![log_id, partition.0, epoch.0, start, piece, pieces, bytes])?;
    }
    Ok(())
}

/// The number of a piece from 0, how many there are, its bytes. No bytes are one empty piece.
fn cut(bytes: &[u8]) -> impl Iterator<Item = (i64, i64, &[u8])> {
    let count = bytes.len().div_ceil(PIECE_BYTES).max(1);
    let count = i64::try_from(count).expect("no slice has 2^63 bytes");
    let empty = bytes.is_empty().then_some(bytes);
    let pieces = bytes.chunks(PIECE_BYTES).chain(empty);
    (0..).zip(pieces).map(move |(number, piece)| (number, count, piece))
}

/// The fold state of a digest.
pub(super) fn state(connection: &Connection, digest: u128) -> Result<Option<Vec<u8>>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT piece, pieces, bytes FROM fold_state WHERE digest = ?1 ORDER BY piece",
    )?;
    let digest = digest.to_be_bytes();
    let mut rows = statement.query([digest.as_slice()])?;
    let mut joined = Joined::new("fold state");
    while let Some(row) = rows.next()? {
        joined.add(row)?;
    }
    joined.finish()
}

/// The first bytes of the fold state of a digest.
pub(super) fn state_head(
    connection: &Connection,
    digest: u128,
    bytes: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT coalesce(substr(bytes, 1, ?2), x'') FROM fold_state WHERE digest = ?1 AND piece = 0",
    )?;
    let digest = digest.to_be_bytes();
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(statement.query_row(params![digest.as_slice(), bytes], |row| row.get(0)).optional()?)
}

/// The run of ids of a segment, empty where there is none.
pub(super) fn run(connection: &Connection, segment: SegmentId) -> Result<Vec<u8>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT piece, pieces, bytes FROM id_run
         WHERE log_id = ?1 AND log_partition = ?2 AND epoch = ?3 AND segment_start = ?4
         ORDER BY piece",
    )?;
    let SegmentId { log_id, partition, epoch, start } = segment;
    let params = params![log_id.0.as_slice(), partition.0, epoch.0, signed_bound(start)];
    let mut rows = statement.query(params)?;
    let mut joined = Joined::new("run of ids");
    while let Some(row) = rows.next()? {
        joined.add(row)?;
    }
    Ok(joined.finish()?.unwrap_or_default())
}

/// Puts pieces together and sees to it that none is missing.
struct Joined {
    what: &'static str,
    next: i64,
    /// As every piece says; 0 before the first.
    pieces: i64,
    bytes: Vec<u8>,
}

impl Joined {
    fn new(what: &'static str) -> Self {
        Self { what, next: 0, pieces: 0, bytes: Vec::new() }
    }

    fn add(&mut self, row: &Row<'_>) -> Result<(), Failure> {
        let (piece, pieces): (i64, i64) = (row.get(0)?, row.get(1)?);
        if self.next == 0 {
            self.pieces = pieces;
        }
        if piece != self.next || pieces != self.pieces {
            return Err(self.missing());
        }
        let bytes = row.get_ref(2)?.as_blob().map_err(|_| damaged(self.what, "no bytes"))?;
        self.bytes.extend_from_slice(bytes);
        self.next += 1;
        Ok(())
    }

    /// The whole, or `None` where there is no piece at all.
    fn finish(self) -> Result<Option<Vec<u8>>, Failure> {
        match self.next {
            0 => Ok(None),
            _ if self.next == self.pieces => Ok(Some(self.bytes)),
            _ => Err(self.missing()),
        }
    }

    fn missing(&self) -> Failure {
        damaged(self.what, &format!("piece {} of {} is missing", self.next, self.pieces))
    }
}

#[cfg(test)]
mod tests {
    use domain::store::StoreError;
    use rusqlite::limits::Limit;

    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&super::super::schema::KIND.schema.concat()).unwrap();
        connection
    }

    #[test]
    fn pieces_are_all_of_the_bytes() {
        let connection = connection();
        for (length, expected) in
            [(0, 1), (1, 1), (PIECE_BYTES, 1), (PIECE_BYTES + 1, 2), (3 * PIECE_BYTES, 3)]
        {
            let bytes: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            assert_eq!(cut(&bytes).count(), expected);
            write_state(&connection, length as u128, &bytes).unwrap();
            assert_eq!(state(&connection, length as u128).unwrap(), Some(bytes));
        }
        assert_eq!(state(&connection, 2).unwrap(), None);
    }

    #[test]
    fn bytes_beyond_what_one_value_may_have_are_kept() {
        let connection = connection();
        let most = i32::try_from(2 * PIECE_BYTES).unwrap();
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, most).unwrap();
        let bytes = vec![7; 5 * PIECE_BYTES + 3];
        write_state(&connection, 1, &bytes).unwrap();
        assert_eq!(state(&connection, 1).unwrap().as_ref(), Some(&bytes));
        let segment = crate::conformance::samples::segment(0, 7);
        write_run(&connection, segment, &bytes).unwrap();
        assert_eq!(run(&connection, segment).unwrap(), bytes);
    }

    #[test]
    fn a_missing_piece_is_damage() {
        for lost in 0..3 {
            let connection = connection();
            write_state(&connection, 1, &vec![7; 2 * PIECE_BYTES + 1]).unwrap();
            connection.execute("DELETE FROM fold_state WHERE piece = ?1", [lost]).unwrap();
            let found = StoreError::from(state(&connection, 1).unwrap_err());
            let words = format!("piece {lost} of");
            assert!(matches!(&found, StoreError::Damaged(why) if why.contains(&words)), "{found}");
        }
    }
}
