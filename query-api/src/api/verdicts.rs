//! Verdicts: what became of single pulses, which only the log itself can say. Each answer folds a part
//! of it again.

use std::ops::Range;

use domain::{
    DeadLetter, LogId, Offset, Partition, PulseLog, UsageStore,
    place::Generation,
    refold::{Outcomes, RecordPlace, RequestPlace},
    store::PartitionKey,
};
use service::{
    CorrelationId,
    problem::{Problem, Violation, reasons},
};

use super::{QueryApi, measured};
use crate::log_reader::LogReader;

/// Offsets that one question may ask about: those of the longest segment.
pub(crate) const OFFSETS_MAX: u64 = 1 << 20;

/// The question what became of the pulses of a request.
#[derive(Clone, Debug)]
pub struct OutcomesRequest {
    /// Its correlation id.
    pub request_id: String,
    /// The partition.
    pub partition: u32,
    /// Where its pulses are looked for, at most 1,048,576 offsets.
    pub offsets: Range<u64>,
    /// Generation of the log, from 1; the newest when empty.
    pub generation: String,
}

impl<U: UsageStore, L: PulseLog> QueryApi<U, L> {
    /// One dead letter with its bytes, of a generation of the log (from 1, the newest if empty). Its
    /// segment of the log is folded again up to there.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when there is no such generation; NOT_FOUND when no pulse of this place was set
    /// aside; FAILED_PRECONDITION when the log cannot be read there, or not by this server; UNAVAILABLE
    /// when the store does not answer.
    pub async fn dead_letter(
        &self,
        (partition, offset, index): (u32, u64, u32),
        generation: &str,
    ) -> Result<DeadLetter, Problem> {
        measured("dead_letter", async {
            let generation = *self.generation(generation)?;
            let at = Offset(offset);
            let found = match partition_of(&generation, partition) {
                Some(partition) => {
                    let key = self.verdicts_at(generation.log_id, partition, at).await?;
                    let place = RecordPlace { key, offset: at };
                    let letters = self.log_reader()?.ask(move |log| log.dead_letters(place));
                    letters.await?.into_iter().find(|letter| letter.index == index)
                }
                None => None,
            };
            found.ok_or_else(|| {
                let message = format!(
                    "no dead letter stands at partition {partition}, offset {offset}, index {index}; \
                     list them to see which there are"
                );
                Problem::not_found(reasons::DEAD_LETTER_NOT_FOUND, message)
            })
        })
        .await
    }

    /// What became of the pulses of one request, in a stretch of a partition. Segments of the log are
    /// folded again, from the start of the one that the stretch begins in.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with all that is wrong with the question; FAILED_PRECONDITION when the log
    /// cannot be read there, or not by this server; UNAVAILABLE when the store does not answer.
    pub async fn outcomes(&self, request: OutcomesRequest) -> Result<Outcomes, Problem> {
        measured("outcomes", async {
            let generation = *self.generation(&request.generation)?;
            let partition = request.check(&generation)?;
            let OutcomesRequest { request_id, offsets, .. } = request;
            let offsets = Offset(offsets.start)..Offset(offsets.end);
            let key = self.verdicts_at(generation.log_id, partition, offsets.start).await?;
            let place = RequestPlace { key, offsets, request_id };
            self.log_reader()?.ask(move |log| log.outcomes(place)).await
        })
        .await
    }

    /// The partition in the epoch whose verdicts on a record are in use.
    async fn verdicts_at(
        &self,
        log_id: LogId,
        partition: Partition,
        offset: Offset,
    ) -> Result<PartitionKey, Problem> {
        let epoch = self.view().await?.1.epoch_at(log_id, partition, offset);
        Ok(PartitionKey { log_id, partition, epoch })
    }

    fn log_reader(&self) -> Result<&LogReader, Problem> {
        self.log_reader.as_ref().ok_or_else(|| {
            Problem::failed_precondition(
                reasons::LOG_NOT_READABLE,
                "this server does not read the log: ask one that does",
            )
        })
    }
}

impl OutcomesRequest {
    /// Finds all that is wrong with the question, or the partition that it is about.
    fn check(&self, generation: &Generation) -> Result<Partition, Problem> {
        let mut violations = Vec::new();
        let mut refuse = |field: &str, message: String| {
            violations.push(Violation::new(field, reasons::PARAMETER_INVALID, message));
        };
        if CorrelationId::parse(&self.request_id).is_none() {
            refuse("request_id", "must be 1 to 64 printable ASCII characters".to_owned());
        }
        let partition = partition_of(generation, self.partition).unwrap_or_else(|| {
            let partitions = generation.partitions;
            refuse("partition", format!("{} is not below {partitions}", self.partition));
            Partition(0)
        });
        let Range { start, end } = self.offsets;
        if !matches!(end.checked_sub(start), Some(1..=OFFSETS_MAX)) {
            let message = format!("must be 1 to {OFFSETS_MAX} above offset_start; ask in pieces");
            refuse("offset_end", message);
        }
        Problem::check(violations).map(|()| partition)
    }
}

fn partition_of(generation: &Generation, number: u32) -> Option<Partition> {
    let number = u16::try_from(number).ok()?;
    (number < generation.partitions).then_some(Partition(number))
}
