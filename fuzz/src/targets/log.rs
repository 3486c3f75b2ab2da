//! Logs out of bytes: sequences of valid, mutated and rubbish records.
//!
//! Every input makes some log, so that an engine need not find the shape of a record before it can
//! look for a bad order of records.

use std::collections::HashMap;

use arbitrary::{Result, Unstructured};
use domain::{FoldLimits, Offset, Timestamp, generation::Generation};
use prost::Message;
use proto::{record, v1};

use super::record::generation;

/// Records of one log. More would only repeat what fewer show.
const RECORDS_MAX: usize = 48;
/// Log time of the first record.
const NOW: i64 = 1_700_000_000;
const HOUR: i64 = 3_600;

/// A record with its place.
pub(crate) struct Entry {
    pub(crate) offset: Offset,
    pub(crate) appended_at: Timestamp,
    pub(crate) body: Vec<u8>,
}

/// A log and what is fixed about it.
pub(crate) struct Log {
    pub(crate) generation: Generation,
    pub(crate) entries: Vec<Entry>,
}

/// Makes a log.
pub(crate) fn of(bytes: &[u8]) -> Log {
    let mut choices = Unstructured::new(bytes);
    let mut log = Log { generation: generation(), entries: Vec::new() };
    log.generation.segment_records_max = 1 + u64::from(choices.arbitrary::<u8>().unwrap_or(7) % 16);
    let (mut offset, mut now) = (0, NOW);
    while log.entries.len() < RECORDS_MAX && !choices.is_empty() {
        // Where the choices end in the middle of a record, the log ends before it.
        let Ok((gap, later, body)) = next(&mut choices, now, &log.entries) else { break };
        (offset, now) = (offset + gap, now.saturating_add(later));
        let seconds = now.clamp(-62_135_596_800, 253_402_300_799);
        let appended_at = Timestamp::from_parts(seconds, 0).expect("it was clamped");
        log.entries.push(Entry { offset: Offset(offset), appended_at, body });
        offset += 1;
    }
    log
}

/// Offsets left out, seconds passed, and the record.
fn next(choices: &mut Unstructured<'_>, now: i64, before: &[Entry]) -> Result<(u64, i64, Vec<u8>)> {
    let (gap, later) = match choices.int_in_range(0..=15)? {
        0 => (choices.int_in_range(1..=20)?, 0),
        1 => (0, choices.int_in_range(-2 * HOUR..=2 * HOUR)?),
        2 => (0, choices.int_in_range(-40 * HOUR..=40 * HOUR)?),
        3 => (0, i64::from(choices.arbitrary::<i32>()?) * 600),
        _ => (0, choices.int_in_range(0..=30)?),
    };
    let body = match choices.int_in_range(0..=15)? {
        0..=7 => pulses(choices, now)?,
        8..=10 => control(choices)?,
        11 => mutated(choices, now)?,
        // Sent again: the same bytes at another place.
        12..=14 if !before.is_empty() => choices.choose(before)?.body.clone(),
        _ => {
            let length = choices.int_in_range(0..=24)?;
            choices.bytes(length)?.to_vec()
        }
    };
    Ok((gap, later, body))
}

fn mutated(choices: &mut Unstructured<'_>, now: i64) -> Result<Vec<u8>> {
    let mut body = if choices.arbitrary()? { pulses(choices, now)? } else { control(choices)? };
    for _ in 0..choices.int_in_range(1..=4)? {
        let at = choices.choose_index(body.len())?;
        match choices.int_in_range(0..=3)? {
            0 => body.truncate(at + 1),
            1 => body.insert(at, choices.arbitrary()?),
            _ => body[at] = choices.arbitrary()?,
        }
    }
    Ok(body)
}

fn control(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    use v1::control::Kind;
    let asked_by = String::new();
    let kind = match choices.int_in_range(0..=9)? {
        0..=2 => Some(Kind::Boundary(v1::Boundary { asked_by })),
        3 => Some(Kind::Seal(v1::Seal { asked_by })),
        4..=6 => Some(Kind::DeclareDimensions(v1::DeclareDimensions {
            product_sku: name(choices)?,
            dimensions: (0..choices.int_in_range(0..=3)?)
                .map(|_| property(choices))
                .collect::<Result<_>>()?,
            version: choices.int_in_range(0..=4)?,
        })),
        7 | 8 => return limits(choices),
        _ => None,
    };
    Ok(record::encode_control(&generation(), &v1::Control { kind }))
}

fn limits(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let limits = if choices.arbitrary()? {
        FoldLimits {
            segment_bytes: choices.int_in_range(0..=8_192)?,
            state_bytes: choices.int_in_range(0..=4_096)?,
            keys_per_tenant: choices.int_in_range(0..=4)?,
            values_per_dimension: choices.int_in_range(0..=4)?,
            state_deltas: choices.int_in_range(0..=3)?,
            ranges_per_backfill: choices.int_in_range(0..=4)?,
        }
    } else {
        FoldLimits {
            segment_bytes: choices.arbitrary()?,
            state_bytes: choices.arbitrary()?,
            keys_per_tenant: choices.arbitrary()?,
            values_per_dimension: choices.arbitrary()?,
            state_deltas: choices.arbitrary()?,
            ranges_per_backfill: choices.arbitrary()?,
        }
    };
    Ok(record::encode_limits(&generation(), limits, "fuzz"))
}

