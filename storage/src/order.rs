//! The order of scans, in one place, so that no adapter can sort otherwise.
//!
//! A tenant's period is one range of a usage scan: tenant and window start stand first. The epoch stands
//! before the log, which is why this is not the derived order of [`RowKey`].

use domain::{
    DeadLetterKey, DeadLetterReason, Epoch, LogId, Offset, Partition, RowKey, SegmentId, Timestamp,
    store::{StoreError, UsageFilter},
    usage::ResourceKey,
};

/// A [`RowKey`], compared as the port's scan sorts: tenant, window start, SKU, unit, dimensions,
/// epoch, log, partition, segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanKey(pub RowKey);

impl Ord for ScanKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for ScanKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two keys as the port's scan sorts.
#[must_use]
pub fn compare(a: &RowKey, b: &RowKey) -> std::cmp::Ordering {
    parts(a).cmp(&parts(b))
}

type Parts<'a> = (&'a str, Timestamp, [&'a str; 3], Epoch, LogId, Partition, Offset);

fn parts(key: &RowKey) -> Parts<'_> {
    let RowKey { resource, window_start, segment } = key;
    let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
    let SegmentId { log_id, partition, epoch, start } = *segment;
    let rest = [product_sku.as_str(), use_unity.as_str(), dimensions.as_str()];
    (tenant.as_str(), *window_start, rest, epoch, log_id, partition, start)
}

/// The reason that the groups of a tenant in the segment of `after` must be greater than to stand
/// behind `after`, whose key sorts by the reason before the tenant: its own reason, or the one before
/// that where the tenant is greater. Empty, which no reason is, where all of them stand behind.
#[must_use]
pub(crate) fn reason_before(after: &DeadLetterKey, tenant: &str) -> &'static str {
    let reason = after.reason.as_str();
    if tenant <= after.tenant.as_str() {
        return reason;
    }
    let words = DeadLetterReason::ALL.iter().map(|reason| reason.as_str());
    words.filter(|word| *word < reason).max().unwrap_or_default()
}

/// Offsets as stores keep a list of them: 8 bytes each, least first.
#[must_use]
pub(crate) fn bytes_of(places: &[Offset]) -> Vec<u8> {
    places.iter().flat_map(|place| place.0.to_le_bytes()).collect()
}

/// Reads what [`bytes_of`] gave.
///
/// # Errors
/// `Damaged` where it is no list of them.
pub(crate) fn places_of(bytes: &[u8]) -> Result<Vec<Offset>, StoreError> {
    let (places, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(StoreError::Damaged("an edge is no list of offsets".to_owned()));
    }
    Ok(places.iter().map(|place| Offset(u64::from_le_bytes(*place))).collect())
}

/// Tells whether a row with this key passes the filter.
#[must_use]
pub fn passes(filter: &UsageFilter, key: &RowKey) -> bool {
    let resource = &key.resource;
    (filter.from..filter.to).contains(&key.window_start)
        && filter.tenant.as_ref().is_none_or(|tenant| *tenant == resource.tenant)
        && filter.product_sku.as_ref().is_none_or(|sku| *sku == resource.product_sku)
        && filter.use_unity.as_ref().is_none_or(|unit| *unit == resource.use_unity)
}
