//! Epochs: other verdicts over the same log, and which of them count.
//!
//! Totals are a pure function of the log and of the rules of the fold. Where those rules change,
//! the log is folded again into a new epoch beside the one in use; every row, manifest and dead
//! letter carries its epoch. An epoch begins, in each partition, where a closed segment of its base
//! ends, and below that the base's totals are its own. What happened to epochs stands in one journal
//! in the usage store, whose entries are never changed, so the same journal always says the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Epoch, LogId, Offset, Partition,
    codec::{CodecError, Reader, Writer},
    rebase::Rebase,
    segment::SegmentId,
};

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// An epoch may be folded from now on.
    Opened(OpenedEpoch),
    /// From now on this epoch's totals are the log's totals.
    Activated {
        /// The log generation whose totals change.
        log_id: LogId,
        /// The epoch in use from this entry on.
        epoch: Epoch,
    },
    /// Every partition has ended: what stands at or behind these offsets counts in no total, and
    /// the next generation begins.
    Sealed {
        /// The log generation that has ended.
        log_id: LogId,
        /// The epoch whose fold states the next generation begins with.
        epoch: Epoch,
        /// By partition, the offset behind the record that ended it.
        ends: Vec<Offset>,
    },
    /// Append times of a stretch are not believed as they are.
    Rebased(Rebase),
    /// Nobody asks for this epoch again, and what is stored of it may go.
    Dropped {
        /// The log generation that has one epoch less.
        log_id: LogId,
        /// The epoch; its number is not used again.
        epoch: Epoch,
    },
}

/// How an epoch begins. Its rows are a pure function of this and of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedEpoch {
    /// The log generation that the epoch folds.
    pub log_id: LogId,
    /// Its number, greater than that of every epoch before it.
    pub epoch: Epoch,
    /// The epoch whose totals stand below `starts`, and whose fold state this one begins with.
    pub base: Epoch,
    /// By partition: the end of a closed segment of the base, or 0 for nothing of the base.
    pub starts: Vec<Offset>,
    /// Dimensions that count from the start on as if they had been declared there.
    pub declared: Vec<Declared>,
}

/// Dimensions of a SKU, as one version of a catalogue has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The SKU.
    pub product_sku: String,
    /// The catalogue's number. A declaration in the log applies if it has a greater one.
    pub version: u64,
    /// Names of properties.
    pub dimensions: Vec<String>,
}

impl LogEvent {
    const VERSION: u8 = 1;
    const OPENED: u8 = 1;
    const ACTIVATED: u8 = 2;
    const SEALED: u8 = 3;
    const REBASED: u8 = 4;
    const DROPPED: u8 = 5;

    /// The log that it is about.
    #[must_use]
    pub const fn log_id(&self) -> LogId {
        match self {
            Self::Opened(OpenedEpoch { log_id, .. })
            | Self::Rebased(Rebase { log_id, .. })
            | Self::Activated { log_id, .. }
            | Self::Dropped { log_id, .. }
            | Self::Sealed { log_id, .. } => *log_id,
        }
    }

