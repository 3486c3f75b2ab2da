//! Sources: the bytes of a file or of stdin, how far they are read, and their digest.
//!
//! A backfill carries the digest of its whole content from the first batch on, so its content is
//! read twice: once for the digest, once for the rows. Stdin is spooled to a temporary file for
//! that. A file that changes between the two is noticed at its end.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use xxhash_rust::xxh3::Xxh3;

use crate::exit::{Exit, Failure};

const BUFFER_BYTES: usize = 256 << 10;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Where usage comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input, written `-`.
    Standard,
}

impl Input {
    /// Reads a path, or `-` for standard input.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "-" { Self::Standard } else { Self::File(text.into()) }
    }
}

/// Opened input.
pub struct Source {
    bytes: Box<dyn Read + Send>,
    bytes_total: Option<u64>,
    bytes_read: Arc<AtomicU64>,
    digest: Option<ContentDigest>,
}

/// Digest of a whole content and of how it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentDigest {
    salt: String,
    value: [u8; 16],
}

impl ContentDigest {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        self.value
    }
}

impl Source {
    /// Opens an input that is read once.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(input: &Input) -> Result<Self, Failure> {
        match input {
            Input::Standard => Ok(Self::of(Box::new(io::stdin()), None)),
            Input::File(path) => {
                let (file, total) = open_file(path)?;
                Ok(Self::of(Box::new(file), total))
            }
        }
    }

    /// Opens an input and digests all of it first. `salt` says how it will be read: the same bytes
    /// read another way are other content.
    ///
    /// # Errors
    /// When it cannot be opened, read or spooled.
    pub fn open_digested(input: &Input, salt: &str) -> Result<Self, Failure> {
        let (mut file, regular) = match input {
            Input::File(path) => {
                let (file, total) = open_file(path)?;
                (file, total.is_some())
            }
            // Standard input cannot be read twice.
            Input::Standard => (spool(&mut io::stdin().lock())?, true),
        };
        if !regular {
            file = spool(&mut file)?;
        }
        let broken =
            |error: io::Error| Failure::data(format_args!("cannot read the input: {error}"));
        let mut hasher = hasher(salt);
        let total = copy(&mut file, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })
        .map_err(broken)?;
        file.seek(SeekFrom::Start(0)).map_err(broken)?;
        let value = hasher.digest128().to_be_bytes();
        let digest = Some(ContentDigest { salt: salt.to_owned(), value });
        Ok(Self { digest, ..Self::of(Box::new(file), Some(total)) })
    }

    fn of(bytes: Box<dyn Read + Send>, bytes_total: Option<u64>) -> Self {
        Self { bytes, bytes_total, bytes_read: Arc::default(), digest: None }
    }

    /// How long it is, where that is known.
    #[must_use]
    pub const fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// How far it is read, for a progress bar.
    #[must_use]
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_read)
    }

    /// The digest of the content.
    #[must_use]
    pub const fn digest(&self) -> Option<&ContentDigest> {
        self.digest.as_ref()
    }

    /// Lends the bytes, without a byte order mark, to `read`, then checks that they are the ones
    /// that were digested.
    ///
    /// # Errors
    /// Those of `read`; `InvalidData` when the content has changed.
    pub fn read(self, read: impl FnOnce(&mut dyn BufRead) -> io::Result<()>) -> io::Result<()> {
        let counted = Counted {
            bytes: self.bytes,
            read: self.bytes_read,
            hasher: self.digest.as_ref().map(|digest| hasher(&digest.salt)),
        };
        let mut input = BufReader::with_capacity(BUFFER_BYTES, counted);
        // A pipe may give fewer bytes at first than a mark has.
        let mut start = Vec::with_capacity(BOM.len());
        input.by_ref().take(BOM.len() as u64).read_to_end(&mut start)?;
        if start == BOM {
            start.clear();
        }
        let mut input = start.as_slice().chain(input);
        read(&mut input)?;
        copy(&mut input, &mut |_| Ok(()))?;
        let (_, input) = input.into_inner();
        let seen = input.into_inner().hasher.map(|hasher| hasher.digest128().to_be_bytes());
        if seen != self.digest.map(|digest| digest.value) {
            let message = "the file changed while it was being sent. The rows that were accepted count: \
                           put the others into a file of their own, and send that under another \
                           backfill name";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(())
    }
}

/// Opens a file, and tells its length where it is a regular one.
fn open_file(path: &Path) -> Result<(File, Option<u64>), Failure> {
    let failed = |error: io::Error| Failure::file("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        let message = format!("cannot read {}: it is a directory", path.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    let total = metadata.is_file().then_some(metadata.len());
    Ok((file, total))
}

/// Counts and digests what is read through it.
struct Counted {
    bytes: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
    hasher: Option<Xxh3>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

fn hasher(salt: &str) -> Xxh3 {
    let mut hasher = Xxh3::new();
    hasher.update(&(salt.len() as u64).to_le_bytes());
    hasher.update(salt.as_bytes());
    hasher
}

fn copy(input: &mut dyn Read, visit: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut total = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => {
                visit(&buffer[..read])?;
                total += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Copies input to a file that vanishes when it is closed.
fn spool(input: &mut dyn Read) -> Result<File, Failure> {
    let directory = std::env::temp_dir();
    let failed = |error: io::Error| Failure::file("spool the input to", &directory, &error);
    let mut file = tempfile::tempfile().map_err(failed)?;
    copy(input, &mut |bytes| file.write_all(bytes)).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::NamedTempFile, Input) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let input = Input::File(file.path().to_owned());
        (file, input)
    }

    fn digest(content: &[u8], salt: &str) -> [u8; 16] {
        let (_file, input) = file(content);
        Source::open_digested(&input, salt).unwrap().digest().unwrap().bytes()
    }

    #[test]
    fn the_digest_is_of_the_content_and_of_how_it_is_read() {
        assert_eq!(digest(b"a\nb\n", "csv"), digest(b"a\nb\n", "csv"));
        assert_ne!(digest(b"a\nb\n", "csv"), digest(b"a\nb", "csv"));
        assert_ne!(digest(b"a\nb\n", "csv"), digest(b"a\nb\n", "jsonl"));
    }

    #[test]
    fn a_byte_order_mark_is_left_out_and_a_changed_file_is_noticed() {
        let (mut file, input) = file(b"\xef\xbb\xbfabc");
        let mut text = String::new();
        let read =
            |input: &mut dyn BufRead, text: &mut String| input.read_to_string(text).map(drop);
        let source = Source::open_digested(&input, "").unwrap();
        source.read(|input| read(input, &mut text)).unwrap();
        assert_eq!(text, "abc");
        let source = Source::open_digested(&input, "").unwrap();
        file.write_all(b"d").unwrap();
        let error = source.read(|input| read(input, &mut text)).unwrap_err();
        assert!(error.to_string().contains("changed"), "{error}");
    }

    #[test]
    fn a_byte_order_mark_is_left_out_however_the_bytes_arrive() {
        struct OneByOne(&'static [u8]);

        impl Read for OneByOne {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let end = buffer.len().min(1);
                self.0.read(&mut buffer[..end])
            }
        }

        for (content, expected) in [
            ("\u{feff}abc", "abc"),
            ("abc", "abc"),
            ("\u{feff}\u{feff}", "\u{feff}"),
            ("a", "a"),
            ("", ""),
        ] {
            let source = Source::of(Box::new(OneByOne(content.as_bytes())), None);
            let mut text = String::new();
            source.read(|input| input.read_to_string(&mut text).map(drop)).unwrap();
            assert_eq!(text, expected, "{content:?}");
        }
    }
}
