//! Identity: what tells a log from every other, drawn when it is made and kept for its life.

use domain::{LogId, generation::Generation};
use uuid::Uuid;

/// Draws the id of a log.
#[must_use]
pub fn fresh_log_id() -> LogId {
    LogId(Uuid::new_v4().into_bytes())
}

/// Draws identity and seed of a log; everything else is as in `parameters`.
#[must_use]
pub fn fresh(parameters: Generation) -> Generation {
    // The fixed bits of one half meet random bits of the other, so all 64 are random.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    Generation { log_id: fresh_log_id(), hash_seed: high ^ low, ..parameters }
}
