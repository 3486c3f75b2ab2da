//! Usage rows as table rows: written by partition, read by a tenant's day.

use std::collections::BTreeSet;

use domain::{
    Cell, Dimensions, Epoch, LogId, Partition, RowKey, SegmentId, Sku, Tenant, Timestamp, Unit,
    UsageRow,
    store::{StoreError, UsageFilter},
    usage::ResourceKey,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use scylla::{
    client::pager::TypedRowStream,
    value::{CqlDate, CqlTimestamp},
};

use super::{
    client::Client,
    error::{Failure, damaged, signed, signed_bound, small, unsigned},
    known::Place,
};
use crate::order;

/// Rows that are written by one request, where they share a tenant's day. Measured against one node
/// with 100 rows a day: alone 4,500 rows/s, 16 together 20,000, 64 together 30,000, 256 no more.
const ROWS_TOGETHER: usize = 64;

/// Days since 1970 as CQL's date.
pub(super) fn date(day: i32) -> CqlDate {
    CqlDate(day.cast_unsigned() ^ (1 << 31))
}

/// The inverse of [`date`].
pub(super) fn day(date: CqlDate) -> i32 {
    (date.0 ^ (1 << 31)).cast_signed()
}

/// The first millisecond at or after a moment. Windows start on whole seconds, so a search that
/// starts there misses none.
pub(super) fn millis_from(moment: Timestamp) -> CqlTimestamp {
    CqlTimestamp((moment.micros() + 999).div_euclid(1_000))
}

fn is_whole(moment: Timestamp) -> bool {
    moment.micros().rem_euclid(1_000) == 0
}

/// The places of rows, each once.
pub(super) fn places<'a>(rows: impl IntoIterator<Item = &'a UsageRow>) -> BTreeSet<Place> {
    rows.into_iter().map(|row| Place::of(&row.key)).collect()
}

/// Writes rows, many requests at once. On return all are acknowledged.
pub(super) async fn write(client: &Client, rows: &[UsageRow]) -> Result<(), Failure> {
    let mut sorted: Vec<(Place, &UsageRow)> =
        rows.iter().map(|row| (Place::of(&row.key), row)).collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut writes = client.link.writes();
    for of_place in sorted.chunk_by(|(a, _), (b, _)| a == b) {
        for together in of_place.chunks(ROWS_TOGETHER) {
            writes.add(write_together(client, together)).await?;
        }
    }
    writes.finish().await.map(drop)
}

async fn write_together(client: &Client, rows: &[(Place, &UsageRow)]) -> Result<(), Failure> {
    let values = rows.iter().map(values).collect::<Result<Vec<_>, _>>()?;
    client.link.write_together(&client.statements.insert_row, &values).await
}

/// What `insert_row` takes; the last is the time of the write.
type Written<'a> = (
    &'a str,
    CqlDate,
    CqlTimestamp,
    &'a str,
    &'a str,
    &'a str,
    i32,
    &'a [u8],
    i32,
    i64,
    Vec<u8>,
    i64,
);

fn values<'a>((place, row): &'a (Place, &'a UsageRow)) -> Result<Written<'a>, Failure> {
    let RowKey { resource, window_start, segment } = &row.key;
    if !is_whole(*window_start) {
        let message = format!("window {window_start} does not start on a whole millisecond");
        return Err(StoreError::Fatal(message).into());
    }
    Ok((
        resource.tenant.as_str(),
        date(place.window_day),
        millis_from(*window_start),
        resource.product_sku.as_str(),
        resource.use_unity.as_str(),
        resource.dimensions.as_str(),
        i32::from(segment.epoch.0),
        &segment.log_id.0,
        i32::from(segment.partition.0),
        signed(segment.start)?,
        row.cell.encode(),
        signed(row.cell.offset_last)? + 1,
    ))
}

/// What a read gives.
type Read = (CqlTimestamp, String, String, String, i32, Vec<u8>, i32, i64, Vec<u8>);

/// The rows of a place that pass the filter and stand behind `after`, in order, page by page.
/// `expected` is how many the caller will take at most.
pub(super) async fn in_place<'a>(
    client: &Client,
    place: &Place,
    filter: &'a UsageFilter,
    after: Option<&RowKey>,
    expected: usize,
) -> Result<impl Stream<Item = Result<UsageRow, Failure>> + use<'a>, Failure> {
    let rows = match after.filter(|key| key.window_start >= filter.from) {
        None => of_period(client, place, filter, expected).await?,
        Some(key) => behind(client, place, filter, key, expected).await?,
    };
    let mut reader = Reader { tenant: place.tenant.clone(), last: None };
    let rows = rows.map(move |row| reader.take(row?));
    Ok(rows.try_filter(|row| std::future::ready(order::passes(filter, &row.key))))
}

