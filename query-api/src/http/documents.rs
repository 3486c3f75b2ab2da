//! The JSON documents of the HTTP door, which scripts rely on: only ever added to.
//!
//! Decimals and 64-bit integers are strings, because most JSON readers keep 53 bits of a number.
//! Instants are RFC 3339 in UTC. They borrow from the answers they dress.

use std::{collections::BTreeMap, fmt::Display};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{
    Conservation, DeadLetter, DeadLetterGroup, Dimensions, Quantity, Sku, Tenant, Timestamp, Unit,
    quantity::Sum,
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use utoipa::ToSchema;

use crate::{
    api::UsageAnswer,
    dead_letters::DeadLettersPage,
    status::{PartitionStatus, Status},
    usage::UsageTotal,
};

fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn text_or_null<S: Serializer>(
    value: &Option<impl Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn object<S: Serializer>(dimensions: &&Dimensions, serializer: S) -> Result<S::Ok, S::Error> {
    let pairs = if dimensions.is_empty() { Vec::new() } else { dimensions.pairs() };
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (name, value) in pairs {
        map.serialize_entry(&name, &value)?;
    }
    map.end()
}

/// Totals per group and window, with how fresh they are.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub(super) struct UsageDocument<'a> {
    /// Sorted by tenant, product_sku, use_unity, dimensions and window_start.
    rows: Vec<UsageRow<'a>>,
    freshness: Freshness,
    /// For the page after this; empty on the last.
    next_page_token: &'a str,
}

/// All usage of one group in one window.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageRow<'a> {
    /// Empty where tenants are added up.
    tenant: &'a str,
    /// Empty where SKUs are added up.
    product_sku: &'a str,
    /// Empty where units are added up.
    use_unity: &'a str,
    /// The dimensions that are kept apart; those that the usage lacks are left out.
    #[serde(serialize_with = "object")]
    #[schema(value_type = BTreeMap<String, String>)]
    dimensions: &'a Dimensions,
    /// First moment of the window, cut to the range asked for.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, format = DateTime)]
    window_start: Timestamp,
    /// First moment after it.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, format = DateTime)]
    window_end: Timestamp,
    /// Pulses, as a decimal integer.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, example = "12")]
    count: u128,
    /// Sum of their amounts, exact.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, example = "-0.000000000000000001")]
    sum: Sum,
    /// Least amount.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    min: Quantity,
    /// Greatest amount.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    max: Quantity,
    /// The amount with the greatest event time.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    last: Quantity,
}

/// How fresh and how final an answer is. Both are null until something is known.
#[derive(Serialize, ToSchema)]
pub(super) struct Freshness {
    /// All that reached the log before this moment is in the answer.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    as_of: Option<Timestamp>,
    /// Windows that end at or before this moment take no more pulses but backfills.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    complete_until: Option<Timestamp>,
}

impl<'a> UsageDocument<'a> {
    pub(super) fn of(answer: &'a UsageAnswer) -> Self {
        let crate::freshness::Freshness { as_of, complete_until } = answer.freshness;
        Self {
            rows: answer.rows.iter().map(UsageRow::of).collect(),
            freshness: Freshness { as_of, complete_until },
            next_page_token: answer.next_page_token.as_deref().unwrap_or_default(),
        }
    }
}

impl<'a> UsageRow<'a> {
    fn of(total: &'a UsageTotal) -> Self {
        let UsageTotal { key, window, total } = total;
        Self {
            tenant: key.tenant.as_ref().map_or("", Tenant::as_str),
            product_sku: key.product_sku.as_ref().map_or("", Sku::as_str),
            use_unity: key.use_unity.as_ref().map_or("", Unit::as_str),
            dimensions: &key.dimensions,
            window_start: window.start,
            window_end: window.end,
            count: total.count,
            sum: total.sum,
            min: total.min,
            max: total.max,
            last: total.last,
        }
    }
}

/// Where the pipeline stands.
#[derive(Serialize, ToSchema)]
#[schema(as = Status)]
pub(super) struct StatusDocument<'a> {
    /// Every readiness check passes and no partition has a problem.
    healthy: bool,
    partitions: Vec<Partition>,
    pulses: Pulses,
    /// Component and version.
    versions: &'a BTreeMap<String, String>,
    /// Why it is not healthy, for a person.
    problems: &'a [String],
}

