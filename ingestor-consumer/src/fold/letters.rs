//! Dead letters of the open segment: one total for each cause, whatever their number.
//!
//! A wrong clock sets millions of pulses aside for one cause. So a pulse costs a look-up here, and only
//! the first one of a cause, in the order of the log, is kept with its words.

use std::borrow::Cow;

use domain::{
    DeadLetter, DeadLetterGroup, DeadLetterKey, DeadLetterReason, DeadLetterSample, Offset,
    SegmentId, Timestamp, dead_letter::MESSAGE_BYTES_MAX, hash, name::NAME_BYTES_MAX,
    store::PartitionKey,
};
use hashbrown::{HashTable, hash_table::Entry};

/// Bytes that a group is counted as, but for its tenant: with its message and its key in the store.
const GROUP_BYTES: u64 = 768;

/// A pulse, or a whole record, that is set aside.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buried<'a> {
    pub(crate) offset: Offset,
    pub(crate) index: u32,
    pub(crate) tenant: &'a [u8],
    pub(crate) product_sku: &'a [u8],
    pub(crate) time: Option<Timestamp>,
    pub(crate) payload: &'a [u8],
}

/// The dead letters of an open segment, in groups of one cause.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    seed: u64,
    groups: Vec<Group>,
    /// Places in `groups`.
    by_cause: HashTable<u32>,
    bytes: u64,
    /// Pulses since they were last asked for, by reason.
    counts: [u64; DeadLetterReason::ALL.len()],
    /// One by one, for who explains a record.
    each: Option<Vec<DeadLetter>>,
}

#[derive(Debug)]
struct Group {
    reason: DeadLetterReason,
    tenant: String,
    offset_last: Offset,
    count: u64,
    times: Option<(Timestamp, Timestamp)>,
    sample: DeadLetterSample,
    changed: bool,
}

impl Letters {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds one; `message` is asked for only where it is kept.
    pub(crate) fn bury(
        &mut self,
        partition: PartitionKey,
        reason: DeadLetterReason,
        buried: Buried<'_>,
        message: impl Fn() -> String,
    ) {
        self.counts[reason as usize] += 1;
        let tenant = text(buried.tenant, NAME_BYTES_MAX);
        if let Some(each) = &mut self.each {
            each.push(letter(partition, reason, &tenant, buried, message()));
        }
        let seed = self.seed ^ reason as u64;
        let hash = hash::bytes64(seed, tenant.as_bytes());
        let groups = &mut self.groups;
        let found = self.by_cause.entry(
            hash,
            |at| groups[*at as usize].is(reason, &tenant),
            |at| groups[*at as usize].hash(self.seed),
        );
        match found {
            Entry::Occupied(at) => groups[*at.get() as usize].add(buried, message),
            Entry::Vacant(free) => {
                free.insert(u32::try_from(groups.len()).expect("a segment has fewer pulses"));
                self.bytes += GROUP_BYTES + tenant.len() as u64;
                groups.push(Group::of(reason, tenant.into_owned(), buried, message()));
            }
        }
    }

    /// Gives the groups that changed since they were last taken.
    pub(crate) fn take_changed(&mut self, segment: SegmentId) -> Vec<DeadLetterGroup> {
        let changed =
            |group: &mut Group| std::mem::take(&mut group.changed).then(|| group.stored(segment));
        self.groups.iter_mut().filter_map(changed).collect()
    }

    /// Every group.
    pub(crate) fn all(&self, segment: SegmentId) -> impl Iterator<Item = DeadLetterGroup> + '_ {
        self.groups.iter().map(move |group| group.stored(segment))
    }

    /// Starts the next segment.
    pub(crate) fn clear(&mut self) {
        self.groups = Vec::new();
        self.by_cause = HashTable::new();
        self.bytes = 0;
    }

    /// Bytes that the groups are counted as.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pulses by reason, since this was last asked.
    pub(crate) fn take_counts(&mut self) -> [u64; DeadLetterReason::ALL.len()] {
        std::mem::take(&mut self.counts)
    }

    /// From here on keeps each one by itself too.
    pub(crate) fn list_each(&mut self) {
        self.each = Some(Vec::new());
    }

    /// Gives each one since [`Letters::list_each`], ascending by place.
    pub(crate) fn take_each(&mut self) -> Vec<DeadLetter> {
        let mut each = self.each.take().unwrap_or_default();
        each.sort_by_key(|letter| (letter.offset, letter.index));
        each
    }
}

impl Group {
    fn of(reason: DeadLetterReason, tenant: String, buried: Buried<'_>, message: String) -> Self {
        Self {
            reason,
            tenant,
            offset_last: buried.offset,
            count: 1,
            times: buried.time.map(|time| (time, time)),
            sample: sample(buried, message),
            changed: true,
        }
    }

    fn is(&self, reason: DeadLetterReason, tenant: &str) -> bool {
        self.reason == reason && self.tenant == tenant
    }

    fn hash(&self, seed: u64) -> u64 {
        hash::bytes64(seed ^ self.reason as u64, self.tenant.as_bytes())
    }

