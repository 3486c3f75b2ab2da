//! Sample values for the suites, drawn from a seed so that a failure can be had again.

use domain::{
    Aggregate, Cell, Conservation, DeadLetterGroup, DeadLetterKey, DeadLetterReason,
    DeadLetterSample, Dimensions, Epoch, LogId, Manifest, Offset, Partition, Quantity, RowKey,
    SegmentId, Sku, Tenant, Timestamp, Unit, UsageRow,
    generation::Generation,
    segment::{Anchor, Progress},
    store::{Flush, SegmentClose, Touched},
    usage::ResourceKey,
};

/// The log that the samples are about.
pub const LOG: LogId = LogId([7; 16]);

/// A stream of numbers from a seed (SplitMix64, Steele and others 2014).
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).unwrap()]
    }
}

/// A generation of two partitions.
#[must_use]
pub fn generation(log_id: LogId) -> Generation {
    Generation::new(log_id, 2, u64::MAX - 5)
}

/// A moment this many seconds after 1970.
#[must_use]
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_parts(seconds, 0).unwrap()
}

/// A segment of the sample log's first epoch.
#[must_use]
pub const fn segment(partition: u16, start: u64) -> SegmentId {
    SegmentId {
        log_id: LOG,
        partition: Partition(partition),
        epoch: Epoch(0),
        start: Offset(start),
    }
}

/// A row key.
#[must_use]
pub fn key(tenant: &str, sku: &str, window_start: Timestamp, segment: SegmentId) -> RowKey {
    let resource = ResourceKey {
        tenant: Tenant::new(tenant).unwrap(),
        product_sku: Sku::new(sku).unwrap(),
        use_unity: Unit::new("GiB/Second-Months").unwrap(),
        dimensions: Dimensions::none(),
    };
    RowKey { resource, window_start, segment }
}

/// A row of one pulse.
#[must_use]
pub fn row(key: RowKey, offset_last: u64, amount: i128) -> UsageRow {
    let aggregate = Aggregate::of(Quantity::from_raw(amount), key.window_start);
    UsageRow { key, cell: Cell { offset_last: Offset(offset_last), aggregate } }
}

/// Progress of a segment's partition.
#[must_use]
pub fn progress(segment: SegmentId, folded_to: u64) -> Progress {
    Progress {
        log_id: segment.log_id,
        partition: segment.partition,
        epoch: segment.epoch,
        folded_to: Offset(folded_to),
        eff_ts: at(1_000),
        counts: Conservation { read: folded_to, accepted: folded_to, ..Conservation::default() },
        anchor: Some(Anchor { offset: Offset(folded_to.saturating_sub(1)), digest: u128::MAX - 1 }),
        caught_up_at: None,
    }
}

/// A flush of rows without a close.
#[must_use]
pub fn flush(segment: SegmentId, rows: Vec<UsageRow>, folded_to: u64) -> Flush {
    let progress = Some(progress(segment, folded_to));
    let (stored_before, dead_letters) = (Vec::new(), Vec::new());
    Flush { segment, rows, stored_before, dead_letters, close: None, progress }
}

/// The close of a segment that ends at `end`.
#[must_use]
pub fn close(segment: SegmentId, end: u64) -> SegmentClose {
    let counts = Conservation { read: 3, accepted: 2, late: 1, ..Conservation::default() };
    let manifest = Manifest {
        segment,
        end: Offset(end),
        eff_ts: at(2_000),
        counts,
        counts_to_end: counts,
        rows: 2,
        rows_digest: u128::MAX - 2,
        dead_letters: 1,
        dead_letters_digest: u128::MAX - 3,
        anchor: Anchor { offset: Offset(end - 1), digest: 1 << 99 },
        state_digest: (u128::from(end) << 64) | u128::from(segment.partition.0),
        run_digest: 11,
    };
    let touched = vec![Touched { tenant: Tenant::new("late").unwrap(), window_day: -1 }];
    let (run, state) = (b"ids".to_vec(), end.to_be_bytes().to_vec());
    SegmentClose { manifest, run, state, touched }
}

/// A group of dead letters, of `count` pulses up to `offset_last`.
#[must_use]
pub fn dead_letters(
    segment: SegmentId,
    reason: DeadLetterReason,
    tenant: &str,
    (count, offset_last): (u64, u64),
) -> DeadLetterGroup {
    // Of what cannot be read no time is known.
    let time = (!tenant.is_empty()).then(|| at(-5));
    DeadLetterGroup {
        key: DeadLetterKey { segment, reason, tenant: tenant.to_owned() },
        offset_last: Offset(offset_last),
        count,
        time_first: time,
        time_last: time.map(|_| at(i64::try_from(count).unwrap())),
        sample: DeadLetterSample {
            offset: segment.start,
            index: u32::try_from(count).unwrap(),
            product_sku: if tenant.is_empty() { String::new() } else { "sku".to_owned() },
            time,
            message: format!("{count} pulses: \"{reason:?}\" \u{e9}"),
        },
    }
}

/// Rows that share tenants, windows, names and segments in many combinations, without repeats.
#[must_use]
pub fn rows(random: &mut Random, count: usize) -> Vec<UsageRow> {
    let tenants = ["a", "A", "ab", "z", "\u{e9}", "tenant 1"];
    let dimensions =
        [Dimensions::none(), Dimensions::from_pairs([("region", "br-se1"), ("zone", "\"a\"")])];
    let mut rows = std::collections::BTreeMap::new();
    for _ in 0..count {
        let segment = SegmentId {
            log_id: random.pick(&[LOG, LogId([0; 16]), LogId([255; 16])]),
            partition: Partition(random.pick(&[0, 1])),
            epoch: Epoch(random.pick(&[0, 1, 300])),
            start: Offset(random.below(4) * 300),
        };
        let window_start = at(random.below(6) as i64 * 3_600 - 7_200);
        let mut key =
            key(random.pick(&tenants), random.pick(&["s", "s1", "S"]), window_start, segment);
        key.resource.use_unity = Unit::new(random.pick(&["hour", "GiB"])).unwrap();
        key.resource.dimensions = dimensions[usize::from(random.below(2) == 1)].clone();
        let amount = i128::from(random.number()) * i128::from(random.number().cast_signed());
        let offset_last = segment.start.0 + random.below(300);
        rows.insert(crate::order::ScanKey(key.clone()), row(key, offset_last, amount));
    }
    rows.into_values().collect()
}
