//! Limits: where the configuration says other limits than the log, the log gets them.
//!
//! They decide verdicts, so only a record of the log can set them. Each process that drains a partition
//! appends them once after it took it: configure the same everywhere, or the last one counts.

use domain::{PulseLog, UsageStore};
use tracing::{info, warn};

use super::{Consumer, Work};
use crate::fold::Fold;

impl<L: PulseLog, U: UsageStore> Consumer<L, U> {
    /// Whether the log of a partition that is being taken has other limits than this consumer's.
    pub(super) fn log_lacks_limits(&self, fold: &Fold) -> bool {
        let differ = fold.limits() != self.limits && fold.sealed_at().is_none();
        self.work == Work::Live && differ
    }

    /// Appends this consumer's limits to the partitions that lack them. A log that takes nothing now gets
    /// them at a later tick.
    pub(super) async fn append_limits(&mut self) {
        for (&partition, taken) in self.taken.iter_mut().filter(|(_, taken)| taken.lacks_limits) {
            let record = proto::record::encode_limits(&self.generation, self.limits, "consumer");
            match self.log.append(partition, vec![record]).await {
                Ok(_) => {
                    info!(%partition, limits = ?self.limits, "the log has its limits");
                    taken.lacks_limits = false;
                }
                Err(error) => {
                    warn!(%partition, %error, "the log did not take its limits; a later tick tries again")
                }
            }
        }
    }
}
