//! Frames: batches as bytes, encoded once and sent again unchanged.
//!
//! A batch keeps its pulses encoded, so that holding it for a resend costs no copy, and so that the
//! resend is the same to the byte, as the exactly-once rules ask. The header is written in front at
//! each send.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use proto::v1;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Field number of the pulses in a `PulseBatch`.
const PULSES_FIELD: u32 = 15;

/// What makes sending a batch again safe. One kind a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Pulse i has the sequence `first_sequence + i` of this producer.
    Numbered {
        /// 16 random bytes, minted at each start of a client.
        producer_id: [u8; 16],
        /// Sequence of the first pulse.
        first_sequence: u64,
    },
    /// Every pulse has its own id.
    ById,
    /// Pulse i is row `first_row + i` of a set with this name and content.
    Backfill {
        /// The set's name.
        name: String,
        /// Digest of the whole content.
        content_digest: Bytes,
        /// Row of the first pulse.
        first_row: u64,
    },
    /// None: sending it again may count it twice, so a [`Sender`](super::Sender) does not.
    None,
}

impl Identity {
    /// Tells whether the batch may be sent again when it is not known what became of it.
    #[must_use]
    pub const fn makes_resending_safe(&self) -> bool {
        !matches!(self, Self::None)
    }

    fn encode(&self, buffer: &mut impl BufMut) {
        let mut header = v1::PulseBatch::default();
        match self {
            Self::Numbered { producer_id, first_sequence } => {
                header.producer_id = producer_id.to_vec();
                header.first_sequence = *first_sequence;
            }
            Self::Backfill { name, content_digest, first_row } => {
                let (name, content_digest) = (name.clone(), content_digest.to_vec());
                header.backfill = Some(v1::Backfill { name, content_digest });
                header.first_sequence = *first_row;
            }
            Self::ById | Self::None => {}
        }
        header.encode_raw(buffer);
    }
}

/// Encoded pulses, in order.
#[derive(Clone, Debug, Default)]
pub struct Pulses {
    bytes: BytesMut,
    count: u32,
}

impl Pulses {
    /// Adds one.
    pub fn push(&mut self, pulse: &v1::Pulse) {
        prost::encoding::message::encode(PULSES_FIELD, pulse, &mut self.bytes);
        self.count += 1;
    }

    /// Adds one that is encoded already.
    pub fn push_encoded(&mut self, pulse: &[u8]) {
        prost::encoding::encode_key(
            PULSES_FIELD,
            prost::encoding::WireType::LengthDelimited,
            &mut self.bytes,
        );
        prost::encoding::encode_varint(pulse.len() as u64, &mut self.bytes);
        self.bytes.put_slice(pulse);
        self.count += 1;
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes they take on the wire.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Ends the batch and gives it its identity.
    #[must_use]
    pub fn into_batch(self, identity: Identity) -> Batch {
        Batch { identity, count: self.count, pulses: self.bytes.freeze() }
    }
}

/// A batch that can be sent any number of times. Cloning it copies no pulse.
#[derive(Clone, Debug)]
pub struct Batch {
    identity: Identity,
    pulses: Bytes,
    count: u32,
}

impl Batch {
    /// Its identity.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Pulses in it.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The same pulses under another identity.
    #[must_use]
    pub fn with_identity(&self, identity: Identity) -> Self {
        Self { identity, ..self.clone() }
    }
}

/// A batch with the number its ack will carry.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) batch: Batch,
}

impl Frame {
    fn encode(&self, buffer: &mut impl BufMut) {
        prost::encoding::uint64::encode(1, &self.number, buffer);
        self.batch.identity.encode(buffer);
        buffer.put_slice(&self.batch.pulses);
    }
}

/// Frames out, acks in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = v1::IngestAck;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for FrameCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(frame.batch.pulses.len() + 256);
        frame.encode(buffer);
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = v1::IngestAck;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<v1::IngestAck>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let decoded = v1::IngestAck::decode(bytes);
        decoded.map(Some).map_err(|error| Status::internal(format!("an ack is malformed: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_the_message_that_prost_would_write() {
        let pulse = |sku: &str| v1::Pulse { product_sku: sku.to_owned(), ..Default::default() };
        let name = "september".to_owned();
        let digest = Bytes::from_static(&[7; 16]);
        for identity in [
            Identity::Numbered { producer_id: [3; 16], first_sequence: 900 },
            Identity::Backfill { name: name.clone(), content_digest: digest.clone(), first_row: 1 },
            Identity::ById,
            Identity::None,
        ] {
            let mut pulses = Pulses::default();
            pulses.push(&pulse("a"));
            pulses.push(&pulse("b"));
            let mut bytes = BytesMut::new();
            Frame { number: 5, batch: pulses.into_batch(identity.clone()) }.encode(&mut bytes);
            let mut expected = v1::PulseBatch {
                batch: 5,
                pulses: vec![pulse("a"), pulse("b")],
                ..Default::default()
            };
            match identity {
                Identity::Numbered { producer_id, first_sequence } => {
                    expected.producer_id = producer_id.to_vec();
                    expected.first_sequence = first_sequence;
                }
                Identity::Backfill { first_row, .. } => {
                    let (name, content_digest) = (name.clone(), digest.to_vec());
                    expected.backfill = Some(v1::Backfill { name, content_digest });
                    expected.first_sequence = first_row;
                }
                Identity::ById | Identity::None => {}
            }
            assert_eq!(v1::PulseBatch::decode(bytes.freeze()).unwrap(), expected);
        }
    }
}
