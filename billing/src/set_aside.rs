//! What a tenant's periods lack: pulses that were late or otherwise set aside.
//!
//! Dead letters are kept in groups with their first and last event time, so this says at most how many
//! belong to a period, and which tenant and months to look at.

use domain::{
    DeadLetterGroup, Tenant, UsageStore, View, Window,
    store::{DeadLetterFilter, StoreError},
};

/// Pulses that a tenant's periods lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetAside {
    /// At most how many of the groups that were read.
    pub(crate) pulses: u64,
    /// Whether all of the tenant's groups were read.
    pub(crate) is_complete: bool,
}

/// Groups that are read at once.
const PAGE_GROUPS: usize = 1_000;

/// Groups of a tenant that are read for one answer, some 10 MB of the store: what was set aside must
/// not decide how long a preview takes.
const GROUPS_MAX: usize = 10_000;

/// Adds up a tenant's groups whose event times meet one of these windows, in every generation of the
/// log. A group without a time belongs to none.
pub(super) async fn find(
    usage: &impl UsageStore,
    view: &View,
    tenant: &Tenant,
    windows: &[Window],
) -> Result<SetAside, StoreError> {
    let filter = DeadLetterFilter { reason: None, tenant: Some(tenant.as_str().to_owned()) };
    let (mut pulses, mut room) = (0u64, GROUPS_MAX);
    for generation in usage.generations().await? {
        let mut after = None;
        loop {
            if room == 0 {
                return Ok(SetAside { pulses, is_complete: false });
            }
            let asked = PAGE_GROUPS.min(room);
            let log_id = generation.log_id;
            let page = usage.dead_letters(view, log_id, &filter, after.as_ref(), asked).await?;
            let met = page.iter().filter(|group| meets(group, windows));
            pulses = met.fold(pulses, |sum, group| sum.saturating_add(group.count));
            room -= page.len();
            if page.len() < asked {
                break;
            }
            after = page.last().map(|group| group.key.clone());
        }
    }
    Ok(SetAside { pulses, is_complete: true })
}

fn meets(group: &DeadLetterGroup, windows: &[Window]) -> bool {
    let (Some(first), Some(last)) = (group.time_first, group.time_last) else { return false };
    windows.iter().any(|window| first < window.end && last >= window.start)
}
