//! Dead letters: the question for a page of groups, and its position.

use domain::{
    DeadLetterGroup, DeadLetterKey, DeadLetterReason, Epoch, LogId, Offset, Partition, SegmentId,
    Tenant, hash, store::DeadLetterFilter, suggest,
};
use edge::{
    access::Principal,
    paging::{self, TokenKey},
    problem::{Problem, Violation, reasons},
};

/// What was asked, as it came. Empty text stands for an absent field.
#[derive(Clone, Debug, Default)]
pub struct DeadLettersRequest {
    /// Generation of the log, from 1; the newest when empty.
    pub generation: String,
    /// Only groups with this reason.
    pub reason: String,
    /// Only groups of this tenant.
    pub tenant: String,
    /// 1 to 1000; 50 when empty.
    pub page_size: String,
    /// From the answer before; empty for the first page.
    pub page_token: String,
}

/// A question that can be answered.
#[derive(Clone, Debug)]
pub(crate) struct DeadLettersQuery {
    pub(crate) filter: DeadLetterFilter,
    pub(crate) page_size: usize,
    pub(crate) after: Option<DeadLetterKey>,
}

/// One page, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersPage {
    /// Sorted by partition, segment, reason, tenant.
    pub entries: Vec<DeadLetterGroup>,
    /// For the page after this; absent on the last.
    pub next_page_token: Option<String>,
}

impl DeadLettersRequest {
    /// Reads a question about a generation of the log.
    pub(crate) fn parse(
        &self,
        token_key: &TokenKey,
        log_id: LogId,
        principal: &Principal,
    ) -> Result<DeadLettersQuery, Problem> {
        let mut violations = Vec::new();
        let reason = (!self.reason.is_empty()).then(|| DeadLetterReason::parse(&self.reason));
        if reason == Some(None) {
            let words = DeadLetterReason::ALL.iter().map(|reason| reason.as_str());
            let hint = suggest::did_you_mean(&self.reason, words.clone());
            let words: Vec<_> = words.collect();
            let message = format!("{:?} is not one of {}{hint}", self.reason, words.join(", "));
            violations.push(Violation::new("reason", reasons::PARAMETER_INVALID, message));
        }
        let tenant = (!self.tenant.is_empty()).then(|| Tenant::new(&self.tenant)).transpose();
        let tenant = tenant.unwrap_or_else(|error| {
            violations.push(Violation::new("tenant", reasons::of_name(error), error.to_string()));
            None
        });
        let page_size = paging::size(&self.page_size).unwrap_or_else(|(reason, message)| {
            violations.push(Violation::new("page_size", reason, message));
            paging::SIZE_DEFAULT
        });
        Problem::check(violations)?;
        let decode = |bytes: &[u8]| decode_key(log_id, bytes);
        let after = paging::position(token_key, self.fingerprint(), &self.page_token, decode)?;
        let tenant = principal.one_or_all(tenant)?.map(|tenant| tenant.to_string());
        let filter = DeadLetterFilter { reason: reason.flatten(), tenant };
        Ok(DeadLettersQuery { filter, page_size, after })
    }

    /// Cuts what the store gave for `page_size + 1` groups to the page.
    pub(crate) fn page(
        &self,
        token_key: &TokenKey,
        page_size: usize,
        mut entries: Vec<DeadLetterGroup>,
    ) -> DeadLettersPage {
        let has_more = entries.len() > page_size;
        entries.truncate(page_size);
        let last = entries.last().filter(|_| has_more);
        let next_page_token =
            last.map(|last| token_key.seal(self.fingerprint(), &encode_key(&last.key)));
        DeadLettersPage { entries, next_page_token }
    }

    fn fingerprint(&self) -> u128 {
        let asked = [self.reason.as_bytes(), self.generation.as_bytes(), self.tenant.as_bytes()];
        hash::parts(0, [&b"groups of dead letters"[..]].into_iter().chain(asked))
    }
}

/// Partition, epoch, start, and the reason's word up to a 0; the rest is the tenant, at most 128 bytes.
/// The log is the question's.
fn encode_key(key: &DeadLetterKey) -> Vec<u8> {
    let SegmentId { partition, epoch, start, .. } = key.segment;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&partition.0.to_le_bytes());
    bytes.extend_from_slice(&epoch.0.to_le_bytes());
    bytes.extend_from_slice(&start.0.to_le_bytes());
    bytes.extend_from_slice(key.reason.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.tenant.as_bytes());
    bytes
}

fn decode_key(log_id: LogId, bytes: &[u8]) -> Option<DeadLetterKey> {
    let (partition, rest) = bytes.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (start, rest) = rest.split_first_chunk()?;
    let (reason, tenant) = std::str::from_utf8(rest).ok()?.split_once('\0')?;
    let segment = SegmentId {
        log_id,
        partition: Partition(u16::from_le_bytes(*partition)),
        epoch: Epoch(u16::from_le_bytes(*epoch)),
        start: Offset(u64::from_le_bytes(*start)),
    };
    let reason = DeadLetterReason::parse(reason)?;
    Some(DeadLetterKey { segment, reason, tenant: tenant.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId([7; 16]);

    #[test]
    fn a_position_is_read_back_and_nothing_else_is_one() {
        let segment = SegmentId {
            log_id: LOG,
            partition: Partition(u16::MAX),
            epoch: Epoch(300),
            start: Offset(u64::MAX - 1),
        };
        for tenant in ["", "acme", "with \0 inside", &"\u{10ffff}".repeat(32)] {
            let key = DeadLetterKey {
                segment,
                reason: DeadLetterReason::TooLate,
                tenant: tenant.to_owned(),
            };
            let bytes = encode_key(&key);
            assert!(bytes.len() < 180, "{} bytes", bytes.len());
            assert_eq!(decode_key(LOG, &bytes), Some(key));
            assert_eq!(decode_key(LOG, &bytes[..20]), None);
        }
        assert_eq!(decode_key(LOG, b""), None);
        assert_eq!(decode_key(LOG, &[&[0; 12][..], b"unknown\0"].concat()), None);
    }
}