    fn add(&mut self, buried: Buried<'_>, message: impl Fn() -> String) {
        // What cannot be added to a total is found after its neighbours were judged.
        if buried.offset == self.sample.offset && buried.index < self.sample.index {
            self.sample = sample(buried, message());
        }
        self.offset_last = buried.offset;
        self.count += 1;
        if let Some(time) = buried.time {
            let (first, last) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), last.max(time)));
        }
        self.changed = true;
    }

    fn stored(&self, segment: SegmentId) -> DeadLetterGroup {
        DeadLetterGroup {
            key: DeadLetterKey { segment, reason: self.reason, tenant: self.tenant.clone() },
            offset_last: self.offset_last,
            count: self.count,
            time_first: self.times.map(|(first, _)| first),
            time_last: self.times.map(|(_, last)| last),
            sample: self.sample.clone(),
        }
    }
}

fn sample(buried: Buried<'_>, message: String) -> DeadLetterSample {
    let Buried { offset, index, product_sku, time, .. } = buried;
    let product_sku = text(product_sku, NAME_BYTES_MAX).into_owned();
    let message = cut(message);
    DeadLetterSample { offset, index, product_sku, time, message }
}

fn letter(
    PartitionKey { log_id, partition, epoch }: PartitionKey,
    reason: DeadLetterReason,
    tenant: &str,
    buried: Buried<'_>,
    message: String,
) -> DeadLetter {
    let DeadLetterSample { offset, index, product_sku, time, message } = sample(buried, message);
    let (tenant, payload) = (tenant.to_owned(), buried.payload.to_vec());
    DeadLetter {
        log_id,
        partition,
        epoch,
        offset,
        index,
        reason,
        tenant,
        product_sku,
        time,
        message,
        payload,
    }
}

/// Bytes as text, cut to the most that is kept.
fn text(bytes: &[u8], most: usize) -> Cow<'_, str> {
    match String::from_utf8_lossy(&bytes[..bytes.len().min(4 * most)]) {
        text if text.len() <= most => text,
        text => text[..text.floor_char_boundary(most)].to_owned().into(),
    }
}

fn cut(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
}

#[cfg(test)]
mod tests {
    use domain::{Epoch, LogId, Partition};

    use super::*;

    fn partition() -> PartitionKey {
        PartitionKey { log_id: LogId([1; 16]), partition: Partition(0), epoch: Epoch(0) }
    }

    fn segment() -> SegmentId {
        let PartitionKey { log_id, partition, epoch } = partition();
        SegmentId { log_id, partition, epoch, start: Offset(0) }
    }

    fn buried(offset: u64, index: u32, seconds: i64) -> Buried<'static> {
        let time = Timestamp::from_parts(seconds, 0);
        Buried { offset: Offset(offset), index, tenant: b"acme", time, ..Buried::default() }
    }

    #[test]
    fn any_number_for_one_cause_are_one_group_with_the_first_as_its_sample() {
        let mut letters = Letters::new(5);
        for number in 0..100_000u64 {
            let buried = buried(number / 100, (number % 100) as u32, 500 - (number % 7) as i64);
            letters.bury(partition(), DeadLetterReason::TooLate, buried, || number.to_string());
        }
        let [group] = &letters.take_changed(segment())[..] else { panic!() };
        assert_eq!((group.count, group.offset_last), (100_000, Offset(999)));
        assert_eq!(group.time_first, Timestamp::from_parts(494, 0));
        assert_eq!(group.time_last, Timestamp::from_parts(500, 0));
        assert_eq!((group.sample.offset, group.sample.message.as_str()), (Offset(0), "0"));
        assert!(letters.bytes() < 1_000 && letters.take_changed(segment()).is_empty());
        assert_eq!(letters.take_counts()[DeadLetterReason::TooLate as usize], 100_000);
    }

    #[test]
    fn the_sample_is_the_first_of_its_record_in_whatever_order_they_are_found() {
        let mut letters = Letters::new(5);
        for index in [3, 1, 2] {
            let message = || index.to_string();
            letters.bury(partition(), DeadLetterReason::Overflow, buried(7, index, 0), message);
        }
        assert_eq!(letters.all(segment()).next().unwrap().sample.message, "1");
    }

    #[test]
    fn what_a_client_sent_is_cut_to_a_bound() {
        let mut letters = Letters::new(5);
        let long = "\u{20ac}".repeat(10_000).into_bytes();
        let buried = Buried { tenant: &long, product_sku: &long, ..buried(0, 0, 0) };
        letters.list_each();
        let message = || "\u{20ac}".repeat(10_000);
        letters.bury(partition(), DeadLetterReason::Undecodable, buried, message);
        let group = letters.all(segment()).next().unwrap();
        assert_eq!((group.key.tenant.len(), group.sample.product_sku.len()), (126, 126));
        assert_eq!(group.sample.message.len(), 510);
        assert_eq!(letters.take_each()[0].message.len(), 510);
    }
}
