//! CPU time by step, read from the kernel: threads are named after what they do.

use std::{collections::BTreeMap, fs, io};

use crate::exit::Failure;

/// CPU time spent so far, in nanoseconds, by step.
#[derive(Clone, Debug, Default)]
pub(super) struct CpuTimes {
    pub(super) steps: BTreeMap<String, u64>,
}

impl CpuTimes {
    /// Reads the times of all threads of this process.
    ///
    /// # Errors
    /// Where `/proc` is not Linux's.
    pub(super) fn now() -> Result<Self, Failure> {
        let mut times = Self::default();
        for task in fs::read_dir("/proc/self/task").map_err(no_proc)? {
            let path = task.map_err(no_proc)?.path();
            // A thread may end while we look.
            let (Ok(name), Ok(schedstat)) =
                (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
            else {
                continue;
            };
            let nanos: u64 =
                schedstat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            *times.steps.entry(step_of(name.trim()).to_owned()).or_default() += nanos;
        }
        Ok(times)
    }

    /// What was spent since an earlier look.
    pub(super) fn since(&self, before: &Self) -> Self {
        let spent = |(step, nanos): (&String, &u64)| {
            let before = before.steps.get(step).copied().unwrap_or(0);
            (step.clone(), nanos.saturating_sub(before))
        };
        Self { steps: self.steps.iter().map(spent).collect() }
    }

    /// Over all steps.
    pub(super) fn total(&self) -> u64 {
        self.steps.values().sum()
    }
}

/// The step of a thread, by its name without its number.
fn step_of(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-')
}

fn no_proc(error: io::Error) -> Failure {
    Failure::internal(format_args!("the bench reads CPU times from /proc/self/task: {error}"))
}

/// Resident memory, in MiB.
pub(super) fn resident_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_threads_name_without_its_number() {
        for (name, step) in [("lane-0", "lane"), ("log-writer", "log-writer"), ("serve", "serve")] {
            assert_eq!(step_of(name), step);
        }
    }

    #[test]
    fn work_is_seen_in_the_times() {
        let before = CpuTimes::now().unwrap();
        let mut x = 1u64;
        while CpuTimes::now().unwrap().since(&before).total() < 5_000_000 {
            (0..100_000).for_each(|i| x = std::hint::black_box(x.wrapping_mul(31).wrapping_add(i)));
        }
        assert!(resident_mib().is_some_and(|mib| mib > 0));
    }
}