fn pulses(choices: &mut Unstructured<'_>, now: i64) -> Result<Vec<u8>> {
    let (mut sources, mut fields, mut count) = (Vec::new(), Vec::new(), 0);
    for _ in 0..choices.int_in_range(1..=2)? {
        let sent = choices.int_in_range(0..=5)?;
        let refused = refused(choices, sent)?;
        let source = source(choices, sent, refused)?;
        let here = sent - source.refused.len() as u32;
        let made = (0..here).map(|_| pulse(choices, now)).collect::<Result<Vec<_>>>()?;
        fields.extend(v1::LogRecord { envelope: None, pulses: made }.encode_to_vec());
        count += here;
        sources.push(source);
    }
    Ok(record::encode(&generation(), sources, count, [&fields[..]].into_iter()))
}

fn refused(choices: &mut Unstructured<'_>, sent: u32) -> Result<Vec<u32>> {
    let mask: u8 = if choices.ratio(1u8, 4u8)? { choices.arbitrary()? } else { 0 };
    Ok((0..sent).filter(|place| mask >> place & 1 == 1).collect())
}

fn source(choices: &mut Unstructured<'_>, sent: u32, refused: Vec<u32>) -> Result<v1::SourceBatch> {
    let scope = if choices.ratio(1u8, 4u8)? { "scope".to_owned() } else { String::new() };
    let plain = v1::SourceBatch { scope, sent, refused, ..v1::SourceBatch::default() };
    let first_sequence = match choices.int_in_range(0..=7)? {
        0 => u64::MAX - choices.int_in_range(0..=8)?,
        _ => choices.int_in_range(0..=20)?,
    };
    Ok(match choices.int_in_range(0..=5)? {
        0..=2 => v1::SourceBatch {
            producer_id: vec![choices.int_in_range(0..=3)?; 16],
            first_sequence,
            digest: choices.int_in_range(0..=2)?,
            ..plain
        },
        3 => {
            let name = name(choices)?;
            let content_digest = vec![choices.int_in_range(0..=1)?];
            let backfill = Some(v1::Backfill { name, content_digest });
            v1::SourceBatch { backfill, first_sequence, ..plain }
        }
        4 => v1::SourceBatch {
            producer_id: vec![0; choices.int_in_range(0..=20)?],
            first_sequence,
            received_at: Some(time(choices, NOW)?),
            ..plain
        },
        _ => plain,
    })
}

fn pulse(choices: &mut Unstructured<'_>, now: i64) -> Result<v1::Pulse> {
    let amount = match choices.int_in_range(0..=7)? {
        0 => None,
        1 => Some((choices.arbitrary()?, choices.int_in_range(0..=20)?)),
        2 => Some((i64::MAX - choices.int_in_range(0..=1)?, 0)),
        _ => Some((choices.int_in_range(-9..=99)?, choices.int_in_range(0..=2)?)),
    };
    let id = match choices.int_in_range(0..=2)? {
        0 => choices.int_in_range(0u8..=9)?.to_string(),
        _ => String::new(),
    };
    let mut properties = HashMap::new();
    for _ in 0..choices.int_in_range(0..=2)? {
        properties.insert(property(choices)?, name(choices)?);
    }
    Ok(v1::Pulse {
        tenant: name(choices)?,
        product_sku: name(choices)?,
        use_unity: name(choices)?,
        used_amount: amount.map(|(unscaled, scale)| v1::Decimal { unscaled, scale }),
        time: if choices.ratio(1u8, 8u8)? { None } else { Some(time(choices, now)?) },
        id,
        source: String::new(),
        properties,
    })
}

fn time(choices: &mut Unstructured<'_>, now: i64) -> Result<prost_types::Timestamp> {
    let seconds = match choices.int_in_range(0..=7)? {
        0 => choices.arbitrary()?,
        1 => now.saturating_add(choices.int_in_range(-26 * HOUR..=2 * HOUR)?),
        2 => 253_402_300_799 - choices.int_in_range(0..=2 * HOUR)?,
        _ => now.saturating_add(choices.int_in_range(-HOUR..=60)?),
    };
    Ok(prost_types::Timestamp { seconds, nanos: choices.int_in_range(0..=1)? })
}

/// Mostly one of a few, so that records meet; else any text of up to a few bytes.
fn name(choices: &mut Unstructured<'_>) -> Result<String> {
    const NAMES: [&str; 6] = ["acme", "vm", "hour", "disk", "", "\u{e9}"];
    if choices.ratio(15u8, 16u8)? {
        return Ok((*choices.choose(&NAMES)?).to_owned());
    }
    let length = choices.int_in_range(0..=200)?;
    Ok(String::from_utf8_lossy(choices.bytes(length)?).into_owned())
}

fn property(choices: &mut Unstructured<'_>) -> Result<String> {
    Ok((*choices.choose(&["region", "zone", ""])?).to_owned())
}
