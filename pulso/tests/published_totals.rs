//! The topic of final totals as a reader of it sees it, after consumers that died between publishing
//! a segment and proving it: by the rule that `docs/operations.md` gives to readers, the sums are
//! those of the store.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt as _, time::Duration};

use crate::harness::{
    Home, PATIENCE, Server, Settings,
    cluster::Cluster,
    load::{Difference, Load, Totals, difference, stored_totals},
};
use prost::Message as _;
use proto::v1::{UsageTotal, UsageTotalKey};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use storage::conformance::servers::shared_pair;

const TOTALS: &str = "processor-storage-consumption";
/// Where consumers die: after a segment was published and before its manifest stands, where the
/// flush closes one.
const POINTS: [&str; 2] = ["scylla.before_rows", "scylla.after_rows"];
/// Deaths at each.
const DEATHS: u64 = 3;
const WITHIN: Duration = Duration::from_secs(10);

/// What a reader of the topic keeps.
#[derive(Default)]
struct Reader {
    /// For each key the message with the greatest `offset_last`.
    kept: BTreeMap<Vec<u8>, (UsageTotal, Vec<u8>)>,
    /// Messages that were published before.
    repeated: u64,
}

impl Reader {
    /// Reads everything that is in the topic now.
    fn of(cluster: &Cluster) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", cluster.brokers())
            .set("group.id", cluster.topic("reader"))
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let topic = cluster.topic(TOTALS);
        let mut reader = Self::default();
        let metadata = consumer.fetch_metadata(Some(&topic), WITHIN).unwrap();
        for partition in metadata.topics()[0].partitions() {
            reader.read(&consumer, &topic, partition.id());
        }
        reader
    }

    fn read(&mut self, consumer: &BaseConsumer, topic: &str, partition: i32) {
        let (mut next, end) = consumer.fetch_watermarks(topic, partition, WITHIN).unwrap();
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        consumer.assign(&place).unwrap();
        while next < end {
            let message = consumer.poll(WITHIN).expect("a message before the end").unwrap();
            next = message.offset() + 1;
            self.take(message.key().unwrap(), message.payload().unwrap());
        }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) {
        let total = UsageTotal::decode(value).unwrap();
        assert_eq!(total.key, Some(UsageTotalKey::decode(key).unwrap()));
        match self.kept.get(key) {
            None => {}
            Some((kept, bytes)) => {
                self.repeated += 1;
                if kept.offset_last == total.offset_last {
                    assert_eq!(value, bytes, "repeated messages are equal");
                }
                if kept.offset_last > total.offset_last {
                    return;
                }
            }
        }
        self.kept.insert(key.to_vec(), (total, value.to_vec()));
    }

    /// Count and sum by tenant and SKU.
    fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        for (total, _) in self.kept.values() {
            let UsageTotal { key, count, sum, .. } = total;
            let key = key.clone().unwrap();
            let entry = totals.entry((key.tenant, key.product_sku)).or_default();
            *entry = (entry.0 + count, entry.1.checked_add(sum.parse().unwrap()).unwrap());
        }
        totals
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_final_totals_count_what_was_published_twice_once() {
    let Some(servers) = shared_pair() else { return };
    let settings = Settings::default()
        .with("PULSO_LOG__SEGMENT_RECORDS_MAX", "16")
        .with("PULSO_CONSUMER__PARTITIONS", "all");
    let cluster = Cluster::new(servers, settings).await;
    let homes = [(); 2].map(|()| Home::new());
    let ingest = Server::start(&homes[0], &cluster.stages("ingest")).await;
    let mut plan = Load::new(31);
    plan.send_all(&ingest, PATIENCE).await;
    ingest.terminate().await;

    let consumer = cluster.stages("consume,query");
    for (death, point) in (0..DEATHS).flat_map(|death| POINTS.map(|point| (death, point))) {
        let fault = format!("{point}:{}", 1 + 3 * death);
        let dying = consumer.clone().with("PULSO_FAULT", fault.clone());
        let mut process = Server::spawn(&homes[1], &dying);
        assert_eq!(process.end().await.signal(), Some(libc::SIGKILL), "{fault}");
    }
    let running = Server::start(&homes[1], &consumer).await;
    running.drained().await;
    // Its end closes what is open, so everything is final and published.
    running.terminate().await;
    let query = Server::start(&homes[1], &cluster.stages("query")).await;
    let stored = stored_totals(&query).await;
    query.terminate().await;

    assert_eq!(difference(&stored, &plan.totals()), Difference::default());
    let read = tokio::task::spawn_blocking(move || Reader::of(&cluster)).await.unwrap();
    assert_eq!(difference(&read.totals(), &stored), Difference::default());
    assert!(read.repeated > 0, "nothing was published twice, so this run proves nothing");
    eprintln!("{} totals, {} repeated messages", read.kept.len(), read.repeated);
}
