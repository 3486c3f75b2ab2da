//! What the schema asks of the cluster: its own tables about the keyspace, and changes.

use std::{collections::HashMap, time::Instant};

use scylla::{
    client::session::Session,
    deserialize::row::DeserializeRow,
    errors::ExecutionError,
    response::query_result::QueryRowsResult,
    serialize::row::SerializeRow,
    statement::unprepared::Statement,
    value::{CqlValue, Row},
};

use super::versions::{Applied, Migration};
use crate::scylla::{error::SchemaError, options::ScyllaOptions};

/// A session and the keyspace it is about.
pub(super) struct Cluster<'a> {
    pub(super) session: &'a Session,
    pub(super) options: &'a ScyllaOptions,
}

/// The table of what was applied.
const VERSION_TABLE: &str = "schema_version";

impl Cluster<'_> {
    /// Makes the keyspace unless it is there. One that is there is never altered.
    pub(super) async fn create_keyspace(&self) -> Result<(), SchemaError> {
        let replication = self.options.replication;
        self.change(&format!(
            "CREATE KEYSPACE IF NOT EXISTS {{keyspace}} WITH replication = {{'class': \
             'NetworkTopologyStrategy', 'replication_factor': {replication}}}"
        ))
        .await
    }

    /// Makes the tables about the tables, which are older than any migration.
    pub(super) async fn create_bookkeeping(&self) -> Result<(), SchemaError> {
        self.change(
            "CREATE TABLE IF NOT EXISTS {keyspace}.schema_version (registry int, version int, \
             checksum text, applied_at timestamp, PRIMARY KEY ((registry), version))",
        )
        .await?;
        self.change(
            "CREATE TABLE IF NOT EXISTS {keyspace}.schema_lock (name text PRIMARY KEY, owner text)",
        )
        .await
    }

    /// Runs a statement that changes the schema, and waits until all nodes agree on it.
    pub(super) async fn change(&self, statement: &str) -> Result<(), SchemaError> {
        let text = self.named(statement);
        let first_line = text.lines().next().unwrap_or_default().to_owned();
        let mut change = Statement::new(text);
        change.set_is_idempotent(true);
        // Of agreement among many nodes, not of one answer.
        change.set_request_timeout(Some(
            self.options.request_timeout.max(self.options.connect_timeout),
        ));
        let started = Instant::now();
        let done = self.session.query_unpaged(change, ()).await;
        done.map(drop).map_err(|error| self.failed(&first_line, started, error))
    }

    /// The migrations that were applied, ascending; none where the keyspace is not there.
    pub(super) async fn applied(&self) -> Result<Vec<Applied>, SchemaError> {
        let keyspace = self.options.keyspace.as_str();
        let table: Option<(String,)> = self
            .first(
                "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND \
                 table_name = ?",
                (keyspace, VERSION_TABLE),
            )
            .await?;
        if table.is_none() {
            return Ok(Vec::new());
        }
        let what = "SELECT version, checksum FROM {keyspace}.schema_version WHERE registry = 0";
        let answer = self.ask(what, ()).await?;
        let rows = answer.rows::<(i32, String)>().map_err(|error| refused(what, error))?;
        rows.map(|row| {
            let (version, checksum) = row.map_err(|error| refused(what, error))?;
            Ok((version.cast_unsigned(), checksum))
        })
        .collect()
    }

    /// Tells whether a log was registered, as one is before anything of it is counted.
    pub(super) async fn has_a_log(&self) -> Result<bool, SchemaError> {
        let what = "SELECT sequence FROM {keyspace}.log_generation WHERE registry = 0 LIMIT 1";
        Ok(self.first::<(i32,)>(what, ()).await?.is_some())
    }

    /// Notes that a migration was applied. Of two that note the same one does; both are right.
    pub(super) async fn note_applied(&self, migration: &Migration) -> Result<(), SchemaError> {
        let version = migration.version.cast_signed();
        self.decide(
            "INSERT INTO {keyspace}.schema_version (registry, version, checksum, applied_at) \
             VALUES (0, ?, ?, toTimestamp(now())) IF NOT EXISTS",
            (version, migration.checksum()),
        )
        .await
        .map(drop)
    }

    /// Whatever about the keyspace is not as the settings ask.
    pub(super) async fn notes(&self) -> Result<Vec<String>, SchemaError> {
        let keyspace = self.options.keyspace.as_str();
        let found: Option<(HashMap<String, String>,)> = self
            .first(
                "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?",
                (keyspace,),
            )
            .await?;
        let replication = found.map(|(replication,)| replication).unwrap_or_default();
        let wanted = self.options.replication.to_string();
        let differs = |(place, replicas): (&String, &String)| {
            (place != "class" && *replicas != wanted).then(|| {
                format!(
                    "keyspace {keyspace} keeps {replicas} replicas ({place}) and the settings ask \
                     for {wanted}: nothing was altered; use ALTER KEYSPACE and a repair"
                )
            })
        };
        Ok(replication.iter().filter_map(differs).collect())
    }

    /// Tries a compare-and-set and tells whether it was done.
    pub(super) async fn decide(
        &self,
        statement: &str,
        values: impl SerializeRow,
    ) -> Result<bool, SchemaError> {
        let answer = self.ask(statement, values).await?;
        let row = answer.maybe_first_row::<Row>().map_err(|error| refused(statement, error))?;
        let applied = row.and_then(|row| row.columns.into_iter().next().flatten());
        Ok(matches!(applied, Some(CqlValue::Boolean(true))))
    }

    async fn first<R: for<'f> DeserializeRow<'f, 'f>>(
        &self,
        statement: &str,
        values: impl SerializeRow,
    ) -> Result<Option<R>, SchemaError> {
        let answer = self.ask(statement, values).await?;
        answer.maybe_first_row::<R>().map_err(|error| refused(statement, error))
    }

    async fn ask(
        &self,
        statement: &str,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, SchemaError> {
        let started = Instant::now();
        let answer = self.session.query_unpaged(self.named(statement), values).await;
        let answer = answer.map_err(|error| self.failed(statement, started, error))?;
        answer.into_rows_result().map_err(|error| refused(statement, error))
    }

    fn failed(&self, what: &str, started: Instant, error: ExecutionError) -> SchemaError {
        let hosts = self.options.hosts_listed();
        SchemaError::of(format!("do `{what}`"), error.into(), hosts, started.elapsed())
    }

    fn named(&self, statement: &str) -> String {
        statement.replace("{keyspace}", &self.options.keyspace)
    }
}

fn refused(what: &str, cause: impl ToString) -> SchemaError {
    SchemaError::Refused { what: format!("do `{what}`"), cause: cause.to_string() }
}
