//! The feed of final totals: a message a row, keyed by what the row counts.
//!
//! All versions of a row go to one partition of the topic, in the order in which they were
//! published, so a reader that keeps the newest of each key has the totals. The format is
//! `pulso.v1.UsageTotal`.

use std::collections::BTreeMap;

use domain::{Partition, TotalsFeed, UsageRow, WindowLength, log::AppendError, totals::FeedError};
use proto::totals;

use super::{
    appender::{Appender, Message},
    error::OpenError,
    options::KafkaOptions,
    topics,
};

/// Rows on their way at once: some megabytes.
const ROWS_AT_ONCE: usize = 10_000;

/// Publishes to one topic.
pub struct KafkaFeed {
    appender: Appender,
    partitions: u16,
}

impl KafkaFeed {
    /// Opens the feed to a topic, which must be there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: &KafkaOptions, topic: &str) -> Result<Self, OpenError> {
        let found = topics::existing(options, topic).await?;
        let (config, queue_bytes) = (options.producer(BATCH_BYTES), options.queue_bytes_max);
        let appender = Appender::new(topic, config, queue_bytes, options.record_bytes_max)
            .map_err(|error| OpenError::Client(error.to_string()))?;
        Ok(Self { appender, partitions: found.partitions })
    }

    async fn publish_some(
        &self,
        window: WindowLength,
        rows: &[UsageRow],
    ) -> Result<(), AppendError> {
        let mut by_partition: BTreeMap<u16, Vec<Message>> = BTreeMap::new();
        for row in rows {
            let (key, body) = totals::encode(row, window);
            let partition = domain::hash::bytes64(0, &key) % u64::from(self.partitions.max(1));
            let partition = u16::try_from(partition).expect("below the partitions");
            by_partition.entry(partition).or_default().push(Message { key: Some(key), body });
        }
        let mut under_way = Vec::with_capacity(by_partition.len());
        for (partition, messages) in by_partition {
            under_way.push(self.appender.hand_over(Partition(partition), messages)?);
        }
        for answered in under_way {
            answered.await.unwrap_or_else(|_| {
                Err(AppendError::Unknown("the client ended before it answered".to_owned()))
            })?;
        }
        Ok(())
    }
}

/// Bytes of a batch of messages; the client's own default.
const BATCH_BYTES: usize = 1_000_000;

impl TotalsFeed for KafkaFeed {
    async fn publish(&self, window: WindowLength, rows: &[UsageRow]) -> Result<(), FeedError> {
        for rows in rows.chunks(ROWS_AT_ONCE) {
            self.publish_some(window, rows).await.map_err(|error| FeedError(error.to_string()))?;
        }
        Ok(())
    }
}
