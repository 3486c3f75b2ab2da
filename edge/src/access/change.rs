//! Change: what a handler says of the write that it does, for the audit trail.
//!
//! The gate leaves one among the extensions of each request that writes. The handler fills it in as it
//! learns what the call is about; the gate reads it when the handler has ended, whichever way.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::Timestamp;

use super::trail::{Ended, Evidence, Outcome, TARGET_BYTES_MAX};
use crate::Problem;

/// What one call changes. Clones share it. Nothing in it may be secret.
#[derive(Clone, Default)]
pub struct Change(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    target: Option<String>,
    before: Option<Evidence>,
    after: Option<Evidence>,
    extent: Extent,
}

/// How far a call went that was not refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    #[default]
    Done,
    Checked,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Change")
    }
}

impl Change {
    /// The change that the gate has left among a request's extensions.
    ///
    /// # Errors
    /// INTERNAL where no gate was passed, or its rule does not say that the method writes: a handler
    /// must not change what nobody records.
    pub fn of(extensions: &http::Extensions) -> Result<Self, Problem> {
        let message = "the request came without a record of its change; its access rule is wrong";
        extensions.get().cloned().ok_or_else(|| Problem::internal(message))
    }

    /// Says what the call is about, such as a key's id. Beyond [`TARGET_BYTES_MAX`] it is cut.
    pub fn about(&self, target: &str) {
        let target = &target[..target.floor_char_boundary(TARGET_BYTES_MAX)];
        self.noted().target = Some(target.to_owned());
    }

    /// Says what the configuration was.
    pub fn before(&self, text: &str) {
        self.noted().before = Some(Evidence::of(text));
    }

    /// Says what the configuration is to be.
    pub fn after(&self, text: &str) {
        self.noted().after = Some(Evidence::of(text));
    }

    /// Says that the caller asked for a check, which changes nothing.
    pub fn only_checked(&self) {
        self.noted().extent = Extent::Checked;
    }

    /// The end of the call, which was refused for a reason or was not.
    #[must_use]
    pub fn ended(&self, at: Timestamp, refused: Option<&str>) -> Ended {
        let noted = self.noted();
        let outcome = match (refused, noted.extent) {
            (Some(reason), _) => Outcome::Refused { reason: reason.to_owned() },
            (None, Extent::Done) => Outcome::Done,
            (None, Extent::Checked) => Outcome::Checked,
        };
        let (target, before) = (noted.target.clone(), noted.before.clone());
        Ended { at, target, before, after: noted.after.clone(), outcome }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // Holds whole values only, so it is sound whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
