//! Topics are made once, compared ever after, and never changed.

use std::time::Duration;

use storage::kafka::{
    TopicsError,
    topics::{self, Cleanup, TopicOutcome, TopicSpec},
};

use crate::broker::fresh_name;

fn outcomes(reports: &[topics::TopicReport]) -> Vec<TopicOutcome> {
    reports.iter().map(|report| report.outcome).collect()
}

#[tokio::test]
async fn what_is_missing_is_made_and_what_is_there_is_left() {
    let broker = kafka_or_skip!();
    let names = [fresh_name("a"), fresh_name("b")];
    let options = broker.options(&names[0]);
    let kept = TopicSpec {
        retention: Some(Duration::from_secs(7 * 86_400)),
        cleanup: Cleanup::Compact,
        ..TopicSpec::log(&names[1], 3)
    };
    let both = [TopicSpec::log(&names[0], 2), kept];
    let missing = topics::check(&options, &both).await.unwrap_err();
    assert_eq!(missing, TopicsError::Missing { topic: names[0].clone() });
    let first = topics::apply(&options, &both[..1]).await.unwrap();
    assert_eq!(outcomes(&first), [TopicOutcome::Created]);
    let second = topics::apply(&options, &both).await.unwrap();
    assert_eq!(outcomes(&second), [TopicOutcome::Verified, TopicOutcome::Created]);
    for reports in [topics::apply(&options, &both).await, topics::check(&options, &both).await] {
        assert_eq!(outcomes(&reports.unwrap()), [TopicOutcome::Verified; 2]);
    }
}

#[tokio::test]
async fn of_processes_that_make_a_topic_at_once_one_does_and_all_find_it() {
    let broker = kafka_or_skip!();
    let name = fresh_name("race");
    let (options, spec) = (broker.options(&name), [TopicSpec::log(&name, 2)]);
    let all = storage::conformance::together((0..5).map(|_| topics::apply(&options, &spec))).await;
    let all: Vec<_> = all.into_iter().flat_map(|reports| outcomes(&reports.unwrap())).collect();
    let created = all.iter().filter(|outcome| **outcome == TopicOutcome::Created).count();
    assert_eq!((created, all.len()), (1, 5));
}

#[tokio::test]
async fn every_difference_is_named_and_nothing_is_changed() {
    let broker = kafka_or_skip!();
    let name = fresh_name("differs");
    let (options, spec) = (broker.options(&name), TopicSpec::log(&name, 2));
    topics::apply(&options, std::slice::from_ref(&spec)).await.unwrap();
    let other = TopicSpec {
        partitions: 4,
        retention: Some(Duration::from_secs(60)),
        min_insync_replicas: 2,
        ..spec.clone()
    };
    for answer in [
        topics::apply(&options, std::slice::from_ref(&other)).await,
        topics::check(&options, std::slice::from_ref(&other)).await,
    ] {
        let error = answer.unwrap_err();
        let words = error.to_string();
        for part in [
            format!("topic {name}: partitions is 2 and must be 4"),
            "retention.ms is -1 and must be 60000".to_owned(),
            "min.insync.replicas is 1 and must be 2".to_owned(),
        ] {
            assert!(words.contains(&part), "{words}");
        }
        assert!(matches!(error, TopicsError::Differs(all) if all.len() == 3));
    }
    topics::check(&options, &[spec]).await.unwrap();
}

#[tokio::test]
async fn what_the_brokers_refuse_is_said_in_their_words() {
    let broker = kafka_or_skip!();
    let name = fresh_name("copies");
    let spec = TopicSpec { replication: 9, ..TopicSpec::log(&name, 2) };
    let error = topics::apply(&broker.options(&name), &[spec]).await.unwrap_err();
    assert!(matches!(&error, TopicsError::Refused { what: "create", .. }), "{error:?}");
    assert!(error.to_string().contains("replication"), "{error}");
}
