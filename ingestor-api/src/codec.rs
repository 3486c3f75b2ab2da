//! Codec: a message arrives as the bytes it is. Nothing is decoded here; the walk reads the bytes
//! in place, and the log gets slices of them.

use bytes::{Buf, Bytes};
use proto::v1;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Bytes in, [`v1::IngestAck`] out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchCodec {
    read_buffer_bytes: usize,
}

impl BatchCodec {
    /// For a stream: its buffer is kept and holds several batches.
    pub(crate) const STREAM: Self = Self { read_buffer_bytes: 64 << 10 };
    /// For one batch: its buffer grows to the length in the message's frame.
    pub(crate) const SINGLE: Self = Self { read_buffer_bytes: 4 << 10 };
}

impl Codec for BatchCodec {
    type Encode = v1::IngestAck;
    type Decode = Bytes;
    type Encoder = AckEncoder;
    type Decoder = BytesDecoder;

    fn encoder(&mut self) -> AckEncoder {
        AckEncoder
    }

    fn decoder(&mut self) -> BytesDecoder {
        BytesDecoder { read_buffer_bytes: self.read_buffer_bytes }
    }
}

/// Writes acks.
#[derive(Debug)]
pub(crate) struct AckEncoder;

impl Encoder for AckEncoder {
    type Item = v1::IngestAck;
    type Error = Status;

    fn encode(&mut self, ack: v1::IngestAck, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::Message::encode(&ack, out).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        // Acks are some 10 bytes; acks that are ready together leave in one frame.
        BufferSettings::new(1 << 10, 16 << 10)
    }
}

/// Splits a message off the connection's buffer without copying it.
#[derive(Debug)]
pub(crate) struct BytesDecoder {
    read_buffer_bytes: usize,
}

impl Decoder for BytesDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.read_buffer_bytes, self.read_buffer_bytes)
    }
}
