//! The stores on ScyllaDB, or on another server that speaks CQL.

use storage::scylla::{self, SchemaError, ScyllaOptions, ScyllaStore};

use crate::{
    config::{Loaded, urls::StoreUrl, value},
    exit::{Exit, Failure},
};

/// Opens the stores.
pub(super) async fn open(loaded: &Loaded) -> Result<ScyllaStore, Failure> {
    ScyllaStore::open(options(loaded)?).await.map_err(|error| schema_failure(&error))
}

/// How the store's servers are reached.
///
/// # Errors
/// When `store.url` names none.
pub fn options(loaded: &Loaded) -> Result<ScyllaOptions, Failure> {
    let (config, url) = (&loaded.config.scylla, &loaded.config.store.url);
    let StoreUrl::Scylla { servers, keyspace, replication } = url else {
        return Err(Failure::new(
            Exit::Config,
            format_args!(
                "store.url = `{url}`: an embedded store keeps its schema by itself; this command needs scylla://HOST:PORT"
            ),
        ));
    };
    let credentials = config.username.get().zip(config.password.reveal());
    Ok(ScyllaOptions {
        replication: *replication,
        credentials: credentials.map(|(username, password)| scylla::Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        }),
        tls: (config.tls == value::Tls::On)
            .then(|| scylla::Tls { ca_file: config.ca_file.get().map(Into::into) }),
        local_dc: config.datacenter.get().map(str::to_owned),
        request_timeout: config.request_timeout.duration(),
        connect_timeout: config.connect_timeout.duration(),
        writes_in_flight: config.writes_in_flight.as_usize(),
        ..ScyllaOptions::new(servers.list(), keyspace)
    })
}

/// The exit for what is wrong with the schema or the servers that hold it.
#[must_use]
pub fn schema_failure(error: &SchemaError) -> Failure {
    let exit = match error {
        SchemaError::Unreachable { .. } => Exit::Unavailable,
        SchemaError::Locked { .. } => Exit::Retry,
        SchemaError::Refused { .. } => Exit::Permission,
        _ => Exit::Config,
    };
    Failure::new(exit, error)
}
