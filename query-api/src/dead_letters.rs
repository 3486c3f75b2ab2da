//! Dead letters: the question for a page of them, and its position.

use domain::{
    DeadLetter, DeadLetterReason, Epoch, Offset, Partition, hash, store::DeadLetterPlace,
};
use service::problem::{Problem, Violation, reasons};

use crate::{page, suggest, token::TokenKey};

/// What was asked, as it came. Empty text stands for an absent field.
#[derive(Clone, Debug, Default)]
pub struct DeadLettersRequest {
    /// Generation of the log, from 1; the newest when empty.
    pub generation: String,
    /// Only letters with this reason.
    pub reason: String,
    /// 1 to 1000; 50 when empty.
    pub page_size: String,
    /// From the answer before; empty for the first page.
    pub page_token: String,
}

/// A question that can be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeadLettersQuery {
    pub(crate) reason: Option<DeadLetterReason>,
    pub(crate) page_size: usize,
    pub(crate) after: Option<DeadLetterPlace>,
}

/// One page, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersPage {
    /// Sorted by partition, offset, index.
    pub entries: Vec<DeadLetter>,
    /// For the page after this; absent on the last.
    pub next_page_token: Option<String>,
}

impl DeadLettersRequest {
    pub(crate) fn parse(&self, token_key: &TokenKey) -> Result<DeadLettersQuery, Problem> {
        let mut violations = Vec::new();
        let reason = (!self.reason.is_empty()).then(|| DeadLetterReason::parse(&self.reason));
        if reason == Some(None) {
            let words = DeadLetterReason::ALL.iter().map(|reason| reason.as_str());
            let hint = suggest::did_you_mean(&self.reason, words.clone());
            let words: Vec<_> = words.collect();
            let message = format!("{:?} is not one of {}{hint}", self.reason, words.join(", "));
            violations.push(Violation::new("reason", reasons::PARAMETER_INVALID, message));
        }
        let page_size = page::size(&self.page_size).unwrap_or_else(|(reason, message)| {
            violations.push(Violation::new("page_size", reason, message));
            page::SIZE_DEFAULT
        });
        Problem::check(violations)?;
        let after = page::position(token_key, self.fingerprint(), &self.page_token, decode_place)?;
        Ok(DeadLettersQuery { reason: reason.flatten(), page_size, after })
    }

    /// Cuts what the store gave for `page_size + 1` letters to the page.
    pub(crate) fn page(
        &self,
        token_key: &TokenKey,
        page_size: usize,
        mut entries: Vec<DeadLetter>,
    ) -> DeadLettersPage {
        let has_more = entries.len() > page_size;
        entries.truncate(page_size);
        let last = entries.last().filter(|_| has_more);
        let next_page_token = last.map(|last| {
            token_key.seal(self.fingerprint(), &encode_place(DeadLetterPlace::of(last)))
        });
        DeadLettersPage { entries, next_page_token }
    }

    fn fingerprint(&self) -> u128 {
        let asked = [self.reason.as_bytes(), self.generation.as_bytes()];
        hash::parts(0, [&b"dead letters"[..]].into_iter().chain(asked))
    }
}

fn encode_place(place: DeadLetterPlace) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&place.partition.0.to_le_bytes());
    bytes[2..10].copy_from_slice(&place.offset.0.to_le_bytes());
    bytes[10..14].copy_from_slice(&place.index.to_le_bytes());
    bytes[14..].copy_from_slice(&place.epoch.0.to_le_bytes());
    bytes
}

fn decode_place(bytes: &[u8]) -> Option<DeadLetterPlace> {
    let (partition, rest) = bytes.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (index, rest) = rest.split_first_chunk()?;
    Some(DeadLetterPlace {
        partition: Partition(u16::from_le_bytes(*partition)),
        offset: Offset(u64::from_le_bytes(*offset)),
        index: u32::from_le_bytes(*index),
        epoch: Epoch(u16::from_le_bytes(rest.try_into().ok()?)),
    })
}
