//! Append times that an operator does not believe: what a log's clock said while it was wrong.
//!
//! Log time never falls, so one append time two days ahead would hold every verdict of its partition
//! there for two days. An operator's word in the journal takes it back: within a stretch of offsets
//! the clock was ahead by so much, and the fold takes that off. The log itself stays as it is, and
//! the journal is never changed, so whoever folds the stretch again decides the same.

use std::time::Duration;

use crate::{
    Epoch, LogId, Offset, Partition, Timestamp,
    codec::{CodecError, Reader, Writer},
};

/// A stretch of a partition's append times that are not believed as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebase {
    /// The log generation whose journal has the entry.
    pub log_id: LogId,
    /// The one partition that the entry is about.
    pub partition: Partition,
    /// The first epoch in which it holds: an earlier one had folded the stretch before.
    pub epoch: Epoch,
    /// First offset.
    pub from: Offset,
    /// Behind the last offset.
    pub to: Offset,
    /// How far the log's clock was ahead, in whole microseconds.
    pub ahead: Duration,
    /// When this was said, by the clock of whoever said it. Decides nothing.
    pub noted_at: Timestamp,
    /// Why, in the operator's words.
    pub reason: String,
}

impl Rebase {
    /// The append time that is believed of a record; `None` where this says nothing about it.
    #[must_use]
    pub fn time_of(&self, offset: Offset, appended_at: Timestamp) -> Option<Timestamp> {
        (self.from..self.to).contains(&offset).then(|| appended_at.minus(self.ahead))
    }

    /// All but the log, which stands in front.
    pub(crate) fn encode(&self, writer: Writer) -> Writer {
        let ahead = u64::try_from(self.ahead.as_micros()).unwrap_or(u64::MAX);
        writer
            .put(self.partition.0.to_le_bytes())
            .put(self.epoch.0.to_le_bytes())
            .put(self.from.0.to_le_bytes())
            .put(self.to.0.to_le_bytes())
            .put(ahead.to_le_bytes())
            .put(self.noted_at.micros().to_le_bytes())
            .put_text(&self.reason)
    }

    pub(crate) fn decode(log_id: LogId, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            log_id,
            partition: Partition(u16::from_le_bytes(reader.take()?)),
            epoch: Epoch(u16::from_le_bytes(reader.take()?)),
            from: Offset(u64::from_le_bytes(reader.take()?)),
            to: Offset(u64::from_le_bytes(reader.take()?)),
            ahead: Duration::from_micros(u64::from_le_bytes(reader.take()?)),
            noted_at: Timestamp::from_micros(i64::from_le_bytes(reader.take()?))
                .ok_or(CodecError::Value)?,
            reason: reader.take_text()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stretch_is_taken_back() {
        let rebase = Rebase {
            log_id: LogId([1; 16]),
            partition: Partition(0),
            epoch: Epoch(0),
            from: Offset(5),
            to: Offset(7),
            ahead: Duration::from_secs(10),
            noted_at: Timestamp::EPOCH,
            reason: String::new(),
        };
        let at = |seconds| Timestamp::from_parts(seconds, 0).unwrap();
        for (offset, believed) in
            [(4, None), (5, Some(at(90))), (6, Some(at(90))), (7, None), (8, None)]
        {
            assert_eq!(rebase.time_of(Offset(offset), at(100)), believed, "{offset}");
        }
    }
}
