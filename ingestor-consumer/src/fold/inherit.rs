//! Inheritance: the first fold of a generation of the log, out of the last ones of the generation
//! before.
//!
//! Nothing that was known of a client is lost when the log grows: each partition takes over the
//! producers, the backfills and the ids that are routed to it from now on. What it takes is a pure
//! function of how the generation before ended, so whoever starts it starts the same.

use domain::{Manifest, Offset, Partition, generation::Generation, store::PartitionKey};

use super::{Fold, ids, state::State, wire::StateError};

impl Fold {
    /// The fold at the first record of a partition, behind a whole generation: `ended` are the last
    /// manifest and the stored states of each of its partitions, as for [`Fold::resume`]. It is then given
    /// the runs of its ids (and of the generations before it) that may be this partition's, oldest first,
    /// as [`run_of`] gives them.
    ///
    /// Log time goes on from the greatest that was reached, so that what was forgotten stays too
    /// late to count again.
    ///
    /// # Errors
    /// When a state does not parse.
    pub fn inherit<'a>(
        generation: Generation,
        partition: PartitionKey,
        ended: impl IntoIterator<Item = (&'a Manifest, &'a [Vec<u8>])>,
    ) -> Result<Self, StateError> {
        let mut state = State::default();
        for (manifest, stored) in ended {
            let other = State::decode(stored, manifest.eff_ts, manifest.counts_to_end)?;
            state.take_over(other, |scope, name| {
                generation.partition_of_batch(scope, name) == partition.partition
            });
        }
        Ok(Self::with_state(generation, partition, state, Offset(0)))
    }
}

impl State {
    /// Takes what of another partition `is_ours`, by the scope and name that a batch is routed by,
    /// and every dimension: each partition was told all of them.
    fn take_over(&mut self, other: Self, is_ours: impl Fn(&str, &[u8]) -> bool) {
        self.eff_ts = self.eff_ts.max(other.eff_ts);
        for (sku, declaration) in other.declarations.0 {
            self.declarations.declare(&sku, declaration);
        }
        self.limits = other.limits;
        let producers = other.producers.into_iter();
        self.producers.extend(producers.filter(|(key, _)| is_ours(&key.scope, &key.producer_id)));
        let backfills = other.backfills.into_iter();
        self.backfills
            .extend(backfills.filter(|(key, _)| is_ours(&key.scope, key.name.as_bytes())));
    }
}

/// What of a run may be ids of partition `now` of `generation`, where the run is of partition `was` of
/// an older generation. All that are its own are in it: see [`Generation::may_hold`].
#[must_use]
pub fn run_of(
    (generation, now): (&Generation, Partition),
    (before, was): (&Generation, Partition),
    run: &[u8],
) -> Vec<u8> {
    // At most 1,024 partitions, so no more than ten bits of the hash are asked for.
    ids::part_of_run(run, |tenant| generation.may_hold(now, before, was, tenant.into()))
}
