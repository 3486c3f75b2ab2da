//! Samples of what is not text: messages, records, states, proofs.

use std::collections::HashMap;

use domain::{
    Aggregate, Cell, Dimensions, FoldLimits, LogId, Offset, Quantity, Sku, Tenant, Timestamp, Unit,
    epochs::{Declared, LogEvent, OpenedEpoch},
    rebase::Rebase,
    segment::{Anchor, Conservation, Progress},
};
use ingestor_consumer::{
    Fold,
    fold::{STATE_HEAD_BYTES, digest, state_before},
};
use prost::Message;
use proto::{record, v1};
use query_api::usage::group::GroupKey;

use crate::{
    mutate::Random,
    targets::{fold_one, generation, log_of, partition},
};

const SECOND: i64 = 1_700_000_000;
/// A seal behind encoded values: their last bytes.
const CHECKSUM_BYTES: usize = 4;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_parts(seconds, 0).expect("a moment of the years 1 to 9999")
}

fn pulse(sku: &str, unscaled: i64, id: &str) -> v1::Pulse {
    v1::Pulse {
        tenant: "acme".into(),
        product_sku: sku.into(),
        use_unity: "hour".into(),
        used_amount: Some(v1::Decimal { unscaled, scale: 3 }),
        time: Some(prost_types::Timestamp { seconds: SECOND, nanos: 500 }),
        id: id.into(),
        source: if id.is_empty() { String::new() } else { "meter".into() },
        properties: HashMap::from([("region".into(), "se1".into())]),
    }
}

pub(super) fn pulses() -> Vec<Vec<u8>> {
    let plain = pulse("vm", 1_500, "");
    let with_id = pulse("disk", -7, "a-1");
    let long = v1::Pulse { tenant: "\u{e9}".repeat(100), ..plain.clone() };
    let repeated = [with_id.encode_to_vec(), plain.encode_to_vec()].concat();
    // Fields that nobody knows: a group with a fixed number in it.
    let unknown = [&plain.encode_to_vec()[..], b"\xa3\x06\x0d\x01\x02\x03\x04\xa4\x06"].concat();
    vec![plain.encode_to_vec(), with_id.encode_to_vec(), long.encode_to_vec(), repeated, unknown]
}

pub(super) fn batches() -> Vec<Vec<u8>> {
    let pulses = vec![pulse("vm", 1, ""), pulse("vm", 2, "a-1"), pulse("disk", 3, "a-2")];
    let plain = v1::PulseBatch { batch: 3, pulses, ..v1::PulseBatch::default() };
    let numbered =
        v1::PulseBatch { producer_id: vec![7; 16], first_sequence: 300, ..plain.clone() };
    let backfill = v1::Backfill { name: "2024".into(), content_digest: vec![1; 16] };
    let backfill = v1::PulseBatch { backfill: Some(backfill), ..plain.clone() };
    vec![plain.encode_to_vec(), numbered.encode_to_vec(), backfill.encode_to_vec()]
}

pub(super) fn records() -> Vec<Vec<u8>> {
    let pulses = vec![pulse("vm", 1, ""), pulse("vm", 2, "a-1")];
    let fields = v1::LogRecord { envelope: None, pulses }.encode_to_vec();
    let source = v1::SourceBatch {
        scope: "acme".into(),
        sent: 3,
        refused: vec![1],
        producer_id: vec![7; 16],
        digest: 5,
        received_at: Some(prost_types::Timestamp { seconds: SECOND, nanos: 0 }),
        correlation_id: "request".into(),
        ..v1::SourceBatch::default()
    };
    let declare = v1::DeclareDimensions {
        product_sku: "vm".into(),
        dimensions: vec!["region".into(), "zone".into()],
        version: 2,
    };
    let declare = v1::Control { kind: Some(v1::control::Kind::DeclareDimensions(declare)) };
    vec![
        record::encode(&generation(), vec![source], 2, [&fields[..]].into_iter()),
        record::encode(&generation(), Vec::new(), 0, std::iter::empty()),
        record::encode_boundary(&generation(), "shutdown"),
        record::encode_seal(&generation(), "log grow"),
        record::encode_limits(&generation(), FoldLimits::FIRST, "limits"),
        record::encode_control(&generation(), &declare),
        record::encode_control(&generation(), &v1::Control { kind: None }),
    ]
}

/// Any bytes make a log.
pub(super) fn logs() -> Vec<Vec<u8>> {
    let log = |seed| {
        let mut random = Random::new(seed);
        (0..300 + 100 * seed).map(|_| random.number() as u8).collect()
    };
    (0..12).map(log).collect()
}

