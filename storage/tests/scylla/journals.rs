//! Appends to billing's journals that go wrong: whatever became of one whose answer was lost, the
//! caller who reads on and adds again leaves no gap and no entry twice.

use std::time::Duration;

use domain::{
    BillingStore,
    billing::Appended::{Added, Taken},
    store::StoreError,
};
use storage::{
    conformance::servers::Server,
    scylla::{ScyllaBillingStore, ScyllaStore},
};

use crate::{
    proxy::{Fault, Proxy},
    server::OwnKeyspace,
    store::until_available,
};

/// A store that is reached through a proxy, and beside it one that is not.
struct Subject {
    proxy: Proxy,
    billing: ScyllaBillingStore,
    direct: ScyllaBillingStore,
    _keyspace: OwnKeyspace,
}

impl Subject {
    async fn new(server: &Server) -> Self {
        let keyspace = OwnKeyspace::empty(server).await;
        let proxy = Proxy::before(server).await;
        let mut options = keyspace.options.clone();
        options.hosts = vec![proxy.address.clone()];
        options.request_timeout = Duration::from_secs(2);
        let open = async |options| ScyllaStore::open(options).await.unwrap().billing();
        let (billing, direct) = (open(options).await, open(keyspace.options.clone()).await);
        Self { proxy, billing, direct, _keyspace: keyspace }
    }

    /// Adds an entry at a place with a fault in it. Its answer is that nobody knows.
    async fn lose_the_answer(&self, place: u64, entry: &[u8], fault: Fault) {
        self.proxy.arm(0, fault);
        let answer = self.billing.append_entry("run", place, entry).await;
        assert_eq!(self.proxy.disarm().as_deref(), Some("journal_entry"), "{fault:?}");
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{fault:?}: {answer:?}");
    }

    /// Reads on from a place and adds the entry unless it is there, until it is.
    async fn read_on_and_add(&self, place: u64, entry: &[u8]) {
        loop {
            let found = until_available(|| self.billing.entries("run", place, 9)).await;
            if !found.is_empty() {
                assert_eq!(found, [entry], "{place}");
                return;
            }
            match self.billing.append_entry("run", place, entry).await {
                Ok(Added | Taken) => {}
                Err(StoreError::Unavailable(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn has(&self, expected: &[Vec<u8>]) {
        assert_eq!(self.direct.entries("run", 0, 1_000).await.unwrap(), expected);
        let next = expected.len() as u64;
        let beyond = self.direct.append_entry("run", next + 1, b"beyond").await;
        assert!(matches!(beyond, Err(StoreError::Conflict(_))), "{beyond:?}");
        assert_eq!(self.direct.append_entry("run", next - 1, b"other").await, Ok(Taken));
    }
}

#[tokio::test]
async fn an_entry_whose_append_went_wrong_is_there_once_after_reading_on() {
    let subject = Subject::new(crate::cassandra_or_skip!()).await;
    let mut entries = Vec::new();
    for round in 0..2 {
        for fault in [
            Fault::Unavailable,
            Fault::TimedOutAndLost,
            Fault::TimedOutAndDone,
            Fault::TimedOutAndLate,
            Fault::Unanswered,
            Fault::Broken,
        ] {
            let (place, entry) = (entries.len() as u64, format!("{fault:?} {round}").into_bytes());
            subject.lose_the_answer(place, &entry, fault).await;
            subject.read_on_and_add(place, &entry).await;
            subject.proxy.let_late_writes_land().await;
            entries.push(entry);
            subject.has(&entries).await;
        }
    }
}

#[tokio::test]
async fn an_entry_that_lands_after_its_writer_read_on_takes_the_place_or_never_comes() {
    let subject = Subject::new(crate::cassandra_or_skip!()).await;
    // It lands before anything else stands there: the writer's next try is refused.
    subject.lose_the_answer(0, b"late", Fault::TimedOutAndLate).await;
    assert!(until_available(|| subject.billing.entries("run", 0, 9)).await.is_empty());
    subject.proxy.let_late_writes_land().await;
    let again = until_available(|| subject.billing.append_entry("run", 0, b"again")).await;
    assert_eq!(again, Taken);
    subject.has(&[b"late".to_vec()]).await;
    // It lands behind another's entry: it is the one that is refused.
    subject.lose_the_answer(1, b"late too", Fault::TimedOutAndLate).await;
    assert_eq!(subject.direct.append_entry("run", 1, b"first").await, Ok(Added));
    subject.proxy.let_late_writes_land().await;
    subject.has(&[b"late".to_vec(), b"first".to_vec()]).await;
}
