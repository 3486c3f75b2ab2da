//! Reads over many places: a scan in order, and the rows of one segment.
//!
//! A scan walks tenants by name, then days. It reads a few places at
//! once where the ones before were small, so that a month of little usage does not take thirty round
//! trips and a page of much usage does not read thirty days.

use std::{collections::BTreeSet, future::Future};

use domain::{RowKey, SegmentId, Tenant, Timestamp, UsageRow, store::UsageFilter};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all};

use super::{
    client::Client,
    error::Failure,
    known::Place,
    rows,
    session::InFlight,
    tenants::{self, Start},
};

/// Places, or tenants, that are read at once.
const WIDTH_MAX: usize = 8;

/// Tenants whose names are read at once.
const TENANTS_TOGETHER: usize = 256;

/// Rows that pass the filter, after `after`, at most `limit`, in the port's order.
pub(super) async fn usage(
    client: &Client,
    filter: &UsageFilter,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<UsageRow>, Failure> {
    if limit == 0 || filter.from >= filter.to {
        return Ok(Vec::new());
    }
    if let Some(tenant) = &filter.tenant {
        return of_tenant(client, tenant, filter, after, limit).await;
    }
    let mut start =
        Start::At(after.map_or_else(String::new, |key| key.resource.tenant.as_str().to_owned()));
    let mut rows = Vec::new();
    loop {
        let tenants = tenants::list(client, &start, TENANTS_TOGETHER).await?;
        let last = tenants.len() < TENANTS_TOGETHER;
        if let Some(tenant) = tenants.last() {
            start = Start::Behind(tenant.clone());
        }
        let of_tenant = |tenant: Tenant, limit| async move {
            of_tenant(client, &tenant, filter, after, limit).await
        };
        rows.extend(in_order(tenants, limit - rows.len(), of_tenant).await?);
        if last || rows.len() >= limit {
            return Ok(rows);
        }
    }
}

async fn of_tenant(
    client: &Client,
    tenant: &Tenant,
    filter: &UsageFilter,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<UsageRow>, Failure> {
    let after = match after {
        Some(key) if key.resource.tenant == *tenant => Some(key),
        Some(key) if key.resource.tenant > *tenant => return Ok(Vec::new()),
        _ => None,
    };
    let first = after.map_or(filter.from, |key| key.window_start.max(filter.from));
    // The filter holds at least one microsecond, so there is one before its end.
    let last = filter.to.minus(std::time::Duration::from_micros(1));
    let days = tenants::days(client, tenant, (day_of(first), day_of(last))).await?;
    let of_day = |window_day, limit| async move {
        let place = Place { tenant: tenant.clone(), window_day };
        let after = after.filter(|key| key.window_day() == window_day);
        of_place(client, &place, filter, after, limit).await
    };
    in_order(days, limit, of_day).await
}

fn day_of(moment: Timestamp) -> i32 {
    let days = moment.interval(std::time::Duration::from_secs(86_400));
    i32::try_from(days).expect("year 9999 is 2,932,896 days")
}

async fn of_place(
    client: &Client,
    place: &Place,
    filter: &UsageFilter,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<UsageRow>, Failure> {
    let rows = rows::in_place(client, place, filter, after, limit).await?;
    rows.take(limit).try_collect().await
}

/// Reads places one after another until there are `limit` rows, several at once where they turn out
/// small.
async fn in_order<P, F: Future<Output = Result<Vec<UsageRow>, Failure>>>(
    places: impl IntoIterator<Item = P>,
    limit: usize,
    read: impl Fn(P, usize) -> F,
) -> Result<Vec<UsageRow>, Failure> {
    let mut places = places.into_iter();
    let (mut rows, mut places_read, mut width) = (Vec::new(), 0, 1);
    while rows.len() < limit {
        let together: Vec<P> = places.by_ref().take(width).collect();
        if together.is_empty() {
            break;
        }
        places_read += together.len();
        let missing = limit - rows.len();
        let found = try_join_all(together.into_iter().map(|place| read(place, missing))).await?;
        rows.extend(found.into_iter().flatten());
        // As many places as are expected to hold what is still missing.
        let expected = limit.saturating_sub(rows.len()).saturating_mul(places_read);
        width = expected.div_ceil(rows.len().max(1)).clamp(1, WIDTH_MAX);
    }
    rows.truncate(limit);
    Ok(rows)
}

/// The rows of one segment in these tenants' days.
pub(super) async fn of_segment(
    client: &Client,
    segment: SegmentId,
    places: &[(Tenant, i32)],
) -> Result<Vec<UsageRow>, Failure> {
    let place = |(tenant, window_day): &(Tenant, i32)| Place {
        tenant: tenant.clone(),
        window_day: *window_day,
    };
    let places: BTreeSet<Place> = places.iter().map(place).collect();
    let mut reads = InFlight::new(WIDTH_MAX);
    for place in &places {
        reads.add(of_segment_in(client, place, segment)).await?;
    }
    Ok(reads.finish().await?.into_iter().flatten().collect())
}

async fn of_segment_in(
    client: &Client,
    place: &Place,
    segment: SegmentId,
) -> Result<Vec<UsageRow>, Failure> {
    const EVERYTHING: UsageFilter = UsageFilter {
        tenant: None,
        product_sku: None,
        use_unity: None,
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    };
    let rows = rows::in_place(client, place, &EVERYTHING, None, usize::MAX).await?;
    rows.try_filter(|row| std::future::ready(row.key.segment == segment)).try_collect().await
}