/// What the closed segments of the logs leave: states and runs, without repeats.
fn left() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut states, mut runs) = (Vec::new(), Vec::new());
    for log in logs() {
        let log = log_of(&log);
        let mut fold = Fold::new(log.generation, partition(&log.generation));
        for entry in &log.entries {
            let Ok(flushes) = fold_one(&mut fold, entry) else { break };
            for close in flushes.into_iter().filter_map(|flush| flush.close) {
                states.push(close.state);
                runs.push(close.run);
            }
        }
    }
    for kept in [&mut states, &mut runs] {
        kept.sort_by_key(|bytes| std::cmp::Reverse(bytes.len()));
        kept.dedup();
    }
    (states, runs)
}

pub(super) fn states() -> Vec<Vec<u8>> {
    let mut log = logs().remove(3);
    log.truncate(250);
    let with_log = |state: Vec<u8>| {
        // The first byte says how much of the rest is the state.
        let split = state.len() * 255 / (state.len() + log.len());
        [&[u8::try_from(split).expect("at most 255"), 0, 0][..], &state, &log].concat()
    };
    let (deltas, states): (Vec<_>, Vec<_>) =
        left().0.into_iter().partition(|state| state_before(state).is_some());
    let alone = states.iter().map(|state| [&[255, 0, 0][..], state].concat());
    let behind = |delta: &Vec<u8>| {
        let is_before = |state: &&Vec<u8>| state_before(delta) == Some(digest(state));
        let (whole, changes) = (states.iter().find(is_before)?, &delta[STATE_HEAD_BYTES..]);
        let length = u16::try_from(changes.len()).ok()?.to_le_bytes();
        Some([&[255], &length[..], whole, changes].concat())
    };
    let with_deltas: Vec<_> = deltas.iter().filter_map(behind).take(4).collect();
    assert!(!with_deltas.is_empty());
    let with_logs = states.iter().cloned().map(with_log).take(4);
    alone.take(8).chain(with_logs).chain(with_deltas).collect()
}

pub(super) fn runs() -> Vec<Vec<u8>> {
    left().1.into_iter().take(4).collect()
}

pub(super) fn stored() -> Vec<Vec<u8>> {
    let key = partition(&generation());
    let counts = Conservation { read: 3, accepted: 2, late: 1, ..Conservation::NONE };
    let anchor = Anchor { offset: Offset(8), digest: 5 };
    let progress = Progress {
        log_id: key.log_id,
        partition: key.partition,
        epoch: key.epoch,
        folded_to: Offset(9),
        eff_ts: at(SECOND),
        counts,
        anchor: Some(anchor),
        caught_up_at: None,
    };
    let aggregate = Aggregate::of(Quantity::MIN, at(SECOND));
    let cell = Cell { offset_last: Offset(8), aggregate };
    let mut sealed = vec![
        crate::targets::manifest().encode(),
        progress.encode(),
        Progress { anchor: None, ..progress }.encode(),
        cell.encode(),
    ];
    sealed.extend(events(key.log_id).iter().map(LogEvent::encode));
    sealed.iter().map(|bytes| bytes[..bytes.len() - CHECKSUM_BYTES].to_vec()).collect()
}

fn events(log_id: LogId) -> Vec<LogEvent> {
    let key = partition(&generation());
    let dimensions = vec!["region".to_owned(), "zone".to_owned()];
    let declared = vec![Declared { product_sku: "vm".into(), version: 8, dimensions }];
    let (epoch, base) = (domain::Epoch(2), domain::Epoch(1));
    let ends = vec![Offset(4), Offset(u64::MAX)];
    vec![
        LogEvent::Opened(OpenedEpoch { log_id, epoch, base, starts: ends.clone(), declared }),
        LogEvent::Activated { log_id, epoch },
        LogEvent::Sealed { log_id, epoch, ends },
        LogEvent::Rebased(Rebase {
            log_id,
            partition: key.partition,
            epoch,
            from: Offset(5),
            to: Offset(9),
            ahead: std::time::Duration::from_secs(60),
            noted_at: at(SECOND),
            reason: "NTP was off".to_owned(),
        }),
    ]
}

pub(super) fn positions() -> Vec<Vec<u8>> {
    let whole = GroupKey {
        tenant: Some(Tenant::new("acme").expect("a name")),
        product_sku: Some(Sku::new("vm").expect("a name")),
        use_unity: Some(Unit::new("hour").expect("a name")),
        dimensions: Dimensions::from_pairs([("region", "se1"), ("zone", "a")]),
        window_start: at(SECOND),
    };
    let none = GroupKey { tenant: None, dimensions: Dimensions::none(), ..whole.clone() };
    let sealed = edge::paging::TokenKey::new([1; 16]).seal(7, &whole.encode());
    vec![whole.encode(), none.encode(), sealed.into_bytes()]
}
