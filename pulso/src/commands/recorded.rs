//! Commands that change the store themselves, without a server: each is in the audit trail before and
//! after, as a call through a server is.

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

use crate::{exit::Failure, serve::backends::store_failure};

/// Does the work of a command. `method` is the words that were typed, without their arguments.
///
/// # Errors
/// When the store does not take that the work begins: it was not begun. Those of the work. When the
/// store does not take its end, which leaves an outcome that nobody knows.
pub(super) async fn recorded<T>(
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
    let done = done?;
    ended.map_err(|error| store_failure(&error))?;
    Ok(done)
}
