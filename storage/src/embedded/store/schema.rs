//! The tables of `store.db`.

use crate::embedded::{directory::STORE_FILE, file::FileKind, generation};

pub(in crate::embedded) const KIND: FileKind = FileKind {
    name: STORE_FILE,
    application_id: 0x506c_7353, // "PlsS"
    version: 5,
    schema: &[
        generation::SCHEMA,
        USAGE,
        BLOCKS,
        PROOFS,
        DEAD_LETTERS,
        CATALOGUES,
        CATALOGUE_HEADS,
        EPOCHS,
        USAGE_VIEW,
        JOURNALS,
    ],
    upgrade: Some((
        4,
        &[BLOCKS, "DROP VIEW usage; DROP TABLE IF EXISTS usage_touched;", USAGE_VIEW],
    )),
    older_remedy: "keep log.db, move store.db (and store.db-wal, if there is one) out of the data \
                   directory, and start: totals are folded again from the log. Publish catalogues \
                   and contracts again; to read invoices in the old file, use the version of the \
                   program that wrote it",
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

/// Blocks: what many segments add up to. Pages and manifests under the blocks' numbers; the map, which
/// says what counts, is one row, replaced as a whole; edges in the order in which they were marked. A
/// tenant whose rows have all gone into blocks is known by its name.
const BLOCKS: &str = "
    CREATE TABLE block_map (
        id            INTEGER PRIMARY KEY,
        version       INTEGER NOT NULL,
        map           BLOB NOT NULL
    ) STRICT;

    CREATE TABLE block_mark (
        log_id        BLOB NOT NULL,
        number        INTEGER NOT NULL,
        places        BLOB NOT NULL,
        PRIMARY KEY (log_id, number)
    ) STRICT;

    CREATE TABLE block_manifest (
        block         INTEGER PRIMARY KEY,
        cell          BLOB NOT NULL
    ) STRICT;

    CREATE TABLE block_page (
        block         INTEGER NOT NULL,
        number        INTEGER NOT NULL,
        first         BLOB NOT NULL,
        bytes         BLOB NOT NULL,
        PRIMARY KEY (block, number)
    ) STRICT;

    CREATE INDEX block_page_first ON block_page (block, first, number);

    -- Of each partition, up to where blocks stand for the rows of segments.
    CREATE TABLE block_end (
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        end_offset    INTEGER NOT NULL,
        PRIMARY KEY (log_id, log_partition, epoch)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE usage_tenant (tenant TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// Fold states are kept as long as a manifest may name them, and runs as long as the store: both
/// are small beside the log, and an audit of an old segment needs them. Both are cut into pieces
/// (`pieces.rs`), each of which says how many there are.
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
        digest        BLOB NOT NULL,
        piece         INTEGER NOT NULL,
        pieces        INTEGER NOT NULL,
        bytes         BLOB NOT NULL,
        PRIMARY KEY (digest, piece)
    ) STRICT;

    CREATE TABLE id_run (
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        segment_start INTEGER NOT NULL,
        piece         INTEGER NOT NULL,
        pieces        INTEGER NOT NULL,
        bytes         BLOB NOT NULL,
        PRIMARY KEY (log_id, log_partition, epoch, segment_start, piece)
    ) STRICT;
";

/// A group's key is in the order of a scan. The two indexes make the pages of one tenant and of one
/// reason ranges as well; each page of them looks every group up in the table.
const DEAD_LETTERS: &str = "
    CREATE TABLE dead_letter_group (
        log_id        BLOB NOT NULL,
        log_partition INTEGER NOT NULL,
        segment_start INTEGER NOT NULL,
        epoch         INTEGER NOT NULL,
        reason        TEXT NOT NULL,
        tenant        TEXT NOT NULL,
        offset_last   INTEGER NOT NULL,
        count         INTEGER NOT NULL,
        time_first    INTEGER,
        time_last     INTEGER,
        sample_offset INTEGER NOT NULL,
        sample_index  INTEGER NOT NULL,
        product_sku   TEXT NOT NULL,
        time          INTEGER,
        message       TEXT NOT NULL,
        PRIMARY KEY (log_id, log_partition, segment_start, epoch, reason, tenant)
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX dead_letter_by_reason
        ON dead_letter_group (log_id, reason, log_partition, segment_start, epoch, tenant);

    CREATE INDEX dead_letter_by_tenant
        ON dead_letter_group (log_id, tenant, log_partition, segment_start, epoch, reason);
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

/// What is asked of catalogues now and then, without their texts.
const CATALOGUE_HEADS: &str = "
    CREATE INDEX catalogue_head ON catalogue (sequence, version, published_at, active);
";

/// The journal, and which stretch of a log counts in which epoch.
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

";

/// For people with an SQL tool: the usage that is in no block yet, in the epochs that count. SQLite has no
/// exact decimals, hence `approximate`; exact totals of all time come from the program's own queries.
const USAGE_VIEW: &str = "
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
        AND NOT EXISTS (
            SELECT 1 FROM block_end AS block
            WHERE block.log_id = row.log_id AND block.log_partition = row.log_partition
              AND block.epoch = row.epoch AND row.segment_start < block.end_offset)
    )
    SELECT tenant, strftime('%Y-%m-%dT%H:%M:%SZ', window_start / 1000000, 'unixepoch') AS window,
           product_sku, use_unity, dimensions, sum(count) AS count, sum(amount) AS sum_approximate
    FROM counted
    GROUP BY tenant, window_start, product_sku, use_unity, dimensions;
";

/// Billing's journals: all that happened in billing, by journal and place from 0.
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
