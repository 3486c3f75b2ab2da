//! Usage rows as table rows, and the scan over them.

use domain::{
    Aggregate, Cell, Dimensions, Epoch, LogId, Partition, Quantity, RowKey, SegmentId, Sku, Tenant,
    Unit, UsageRow,
    store::{StoreError, UsageFilter},
    usage::ResourceKey,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Params, Row, params};

use super::{
    blocks,
    failure::{Failure, damaged, limit_of, signed, signed_bound, time, unsigned},
};

/// Writes a row, or replaces the stored one unless that was folded further.
pub(super) const UPSERT: &str = "
    INSERT INTO usage_segment (tenant, window_start, product_sku, use_unity, dimensions, epoch,
        log_id, log_partition, segment_start, offset_last, count, sum_hi, sum_lo, min_hi, min_lo,
        max_hi, max_lo, last_hi, last_lo, time_first, time_last)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
        ?20, ?21)
    ON CONFLICT DO UPDATE SET
        offset_last = excluded.offset_last, count = excluded.count,
        sum_hi = excluded.sum_hi, sum_lo = excluded.sum_lo,
        min_hi = excluded.min_hi, min_lo = excluded.min_lo,
        max_hi = excluded.max_hi, max_lo = excluded.max_lo,
        last_hi = excluded.last_hi, last_lo = excluded.last_lo,
        time_first = excluded.time_first, time_last = excluded.time_last
    WHERE excluded.offset_last >= offset_last";

pub(super) fn upsert(statement: &mut CachedStatement<'_>, row: &UsageRow) -> Result<(), Failure> {
    let RowKey { resource, window_start, segment } = &row.key;
    let Cell { offset_last, aggregate } = &row.cell;
    let count = i64::try_from(aggregate.count)
        .map_err(|_| StoreError::Fatal(format!("count {} is beyond 63 bits", aggregate.count)))?;
    let (sum, min) = (halves(aggregate.sum), halves(aggregate.min));
    let (max, last) = (halves(aggregate.max), halves(aggregate.last));
    statement.execute(params![
        resource.tenant.as_str(),
        window_start.micros(),
        resource.product_sku.as_str(),
        resource.use_unity.as_str(),
        resource.dimensions.as_str(),
        segment.epoch.0,
        segment.log_id.0.as_slice(),
        segment.partition.0,
        signed(segment.start)?,
        signed(*offset_last)?,
        count,
        sum.0,
        sum.1,
        min.0,
        min.1,
        max.0,
        max.1,
        last.0,
        last.1,
        aggregate.time_first.micros(),
        aggregate.time_last.micros(),
    ])?;
    Ok(())
}

/// The upper 64 bits, signed, and the lower 64, read as signed.
fn halves(quantity: Quantity) -> (i64, i64) {
    #[allow(clippy::cast_possible_truncation)] // The cut is the point.
    let (high, low) = ((quantity.raw() >> 64) as i64, quantity.raw() as i64);
    (high, low)
}

fn whole(high: i64, low: i64) -> Quantity {
    Quantity::from_raw((i128::from(high) << 64) | i128::from(low.cast_unsigned()))
}

/// Takes rows off a scan. Neighbours mostly share their names, which are then kept once.
#[derive(Default)]
struct Reader {
    last: Option<ResourceKey>,
}

impl Reader {
    fn take(&mut self, row: &Row<'_>) -> Result<UsageRow, Failure> {
        let resource = self.resource(row)?;
        let segment = SegmentId {
            epoch: Epoch(row.get(5)?),
            log_id: LogId(row.get(6)?),
            partition: Partition(row.get(7)?),
            start: unsigned(row.get(8)?)?,
        };
        let key = RowKey { resource, window_start: time(row.get(1)?)?, segment };
        let cell = Cell { offset_last: unsigned(row.get(9)?)?, aggregate: aggregate(row)? };
        Ok(UsageRow { key, cell })
    }

    fn resource(&mut self, row: &Row<'_>) -> Result<ResourceKey, Failure> {
        let [tenant, sku, unit, dimensions] =
            [text(row, 0)?, text(row, 2)?, text(row, 3)?, text(row, 4)?];
        let resource = match self.last.take() {
            Some(last) => ResourceKey {
                tenant: again(last.tenant, Tenant::as_str, tenant, new_tenant)?,
                product_sku: again(last.product_sku, Sku::as_str, sku, new_sku)?,
                use_unity: again(last.use_unity, Unit::as_str, unit, new_unit)?,
                dimensions: again(last.dimensions, Dimensions::as_str, dimensions, new_dimensions)?,
            },
            None => ResourceKey {
                tenant: new_tenant(tenant)?,
                product_sku: new_sku(sku)?,
                use_unity: new_unit(unit)?,
                dimensions: new_dimensions(dimensions)?,
            },
        };
        self.last = Some(resource.clone());
        Ok(resource)
    }
}

