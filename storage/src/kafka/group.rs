//! Group: the one consumer that shows progress, asks for bounds, and takes part in sharing out
//! partitions. It fetches no record.
//!
//! Progress must be committed by the member where there are members, because brokers take commits
//! from outside only for a group that has none. So the same consumer does both, whether it is
//! subscribed or not, and a thread of its own keeps its session alive.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use domain::{
    Offset, Partition,
    log::{LogBounds, LogError},
};
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    context,
    options::{KafkaOptions, Membership},
};

/// How long the thread waits for an event before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// The group's consumer and the thread that serves it.
pub(super) struct Group {
    topic: String,
    consumer: Arc<BaseConsumer<Shares>>,
    /// `None` until the group has told this member what is its.
    assigned: watch::Receiver<Option<BTreeSet<Partition>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Group {
    /// Starts the consumer; with [`Membership::Group`] it joins the group in the background.
    pub(super) fn start(options: &KafkaOptions) -> KafkaResult<Self> {
        let (shares, assigned) = watch::channel(None);
        let consumer: BaseConsumer<Shares> =
            options.group().create_with_context(Shares { assigned: shares })?;
        if options.membership == Membership::Group {
            consumer.subscribe(&[&options.topic])?;
        }
        let (consumer, end) = (Arc::new(consumer), Arc::new(AtomicBool::new(false)));
        let (served, ending) = (Arc::clone(&consumer), Arc::clone(&end));
        let thread = std::thread::Builder::new()
            .name("kafka-group".to_owned())
            .spawn(move || serve(&served, &ending))
            .map_err(|error| KafkaError::ClientCreation(format!("no thread: {error}")))?;
        Ok(Self { topic: options.topic.clone(), consumer, assigned, end, thread: Some(thread) })
    }

    /// What the partition holds now. Blocks for at most `timeout`.
    pub(super) fn bounds(
        &self,
        partition: Partition,
        timeout: Duration,
    ) -> Result<LogBounds, LogError> {
        let (low, end) = self
            .consumer
            .fetch_watermarks(&self.topic, i32::from(partition.0), timeout)
            .map_err(|error| {
                LogError::Unavailable(format!(
                    "the bounds of partition {partition} of topic {} are not known: {error}",
                    self.topic
                ))
            })?;
        let offset = |given: i64| u64::try_from(given).map(Offset);
        match (offset(low), offset(end)) {
            (Ok(low), Ok(end)) => Ok(LogBounds { low, end: end.max(low) }),
            _ => Err(LogError::Unavailable(format!("the brokers gave bounds {low} to {end}"))),
        }
    }

    /// Partitions that the group has assigned to this member, ascending; `None` until it has. After
    /// a member that was killed, it has once that member's session is over.
    pub(super) fn assigned(&self) -> Option<Vec<Partition>> {
        self.assigned.borrow().as_ref().map(|partitions| partitions.iter().copied().collect())
    }

    /// Shows progress. Returns at once; a failure is nobody's trouble but a watcher's.
    pub(super) fn commit(&self, partition: Partition, folded_to: Offset) {
        let mut place = TopicPartitionList::with_capacity(1);
        let Ok(offset) = i64::try_from(folded_to.0) else { return };
        let offset = rdkafka::Offset::Offset(offset);
        let committed = place
            .add_partition_offset(&self.topic, i32::from(partition.0), offset)
            .and_then(|()| self.consumer.commit(&place, CommitMode::Async));
        if let Err(error) = committed {
            debug!(%partition, %folded_to, %error, "progress is not shown");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread of the Kafka group panicked");
        }
    }
}

fn serve(consumer: &BaseConsumer<Shares>, end: &AtomicBool) {
    while !end.load(Ordering::Acquire) {
        match consumer.poll(POLL) {
            None | Some(Ok(_)) => {}
            Some(Err(error)) => {
                debug!(%error, "Kafka group");
                // Errors can come in a flood while no broker answers; none is lost by waiting.
                std::thread::park_timeout(POLL);
            }
        }
    }
}

/// Takes what the group assigns, paused.
struct Shares {
    assigned: watch::Sender<Option<BTreeSet<Partition>>>,
}

impl Shares {
    fn take(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> KafkaResult<()> {
        // From the end, so that nothing is looked up under the group and nothing is fetched in the
        // moment before the pause.
        list.set_all_offsets(rdkafka::Offset::End)?;
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            _ => consumer.assign(list)?,
        }
        if list.count() > 0 {
            consumer.pause(list)?;
        }
        self.change(|mine| mine.extend(partitions(list)));
        Ok(())
    }

    fn let_go(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        self.change(|mine| {
            partitions(list).for_each(|partition| {
                mine.remove(&partition);
            })
        });
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<Partition>)) {
        self.assigned.send_modify(|assigned| change(assigned.get_or_insert_default()));
        info!(partitions = ?*self.assigned.borrow(), "the group shared out the partitions");
    }
}

fn partitions(list: &TopicPartitionList) -> impl Iterator<Item = Partition> + use<> {
    let elements = list.elements();
    let numbers: Vec<_> =
        elements.iter().filter_map(|element| u16::try_from(element.partition()).ok()).collect();
    numbers.into_iter().map(Partition)
}

impl ClientContext for Shares {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "Kafka group");
    }
}

impl ConsumerContext for Shares {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let done = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.take(consumer, list),
            _ => self.let_go(consumer, list),
        };
        if let Err(error) = done {
            warn!(%error, "a change of the group's shares failed; the group will share out again");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            debug!(%error, "progress is not shown");
        }
    }
}