    /// Encodes it whole.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let writer = Writer::new(Self::VERSION, 64).put(self.log_id().0);
        match self {
            Self::Opened(OpenedEpoch { log_id: _, epoch, base, starts, declared }) => {
                let writer =
                    writer.put([Self::OPENED]).put(epoch.0.to_le_bytes()).put(base.0.to_le_bytes());
                let writer = put_offsets(writer, starts).put(length(declared.len()));
                declared.iter().fold(writer, put_declared)
            }
            Self::Activated { log_id: _, epoch } => {
                writer.put([Self::ACTIVATED]).put(epoch.0.to_le_bytes())
            }
            Self::Sealed { log_id: _, epoch, ends } => {
                put_offsets(writer.put([Self::SEALED]).put(epoch.0.to_le_bytes()), ends)
            }
            Self::Rebased(rebase) => rebase.encode(writer.put([Self::REBASED])),
            Self::Dropped { log_id: _, epoch } => {
                writer.put([Self::DROPPED]).put(epoch.0.to_le_bytes())
            }
        }
        .seal()
    }

    /// Decodes what [`LogEvent::encode`] wrote.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::open(bytes, Self::VERSION)?;
        let log_id = LogId(reader.take()?);
        let event = match reader.take::<1>()? {
            [Self::OPENED] => {
                let epoch = Epoch(u16::from_le_bytes(reader.take()?));
                let base = Epoch(u16::from_le_bytes(reader.take()?));
                // Else walking from base to base would have no end.
                if base >= epoch {
                    return Err(CodecError::Value);
                }
                let starts = take_offsets(&mut reader)?;
                let count = take_length(&mut reader)?;
                let declared = (0..count).map(|_| take_declared(&mut reader));
                let declared = declared.collect::<Result<_, _>>()?;
                Self::Opened(OpenedEpoch { log_id, epoch, base, starts, declared })
            }
            [Self::ACTIVATED] => {
                Self::Activated { log_id, epoch: Epoch(u16::from_le_bytes(reader.take()?)) }
            }
            [Self::SEALED] => {
                let epoch = Epoch(u16::from_le_bytes(reader.take()?));
                Self::Sealed { log_id, epoch, ends: take_offsets(&mut reader)? }
            }
            [Self::REBASED] => Self::Rebased(Rebase::decode(log_id, &mut reader)?),
            [Self::DROPPED] => {
                Self::Dropped { log_id, epoch: Epoch(u16::from_le_bytes(reader.take()?)) }
            }
            _ => return Err(CodecError::Value),
        };
        reader.end()?;
        Ok(event)
    }
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).expect("a list that fits a message").to_le_bytes()
}

fn take_length(reader: &mut Reader<'_>) -> Result<u32, CodecError> {
    Ok(u32::from_le_bytes(reader.take()?))
}

fn put_offsets(writer: Writer, offsets: &[Offset]) -> Writer {
    let writer = writer.put(length(offsets.len()));
    offsets.iter().fold(writer, |writer, offset| writer.put(offset.0.to_le_bytes()))
}

fn take_offsets(reader: &mut Reader<'_>) -> Result<Vec<Offset>, CodecError> {
    let count = take_length(reader)?;
    (0..count).map(|_| Ok(Offset(u64::from_le_bytes(reader.take()?)))).collect()
}

fn put_declared(writer: Writer, declared: &Declared) -> Writer {
    let writer = writer.put_text(&declared.product_sku).put(declared.version.to_le_bytes());
    let writer = writer.put(length(declared.dimensions.len()));
    declared.dimensions.iter().fold(writer, |writer, name| writer.put_text(name))
}

fn take_declared(reader: &mut Reader<'_>) -> Result<Declared, CodecError> {
    let product_sku = reader.take_text()?;
    let version = u64::from_le_bytes(reader.take()?);
    let count = take_length(reader)?;
    let dimensions = (0..count).map(|_| reader.take_text()).collect::<Result<_, _>>()?;
    Ok(Declared { product_sku, version, dimensions })
}

/// What the journal says about every log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    logs: BTreeMap<LogId, LogHistory>,
    /// Number of entries, which is the number of the next one.
    pub entries: u64,
    activations: u64,
}

/// What the journal says about one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogHistory {
    opened: BTreeMap<Epoch, OpenedEpoch>,
    active: Epoch,
    sealed: Option<SealedLog>,
    rebases: Vec<Rebase>,
    dropped: BTreeSet<Epoch>,
}

/// How a log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedLog {
    /// The epoch whose fold states the next generation begins with.
    pub epoch: Epoch,
    /// By partition, the offset behind the record that ended it.
    pub ends: Vec<Offset>,
}

static NO_EVENTS: LogHistory = LogHistory {
    opened: BTreeMap::new(),
    active: Epoch(0),
    sealed: None,
    rebases: Vec::new(),
    dropped: BTreeSet::new(),
};

impl Journal {
    /// Reads the entries in order.
    #[must_use]
    pub fn of(events: impl IntoIterator<Item = LogEvent>) -> Self {
        let mut journal = Self::default();
        for event in events {
            journal.entries += 1;
            let log = journal.logs.entry(event.log_id()).or_default();
            match event {
                LogEvent::Opened(opened) => {
                    log.opened.insert(opened.epoch, opened);
                }
                LogEvent::Activated { epoch, .. } => {
                    log.active = epoch;
                    journal.activations += 1;
                }
                LogEvent::Sealed { epoch, ends, .. } => {
                    // The first one stands: the next generation has begun with it.
                    log.sealed.get_or_insert(SealedLog { epoch, ends });
                }
                LogEvent::Rebased(rebase) => log.rebases.push(rebase),
                LogEvent::Dropped { epoch, .. } => {
                    log.dropped.insert(epoch);
                }
            }
        }
        journal
    }

