//! Fixed little-endian layouts with a version in front and a crc32c behind, for cells and manifests.

use thiserror::Error;

/// Why stored bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Shorter or longer than the layout.
    #[error("wrong length")]
    Length,
    /// The checksum does not match.
    #[error("checksum does not match: the bytes were damaged")]
    Checksum,
    /// Written in the format of another version of the program.
    #[error("format {0} is not this program's: use the version of the program that wrote it")]
    Version(u8),
    /// A value outside its range.
    #[error("a value outside its range")]
    Value,
}

/// Appends fields and seals them.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(version: u8, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(version);
        Self(bytes)
    }

    pub(crate) fn put<const N: usize>(mut self, bytes: [u8; N]) -> Self {
        self.0.extend_from_slice(&bytes);
        self
    }

    pub(crate) fn put_slice(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Its length in bytes, then its bytes.
    pub(crate) fn put_text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).expect("a text that fits a message");
        self.put(length.to_le_bytes()).put_slice(text.as_bytes())
    }

    pub(crate) fn seal(mut self) -> Vec<u8> {
        let crc = crc32c::crc32c(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }
}

/// Takes fields off sealed bytes.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks seal and version.
    pub(crate) fn open(bytes: &'a [u8], version: u8) -> Result<Self, CodecError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(CodecError::Length)?;
        let (found, fields) = body.split_first().ok_or(CodecError::Length)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(CodecError::Checksum);
        }
        if *found != version {
            return Err(CodecError::Version(*found));
        }
        Ok(Self(fields))
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError::Length)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn take_slice(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(CodecError::Length)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn take_text(&mut self) -> Result<String, CodecError> {
        let length = u32::from_le_bytes(self.take()?);
        let bytes = self.take_slice(length as usize)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| CodecError::Value)
    }

    /// All that is left.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn end(self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError::Length) }
    }
}
