//! A session of the driver, and the few ways in which the adapter uses it.
//!
//! Every statement is prepared, idempotent, and at LOCAL_QUORUM unless it decides something; those
//! are compare-and-sets, decided within the data centre.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use domain::store::StoreError;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use scylla::{
    client::{
        execution_profile::ExecutionProfile, pager::TypedRowStream, session::Session,
        session_builder::SessionBuilder,
    },
    deserialize::row::DeserializeRow,
    frame::types::{Consistency, SerialConsistency},
    policies::load_balancing::DefaultPolicy,
    serialize::row::SerializeRow,
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlValue, Row},
};
use tokio::sync::Semaphore;

use super::{
    error::{Failure, SchemaError},
    options::ScyllaOptions,
};

/// Most time that one connection takes to come about, so that a node that is silent does not eat
/// the whole of an open.
const CONNECTION_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Connects.
///
/// # Errors
/// `Options`, `Unreachable`, or `Refused` where the cluster does not let the user in.
pub(super) async fn connect(options: &ScyllaOptions) -> Result<Session, SchemaError> {
    options.check().map_err(SchemaError::Options)?;
    let builder = builder(options)?;
    let started = Instant::now();
    let built = tokio::time::timeout(options.connect_timeout, builder.build()).await;
    let (hosts, waited) = (options.hosts_listed(), started.elapsed());
    let user = options.credentials.as_ref().map(|credentials| credentials.username.as_str());
    match built {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => {
            let failed = SchemaError::of_session(&error, user, hosts, waited);
            Err(explained(failed, options).await)
        }
        Err(_) => {
            let cause = "no answer at all".to_owned();
            Err(SchemaError::Unreachable { hosts, waited, cause })
        }
    }
}

/// The same with the reason why a node's certificate is not taken, if that is it.
#[cfg(feature = "scylla-tls")]
async fn explained(failed: SchemaError, options: &ScyllaOptions) -> SchemaError {
    use crate::distrust::{Names, explained};
    let SchemaError::Unreachable { hosts, waited, cause } = failed else { return failed };
    let (servers, tls) = (options.hosts.clone(), options.tls.clone().unwrap_or_default());
    let asking = tokio::task::spawn_blocking(move || {
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        explained(cause, &servers, tls.ca_file.as_deref(), Names::Address)
    });
    let cause = asking.await.expect("asking does not panic");
    SchemaError::Unreachable { hosts, waited, cause }
}

#[cfg(not(feature = "scylla-tls"))]
#[allow(clippy::unused_async)] // As with TLS.
async fn explained(failed: SchemaError, _: &ScyllaOptions) -> SchemaError {
    failed
}

fn builder(options: &ScyllaOptions) -> Result<SessionBuilder, SchemaError> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(dc) = &options.local_dc {
        policy = policy.prefer_datacenter(dc.clone());
    }
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .request_timeout(Some(options.request_timeout))
        .load_balancing_policy(policy.build())
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.hosts)
        .connection_timeout(CONNECTION_TIMEOUT_MAX.min(options.connect_timeout))
        .schema_agreement_timeout(options.connect_timeout)
        .refresh_metadata_on_auto_schema_agreement(false)
        .keyspaces_to_fetch([&options.keyspace])
        .default_execution_profile_handle(profile.into_handle());
    if let Some(credentials) = &options.credentials {
        builder = builder.user(&credentials.username, &credentials.password);
    }
    with_tls(builder, options)
}

#[cfg(feature = "scylla-tls")]
fn with_tls(
    builder: SessionBuilder,
    options: &ScyllaOptions,
) -> Result<SessionBuilder, SchemaError> {
    use openssl::ssl::{SslConnector, SslMethod};
    use scylla::client::session::OpenSsl010Config;

    let Some(tls) = &options.tls else { return Ok(builder) };
    let refused = |error: openssl::error::ErrorStack| {
        let file = tls.ca_file.as_ref().map(|file| format!(" ({})", file.display()));
        SchemaError::Options(format!("TLS{}: {error}", file.unwrap_or_default()))
    };
    let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(refused)?;
    if let Some(file) = &tls.ca_file {
        connector.set_ca_file(file).map_err(refused)?;
    }
    Ok(builder.tls_context(Some(OpenSsl010Config::new(connector))))
}

#[cfg(not(feature = "scylla-tls"))]
#[allow(clippy::unnecessary_wraps)] // As with TLS; the options were checked to ask for none.
fn with_tls(builder: SessionBuilder, _: &ScyllaOptions) -> Result<SessionBuilder, SchemaError> {
    Ok(builder)
}

/// Prepares statements for one keyspace. Their texts name it as `{keyspace}`.
pub(super) struct Preparer<'a> {
    pub(super) session: &'a Session,
    pub(super) keyspace: &'a str,
}

impl Preparer<'_> {
    /// A read or an idempotent write at LOCAL_QUORUM.
    pub(super) async fn prepare(&self, text: &str) -> Result<PreparedStatement, Failure> {
        let text = text.replace("{keyspace}", self.keyspace);
        let mut statement = self.session.prepare(text).await?;
        statement.set_is_idempotent(true);
        Ok(statement)
    }

    /// A read that sees every compare-and-set that was decided.
    pub(super) async fn prepare_serial(&self, text: &str) -> Result<PreparedStatement, Failure> {
        let mut statement = self.prepare(text).await?;
        statement.set_consistency(Consistency::LocalSerial);
        Ok(statement)
    }

    /// A compare-and-set. The driver does not repeat it: what became of it is looked up.
    pub(super) async fn prepare_decision(&self, text: &str) -> Result<PreparedStatement, Failure> {
        let mut statement = self.prepare(text).await?;
        statement.set_is_idempotent(false);
        Ok(statement)
    }
}