    /// What it says about a log; nothing is as if epoch 0 were the only one.
    #[must_use]
    pub fn log(&self, log_id: LogId) -> &LogHistory {
        self.logs.get(&log_id).unwrap_or(&NO_EVENTS)
    }
}

impl LogHistory {
    /// The epoch whose totals are the log's.
    #[must_use]
    pub const fn active(&self) -> Epoch {
        self.active
    }

    /// How an epoch begins, also one that was dropped; `None` for epoch 0, and for one that was never
    /// opened.
    #[must_use]
    pub fn opened(&self, epoch: Epoch) -> Option<&OpenedEpoch> {
        self.opened.get(&epoch)
    }

    /// Every epoch that was opened and not dropped, ascending; epoch 0 is not among them.
    pub fn all_opened(&self) -> impl Iterator<Item = &OpenedEpoch> {
        self.opened.values().filter(|opened| !self.dropped.contains(&opened.epoch))
    }

    /// Every epoch there is, ascending.
    pub fn epochs(&self) -> impl Iterator<Item = Epoch> {
        let all = std::iter::once(Epoch(0)).chain(self.opened.keys().copied());
        all.filter(|epoch| !self.dropped.contains(epoch))
    }

    /// Every epoch that was dropped, ascending.
    pub fn dropped(&self) -> impl Iterator<Item = Epoch> {
        self.dropped.iter().copied()
    }

    /// The greatest number that an epoch had.
    #[must_use]
    pub fn newest(&self) -> Epoch {
        self.opened.keys().next_back().copied().unwrap_or_default()
    }

    /// How the log ended, if all of it has.
    #[must_use]
    pub const fn sealed(&self) -> Option<&SealedLog> {
        self.sealed.as_ref()
    }

    /// Which append times of a partition are not believed in an epoch, in the order of the journal.
    pub fn rebases(
        &self,
        epoch: Epoch,
        partition: Partition,
    ) -> impl DoubleEndedIterator<Item = &Rebase> {
        let holds = move |one: &&Rebase| one.partition == partition && one.epoch <= epoch;
        self.rebases.iter().filter(holds)
    }

    /// Where an epoch begins in a partition.
    #[must_use]
    pub fn start_of(&self, epoch: Epoch, partition: Partition) -> Offset {
        let opened = self.opened.get(&epoch);
        let start = opened.and_then(|opened| opened.starts.get(usize::from(partition.0)));
        start.copied().unwrap_or_default()
    }

    /// The stretches of a partition that make the totals of `epoch`, from the end of the log back to
    /// its start: itself from where it begins, and below that what its base says. Never empty.
    pub fn stretches(&self, epoch: Epoch, partition: Partition) -> impl Iterator<Item = Stretch> {
        let stretch = move |epoch, to| Stretch { epoch, from: self.start_of(epoch, partition), to };
        std::iter::successors(Some(stretch(epoch, None)), move |newer| {
            // A base is always older, so this ends at epoch 0 at the latest, which begins at 0.
            let base = self.opened.get(&newer.epoch)?.base;
            let to = newer.to.map_or(newer.from, |to| to.min(newer.from));
            (newer.from > Offset(0)).then(|| stretch(base, Some(to)))
        })
        .filter(|stretch| stretch.to.is_none_or(|to| stretch.from < to))
    }

    /// The epoch whose segments hold this offset in the totals of `epoch`.
    #[must_use]
    pub fn holding(&self, epoch: Epoch, partition: Partition, offset: Offset) -> Epoch {
        let mut stretches = self.stretches(epoch, partition);
        let found = stretches.find(|stretch| stretch.from <= offset);
        found.map_or(Epoch(0), |stretch| stretch.epoch)
    }
}

/// Offsets of a partition whose totals are those of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The epoch that these totals come from.
    pub epoch: Epoch,
    /// Its first offset.
    pub from: Offset,
    /// The offset behind its last; `None` where it goes on with the log.
    pub to: Option<Offset>,
}