fn again<T>(
    last: T,
    text_of: impl Fn(&T) -> &str,
    text: &str,
    new: impl Fn(&str) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if text_of(&last) == text { Ok(last) } else { new(text) }
}

fn new_tenant(text: &str) -> Result<Tenant, Failure> {
    Tenant::new(text).map_err(|_| damaged("tenant", text))
}

fn new_sku(text: &str) -> Result<Sku, Failure> {
    Sku::new(text).map_err(|_| damaged("SKU", text))
}

fn new_unit(text: &str) -> Result<Unit, Failure> {
    Unit::new(text).map_err(|_| damaged("unit", text))
}

fn new_dimensions(text: &str) -> Result<Dimensions, Failure> {
    Dimensions::from_canonical(text).ok_or_else(|| damaged("dimensions", text))
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, Failure> {
    row.get_ref(column)?.as_str().map_err(|error| damaged("text", &error.to_string()))
}

fn aggregate(row: &Row<'_>) -> Result<Aggregate, Failure> {
    let quantity = |column: usize| -> Result<Quantity, Failure> {
        Ok(whole(row.get(column)?, row.get(column + 1)?))
    };
    let count: i64 = row.get(10)?;
    Ok(Aggregate {
        count: u64::try_from(count).map_err(|_| damaged("count", &count.to_string()))?,
        sum: quantity(11)?,
        min: quantity(13)?,
        max: quantity(15)?,
        last: quantity(17)?,
        time_first: time(row.get(19)?)?,
        time_last: time(row.get(20)?)?,
    })
}

fn collect(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    rows: &mut Vec<UsageRow>,
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query(params)?;
    let mut reader = Reader::default();
    while let Some(row) = found.next()? {
        rows.push(reader.take(row)?);
    }
    Ok(())
}

/// Rows of a segment within tenants' days.
pub(super) fn of_segment(
    connection: &Connection,
    segment: SegmentId,
    places: &[(Tenant, i32)],
) -> Result<Vec<UsageRow>, Failure> {
    const DAY_MICROS: i64 = 86_400_000_000;
    let SegmentId { log_id, partition, epoch, start } = segment;
    // One place named twice must not give its rows twice.
    let places: std::collections::BTreeSet<_> = places.iter().collect();
    let mut rows = Vec::new();
    for (tenant, day) in places {
        let from = i64::from(*day) * DAY_MICROS;
        let (tenant, log_id, start) = (tenant.as_str(), log_id.0.as_slice(), signed_bound(start));
        collect(
            connection,
            "SELECT * FROM usage_segment WHERE tenant = ?1 AND window_start >= ?2 AND window_start < ?3
             AND epoch = ?4 AND log_id = ?5 AND log_partition = ?6 AND segment_start = ?7",
            params![tenant, from, from + DAY_MICROS, epoch.0, log_id, partition.0, start],
            &mut rows,
        )?;
    }
    Ok(rows)
}

/// Where in a tenant's rows a scan begins.
#[derive(Clone, Copy)]
enum Start<'a> {
    /// At the first window of the filter.
    Period,
    /// Behind this row.
    After(&'a RowKey),
}

/// The rows that pass, tenant by tenant: each tenant's period is one range of the table, so that a
/// period of all tenants costs two steps down the tree a tenant and no reading past what is asked.
pub(super) fn scan(
    connection: &Connection,
    filter: &UsageFilter,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<UsageRow>, Failure> {
    let mut rows = Vec::new();
    let mut next = first_tenant(connection, filter, after)?;
    while let Some(tenant) = next {
        if rows.len() >= limit {
            break;
        }
        let start = match after {
            Some(key)
                if *key.resource.tenant.as_str() == *tenant && key.window_start >= filter.from =>
            {
                Start::After(key)
            }
            _ => Start::Period,
        };
        scan_tenant(connection, filter, &tenant, start, limit - rows.len(), &mut rows)?;
        next = match filter.tenant {
            Some(_) => None,
            None => tenant_from(connection, TENANT_BEHIND, &tenant)?,
        };
    }
    Ok(rows)
}

/// Tenants that have rows, behind one; each is a step down two trees.
pub(super) fn tenants(
    connection: &Connection,
    after: Option<&Tenant>,
    limit: usize,
) -> Result<Vec<Tenant>, Failure> {
    let mut tenants: Vec<Tenant> = Vec::new();
    while tenants.len() < limit {
        // No name is empty, so the first is behind the empty one.
        let behind = tenants.last().or(after).map_or("", Tenant::as_str);
        let in_rows = tenant_from(connection, TENANT_BEHIND, behind)?;
        let in_blocks = tenant_from(connection, blocks::TENANT_BEHIND, behind)?;
        let Some(next) = in_rows.into_iter().chain(in_blocks).min() else { break };
        tenants.push(new_tenant(&next)?);
    }
    Ok(tenants)
}

const TENANT_BEHIND: &str = "SELECT min(tenant) FROM usage_segment WHERE tenant > ?1";

fn first_tenant(
    connection: &Connection,
    filter: &UsageFilter,
    after: Option<&RowKey>,
) -> Result<Option<String>, Failure> {
    let least = after.map_or("", |key| key.resource.tenant.as_str());
    match &filter.tenant {
        Some(tenant) => Ok((tenant.as_str() >= least).then(|| tenant.as_str().to_owned())),
        None => tenant_from(
            connection,
            "SELECT min(tenant) FROM usage_segment WHERE tenant >= ?1",
            least,
        ),
    }
}

fn tenant_from(connection: &Connection, sql: &str, least: &str) -> Result<Option<String>, Failure> {
    let found = connection.prepare_cached(sql)?.query_row([least], |row| row.get(0)).optional()?;
    Ok(found.flatten())
}

const SCAN_PERIOD: &str = "
    SELECT * FROM usage_segment
    WHERE tenant = ?1 AND window_start >= ?2 AND window_start < ?3
      AND (?4 IS NULL OR product_sku = ?4) AND (?5 IS NULL OR use_unity = ?5)
    ORDER BY window_start, product_sku, use_unity, dimensions, epoch, log_id, log_partition,
             segment_start
    LIMIT ?6";

const SCAN_AFTER: &str = "
    SELECT * FROM usage_segment
    WHERE tenant = ?1
      AND (window_start, product_sku, use_unity, dimensions, epoch, log_id, log_partition,
           segment_start) > (?2, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
      AND window_start < ?3
      AND (?4 IS NULL OR product_sku = ?4) AND (?5 IS NULL OR use_unity = ?5)
    ORDER BY window_start, product_sku, use_unity, dimensions, epoch, log_id, log_partition,
             segment_start
    LIMIT ?6";

fn scan_tenant(
    connection: &Connection,
    filter: &UsageFilter,
    tenant: &str,
    start: Start<'_>,
    limit: usize,
    rows: &mut Vec<UsageRow>,
) -> Result<(), Failure> {
    let (to, limit) = (filter.to.micros(), limit_of(limit));
    let sku = filter.product_sku.as_ref().map(Sku::as_str);
    let unit = filter.use_unity.as_ref().map(Unit::as_str);
    match start {
        Start::Period => {
            let from = filter.from.micros();
            collect(connection, SCAN_PERIOD, params![tenant, from, to, sku, unit, limit], rows)
        }
        Start::After(RowKey { resource, window_start, segment }) => collect(
            connection,
            SCAN_AFTER,
            params![
                tenant,
                window_start.micros(),
                to,
                sku,
                unit,
                limit,
                resource.product_sku.as_str(),
                resource.use_unity.as_str(),
                resource.dimensions.as_str(),
                segment.epoch.0,
                segment.log_id.0.as_slice(),
                segment.partition.0,
                signed_bound(segment.start),
            ],
            rows,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_quantity_survives_its_two_halves(raw: i128) {
            let (high, low) = halves(Quantity::from_raw(raw));
            proptest::prop_assert_eq!(whole(high, low).raw(), raw);
        }
    }

    #[test]
    fn every_page_is_found_by_a_step_down_the_tree() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&super::super::schema::KIND.schema.concat()).unwrap();
        for (sql, seek) in [
            (SCAN_PERIOD, "(tenant=? AND window_start>? AND window_start<?)"),
            (SCAN_AFTER, "(tenant=? AND (window_start,product_sku,use_unity,dimensions"),
        ] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
            let plan: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(plan.len(), 1, "no sorting: {plan:?}");
            assert!(plan[0].contains(seek), "{plan:?}");
        }
    }
}
