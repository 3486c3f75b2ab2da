//! Verdicts: what became of single pulses, which only the log itself can say. Each answer folds a part
//! of it again.

use std::ops::Range;

use domain::{
    BlockStore, DeadLetter, LogId, Offset, Partition, PulseLog,
    generation::Generation,
    refold::{OutcomesPiece, RecordPlace, RequestPlace},
    store::PartitionKey,
};
use edge::{
    CorrelationId,
    access::Principal,
    problem::{Problem, Violation, reasons},
};

use super::QueryApi;
use crate::log_reader::LogReader;

/// The question what became of the pulses of a request.
#[derive(Clone, Debug)]
pub struct OutcomesRequest {
    /// Its correlation id.
    pub request_id: String,
    /// The partition that holds the records.
    pub partition: u32,
    /// Where its pulses are looked for.
    pub offsets: Range<u64>,
    /// Generation of the log, from 1; the newest when empty.
    pub generation: String,
}

impl<U: BlockStore, L: PulseLog> QueryApi<U, L> {
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
        principal: &Principal,
    ) -> Result<DeadLetter, Problem> {
        let generation = *self.generation(generation)?;
        let at = Offset(offset);
        let found = match partition_of(&generation, partition) {
            Some(partition) => {
                let key = self.verdicts_at(generation.log_id, partition, at).await?;
                let place = RecordPlace { key, offset: at };
                let letters = self.log_reader()?.ask(move |log| log.dead_letters(place));
                let mut letters = letters.await?.into_iter();
                letters.find(|letter| letter.offset == at && letter.index == index)
            }
            None => None,
        };
        // A letter of others is not told from none, not even by its place.
        let found = found.filter(|letter| principal.tenants.allows(&letter.tenant));
        found.ok_or_else(|| {
            let message = format!(
                "no dead letter stands at partition {partition}, offset {offset}, index {index}; \
                 list them to see which there are"
            );
            Problem::not_found(reasons::DEAD_LETTER_NOT_FOUND, message)
        })
    }

    /// What became of the pulses of one request, in a stretch of a partition as far as the segment goes in
    /// which it begins, and where to ask on. That segment is folded again.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with all that is wrong with the question; FAILED_PRECONDITION when the log
    /// cannot be read there, or not by this server; UNAVAILABLE when the store does not answer.
    pub async fn outcomes(&self, request: OutcomesRequest) -> Result<OutcomesPiece, Problem> {
        let generation = *self.generation(&request.generation)?;
        let partition = request.check(&generation)?;
        let OutcomesRequest { request_id, offsets, .. } = request;
        let offsets = Offset(offsets.start)..Offset(offsets.end);
        let key = self.verdicts_at(generation.log_id, partition, offsets.start).await?;
        let place = RequestPlace { key, offsets, request_id };
        self.log_reader()?.ask(move |log| log.outcomes(place)).await
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
        if self.offsets.is_empty() {
            refuse("offset_end", "must be above offset_start".to_owned());
        }
        Problem::check(violations).map(|()| partition)
    }
}

fn partition_of(generation: &Generation, number: u32) -> Option<Partition> {
    let number = u16::try_from(number).ok()?;
    (number < generation.partitions).then_some(Partition(number))
}
