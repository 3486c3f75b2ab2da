//! Published totals: a usage row as the message that readers of the feed get.

use domain::{UsageRow, WindowLength};
use prost::Message;

use crate::{convert::wire_time, v1};

/// Encodes a row as the key and the value of a message. Equal rows give equal bytes.
#[must_use]
pub fn encode(row: &UsageRow, window: WindowLength) -> (Vec<u8>, Vec<u8>) {
    let UsageRow { key, cell } = row;
    let (resource, segment, totals) = (&key.resource, &key.segment, &cell.aggregate);
    let key = v1::UsageTotalKey {
        tenant: resource.tenant.to_string(),
        product_sku: resource.product_sku.to_string(),
        use_unity: resource.use_unity.to_string(),
        dimensions: resource.dimensions.to_string(),
        window_start: Some(wire_time(key.window_start)),
        log_id: segment.log_id.0.to_vec(),
        partition: segment.partition.0.into(),
        epoch: segment.epoch.0.into(),
        segment_start: segment.start.0,
    };
    let encoded_key = key.encode_to_vec();
    let value = v1::UsageTotal {
        key: Some(key),
        window_end: Some(wire_time(window.window_of(row.key.window_start).end)),
        count: totals.count,
        sum: totals.sum.to_string(),
        min: totals.min.to_string(),
        max: totals.max.to_string(),
        last: totals.last.to_string(),
        time_first: Some(wire_time(totals.time_first)),
        time_last: Some(wire_time(totals.time_last)),
        offset_last: cell.offset_last.0,
    };
    (encoded_key, value.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use domain::{
        Aggregate, Cell, Dimensions, Epoch, LogId, Offset, Partition, Quantity, ResourceKey,
        RowKey, SegmentId, Sku, Tenant, Timestamp, Unit,
    };

    use super::*;

    #[test]
    fn a_total_says_what_it_counts_and_which_version_it_is() {
        let resource = ResourceKey {
            tenant: Tenant::new("acme").unwrap(),
            product_sku: Sku::new("vm").unwrap(),
            use_unity: Unit::new("hour").unwrap(),
            dimensions: Dimensions::from_pairs([("region", "se1")]),
        };
        let segment = SegmentId {
            log_id: LogId([7; 16]),
            partition: Partition(3),
            epoch: Epoch(0),
            start: Offset(40),
        };
        let window_start = Timestamp::from_parts(7_200, 0).unwrap();
        let amount = Quantity::from_decimal(-25, 1).unwrap();
        let time = Timestamp::from_parts(7_201, 0).unwrap();
        let mut row = UsageRow {
            key: RowKey { resource, window_start, segment },
            cell: Cell { offset_last: Offset(44), aggregate: Aggregate::of(amount, time) },
        };
        let (key, value) = encode(&row, WindowLength::HOUR);
        let total = v1::UsageTotal::decode(&value[..]).unwrap();
        assert_eq!(total.key, Some(v1::UsageTotalKey::decode(&key[..]).unwrap()));
        assert_eq!((total.sum.as_str(), total.count, total.offset_last), ("-2.5", 1, 44));
        assert_eq!(total.window_end.unwrap().seconds, 10_800);
        assert_eq!(total.key.unwrap().dimensions, r#"{"region":"se1"}"#);
        // A later version has the same key.
        row.cell.offset_last = Offset(45);
        let later = encode(&row, WindowLength::HOUR);
        assert_eq!(later.0, key);
        assert_ne!(later.1, value);
    }
}