/// A session whose writes are bounded.
pub(super) struct Link {
    session: Session,
    writes: Semaphore,
    writes_in_flight: u32,
}

impl Link {
    pub(super) fn new(session: Session, writes_in_flight: usize) -> Self {
        let bounded = writes_in_flight.min(Semaphore::MAX_PERMITS);
        let bounded = u32::try_from(bounded).unwrap_or(u32::MAX);
        let writes = Semaphore::new(bounded as usize);
        Self { session, writes, writes_in_flight: bounded }
    }

    /// Takes writes, of which as many run at once as may be in flight.
    pub(super) fn writes<F: Future<Output = Result<(), Failure>>>(&self) -> InFlight<F, ()> {
        InFlight::new(self.writes_in_flight as usize)
    }

    /// Lets nothing more begin to be written, and waits for what has begun.
    pub(super) async fn close(&self) {
        // The semaphore is fair, so this comes after every write that already waits.
        let all = self.writes.acquire_many(self.writes_in_flight).await;
        self.writes.close();
        drop(all);
    }

    /// Writes one row.
    pub(super) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<(), Failure> {
        let _permit = self.writes.acquire().await.map_err(|_| closed())?;
        self.session.execute_unpaged(statement, values).await?;
        Ok(())
    }

    /// Writes rows of one partition at once: one request, and one change of the partition.
    pub(super) async fn write_together<V: SerializeRow>(
        &self,
        statement: &PreparedStatement,
        values: &[V],
    ) -> Result<(), Failure> {
        if let [one] = values {
            return self.write(statement, one).await;
        }
        // Unlogged, for within a partition nothing needs the log of batches.
        let statements = vec![statement.clone().into(); values.len()];
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_is_idempotent(true);
        let _permit = self.writes.acquire().await.map_err(|_| closed())?;
        self.session.batch(&batch, values).await?;
        Ok(())
    }

    /// Tries a compare-and-set and tells whether it was done.
    pub(super) async fn decide(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<bool, Failure> {
        Ok(self.decide_against(statement, values, "[applied]").await? == Decided::Done)
    }

    /// Tries a compare-and-set, and where it is refused gives the number that stood in a column.
    pub(super) async fn decide_against(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        column: &str,
    ) -> Result<Decided, Failure> {
        let _permit = self.writes.acquire().await.map_err(|_| closed())?;
        let answer = self.session.execute_unpaged(statement, values).await?.into_rows_result()?;
        // The first column is `[applied]`; which others there are depends on the server.
        let rows = answer.rows::<Row>()?.collect::<Result<Vec<_>, _>>()?;
        let applied = rows.first().and_then(|row| row.columns.first());
        if matches!(applied, Some(Some(CqlValue::Boolean(true)))) {
            return Ok(Decided::Done);
        }
        let place = answer.column_specs().iter().position(|found| found.name() == column);
        let found = rows.iter().find_map(|row| match row.columns.get(place?) {
            Some(Some(CqlValue::BigInt(number))) => Some(*number),
            _ => None,
        });
        Ok(Decided::Refused(found))
    }

    /// Reads an answer whose length the statement bounds.
    pub(super) async fn read<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, Failure>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let answer = self.session.execute_unpaged(statement, values).await?.into_rows_result()?;
        Ok(answer.rows::<R>()?.collect::<Result<Vec<_>, _>>()?)
    }

    /// Reads the first row of an answer.
    pub(super) async fn read_one<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Option<R>, Failure>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        Ok(self.read(statement, values).await?.into_iter().next())
    }

    /// Reads an answer of any length, page by page.
    pub(super) async fn stream<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        page_rows: usize,
    ) -> Result<TypedRowStream<R>, Failure>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + 'static,
    {
        let mut statement = statement.clone();
        let rows = page_rows.clamp(1, PAGE_ROWS_MAX);
        statement.set_page_size(i32::try_from(rows).expect("bounded above"));
        let pages = self.session.execute_iter(statement, values).await?;
        Ok(pages.rows_stream::<R>()?)
    }
}

/// What became of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// It was done.
    Done,
    /// Something else stood there; which number, if there was any.
    Refused(Option<i64>),
}

/// Most rows that are asked for at once.
const PAGE_ROWS_MAX: usize = 5_000;

fn closed() -> Failure {
    Failure(StoreError::Unavailable("the store was closed".to_owned()))
}

/// Futures that run at once, up to a bound, and what those gave that are done, in any order.
///
/// A loop adds to it. A stream of closures that borrow would be shorter, but rustc cannot tell that
/// it is `Send`.
pub(super) struct InFlight<F, T> {
    running: FuturesUnordered<F>,
    most: usize,
    done: Vec<T>,
}

impl<T, F: Future<Output = Result<T, Failure>>> InFlight<F, T> {
    pub(super) fn new(most: usize) -> Self {
        Self { running: FuturesUnordered::new(), most: most.max(1), done: Vec::new() }
    }

    /// Adds one, after waiting until there is room for it.
    ///
    /// # Errors
    /// That of any that failed; the rest are to be dropped.
    pub(super) async fn add(&mut self, future: F) -> Result<(), Failure> {
        while self.running.len() >= self.most {
            if let Some(done) = self.running.next().await {
                self.done.push(done?);
            }
        }
        self.running.push(future);
        Ok(())
    }

    /// Waits for all.
    ///
    /// # Errors
    /// That of any that failed.
    pub(super) async fn finish(mut self) -> Result<Vec<T>, Failure> {
        while let Some(done) = self.running.next().await {
            self.done.push(done?);
        }
        Ok(self.done)
    }
}
