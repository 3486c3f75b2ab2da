//! TLS to a real broker: the authority that signed its certificate opens the log, and every other
//! certificate is refused with words, before anything is read or written.

use std::{path::Path, time::Duration};

use domain::{Offset, Partition, PulseLog as _, log::LogDrain as _};
use storage::kafka::{KafkaLog, KafkaOptions, Protocol, Security};

use crate::{
    broker::{Broker, two_partitions},
    fronts::{Authority, Front, Like},
};

const FIRST: Partition = Partition(0);

fn options(broker: &Broker, topic: &str, address: &str, ca_file: &Path) -> KafkaOptions {
    let mut options = broker.options(topic);
    options.brokers = address.to_owned();
    options.request_timeout = Duration::from_secs(3);
    options.security = Security {
        protocol: Protocol::Ssl,
        ca_file: Some(ca_file.to_owned()),
        ..Security::default()
    };
    options
}

async fn refusal(options: KafkaOptions) -> String {
    KafkaLog::open(options, two_partitions()).await.err().expect("it opens").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_authority_opens_the_log_and_everything_else_is_refused_with_words() {
    let server = storage::server_or_skip!(Kafka);
    let Some(tls) = &server.tls else {
        println!("skipped: PULSO_TEST_KAFKA_TLS names no TLS listener of the server");
        return;
    };
    let broker = &Broker::new(server);
    let topic = broker.topic("secured").await;
    let good = options(broker, &topic, &tls.address, &tls.ca_file);
    let log = KafkaLog::open(good, two_partitions()).await.unwrap();
    let offsets = log.append(FIRST, vec![b"pulse".to_vec()]).await.unwrap();
    assert_eq!(offsets, [Offset(0)]);
    assert_eq!(log.bounds(FIRST).await.unwrap().end, Offset(1));
    let mut read = Vec::new();
    let mut drain = log.drain(FIRST, Offset(0)).unwrap();
    drain.read(Offset(1), 1, &mut |record| read.push(record.body.to_vec())).unwrap();
    assert_eq!(read, [b"pulse"]);

    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new(directory.path(), "ours");
    let good = Front::before(&server.address, &ours, Like::Good).await;
    let misnamed = Front::before(&server.address, &ours, Like::Misnamed).await;
    let expired = Front::before(&server.address, &ours, Like::Expired).await;
    let by_name = tls.address.replace("127.0.0.1", "localhost");
    for (address, ca_file, words) in [
        (&tls.address, &ours.file, "is not trusted: self"),
        (&good.address, &tls.ca_file, "is not trusted: unable to get local issuer certificate"),
        (&by_name, &tls.ca_file, "is not trusted: hostname mismatch"),
        (&misnamed.address, &ours.file, "is not trusted: IP address mismatch"),
        (&expired.address, &ours.file, "is not trusted: certificate has expired"),
        (&server.address, &tls.ca_file, "SSL handshake failed"),
    ] {
        let said = refusal(options(broker, &topic, address, ca_file)).await;
        assert!(said.contains(words) && said.contains("settings of `kafka` for TLS"), "{said}");
    }
    let nothing =
        refusal(options(broker, &topic, &tls.address, &directory.path().join("no"))).await;
    assert!(nothing.contains("ssl.ca.location"), "{nothing}");
    assert_eq!(log.bounds(FIRST).await.unwrap().end, Offset(1), "nothing came by another way");
}
