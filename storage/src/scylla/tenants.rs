//! Which tenants there are and which days each has: what makes a scan over all of them possible
//! without reading the whole cluster.
//!
//! It is written with the rows and before their manifest, always the same, and never taken back. The
//! client remembers what it wrote, so that a flush mostly writes none of it.

use std::collections::BTreeSet;

use domain::Tenant;
use futures_util::{TryStreamExt as _, future::try_join_all};
use scylla::value::CqlDate;

use super::{
    client::Client,
    error::{Failure, damaged},
    known::Place,
    rows::{date, day},
};

/// Parts of the list of tenants. They spread its load over nodes, and each costs a scan one more
/// small read.
const PARTS: u64 = 16;

fn part(tenant: &str) -> i32 {
    // Without a seed: every process must find it, and a client can only make its own part longer.
    let part = domain::hash::bytes64(0, tenant.as_bytes()) % PARTS;
    i32::try_from(part).expect("below 16")
}

/// Notes that rows are in these places.
pub(super) async fn write(client: &Client, places: BTreeSet<Place>) -> Result<(), Failure> {
    let (tenants, places) = client.written.missing(places);
    let statements = &client.statements;
    let mut writes = client.link.writes();
    for Place { tenant, window_day } in &places {
        let values = (tenant.as_str(), date(*window_day));
        writes.add(client.link.write(&statements.insert_day, values)).await?;
    }
    writes.finish().await?;
    let mut writes = client.link.writes();
    for tenant in &tenants {
        let values = (part(tenant.as_str()), tenant.as_str());
        writes.add(client.link.write(&statements.insert_tenant, values)).await?;
    }
    writes.finish().await?;
    client.written.remember(tenants, places);
    Ok(())
}

/// Notes tenants that may have no rows.
pub(super) async fn write_names(client: &Client, tenants: Vec<Tenant>) -> Result<(), Failure> {
    let mut writes = client.link.writes();
    for tenant in &tenants {
        let values = (part(tenant.as_str()), tenant.as_str());
        writes.add(client.link.write(&client.statements.insert_tenant, values)).await?;
    }
    writes.finish().await.map(drop)
}

/// Where a list of tenants starts.
#[derive(Clone, Debug)]
pub(super) enum Start {
    /// At this one, or the next that there is.
    At(String),
    /// Behind this one.
    Behind(Tenant),
}

/// Tenants from a start on, at most `limit`, by the bytes of their names. Fewer are the last.
pub(super) async fn list(
    client: &Client,
    start: &Start,
    limit: usize,
) -> Result<Vec<Tenant>, Failure> {
    let limit_of_part = i32::try_from(limit).unwrap_or(i32::MAX);
    let (statement, from) = match start {
        Start::At(from) => (&client.statements.tenants_from, from.as_str()),
        Start::Behind(tenant) => (&client.statements.tenants_after, tenant.as_str()),
    };
    let part_of = |part: u64| {
        let part = i32::try_from(part).expect("below 16");
        client.link.read::<(String,)>(statement, (part, from, limit_of_part))
    };
    let parts = try_join_all((0..PARTS).map(part_of)).await?;
    let names: BTreeSet<String> = parts.into_iter().flatten().map(|(name,)| name).collect();
    let tenant = |name: String| Tenant::new(&name).map_err(|_| damaged("tenant", name));
    names.into_iter().take(limit).map(tenant).collect()
}

/// Tenants behind one, at most `limit`, however many that is.
pub(super) async fn page(
    client: &Client,
    after: Option<&Tenant>,
    limit: usize,
) -> Result<Vec<Tenant>, Failure> {
    /// Names that are read of every part at once, of which a sixteenth is used.
    const TOGETHER_MAX: usize = 256;
    let mut tenants: Vec<Tenant> = Vec::new();
    loop {
        let asked = (limit - tenants.len()).min(TOGETHER_MAX);
        let last = tenants.last().or(after);
        let start =
            last.map_or_else(|| Start::At(String::new()), |last| Start::Behind(last.clone()));
        let found = list(client, &start, asked).await?;
        let is_last = found.len() < asked;
        tenants.extend(found);
        if is_last || tenants.len() == limit {
            return Ok(tenants);
        }
    }
}

/// Days of a tenant between two, inclusive, ascending.
pub(super) async fn days(
    client: &Client,
    tenant: &Tenant,
    (first, last): (i32, i32),
) -> Result<Vec<i32>, Failure> {
    /// Rows of this list are some thirty bytes.
    const PAGE_ROWS: usize = 1_000;
    let values = (tenant.as_str(), date(first), date(last));
    let statement = &client.statements.days;
    let found = client.link.stream::<(CqlDate,)>(statement, values, PAGE_ROWS).await?;
    Ok(found.map_ok(|(window_day,)| day(window_day)).try_collect().await?)
}
