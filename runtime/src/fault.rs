//! Crash points: places with names where a test kills the process, to prove that nothing
//! acknowledged is lost and nothing is counted twice.
//!
//! A test starts the real binary with `PULSO_FAULT=log.append.before_commit:3`; the third time any
//! thread passes that point, the process sends itself SIGKILL, which runs no destructor, flushes
//! nothing and cannot be caught: what a power cut or the kernel's memory killer does. Without the
//! variable a point costs one atomic load, so the points stay in release builds and the tests kill
//! the very code that ships.

use std::{
    num::NonZeroU64,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The environment variable that arms a point: `name` or `name:nth`, `nth` from 1.
pub const VARIABLE: &str = "PULSO_FAULT";

/// Every point there is, so that a kill test can visit all of them and none can be misspelt.
pub const POINTS: &[&str] = &[
    "log.append.before_insert",
    "log.append.before_commit",
    "log.append.after_commit",
    "kafka.before_append",
    "kafka.after_append",
    "store.flush.before_commit",
    "store.flush.after_commit",
    "scylla.before_rows",
    "scylla.after_rows",
    "scylla.after_manifest",
    "ingest.before_append",
    "ingest.before_ack",
    "consumer.before_flush",
    "consumer.after_rows",
    "consumer.after_close",
    "blocks.after_pages",
    "blocks.before_manifest",
    "blocks.before_swap",
    "blocks.after_swap",
    "blocks.before_deleted",
    "blocks.after_deleted",
    "billing.after_open",
    "billing.before_cut",
    "billing.after_cut",
    "billing.before_part",
    "billing.before_index",
    "billing.before_draft",
    "billing.after_draft",
    "billing.before_number",
    "billing.after_number",
    "billing.before_finalise",
    "billing.after_finalise",
    "billing.before_outbox",
    "billing.after_outbox",
    "billing.before_published",
    "billing.before_settled",
    "billing.after_settled",
    "billing.before_close",
    "billing.after_close",
    "billing.before_forward",
    "billing.after_forward",
    "invoice.before_void",
    "invoice.after_void",
    "contract.before_entry",
    "contract.after_entry",
    "catalogue.after_stored",
    "catalogue.after_declared",
    "audit.after_begun",
    "audit.before_ended",
];

/// `PULSO_FAULT` holds something that arms no point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No point has this name.
    #[error("{VARIABLE}={0}: no such point; the points are {points}", points = POINTS.join(", "))]
    UnknownPoint(String),
    /// What follows the colon is not a count.
    #[error("{VARIABLE}={0}: after the colon a whole number from 1 is needed, as in `{0}:1`")]
    BadCount(String),
}

/// Kills the process when `PULSO_FAULT` names this point and this is the pass it asks for.
///
/// # Panics
/// When `PULSO_FAULT` is set to something [`check`] refuses: a kill test that never kills would
/// pass for the wrong reason. In debug builds also when `name` is not in [`POINTS`].
#[inline]
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "crash point {name} is missing from fault::POINTS");
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    if let Some(armed) = ARMED.get_or_init(from_environment) {
        armed.pass(name, kill_self);
    }
}

/// Refuses a `PULSO_FAULT` that arms no point. The binary calls it first, so that the mistake is an
/// error at start and not a panic on some thread.
///
/// # Errors
/// [`FaultError`] says which part is wrong and what would be right.
pub fn check() -> Result<(), FaultError> {
    match std::env::var_os(VARIABLE) {
        Some(value) => Armed::parse(&value.to_string_lossy()).map(drop),
        None => Ok(()),
    }
}

fn from_environment() -> Option<Armed> {
    let value = std::env::var_os(VARIABLE)?;
    match Armed::parse(&value.to_string_lossy()) {
        Ok(armed) => Some(armed),
        Err(error) => panic!("{error}"),
    }
}

/// The one point that kills, and how many passes it lets by first.
#[derive(Debug)]
struct Armed {
    name: &'static str,
    nth: NonZeroU64,
    passes: AtomicU64,
}

impl Armed {
    fn parse(value: &str) -> Result<Self, FaultError> {
        let (name, nth) = match value.split_once(':') {
            Some((name, nth)) => (name, nth.parse().ok()),
            None => (value, Some(NonZeroU64::MIN)),
        };
        let listed = POINTS.iter().find(|point| **point == name);
        let name = listed.ok_or_else(|| FaultError::UnknownPoint(name.to_owned()))?;
        let nth = nth.ok_or_else(|| FaultError::BadCount(name.to_string()))?;
        Ok(Self { name, nth, passes: AtomicU64::new(0) })
    }

    /// Counts a pass and calls `kill` on the nth one. Passes of several threads are counted
    /// together, each once, so exactly one of them is the nth.
    fn pass(&self, name: &str, kill: impl FnOnce()) {
        if self.name != name {
            return;
        }
        if self.passes.fetch_add(1, Ordering::Relaxed) + 1 == self.nth.get() {
            kill();
        }
    }
}

/// Ends this process as `kill -9` does, and does not return.
fn kill_self() {
    // SAFETY: both calls take and return plain integers and touch no memory of ours.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    // The kernel may deliver the signal to another thread first; this one must not go a step
    // further in the meantime.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, os::unix::process::ExitStatusExt};

    use super::*;

    #[test]
    fn the_nth_pass_of_the_named_point_kills_and_no_other() {
        for (value, deadly_pass) in
            [("ingest.before_ack", 1), ("ingest.before_ack:1", 1), ("ingest.before_ack:3", 3)]
        {
            let armed = Armed::parse(value).unwrap();
            let killed_at = Cell::new(Vec::new());
            for pass in 1..=5 {
                armed.pass("ingest.before_append", || panic!("another point killed"));
                armed.pass("ingest.before_ack", || killed_at.set(vec![pass]));
            }
            assert_eq!(killed_at.take(), [deadly_pass], "{value}");
        }
    }

    /// Starts itself again with a point armed; in that process it is the one that dies.
    #[test]
    fn a_process_at_its_armed_point_dies_by_sigkill_and_goes_no_further() {
        const NAME: &str =
            "fault::tests::a_process_at_its_armed_point_dies_by_sigkill_and_goes_no_further";
        if std::env::var_os(VARIABLE).is_some() {
            for pass in 1..=3 {
                println!("before pass {pass}");
                point("ingest.before_append");
                point("ingest.before_ack");
            }
            return;
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(VARIABLE, "ingest.before_ack:2")
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(libc::SIGKILL), "{child:?}");
        let output = String::from_utf8(child.stdout).unwrap();
        assert!(output.contains("before pass 2") && !output.contains("before pass 3"), "{output}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_would_be_right() {
        for (value, part) in [
            ("", "no such point; the points are log.append.before_insert, "),
            ("ingest.before_lunch", "PULSO_FAULT=ingest.before_lunch: no such point"),
            ("ingest.before_ack:0", "a whole number from 1"),
            ("ingest.before_ack:", "as in `ingest.before_ack:1`"),
            ("ingest.before_ack:-2", "a whole number from 1"),
        ] {
            let message = Armed::parse(value).unwrap_err().to_string();
            assert!(message.contains(part), "{value:?}: {message}");
        }
    }

    #[test]
    fn every_point_can_be_armed_and_has_one_entry() {
        for (place, name) in POINTS.iter().enumerate() {
            assert_eq!(Armed::parse(name).unwrap().name, *name);
            assert!(!POINTS[..place].contains(name), "{name} is listed twice");
        }
    }
}
