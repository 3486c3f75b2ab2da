//! Watching: the messages of the outbox, for a reader that waits for the next.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use domain::{BillingStore, BlockStore, PulseLog};
use edge::Problem;
use futures_util::{Stream, stream};
use proto::v1;
use serde_json::value::RawValue;

use super::{BillingApi, problems};

/// Messages read at once.
const PAGE: usize = 100;
/// Time between two looks for new messages.
const INTERVAL: Duration = Duration::from_millis(500);

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Messages with their numbers, in order, after the one that the request names: those that exist
    /// where it asks for no more, else without end. Numbers rise by one.
    pub(crate) fn watch(
        &self,
        request: &v1::WatchInvoicesRequest,
    ) -> impl Stream<Item = Result<(u64, Box<RawValue>), Problem>> + Send + use<U, B, L> {
        let v1::WatchInvoicesRequest { after, until_now } = *request;
        let books = Arc::clone(&self.parts.books);
        let start = (after.saturating_add(1), VecDeque::new());
        stream::try_unfold(start, move |(mut next, mut page)| {
            let books = Arc::clone(&books);
            async move {
                while page.is_empty() {
                    let found = books.outbox.items(next, PAGE).await;
                    page.extend(found.map_err(problems::of_billing)?);
                    if page.is_empty() && until_now {
                        return Ok(None);
                    }
                    if page.is_empty() {
                        tokio::time::sleep(INTERVAL).await;
                    }
                }
                let Some((number, item)) = page.pop_front() else { return Ok(None) };
                next = number + 1;
                Ok(Some(((number, item.body), (next, page))))
            }
        })
    }
}
