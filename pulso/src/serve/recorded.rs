//! What this program changes in the store by itself, without a call: commands on the store, and the key of
//! `pulso dev`. Each is in the audit trail before and after, as a call through a server is.

use std::sync::Arc;

use edge::{
    CorrelationId,
    access::{
        Change, Principal,
        trail::{Begun, Record as _, Trail},
    },
};
use runtime::clock;
use storage::choice::Billing;
use tracing::error;

use super::backends::store_failure;
use crate::exit::Failure;

/// Does the work of a command. `method` is the words that were typed, without their arguments.
///
/// # Errors
/// When the store does not take that the work begins: it was not begun. Those of the work; an end that the
/// store does not take is then in the log. When the store does not take the end of work that was done,
/// which leaves an outcome that nobody knows.
pub(crate) async fn recorded<T>(
    billing: &Arc<Billing>,
    method: &str,
    work: impl AsyncFnOnce(&Change) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let trail = Trail::new(Arc::clone(billing), Arc::new(clock::system()));
    let now = || trail.clock().now();
    let begun = Begun::new(now(), &Principal::local(), method, &CorrelationId::mint());
    let place = trail.begin(&begun).await.map_err(|error| store_failure(&error))?;
    let change = Change::default();
    let done = work(&change).await;
    let refused = done.as_ref().err().map(|failure| format!("exit {}", failure.exit as u8));
    let ended = trail.end(place, &change.ended(now(), refused.as_deref())).await;
    match (done, ended) {
        (done, Ok(())) => done,
        (Ok(_), Err(error)) => Err(store_failure(&error)),
        (Err(failure), Err(error)) => {
            error!(%error, %place, method, outcome = refused, "the audit trail does not have how a command ended");
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::memory::{EntryFault, MemoryBillingStore};

    use super::*;
    use crate::exit::Exit;

    #[tokio::test]
    async fn a_command_fails_as_its_work_did_and_for_its_end_only_when_the_work_was_done() {
        for (work, exit) in
            [(Ok(()), Exit::Unavailable), (Err(Exit::CheckFailed), Exit::CheckFailed)]
        {
            let store = MemoryBillingStore::new();
            let billing = Arc::new(Billing::Memory(store.clone()));
            let recorded = recorded(&billing, "pulso replay", async |_| {
                // As many as the trail tries to add the end.
                (0..3).for_each(|_| store.fail_next_entry(EntryFault::Lost));
                work.map_err(|exit| Failure::new(exit, "as the test asked"))
            });
            assert_eq!(recorded.await.unwrap_err().exit, exit);
        }
    }
}
