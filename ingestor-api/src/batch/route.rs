//! Route: which partition each pulse goes to.
//!
//! A batch with one identity goes whole to the partition of that identity, because whether it was
//! seen before is known only there. Other pulses go by their tenant, so that equal ids meet; their
//! parts are split where they would not fit a record.

use std::ops::Range;

use bytes::Bytes;
use domain::{Partition, generation::Generation};
use proto::v1;

use super::{Context, Part, identity::Identity};
use crate::config::ENVELOPE_BYTES;

/// Gathers a batch's accepted pulses by partition.
pub(super) struct Router {
    generation: Generation,
    drafts: Vec<Draft>,
    by: By,
}

enum By {
    /// One draft holds all.
    Identity,
    /// For each partition the place of its open draft, plus one; 0 where there is none. A draft
    /// that would pass `bytes_max` is left and another opened.
    Tenant { open: Box<[u32]>, bytes_max: usize },
}

/// A part in the making.
struct Draft {
    partition: Partition,
    stretches: Vec<Range<usize>>,
    bytes: usize,
    pulses: u32,
    digest: u64,
}

impl Router {
    pub(super) fn new(identity: &Identity<'_>, context: &Context<'_>) -> Self {
        let (generation, client) = (*context.generation, context.scope.client());
        let tenant = context.scope.tenant();
        let (by, drafts) = match identity.name() {
            Some(name) => {
                let scope = if client.is_empty() { tenant } else { &client };
                (By::Identity, vec![Draft::new(generation.partition_of_batch(scope, name))])
            }
            None => {
                let open = vec![0; usize::from(generation.partitions)].into_boxed_slice();
                let overhead =
                    SOURCE_BYTES + tenant.len() + client.len() + context.correlation_id.len();
                let bytes_max = context.limits.record_bytes_max - ENVELOPE_BYTES - overhead;
                (By::Tenant { open, bytes_max }, Vec::new())
            }
        };
        Self { generation, drafts, by }
    }

    /// Takes an accepted pulse: its field's place in the message and its digest.
    #[inline]
    pub(super) fn accept(&mut self, tenant: &[u8], field: Range<usize>, digest: u64) {
        let draft = match &mut self.by {
            By::Identity => 0,
            By::Tenant { open, bytes_max } => {
                let partition = self.generation.partition_of_tenant(tenant);
                let place = &mut open[usize::from(partition.0)];
                let found = self.drafts.get((*place as usize).wrapping_sub(1));
                if found.is_none_or(|draft| draft.bytes + field.len() > *bytes_max) {
                    self.drafts.push(Draft::new(partition));
                    *place =
                        u32::try_from(self.drafts.len()).expect("fewer than bytes in a message");
                }
                *place as usize - 1
            }
        };
        self.drafts[draft].push(field, digest);
    }

    /// Counts a refused pulse into the digest of a batch that is judged as a whole.
    pub(super) fn refuse(&mut self, digest: u64) {
        if matches!(self.by, By::Identity) {
            let draft = &mut self.drafts[0];
            draft.digest = draft.digest.wrapping_add(digest);
        }
    }

    /// Gives the parts that hold anything. Places in `refused` count over the whole batch, so they
    /// stay with a batch that is judged as a whole; a part by tenant has no refused pulses.
    pub(super) fn finish(
        self,
        message: &Bytes,
        source: &v1::SourceBatch,
        refused: Vec<u32>,
    ) -> Vec<Part> {
        let refused = match self.by {
            By::Identity => refused,
            By::Tenant { .. } => Vec::new(),
        };
        let drafts = self.drafts.into_iter().filter(|draft| draft.pulses > 0);
        drafts.map(|draft| draft.finish(message, source, &refused)).collect()
    }
}

/// A source without its texts and refused places: fixed fields and their tags, rounded up.
const SOURCE_BYTES: usize = 128;

impl Draft {
    const fn new(partition: Partition) -> Self {
        Self { partition, stretches: Vec::new(), bytes: 0, pulses: 0, digest: 0 }
    }

    #[inline]
    fn push(&mut self, field: Range<usize>, digest: u64) {
        self.bytes += field.len();
        self.pulses += 1;
        self.digest = self.digest.wrapping_add(digest);
        // Only fields that touch are one stretch: what stands between two pulses is not a pulse,
        // and forwarding it would let a client write into the record.
        match self.stretches.last_mut() {
            Some(last) if last.end == field.start => last.end = field.end,
            _ => self.stretches.push(field),
        }
    }

    fn finish(self, message: &Bytes, source: &v1::SourceBatch, refused: &[u32]) -> Part {
        let source = v1::SourceBatch {
            sent: self.pulses + u32::try_from(refused.len()).unwrap_or(u32::MAX),
            refused: refused.to_vec(),
            digest: self.digest,
            ..source.clone()
        };
        // Tag and length of the source in the envelope take at most 6 bytes.
        let bytes = self.bytes + prost::Message::encoded_len(&source) + 6;
        Part {
            partition: self.partition,
            source,
            pulses: self.pulses,
            stretches: self.stretches,
            message: message.clone(),
            bytes,
        }
    }
}
