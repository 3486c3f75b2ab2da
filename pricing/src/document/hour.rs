//! An hour of usage behind a line, with the stretches of the log that it was counted in, and their
//! pulses where they were asked for.

use domain::{LogId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{amount::Amount, rate, words};

/// An hour (a window of the store) of usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hour {
    /// First moment.
    #[serde(with = "words")]
    #[schema(value_type = String, format = DateTime)]
    pub window_start: Timestamp,
    /// How many pulses it came in.
    #[serde(with = "words")]
    #[schema(value_type = String, example = "12")]
    pub count: u128,
    /// Sum of their amounts.
    pub sum: Amount,
    /// Where they are in the log, in order.
    pub segments: Vec<SegmentRef>,
}

/// A stretch of the log that pulses of an hour were counted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SegmentRef {
    /// The log's generation, 32 hexadecimal digits.
    #[serde(with = "words")]
    #[schema(value_type = String, example = "0190a1b2c3d4e5f60718293a4b5c6d7e")]
    pub log_id: LogId,
    /// The partition.
    pub partition: u16,
    /// The epoch of the fold.
    pub epoch: u16,
    /// Offset of the segment's first record.
    #[serde(with = "words")]
    #[schema(value_type = String, example = "1048576")]
    pub segment_start: u64,
    /// Offset of the last record in it that changed the hour. Absent where the hour is in a block and the
    /// log was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
    #[schema(value_type = Option<String>, example = "1048600")]
    pub offset_last: Option<u64>,
    /// False where the log no longer has the records; absent where pulses were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_log: Option<bool>,
    /// The pulses that counted, in the order of the log; absent where they were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulses: Option<Vec<PulseRef>>,
    /// Pulses beyond those that an answer lists.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
    #[schema(value_type = Option<String>, example = "12")]
    pub pulses_left_out: Option<u64>,
}

/// A pulse in the log. Of the keys behind `request_id` it has those that it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PulseRef {
    /// Offset of its record.
    #[serde(with = "words")]
    #[schema(value_type = String, example = "1048576")]
    pub offset: u64,
    /// Its place in the record, from 0.
    pub index: u32,
    /// Event time.
    #[serde(with = "words")]
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Its amount.
    pub amount: Amount,
    /// Correlation id of the request that brought it.
    pub request_id: String,
    /// With `id`: the source in which the id is unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its id within tenant and source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// With `sequence`: the producer that numbered it, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<String>,
    /// Its number in the producer's order.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
    #[schema(value_type = Option<String>, example = "12")]
    pub sequence: Option<u64>,
    /// With `row`: the backfill that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<String>,
    /// Its row in the backfill.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "words::optional")]
    #[schema(value_type = Option<String>, example = "12")]
    pub row: Option<u64>,
}

impl From<&rate::Hour> for Hour {
    fn from(hour: &rate::Hour) -> Self {
        let segments = hour.segments.iter().map(SegmentRef::from);
        Self {
            window_start: hour.window_start,
            count: hour.count,
            sum: hour.sum,
            segments: segments.collect(),
        }
    }
}

impl From<&rate::SegmentPart> for SegmentRef {
    fn from(part: &rate::SegmentPart) -> Self {
        Self {
            log_id: part.segment.log_id,
            partition: part.segment.partition.0,
            epoch: part.segment.epoch.0,
            segment_start: part.segment.start.0,
            offset_last: part.offset_last.map(|offset| offset.0),
            in_log: None,
            pulses: None,
            pulses_left_out: None,
        }
    }
}
