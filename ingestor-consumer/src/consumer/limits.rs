//! Limits: where the configuration says other limits than the log, the log is told.
//!
//! They decide verdicts, so only a record of the log can set them. Each process that drains a partition
//! tells it once after it took it: configure the same everywhere, or the last one counts.

use domain::{Partition, PulseLog, UsageStore};
use tracing::{info, warn};

use super::{Consumer, Work};
use crate::fold::Fold;

impl<L: PulseLog, U: UsageStore> Consumer<L, U> {
    /// Notes whether a partition that is being taken has to be told.
    pub(super) fn compare_limits(&mut self, partition: Partition, fold: &Fold) {
        let differ = fold.limits() != self.limits && fold.sealed_at().is_none();
        if self.work == Work::Live && differ {
            self.untold.insert(partition);
        } else {
            self.untold.remove(&partition);
        }
    }

    /// Tells the partitions that have to be told. One whose log takes nothing now is told at a later tick.
    pub(super) async fn tell_limits(&mut self) {
        for partition in self.untold.clone() {
            let record = proto::record::encode_limits(&self.generation, self.limits, "consumer");
            match self.log.append(partition, vec![record]).await {
                Ok(_) => {
                    info!(%partition, limits = ?self.limits, "the log was told its limits");
                    self.untold.remove(&partition);
                }
                Err(error) => {
                    warn!(%partition, %error, "the log was not told its limits; a later tick tries again")
                }
            }
        }
    }
}
