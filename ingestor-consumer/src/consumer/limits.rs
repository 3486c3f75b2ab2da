//! Limits: where the configuration says other limits than the log, the log is told.
//!
//! They decide verdicts, so only a record of the log can set them. Each process that drains a partition
//! tells it once after it took it: configure the same everywhere, or the last one counts.

use domain::{PulseLog, UsageStore};
use tracing::{info, warn};

use super::{Consumer, Work};
use crate::fold::Fold;

impl<L: PulseLog, U: UsageStore> Consumer<L, U> {
    /// Whether a partition that is being taken has to be told.
    pub(super) fn is_to_be_told(&self, fold: &Fold) -> bool {
        let differ = fold.limits() != self.limits && fold.sealed_at().is_none();
        self.work == Work::Live && differ
    }

    /// Tells the partitions that have to be told. One whose log takes nothing now is told at a later tick.
    pub(super) async fn tell_limits(&mut self) {
        for (&partition, taken) in self.taken.iter_mut().filter(|(_, taken)| taken.is_untold) {
            let record = proto::record::encode_limits(&self.generation, self.limits, "consumer");
            match self.log.append(partition, vec![record]).await {
                Ok(_) => {
                    info!(%partition, limits = ?self.limits, "the log was told its limits");
                    taken.is_untold = false;
                }
                Err(error) => {
                    warn!(%partition, %error, "the log was not told its limits; a later tick tries again")
                }
            }
        }
    }
}