/// Where one partition of the log stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Partition {
    /// Generation of the log, from 1.
    generation: u32,
    partition: u16,
    /// Offset the next record will get.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    log_end: u64,
    /// All records below are in the store.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    folded_to: u64,
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    lag_records: u64,
    /// Log time of the last folded record.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    folded_time: Option<Timestamp>,
}

/// What became of everything read: `read` is the sum of the others.
#[derive(Serialize, ToSchema)]
pub(super) struct Pulses {
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    read: u64,
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    control: u64,
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    accepted: u64,
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    duplicate: u64,
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    late: u64,
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    dead_lettered: u64,
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    erased: u64,
}

impl<'a> StatusDocument<'a> {
    pub(super) fn of(status: &'a Status) -> Self {
        let Conservation { read, control, accepted, duplicate, late, dead_lettered, erased } =
            status.pulses;
        Self {
            healthy: status.is_healthy(),
            partitions: status.partitions.iter().map(Partition::of).collect(),
            pulses: Pulses { read, control, accepted, duplicate, late, dead_lettered, erased },
            versions: &status.versions,
            problems: &status.problems,
        }
    }
}

impl Partition {
    fn of(status: &PartitionStatus) -> Self {
        Self {
            generation: status.generation,
            partition: status.partition.0,
            log_end: status.log_end.0,
            folded_to: status.folded_to.0,
            lag_records: status.lag_records(),
            folded_time: status.folded_time,
        }
    }
}

/// Dead letters in groups, in the order of the log, without their bytes.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetters)]
pub(super) struct DeadLettersDocument<'a> {
    entries: Vec<DeadLetterEntry<'a>>,
    /// For the page after this; empty on the last.
    next_page_token: &'a str,
}

/// Pulses, or whole records, that were set aside.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(super) struct DeadLetterEntry<'a> {
    partition: u16,
    /// The record; in a list, of the first of the group.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    offset: u64,
    /// Place of the pulse in its record; 0 for a whole record.
    index: u32,
    /// Why, for example `too_late`.
    reason: &'static str,
    /// Empty where it is not known.
    tenant: &'a str,
    /// Empty where it is not known.
    product_sku: &'a str,
    /// Event time, where it is known.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    time: Option<Timestamp>,
    /// What was wrong with which values.
    message: &'a str,
    /// Dead letters of the group.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    count: u64,
    /// The last record with one of them.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    offset_last: u64,
    /// Least event time among them, where any is known.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    time_first: Option<Timestamp>,
    /// Greatest event time among them, where any is known.
    #[serde(serialize_with = "text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    time_last: Option<Timestamp>,
    /// Where the group's segment of the log starts; only in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_start: Option<String>,
    /// The bytes in base64; only when one letter is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

impl<'a> DeadLettersDocument<'a> {
    pub(super) fn of(page: &'a DeadLettersPage) -> Self {
        Self {
            entries: page.entries.iter().map(DeadLetterEntry::of_group).collect(),
            next_page_token: page.next_page_token.as_deref().unwrap_or_default(),
        }
    }
}

impl<'a> DeadLetterEntry<'a> {
    fn of_group(group: &'a DeadLetterGroup) -> Self {
        let DeadLetterGroup { key, offset_last, count, time_first, time_last, sample } = group;
        Self {
            partition: key.segment.partition.0,
            offset: sample.offset.0,
            index: sample.index,
            reason: key.reason.as_str(),
            tenant: &key.tenant,
            product_sku: &sample.product_sku,
            time: sample.time,
            message: &sample.message,
            count: *count,
            offset_last: offset_last.0,
            time_first: *time_first,
            time_last: *time_last,
            segment_start: Some(key.segment.start.0.to_string()),
            payload: None,
        }
    }

    /// One with its bytes.
    pub(super) fn of(letter: &'a DeadLetter) -> Self {
        Self {
            partition: letter.partition.0,
            offset: letter.offset.0,
            index: letter.index,
            reason: letter.reason.as_str(),
            tenant: &letter.tenant,
            product_sku: &letter.product_sku,
            time: letter.time,
            message: &letter.message,
            count: 1,
            offset_last: letter.offset.0,
            time_first: letter.time,
            time_last: letter.time,
            segment_start: None,
            payload: Some(STANDARD.encode(&letter.payload)),
        }
    }
}