async fn of_period(
    client: &Client,
    place: &Place,
    filter: &UsageFilter,
    expected: usize,
) -> Result<TypedRowStream<Read>, Failure> {
    let Place { tenant, window_day } = place;
    let (from, to) = (millis_from(filter.from), millis_from(filter.to));
    let limit = limit(filter, expected);
    let values = (tenant.as_str(), date(*window_day), from, to, limit);
    client.link.stream(&client.statements.rows_in_period, values, expected).await
}

async fn behind(
    client: &Client,
    place: &Place,
    filter: &UsageFilter,
    key: &RowKey,
    expected: usize,
) -> Result<TypedRowStream<Read>, Failure> {
    let RowKey { resource, window_start, segment } = key;
    if !is_whole(*window_start) {
        // Between two milliseconds there is no row, so all from the next one on are behind it.
        let rest = UsageFilter { from: *window_start, ..filter.clone() };
        return of_period(client, place, &rest, expected).await;
    }
    let values = (
        place.tenant.as_str(),
        date(place.window_day),
        millis_from(*window_start),
        resource.product_sku.as_str(),
        resource.use_unity.as_str(),
        resource.dimensions.as_str(),
        i32::from(segment.epoch.0),
        segment.log_id.0.as_slice(),
        i32::from(segment.partition.0),
        signed_bound(segment.start),
        millis_from(filter.to),
        limit(filter, expected),
    );
    client.link.stream(&client.statements.rows_after, values, expected).await
}

/// How many rows the server is to give: all that the caller takes, where each of them will pass. The
/// driver reads a page ahead, which would mostly be for nothing.
fn limit(filter: &UsageFilter, expected: usize) -> i32 {
    let each_passes = filter.product_sku.is_none() && filter.use_unity.is_none();
    let limit = if each_passes { expected } else { usize::MAX };
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// Takes rows off a page. Neighbours mostly share their names, which are then kept once.
struct Reader {
    tenant: Tenant,
    last: Option<ResourceKey>,
}

impl Reader {
    fn take(&mut self, row: Read) -> Result<UsageRow, Failure> {
        let (start, sku, unit, dimensions, epoch, log_id, partition, segment_start, cell) = row;
        let resource = self.resource(&sku, &unit, &dimensions)?;
        let log_id = log_id.try_into().map_err(|bytes: Vec<u8>| damaged("log id", bytes))?;
        let segment = SegmentId {
            log_id: LogId(log_id),
            partition: Partition(small("partition", partition)?),
            epoch: Epoch(small("epoch", epoch)?),
            start: unsigned(segment_start)?,
        };
        let micros = start.0.checked_mul(1_000).and_then(Timestamp::from_micros);
        let window_start = micros.ok_or_else(|| damaged("window start", start.0))?;
        let key = RowKey { resource, window_start, segment };
        Ok(UsageRow { key, cell: Cell::decode(&cell)? })
    }

    fn resource(
        &mut self,
        sku: &str,
        unit: &str,
        dimensions: &str,
    ) -> Result<ResourceKey, Failure> {
        let last = self.last.as_ref();
        let product_sku = match last.map(|last| &last.product_sku) {
            Some(last) if last.as_str() == sku => last.clone(),
            _ => Sku::new(sku).map_err(|_| damaged("SKU", sku))?,
        };
        let use_unity = match last.map(|last| &last.use_unity) {
            Some(last) if last.as_str() == unit => last.clone(),
            _ => Unit::new(unit).map_err(|_| damaged("unit", unit))?,
        };
        let dimensions = match last.map(|last| &last.dimensions) {
            Some(last) if last.as_str() == dimensions => last.clone(),
            _ => Dimensions::from_canonical(dimensions)
                .ok_or_else(|| damaged("dimensions", dimensions))?,
        };
        let tenant = self.tenant.clone();
        let resource = ResourceKey { tenant, product_sku, use_unity, dimensions };
        self.last = Some(resource.clone());
        Ok(resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_centred_and_come_back() {
        for (days, stored) in [(0, 1 << 31), (-1, (1 << 31) - 1), (i32::MIN, 0), (1, (1 << 31) + 1)]
        {
            assert_eq!(date(days), CqlDate(stored));
            assert_eq!(day(CqlDate(stored)), days);
        }
    }

    #[test]
    fn a_search_starts_at_the_next_whole_millisecond() {
        for (micros, millis) in [(0, 0), (1, 1), (1_000, 1), (-1, 0), (-1_000, -1), (-1_001, -1)] {
            let moment = Timestamp::from_micros(micros).unwrap();
            assert_eq!(millis_from(moment), CqlTimestamp(millis), "{micros}");
        }
    }
}
