//! From a store's errors to problems. A client learns whether to try again and nothing of the storage
//! behind; the log has the rest.

use domain::store::StoreError;
use tracing::{error, warn};

use super::{Problem, reasons};

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                warn!(%error, "the store does not answer");
                Self::unavailable(
                    reasons::STORE_UNAVAILABLE,
                    "the store does not answer; try again",
                )
            }
            StoreError::Conflict(_)
            | StoreError::Damaged(_)
            | StoreError::TooLarge(_)
            | StoreError::Fatal(_) => {
                error!(%error, "the store failed");
                Self::internal("the store failed; the server's log says why")
            }
        }
    }
}
