//! Progress that people can watch, and partitions shared out among processes.

use std::time::{Duration, Instant};

use domain::{Offset, Partition, PulseLog as _, log::LogError};
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use storage::kafka::{
    KafkaLog, KafkaOptions, Membership,
    topics::{self, TopicSpec},
};

use crate::broker::two_partitions;

const BOTH: [Partition; 2] = [Partition(0), Partition(1)];

async fn open(options: &KafkaOptions, membership: Membership) -> KafkaLog {
    let options = KafkaOptions { membership, ..options.clone() };
    KafkaLog::open(options, two_partitions()).await.unwrap()
}

/// Asks until the answer is as wanted, for at most a minute.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The partitions, once the members have agreed.
async fn assigned(log: &KafkaLog) -> Vec<Partition> {
    eventually("the group agrees", async || log.assignment().unwrap()).await
}

/// What somebody who watches the group sees.
fn shown(options: &KafkaOptions, partition: i32) -> Option<i64> {
    let watcher: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", &options.group)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(&options.topic, partition);
    let list = watcher.committed_offsets(list, Duration::from_secs(10)).unwrap();
    list.elements()[0].offset().to_raw().filter(|offset| *offset >= 0)
}

#[tokio::test]
async fn progress_is_shown_under_the_group_whoever_shares_it() {
    let broker = kafka_or_skip!();
    for membership in [Membership::All, Membership::Group] {
        let options = broker.options(&broker.topic("progress").await);
        let log = open(&options, membership.clone()).await;
        log.append(BOTH[1], vec![vec![1]; 5]).await.unwrap();
        assigned(&log).await;
        assert_eq!(shown(&options, 1), None);
        // A commit while the group shares out may be lost, as the port says; the next one counts.
        eventually(&format!("{membership:?}"), async || {
            log.note_stored(BOTH[1], Offset(3));
            (shown(&options, 1) == Some(3)).then_some(())
        })
        .await;
        assert_eq!(shown(&options, 0), None);
    }
}

#[tokio::test]
async fn all_or_the_named_partitions_are_drained_without_a_group() {
    let broker = kafka_or_skip!();
    let options = broker.options(&broker.topic("static").await);
    assert_eq!(assigned(&open(&options, Membership::All).await).await, BOTH);
    let named = Membership::Static(vec![BOTH[1], BOTH[0]]);
    assert_eq!(assigned(&open(&options, named).await).await, BOTH);
    let beyond = Membership::Static(vec![Partition(2)]);
    let answer = open(&options, beyond).await.assignment();
    assert!(matches!(answer, Err(LogError::Fatal(_))), "{answer:?}");
}

#[tokio::test]
async fn members_share_the_partitions_out_and_take_over_what_another_leaves() {
    let broker = kafka_or_skip!();
    let options = broker.options(&broker.topic("shared").await);
    let first = open(&options, Membership::Group).await;
    assert_eq!(assigned(&first).await, BOTH);
    let second = open(&options, Membership::Group).await;
    let (mine, yours) = eventually("each has one", async || {
        let mine = assigned(&first).await;
        let yours = assigned(&second).await;
        (mine.len() == 1 && yours.len() == 1).then_some((mine, yours))
    })
    .await;
    let mut all = [mine, yours].concat();
    all.sort_unstable();
    assert_eq!(all, BOTH);
    drop(second);
    eventually("the first has both again", async || (assigned(&first).await == BOTH).then_some(()))
        .await;
    // A member fetches nothing for the group, and draining needs no membership.
    first.append(BOTH[0], vec![vec![7]]).await.unwrap();
    assert_eq!(first.bounds(BOTH[0]).await.unwrap().end, Offset(1));
}

#[tokio::test]
async fn a_member_without_a_share_is_one_too_many_only_while_the_others_have_everything() {
    let broker = kafka_or_skip!();
    let options = broker.options(&broker.topic("spare").await);
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(open(&options, Membership::Group).await);
    }
    eventually("one of three has nothing, and knows why", async || {
        let shares: Option<Vec<_>> =
            members.iter().map(|member| member.assignment().unwrap()).collect();
        let mut counts: Vec<_> = shares?.iter().map(Vec::len).collect();
        counts.sort_unstable();
        (counts == [0, 1, 1]).then_some(())
    })
    .await;
}

/// How many members the group has, once it has shared out.
fn members(options: &KafkaOptions) -> Option<usize> {
    let watcher: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let groups = watcher.fetch_group_list(Some(&options.group), Duration::from_secs(10)).unwrap();
    let group = groups.groups().iter().find(|group| group.name() == options.group)?;
    (group.state() == "Stable").then(|| group.members().len())
}

/// The group shares out while the topic is gone, and the member's client never sees that it was: to it
/// the topic made again is the one for which it joined, and by itself it would never join again.
#[tokio::test]
async fn a_member_that_was_given_nothing_of_a_topic_that_was_away_joins_again() {
    let broker = kafka_or_skip!();
    let options = broker.options(&broker.topic("away").await);
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(open(&options, Membership::Group).await);
    }
    let spare = eventually("one of three has nothing", async || {
        (members(&options)? == 3).then_some(())?;
        all.iter().position(|member| member.assignment().unwrap() == Some(Vec::new()))
    });
    let spare = all.swap_remove(spare.await);

    broker.delete(&options.topic).await;
    drop(all);
    eventually("it is alone with nothing", async || {
        (members(&options)? == 1 && spare.assignment().unwrap().is_none()).then_some(())
    })
    .await;
    topics::apply(&options, &[TopicSpec::log(&options.topic, 2)]).await.unwrap();
    assert_eq!(assigned(&spare).await, BOTH);
}

/// The brokers show what it had until its session is over.
#[tokio::test]
async fn a_member_whose_topic_is_gone_does_not_take_itself_for_the_others() {
    let broker = kafka_or_skip!();
    let options = broker.options(&broker.topic("gone").await);
    let member = open(&options, Membership::Group).await;
    assert_eq!(assigned(&member).await, BOTH);
    broker.delete(&options.topic).await;
    eventually("it has nothing, and nobody has", async || {
        let assigned = member.assignment().unwrap();
        assert_ne!(assigned, Some(Vec::new()), "one too many?");
        (assigned.is_none() && members(&options).is_none_or(|members| members == 0)).then_some(())
    })
    .await;
}