/// Which epochs' totals are wanted. The default is epoch 0 of every log.
#[derive(Clone, Debug, Default)]
pub struct View(Option<Arc<Chosen>>);

#[derive(Debug)]
struct Chosen {
    journal: Journal,
    instead: Option<(LogId, Epoch)>,
}

impl View {
    /// The active epoch of every log.
    #[must_use]
    pub fn active(journal: Journal) -> Self {
        let only_first = journal.logs.values().all(|log| log.opened.is_empty());
        Self((!only_first).then(|| Arc::new(Chosen { journal, instead: None })))
    }

    /// This epoch of one log, and of other logs the active ones.
    #[must_use]
    pub fn of_epoch(journal: Journal, log_id: LogId, epoch: Epoch) -> Self {
        Self(Some(Arc::new(Chosen { journal, instead: Some((log_id, epoch)) })))
    }

    /// Whether all there can be is epoch 0, so that nothing needs to be left out.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.0.is_none()
    }

    /// How often what is active had changed: two active views with the same number are the same.
    #[must_use]
    pub fn activations(&self) -> u64 {
        self.0.as_ref().map_or(0, |chosen| chosen.journal.activations)
    }

    /// The epoch that is wanted of a log.
    #[must_use]
    pub fn epoch_of(&self, log_id: LogId) -> Epoch {
        let Some(chosen) = &self.0 else { return Epoch(0) };
        match chosen.instead {
            Some((instead, epoch)) if instead == log_id => epoch,
            _ => chosen.journal.log(log_id).active,
        }
    }

    /// The epoch whose verdict on this place counts.
    #[must_use]
    pub fn epoch_at(&self, log_id: LogId, partition: Partition, offset: Offset) -> Epoch {
        let Some(chosen) = &self.0 else { return Epoch(0) };
        chosen.journal.log(log_id).holding(self.epoch_of(log_id), partition, offset)
    }

    /// Whether a segment's rows count.
    #[must_use]
    pub fn counts(&self, segment: &SegmentId) -> bool {
        self.epoch_at(segment.log_id, segment.partition, segment.start) == segment.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId([3; 16]);

    fn opened(epoch: u16, base: u16, starts: &[u64]) -> OpenedEpoch {
        let starts = starts.iter().copied().map(Offset).collect();
        let declared = Vec::new();
        OpenedEpoch { log_id: LOG, epoch: Epoch(epoch), base: Epoch(base), starts, declared }
    }

    fn chain() -> Vec<LogEvent> {
        vec![
            LogEvent::Opened(opened(1, 0, &[100, 0])),
            LogEvent::Activated { log_id: LOG, epoch: Epoch(1) },
            LogEvent::Opened(opened(2, 1, &[50, 70])),
            LogEvent::Opened(opened(7, 1, &[300, 300])),
        ]
    }

    #[test]
    fn events_survive_encoding() {
        let mut with_all = opened(9, 4, &[5, 6, 7]);
        let dimensions = vec!["zone".to_owned(), "\u{e9}".to_owned()];
        with_all.declared = vec![
            Declared { product_sku: "vm".into(), version: 8, dimensions },
            Declared { product_sku: "disk".into(), version: 9, dimensions: Vec::new() },
        ];
        for event in [
            LogEvent::Opened(with_all),
            LogEvent::Opened(opened(1, 0, &[])),
            LogEvent::Activated { log_id: LOG, epoch: Epoch(7) },
            LogEvent::Sealed {
                log_id: LOG,
                epoch: Epoch(3),
                ends: vec![Offset(1), Offset(u64::MAX)],
            },
            LogEvent::Rebased(rebase(7, 3)),
            LogEvent::Dropped { log_id: LOG, epoch: Epoch(9) },
        ] {
            let bytes = event.encode();
            assert_eq!(LogEvent::decode(&bytes), Ok(event));
            for end in 0..bytes.len() {
                assert!(LogEvent::decode(&bytes[..end]).is_err());
            }
        }
    }

    #[test]
    fn an_epoch_whose_base_is_not_older_is_damage() {
        for (epoch, base, is_whole) in [(2, 1, true), (2, 2, false), (0, 0, false), (1, 7, false)] {
            let bytes = LogEvent::Opened(opened(epoch, base, &[100])).encode();
            assert_eq!(LogEvent::decode(&bytes).is_ok(), is_whole, "{epoch} {base}");
        }
    }

    fn rebase(partition: u16, epoch: u16) -> Rebase {
        Rebase {
            log_id: LOG,
            partition: Partition(partition),
            epoch: Epoch(epoch),
            from: Offset(5),
            to: Offset(u64::MAX),
            ahead: std::time::Duration::from_micros(172_800_000_001),
            noted_at: crate::Timestamp::MAX,
            reason: "NTP was off\u{e9}".to_owned(),
        }
    }

    #[test]
    fn a_rebase_holds_in_its_partition_and_from_its_epoch_on() {
        let journal = Journal::of(
            [(0, 0), (1, 0), (0, 2)]
                .map(|(partition, epoch)| LogEvent::Rebased(rebase(partition, epoch))),
        );
        let log = journal.log(LOG);
        for (epoch, partition, expected) in [(0, 0, 1), (1, 0, 1), (2, 0, 2), (2, 1, 1), (2, 2, 0)]
        {
            let found = log.rebases(Epoch(epoch), Partition(partition));
            assert_eq!(found.count(), expected, "{epoch} {partition}");
        }
        assert!(View::active(journal).is_whole(), "it opens no epoch");
    }

    #[test]
    fn a_dropped_epoch_is_none_of_those_there_are() {
        let dropped = LogEvent::Dropped { log_id: LOG, epoch: Epoch(7) };
        let journal = Journal::of(chain().into_iter().chain([dropped]));
        let log = journal.log(LOG);
        assert!(log.epochs().eq([0, 1, 2].map(Epoch)) && log.dropped().eq([Epoch(7)]));
        assert!(log.all_opened().map(|opened| opened.epoch).eq([1, 2].map(Epoch)));
        assert_eq!((log.newest(), log.opened(Epoch(7)).is_some()), (Epoch(7), true));
    }

    #[test]
    fn an_epoch_holds_from_its_start_and_its_base_below() {
        let journal = Journal::of(chain());
        let log = journal.log(LOG);
        assert_eq!((journal.entries, log.active()), (4, Epoch(1)));
        for (epoch, partition, offset, holding) in [
            (0, 0, 99, 0),
            (1, 0, 99, 0),
            (1, 0, 100, 1),
            (1, 1, 0, 1),
            (2, 0, 49, 0),
            (2, 0, 50, 2),
            (2, 0, 120, 2),
            (2, 1, 69, 1),
            (7, 0, 99, 0),
            (7, 0, 299, 1),
            (7, 0, 300, 7),
        ] {
            let found = log.holding(Epoch(epoch), Partition(partition), Offset(offset));
            assert_eq!(found, Epoch(holding), "{epoch} {partition} {offset}");
        }
        let stretch = |epoch, from, to: Option<u64>| (Epoch(epoch), Offset(from), to.map(Offset));
        let stretches: Vec<_> = log.stretches(Epoch(7), Partition(0)).collect();
        let expected =
            [stretch(7, 300, None), stretch(1, 100, Some(300)), stretch(0, 0, Some(100))];
        assert_eq!(stretches.iter().map(|s| (s.epoch, s.from, s.to)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_view_counts_every_place_once() {
        let other = LogId([4; 16]);
        let journal = Journal::of(chain());
        let segment = |log_id, epoch, start| SegmentId {
            log_id,
            partition: Partition(0),
            epoch: Epoch(epoch),
            start: Offset(start),
        };
        let views = [
            (View::default(), 0),
            (View::active(Journal::of(chain())), 1),
            (View::of_epoch(journal.clone(), LOG, Epoch(7)), 7),
        ];
        for (view, epoch) in views {
            assert_eq!(view.epoch_of(LOG), Epoch(epoch));
            for start in [0, 50, 99, 100, 299, 300, 5_000] {
                let counted = [0, 1, 2, 7].map(|epoch| view.counts(&segment(LOG, epoch, start)));
                assert_eq!(counted.iter().filter(|counts| **counts).count(), 1, "{start}");
            }
            assert!(view.counts(&segment(other, 0, 0)));
        }
        assert!(View::active(Journal::of([])).is_whole());
    }
}
