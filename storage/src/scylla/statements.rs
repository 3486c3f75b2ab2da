//! Every statement of the two ports, prepared at open, so that no request carries its text and a
//! table that is missing or different is found before anything is read.

use scylla::statement::prepared::PreparedStatement;

use super::{error::Failure, session::Preparer};

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $how:ident = $text:expr;)*) => {
        /// The prepared statements, by what they do.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: PreparedStatement,)*
        }

        impl Statements {
            /// Prepares all of them.
            pub(super) async fn prepare(preparer: &Preparer<'_>) -> Result<Self, Failure> {
                Ok(Self { $($name: preparer.$how($text).await?,)* })
            }
        }
    };
}

// Tables were made for several shards of a tenant's day. Nothing ever asked for more than one, so
// `shard` is 0 in every row, and `shards` is 1.
statements! {
    insert_row: prepare = "
        INSERT INTO {keyspace}.usage_segment (tenant, window_day, shard, window_start, product_sku,
            use_unity, dimensions, epoch, log_id, log_partition, segment_start, cell)
        VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    /// Of a tenant's day, windows that start in a range.
    rows_in_period: prepare = "
        SELECT window_start, product_sku, use_unity, dimensions, epoch, log_id, log_partition,
            segment_start, cell
        FROM {keyspace}.usage_segment
        WHERE tenant = ? AND window_day = ? AND shard = 0
            AND window_start >= ? AND window_start < ? LIMIT ?";
    /// The same behind a key.
    rows_after: prepare = "
        SELECT window_start, product_sku, use_unity, dimensions, epoch, log_id, log_partition,
            segment_start, cell
        FROM {keyspace}.usage_segment
        WHERE tenant = ? AND window_day = ? AND shard = 0
            AND (window_start, product_sku, use_unity, dimensions, epoch, log_id, log_partition,
                segment_start) > (?, ?, ?, ?, ?, ?, ?, ?)
            AND (window_start) < (?) LIMIT ?";

    delete_row: prepare = "
        DELETE FROM {keyspace}.usage_segment
        WHERE tenant = ? AND window_day = ? AND shard = 0 AND window_start = ? AND product_sku = ?
            AND use_unity = ? AND dimensions = ? AND epoch = ? AND log_id = ? AND log_partition = ?
            AND segment_start = ?";

    block_map: prepare = BLOCK_MAP;
    /// The map, for one that is about to replace it.
    decided_block_map: prepare_serial = BLOCK_MAP;
    replace_block_map: prepare_decision = "
        UPDATE {keyspace}.block_map SET version = ?, map = ? WHERE registry = 0 IF version = ?";
    block_marks: prepare_serial = "
        SELECT places FROM {keyspace}.block_mark WHERE log_id = ?";
    insert_block_mark: prepare_decision = "
        INSERT INTO {keyspace}.block_mark (log_id, number, places) VALUES (?, ?, ?) IF NOT EXISTS";
    insert_block_page: prepare = "
        INSERT INTO {keyspace}.block_page (block, page_group, number, bytes) VALUES (?, ?, ?, ?)";
    insert_block_first: prepare = "
        INSERT INTO {keyspace}.block_first (block, first_key, number) VALUES (?, ?, ?)";
    find_block_page: prepare = "
        SELECT number FROM {keyspace}.block_first WHERE block = ? AND first_key <= ?
        ORDER BY first_key DESC LIMIT 1";
    last_block_page: prepare = "
        SELECT number FROM {keyspace}.block_first WHERE block = ? ORDER BY first_key DESC LIMIT 1";
    block_pages: prepare = "
        SELECT number, bytes FROM {keyspace}.block_page
        WHERE block = ? AND page_group = ? AND number >= ? LIMIT ?";
    delete_block_group: prepare = "
        DELETE FROM {keyspace}.block_page WHERE block = ? AND page_group = ?";
    delete_block_firsts: prepare = "DELETE FROM {keyspace}.block_first WHERE block = ?";
    insert_block_manifest: prepare = "
        INSERT INTO {keyspace}.block_manifest (block, cell) VALUES (?, ?)";
    block_manifest: prepare = "SELECT cell FROM {keyspace}.block_manifest WHERE block = ?";
    delete_block_manifest: prepare = "DELETE FROM {keyspace}.block_manifest WHERE block = ?";
    /// Of every block some; there are tens.
    stored_blocks: prepare = "SELECT DISTINCT block FROM {keyspace}.block_first";

    insert_tenant: prepare = "
        INSERT INTO {keyspace}.usage_tenant (part, tenant) VALUES (?, ?) USING TIMESTAMP 1";
    insert_day: prepare = "
        INSERT INTO {keyspace}.usage_tenant_day (tenant, window_day, shard) VALUES (?, ?, 0)
        USING TIMESTAMP 1";
    tenants_from: prepare = "
        SELECT tenant FROM {keyspace}.usage_tenant WHERE part = ? AND tenant >= ? LIMIT ?";
    tenants_after: prepare = "
        SELECT tenant FROM {keyspace}.usage_tenant WHERE part = ? AND tenant > ? LIMIT ?";
    days: prepare = "
        SELECT window_day FROM {keyspace}.usage_tenant_day
        WHERE tenant = ? AND window_day >= ? AND window_day <= ?";

    insert_manifest: prepare = "
        INSERT INTO {keyspace}.segment_manifest (log_id, log_partition, epoch, segment_start, cell)
        VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
    newest_manifest: prepare = "
        SELECT segment_start, cell FROM {keyspace}.segment_manifest
        WHERE log_id = ? AND log_partition = ? AND epoch = ? LIMIT 1";
    manifests: prepare = "
        SELECT segment_start, cell FROM {keyspace}.segment_manifest
        WHERE log_id = ? AND log_partition = ? AND epoch = ? AND segment_start >= ?
        ORDER BY segment_start ASC";

    insert_progress: prepare = "
        INSERT INTO {keyspace}.partition_progress (log_id, log_partition, epoch, cell)
        VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    insert_caught_up: prepare = "
        INSERT INTO {keyspace}.partition_progress (log_id, log_partition, epoch, caught_up_at)
        VALUES (?, ?, ?, ?)";
    progress: prepare = "
        SELECT cell, caught_up_at FROM {keyspace}.partition_progress
        WHERE log_id = ? AND log_partition = ? AND epoch = ?";

    insert_state: prepare = "
        INSERT INTO {keyspace}.fold_state (digest, chunk, chunks, bytes) VALUES (?, ?, ?, ?)
        USING TIMESTAMP ?";
    state: prepare = "
        SELECT chunks, bytes FROM {keyspace}.fold_state WHERE digest = ? AND chunk = ?";
    insert_run: prepare = "
        INSERT INTO {keyspace}.id_run (log_id, log_partition, epoch, segment_start, chunk, chunks,
            bytes)
        VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    run: prepare = "
        SELECT chunks, bytes FROM {keyspace}.id_run
        WHERE log_id = ? AND log_partition = ? AND epoch = ? AND segment_start = ? AND chunk = ?";

    insert_group: prepare = "
        INSERT INTO {keyspace}.dead_letter_group (log_id, log_partition, segment_start, epoch,
            reason, tenant, offset_last, count, time_first, time_last, sample_offset, sample_index,
            product_sku, time, message)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    insert_segment_of_reason: prepare = "
        INSERT INTO {keyspace}.dead_letter_reason (log_id, log_partition, reason, segment_start,
            epoch)
        VALUES (?, ?, ?, ?, ?) USING TIMESTAMP 1";
    insert_group_of_tenant: prepare = "
        INSERT INTO {keyspace}.dead_letter_tenant (log_id, log_partition, tenant, segment_start,
            epoch, reason)
        VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP 1";
    /// The first segment and epoch with groups of a reason, at or behind one.
    next_segment_of_reason: prepare = "
        SELECT segment_start, epoch FROM {keyspace}.dead_letter_reason
        WHERE log_id = ? AND log_partition = ? AND reason = ?
            AND (segment_start, epoch) >= (?, ?) LIMIT 1";
    groups_of_tenant: prepare = "
        SELECT segment_start, epoch, reason FROM {keyspace}.dead_letter_tenant
        WHERE log_id = ? AND log_partition = ? AND tenant = ?
            AND (segment_start, epoch, reason) > (?, ?, ?)";
    /// Of one epoch of a segment, from a reason and tenant to the end of a reason.
    groups_in_segment: prepare = "
        SELECT epoch, reason, tenant, offset_last, count, time_first, time_last, sample_offset,
            sample_index, product_sku, time, message
        FROM {keyspace}.dead_letter_group
        WHERE log_id = ? AND log_partition = ? AND segment_start = ?
            AND (epoch, reason, tenant) >= (?, ?, ?) AND (epoch, reason) <= (?, ?)";
    group: prepare = "
        SELECT epoch, reason, tenant, offset_last, count, time_first, time_last, sample_offset,
            sample_index, product_sku, time, message
        FROM {keyspace}.dead_letter_group
        WHERE log_id = ? AND log_partition = ? AND segment_start = ? AND epoch = ? AND reason = ?
            AND tenant = ?";

    /// All that were registered, for one that is about to register.
    decided_generations: prepare_serial = GENERATIONS;
    generations: prepare = GENERATIONS;
    insert_generation: prepare_decision = "
        INSERT INTO {keyspace}.log_generation (registry, sequence, log_id, partitions,
            segment_records_max, segment_span, horizon, lateness, future_tolerance, window_length,
            shards, hash_seed)
        VALUES (0, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?) IF NOT EXISTS";

    /// All entries of the journal, for one that is about to add to it.
    decided_log_events: prepare_serial = LOG_EVENTS;
    log_events: prepare = LOG_EVENTS;
    insert_log_event: prepare_decision = "
        INSERT INTO {keyspace}.log_event (registry, sequence, event) VALUES (0, ?, ?)
        IF NOT EXISTS";

    /// Numbers and names, for one that is about to publish.
    decided_catalogue_names: prepare_serial = "
        SELECT sequence, version FROM {keyspace}.catalogue WHERE registry = 0";
    catalogue_names: prepare = "
        SELECT sequence, version FROM {keyspace}.catalogue WHERE registry = 0";
    catalogue: prepare_serial = "
        SELECT sequence, version, body, published_at, active FROM {keyspace}.catalogue
        WHERE registry = 0 AND sequence = ?";
    catalogue_heads: prepare = "
        SELECT sequence, version, published_at, active FROM {keyspace}.catalogue
        WHERE registry = 0";
    insert_catalogue: prepare_decision = "
        INSERT INTO {keyspace}.catalogue (registry, sequence, version, body, published_at, active)
        VALUES (0, ?, ?, ?, ?, false) IF NOT EXISTS";
    activate_catalogue: prepare_decision = "
        UPDATE {keyspace}.catalogue SET active = true WHERE registry = 0 AND sequence = ?
        IF version = ?";

    /// An entry at a journal's next place, which becomes the one behind it. One statement, so that
    /// it is decided at once, and whoever is refused hears which place is the next.
    append_entry: prepare_decision = "
        BEGIN BATCH
            UPDATE {keyspace}.journal_entry SET next_place = ? WHERE journal = ? IF next_place = ?;
            INSERT INTO {keyspace}.journal_entry (journal, place, entry) VALUES (?, ?, ?);
        APPLY BATCH";
    /// Entries of a journal from a place on.
    entries: prepare_serial = "
        SELECT place, entry FROM {keyspace}.journal_entry WHERE journal = ? AND place >= ? LIMIT ?";
}

const GENERATIONS: &str = "
    SELECT log_id, partitions, segment_records_max, segment_span, horizon, lateness,
        future_tolerance, window_length, hash_seed
    FROM {keyspace}.log_generation WHERE registry = 0";

const LOG_EVENTS: &str = "
    SELECT sequence, event FROM {keyspace}.log_event WHERE registry = 0";

const BLOCK_MAP: &str = "SELECT version, map FROM {keyspace}.block_map WHERE registry = 0";
