//! Port: the feed of final totals, for whoever wants them as they become final.
//!
//! The consumer publishes the rows of a segment before it stores the segment's manifest, so a
//! segment with a manifest was published. A crash in between publishes it again: the same rows with
//! the same bytes, because a segment is a pure function of the log. A reader keeps, for each key,
//! the row with the greatest `offset_last`, and counts nothing twice.

use std::future::Future;

use thiserror::Error;

use crate::{UsageRow, WindowLength};

/// Where final totals are published.
pub trait TotalsFeed: Send + Sync + 'static {
    /// Publishes rows of one segment in their final form, in any order; durable on return. Their
    /// windows have this length. May be called again with the same rows.
    ///
    /// # Errors
    /// Some may be published and others not; the caller publishes all of them again.
    fn publish(
        &self,
        window: WindowLength,
        rows: &[UsageRow],
    ) -> impl Future<Output = Result<(), FeedError>> + Send;
}

/// A feed that nobody reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFeed;

impl TotalsFeed for NoFeed {
    async fn publish(&self, _window: WindowLength, _rows: &[UsageRow]) -> Result<(), FeedError> {
        Ok(())
    }
}

/// Why totals could not be published. Trying again is right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the feed of totals does not take them now: {0}")]
pub struct FeedError(pub String);
