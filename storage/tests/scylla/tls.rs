//! TLS to a real server: the authority that signed its certificate opens the store, and every other
//! certificate is refused with words. Certificates have to name the address that a node is reached at.

use std::{path::Path, time::Duration};

use storage::scylla::{ScyllaOptions, ScyllaStore, Tls};

use crate::{
    cassandra_or_skip,
    fronts::{Authority, Front, Like},
    server::OwnKeyspace,
};

fn options(own: &OwnKeyspace, address: &str, ca_file: &Path) -> ScyllaOptions {
    let mut options = own.options.clone();
    options.hosts = vec![address.to_owned()];
    options.connect_timeout = Duration::from_secs(5);
    options.tls = Some(Tls { ca_file: Some(ca_file.to_owned()) });
    options
}

#[tokio::test]
async fn the_right_authority_opens_the_store_and_everything_else_is_refused_with_words() {
    let server = cassandra_or_skip!();
    let Some(tls) = &server.tls else {
        println!("skipped: PULSO_TEST_CQL_TLS names no port of the server that speaks TLS");
        return;
    };
    let own = OwnKeyspace::empty(server).await;
    let good = ScyllaOptions {
        connect_timeout: Duration::from_secs(60),
        ..options(&own, &tls.address, &tls.ca_file)
    };
    ScyllaStore::open(good).await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new(directory.path(), "ours");
    let good = Front::before(&server.address, &ours, Like::Good).await;
    let misnamed = Front::before(&server.address, &ours, Like::Misnamed).await;
    let expired = Front::before(&server.address, &ours, Like::Expired).await;
    for (address, ca_file, words) in [
        (&tls.address, &ours.file, "is not trusted: self"),
        (&good.address, &tls.ca_file, "is not trusted: unable to get local issuer certificate"),
        (&misnamed.address, &ours.file, "is not trusted: IP address mismatch"),
        (&expired.address, &ours.file, "is not trusted: certificate has expired"),
    ] {
        let refused = ScyllaStore::open(options(&own, address, ca_file)).await;
        let said = refused.err().expect("it opens").to_string();
        assert!(said.contains(words) && said.contains("settings of `scylla` for TLS"), "{said}");
    }
    let nothing = options(&own, &tls.address, &directory.path().join("no"));
    let said = ScyllaStore::open(nothing).await.err().expect("it opens").to_string();
    assert!(said.contains("No such file") || said.contains("no such file"), "{said}");
}
