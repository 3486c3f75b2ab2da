//! Target: what one reader promises about any bytes, and what it may cost.

use std::{
    fs,
    time::{Duration, Instant},
};

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

impl Target {
    /// Checks the laws for these bytes, and that the check stays within its bounds.
    ///
    /// # Panics
    /// When a law or a bound does not hold.
    pub fn run(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
        let start = Instant::now();
        self.run_once(bytes);
        if start.elapsed() <= TIME_MAX {
            return;
        }
        // The machine may have been busy with other things, so what counts is the time on a processor.
        let ((), spent) = time_of(|| self.run_once(bytes));
        let length = bytes.len();
        assert!(spent <= TIME_MAX, "{}: {length} bytes of input took {spent:?}", self.name);
    }

    fn run_once(&self, bytes: &[u8]) {
        let bound = self.bytes_base + self.bytes_per_byte * bytes.len();
        let ((), peak) = memory::peak_of(|| (self.check)(bytes));
        assert!(
            peak <= bound,
            "{}: {} bytes of input took {peak} bytes of memory, more than the {bound} allowed",
            self.name,
            bytes.len()
        );
    }
}

/// Does something, and gives the time that it took on a processor; all the time that passed, where the
/// system does not tell.
pub fn time_of<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let (start, start_on_processor) = (Instant::now(), time_on_processor());
    let done = work();
    let spent = match (start_on_processor, time_on_processor()) {
        (Some(start), Some(end)) => end.saturating_sub(start),
        _ => start.elapsed(),
    };
    (done, spent)
}

/// Time that this thread has run, where the system tells it.
fn time_on_processor() -> Option<Duration> {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = statistics.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}
