//! Group: the one consumer that shows progress, asks for bounds, and takes part in sharing out
//! partitions. It fetches no record.
//!
//! Progress must be committed by the member where there are members, because brokers take commits
//! from outside only for a group that has none. So the same consumer does both, whether it is
//! subscribed or not, and a thread of its own keeps its session alive.
//!
//! A member with no partitions is either one too many, or one whose topic was not there when the
//! group shared it out: then nobody drains, and nothing would say so. So it asks what the others have,
//! and takes an empty share for one only while they have everything. Where they do not for long, it
//! leaves and joins again: to a client that has not seen the topic go, it has been there all the time,
//! and nothing has changed that the group would share out again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use domain::{
    Offset, Partition,
    log::{LogBounds, LogError},
};
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    assignment, context,
    options::{KafkaOptions, Membership},
};

/// How long the thread waits for an event before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);
/// How often a member with no partitions asks what the others have, and how long it waits for that.
const ASK_OTHERS_EVERY: Duration = Duration::from_secs(1);

/// The group's consumer and the thread that serves it.
pub(super) struct Group {
    topic: String,
    brokers: String,
    consumer: Arc<BaseConsumer<Shares>>,
    share: watch::Receiver<Share>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the group has said.
#[derive(Debug, Default)]
struct Share {
    /// `None` until it has told this member what is its.
    mine: Option<BTreeSet<Partition>>,
    /// Under which id of a member it did so last. The brokers go on with what it had then until its
    /// session is over, even where it has let go.
    given_to: String,
    /// Whether the others were seen to have all partitions since then.
    others_have_all: bool,
}

impl Share {
    fn is_empty(&self) -> bool {
        self.mine.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// What this member is to drain, once that is certain.
    fn agreed(&self) -> Option<Vec<Partition>> {
        let mine = self.mine.as_ref().filter(|mine| !mine.is_empty() || self.others_have_all)?;
        Some(mine.iter().copied().collect())
    }
}

impl Group {
    /// Starts the consumer for a topic of so many partitions; with [`Membership::Group`] it joins the
    /// group in the background.
    pub(super) fn start(options: &KafkaOptions, partitions: u16) -> KafkaResult<Self> {
        let (shares, share) = watch::channel(Share::default());
        let consumer: BaseConsumer<Shares> =
            options.group().create_with_context(Shares { share: shares })?;
        if options.membership == Membership::Group {
            consumer.subscribe(&[&options.topic])?;
        }
        let (consumer, end) = (Arc::new(consumer), Arc::new(AtomicBool::new(false)));
        let (served, ending) = (Arc::clone(&consumer), Arc::clone(&end));
        let mut others = Others {
            group: options.group.clone(),
            topic: options.topic.clone(),
            partitions,
            patience: 2 * options.session_timeout,
            lack_since: None,
        };
        let thread = std::thread::Builder::new()
            .name("kafka-group".to_owned())
            .spawn(move || serve(&served, &mut others, &ending))
            .map_err(|error| KafkaError::ClientCreation(format!("no thread: {error}")))?;
        Ok(Self {
            topic: options.topic.clone(),
            brokers: options.brokers.clone(),
            consumer,
            share,
            end,
            thread: Some(thread),
        })
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
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
                    context::bootstrap_again(self.consumer.client(), &self.brokers);
                }
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

    /// Partitions that the group has assigned to this member, ascending; `None` until it has, and while
    /// it has assigned none although the others do not have all of them. After a member that was
    /// killed, it has once that member's session is over.
    pub(super) fn assigned(&self) -> Option<Vec<Partition>> {
        self.share.borrow().agreed()
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

fn serve(consumer: &BaseConsumer<Shares>, others: &mut Others, end: &AtomicBool) {
    let mut ask_at = Instant::now();
    while !end.load(Ordering::Acquire) {
        if Instant::now() >= ask_at {
            others.look(consumer);
            ask_at = Instant::now() + ASK_OTHERS_EVERY;
        }
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

/// The other members, as the brokers describe them.
struct Others {
    group: String,
    topic: String,
    partitions: u16,
    /// How long they may not have all, while this member has nothing, before it joins again: long enough
    /// for a group that shares out by itself.
    patience: Duration,
    /// Since when that is so.
    lack_since: Option<Instant>,
}

impl Others {
    /// Asks what they have, where this member has nothing, and joins again where that does not change.
    fn look(&mut self, consumer: &BaseConsumer<Shares>) {
        let shares = consumer.context();
        if !shares.share.borrow().is_empty() {
            self.lack_since = None;
            return;
        }
        let have_all = match self.have_all(consumer) {
            Ok(have_all) => have_all,
            Err(error) => {
                // What was seen last is still the best that is known.
                debug!(%error, group = self.group, "what the others of the group have is not known");
                return;
            }
        };
        shares.others(have_all);
        if have_all {
            self.lack_since = None;
        } else if self.lack_since.get_or_insert_with(Instant::now).elapsed() >= self.patience {
            self.lack_since = None;
            self.join_again(consumer);
        }
    }

    fn have_all(&self, consumer: &BaseConsumer<Shares>) -> KafkaResult<bool> {
        let groups = consumer.fetch_group_list(Some(&self.group), ASK_OTHERS_EVERY)?;
        let shares = consumer.context().share.borrow();
        let of_group = groups.groups().iter().filter(|group| group.name() == self.group);
        let taken: BTreeSet<_> = of_group
            .flat_map(|group| group.members())
            .filter(|member| member.id() != shares.given_to)
            .filter_map(|member| assignment::of_topic(member.assignment()?, &self.topic))
            .flatten()
            .collect();
        Ok((0..self.partitions).all(|partition| taken.contains(&Partition(partition))))
    }

    fn join_again(&self, consumer: &BaseConsumer<Shares>) {
        info!(group = self.group, "nobody has all partitions: leaving the group to join it again");
        consumer.unsubscribe();
        if let Err(error) = consumer.subscribe(&[&self.topic]) {
            warn!(%error, group = self.group, "not joined again; the next attempt comes");
        }
    }
}

/// Takes what the group assigns, paused.
struct Shares {
    share: watch::Sender<Share>,
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
        let member = context::member_id(consumer.client());
        self.share.send_modify(|share| share.given_to = member);
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
        self.share.send_modify(|share| {
            change(share.mine.get_or_insert_default());
            share.others_have_all = false;
        });
        info!(partitions = ?self.share.borrow().mine, "the group shared out the partitions");
    }

    fn others(&self, have_all: bool) {
        let changed = self.share.send_if_modified(|share| {
            std::mem::replace(&mut share.others_have_all, have_all) != have_all
        });
        if changed && !have_all {
            warn!("this member of the group has no partitions, and nobody has all of them");
        }
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
