//! Target: what one reader promises about any bytes, and what it may cost.

use std::time::{Duration, Instant};

use crate::{memory, mutate::BYTES_MAX};

/// One reader under its laws.
pub struct Target {
    /// Its name, also that of its corpus.
    pub name: &'static str,
    /// Checks the laws for these bytes, and panics where one does not hold.
    pub check: fn(&[u8]),
    /// Words of the format, which mutations put in.
    pub words: &'static [&'static str],
    /// Bytes of memory that a check may take beside those of [`Target::bytes_per_byte`].
    pub bytes_base: usize,
    /// Bytes of memory that a check may take for each byte of its input.
    pub bytes_per_byte: usize,
}

/// Time that a check may take for an input of [`BYTES_MAX`]. A check reads its input up to a dozen
/// times, in code that is instrumented or not optimised; work that grows with the square of the input
/// is far above.
pub const TIME_MAX: Duration = Duration::from_secs(4);

/// How often an input that took too long is tried again: the machine may have been busy.
const TRIES: usize = 3;

impl Target {
    /// Checks the laws for these bytes, and that the check stays within its bounds.
    ///
    /// # Panics
    /// When a law or a bound does not hold.
    pub fn run(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
        let bound = self.bytes_base + self.bytes_per_byte * bytes.len();
        let mut fastest = Duration::MAX;
        for _ in 0..TRIES {
            let start = Instant::now();
            let ((), peak) = memory::peak_of(|| (self.check)(bytes));
            fastest = fastest.min(start.elapsed());
            assert!(
                peak <= bound,
                "{}: {} bytes of input took {peak} bytes of memory, more than the {bound} allowed",
                self.name,
                bytes.len()
            );
            if fastest <= TIME_MAX {
                return;
            }
        }
        panic!("{}: {} bytes of input took {fastest:?}", self.name, bytes.len());
    }
}
