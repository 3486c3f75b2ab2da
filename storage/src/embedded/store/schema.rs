//! The tables of `store.db`.

use crate::embedded::{directory::STORE_FILE, file::FileKind, generation};

pub(super) const KIND: FileKind = FileKind {
    name: STORE_FILE,
    application_id: 0x506c_7353, // "PlsS"
    version: 3,
    schema: &[generation::SCHEMA, USAGE, PROOFS, DEAD_LETTERS, CATALOGUES, EPOCHS, JOURNALS],
    upgrades: &[EPOCHS, JOURNALS],
};

/// A row's key is in the order of a scan, so a tenant's period is one range of the table. A quantity
/// is 128 bits: `_hi` * 2^64 + `_lo`, where `_lo` is 64 unsigned bits read as signed, in units of
/// 10^-18. Times are microseconds since 1970.
const USAGE: &str = "
    CREATE TABLE usage_segment (
        tenant        TEXT NOT NULL,
        window_start  INTEGER NOT NULL,
        product_sku   TEXT NOT NULL,
        use_unity     TEXT NOT NULL,
        dimensions    TEXT NOT NULL,
        epoch         INTEGER NOT NULL,
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        segment_start INTEGER NOT NULL,
        offset_last   INTEGER NOT NULL,
        count         INTEGER NOT NULL,
        sum_hi        INTEGER NOT NULL,
        sum_lo        INTEGER NOT NULL,
        min_hi        INTEGER NOT NULL,
        min_lo        INTEGER NOT NULL,
        max_hi        INTEGER NOT NULL,
        max_lo        INTEGER NOT NULL,
        last_hi       INTEGER NOT NULL,
        last_lo       INTEGER NOT NULL,
        time_first    INTEGER NOT NULL,
        time_last     INTEGER NOT NULL,
        PRIMARY KEY (tenant, window_start, product_sku, use_unity, dimensions,
                     epoch, log_id, log_partition, segment_start)
    ) STRICT, WITHOUT ROWID;
";

/// Fold states are kept as long as a manifest may name them, and runs as long as the store: both
/// are small beside the log, and an audit of an old segment needs them.
const PROOFS: &str = "
    CREATE TABLE segment_manifest (
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        segment_start INTEGER NOT NULL,
        segment_end   INTEGER NOT NULL,
        cell          BLOB NOT NULL,
        PRIMARY KEY (log_id, log_partition, epoch, segment_start)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE partition_progress (
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        folded_to     INTEGER NOT NULL,
        cell          BLOB NOT NULL,
        caught_up_at  INTEGER,
        PRIMARY KEY (log_id, log_partition, epoch)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE fold_state (
        digest BLOB PRIMARY KEY,
        state  BLOB NOT NULL
    ) STRICT;

    CREATE TABLE id_run (
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        segment_start INTEGER NOT NULL,
        run           BLOB NOT NULL,
        PRIMARY KEY (log_id, log_partition, epoch, segment_start)
    ) STRICT;

    CREATE TABLE usage_touched (
        tenant        TEXT NOT NULL,
        window_day    INTEGER NOT NULL,
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        segment_start INTEGER NOT NULL,
        PRIMARY KEY (tenant, window_day, log_id, log_partition, epoch, segment_start)
    ) STRICT, WITHOUT ROWID;
";

const DEAD_LETTERS: &str = "
    CREATE TABLE dead_letter (
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        record_offset INTEGER NOT NULL,
        pulse_index   INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        reason        TEXT NOT NULL,
        tenant        TEXT NOT NULL,
        product_sku   TEXT NOT NULL,
        time          INTEGER,
        message       TEXT NOT NULL,
        payload       BLOB NOT NULL,
        PRIMARY KEY (log_id, log_partition, record_offset, pulse_index, epoch)
    ) STRICT;

    CREATE INDEX dead_letter_by_reason
        ON dead_letter (log_id, reason, log_partition, record_offset, pulse_index, epoch);
";

const CATALOGUES: &str = "
    CREATE TABLE catalogue (
        version      TEXT NOT NULL UNIQUE,
        sequence     INTEGER PRIMARY KEY,
        text         TEXT NOT NULL,
        published_at INTEGER NOT NULL,
        active       INTEGER NOT NULL
    ) STRICT;
";

/// The journal, and since version 2 the view: it is for people with an SQL tool, and counts each
/// stretch of a log in the epoch that is active there. SQLite has no exact decimals, hence
/// `approximate`; exact totals come from the program's own queries.
const EPOCHS: &str = "
    CREATE TABLE log_event (
        sequence INTEGER PRIMARY KEY,
        event    BLOB NOT NULL
    ) STRICT;

    CREATE TABLE active_stretch (
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        from_offset   INTEGER NOT NULL,
        to_offset     INTEGER NOT NULL,
        PRIMARY KEY (log_id, log_partition, epoch)
    ) STRICT, WITHOUT ROWID;

    DROP VIEW IF EXISTS usage;
    CREATE VIEW usage AS
    WITH counted AS (
        SELECT *, (sum_hi * 18446744073709551616.0 + sum_lo
                   + CASE WHEN sum_lo < 0 THEN 18446744073709551616.0 ELSE 0.0 END) / 1e18 AS amount
        FROM usage_segment AS row
        WHERE CASE
            WHEN EXISTS (SELECT 1 FROM active_stretch AS any WHERE any.log_id = row.log_id)
            THEN EXISTS (
                SELECT 1 FROM active_stretch AS stretch
                WHERE stretch.log_id = row.log_id AND stretch.log_partition = row.log_partition
                  AND stretch.epoch = row.epoch AND row.segment_start >= stretch.from_offset
                  AND row.segment_start < stretch.to_offset)
            ELSE row.epoch = 0 END
    )
    SELECT tenant, strftime('%Y-%m-%dT%H:%M:%SZ', window_start / 1000000, 'unixepoch') AS window,
           product_sku, use_unity, dimensions, sum(count) AS count, sum(amount) AS sum_approximate
    FROM counted
    GROUP BY tenant, window_start, product_sku, use_unity, dimensions;
";

/// Billing's journals, since version 3: all that happened in billing, by journal and place from 0.
/// An entry is never changed. Not `WITHOUT ROWID`: entries may be long, and the index stays small. An
/// append of 2 KB took 73 us of CPU so, and 105 without rowids (`storage/tests/cost.rs`).
const JOURNALS: &str = "
    CREATE TABLE journal_entry (
        journal TEXT NOT NULL,
        place   INTEGER NOT NULL,
        entry   BLOB NOT NULL,
        PRIMARY KEY (journal, place)
    ) STRICT;
";
