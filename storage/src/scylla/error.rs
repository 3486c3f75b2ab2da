//! Why a store in CQL cannot be opened, and what the port calls the driver's errors.

use std::time::Duration;

use domain::{Offset, Timestamp, codec::CodecError, store::StoreError};
use scylla::errors::{
    BadQuery, ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError,
    DeserializationError, ExecutionError, IntoRowsResultError, MetadataError, NewSessionError,
    NextPageError, NextRowError, PagerExecutionError, PrepareError, RequestAttemptError,
    RequestError, RowsError, TypeCheckError,
};
use thiserror::Error;

/// Why a schema was not applied, checked or migrated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// The options cannot be used. Nothing was asked of the cluster.
    #[error("the store's settings cannot be used: {0}")]
    Options(String),
    /// No node answered in time.
    #[error(
        "no node of {hosts} answered within {:.1} s ({cause}): check `store.url`, the settings of `scylla` for TLS and users, and that the nodes run and can be reached from here",
        waited.as_secs_f32()
    )]
    Unreachable {
        /// The nodes tried.
        hosts: String,
        /// For how long.
        waited: Duration,
        /// What the driver says.
        cause: String,
    },
    /// The keyspace or its tables are not there.
    #[error("keyspace {keyspace} has no tables of Pulso: run `pulso schema apply`")]
    Missing {
        /// The keyspace without tables.
        keyspace: String,
    },
    /// The tables are those of an earlier version of this program.
    #[error(
        "keyspace {keyspace} has schema version {found}, and this program needs {wanted}: run `pulso schema migrate`"
    )]
    Older {
        /// The keyspace to migrate.
        keyspace: String,
        /// Version there.
        found: u32,
        /// Version needed.
        wanted: u32,
    },
    /// The tables are those of an earlier version, and hold totals in a form that is not read any more.
    #[error(
        "keyspace {keyspace} has totals of schema version {found}, which this program (version {wanted}) cannot read: use the version of the program that wrote them, or name another keyspace in `store.url` and other topics in `kafka.topic_prefix`, run `pulso schema apply`, and publish catalogues and contracts again"
    )]
    Unreadable {
        /// The keyspace with these totals.
        keyspace: String,
        /// Version there.
        found: u32,
        /// Version needed.
        wanted: u32,
    },
    /// A later version of this program made the tables.
    #[error(
        "keyspace {keyspace} has schema version {found}, and this program knows up to {known}: use the version of the program that migrated it, or a later one"
    )]
    Newer {
        /// The keyspace of the later version.
        keyspace: String,
        /// Version there.
        found: u32,
        /// Greatest version known.
        known: u32,
    },
    /// A migration was applied with another text than this program has.
    #[error(
        "keyspace {keyspace}: migration {version} was applied with checksum {found}, and this program's has {wanted}: this program was changed after it was released, or another one made the tables; use the program that made them"
    )]
    Changed {
        /// The keyspace with the other text.
        keyspace: String,
        /// Number of the migration.
        version: u32,
        /// Checksum there.
        found: String,
        /// Checksum of the text here.
        wanted: String,
    },
    /// Somebody else migrates, and did not finish in time.
    #[error(
        "keyspace {keyspace} is being migrated by another process since {} s: wait for it, or try again once it has ended",
        waited.as_secs()
    )]
    Locked {
        /// The keyspace that is being migrated.
        keyspace: String,
        /// How long this one waited.
        waited: Duration,
    },
    /// The cluster refused a statement. Statements before it stand; running it again goes on.
    #[error("the cluster refused to {what}: {cause}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its words.
        cause: String,
    },
}

impl SchemaError {
    /// A request that failed: no answer is another matter than a refusal.
    pub(super) fn of(what: String, failure: Failure, hosts: String, waited: Duration) -> Self {
        match failure.0 {
            StoreError::Unavailable(cause) => {
                let cause = format!("asked to {what}: {cause}");
                Self::Unreachable { hosts, waited, cause }
            }
            refusal => Self::Refused { what, cause: refusal.to_string() },
        }
    }

    /// Why no session came about.
    pub(super) fn of_session(
        error: &NewSessionError,
        user: Option<&str>,
        hosts: String,
        waited: Duration,
    ) -> Self {
        let cause = error.to_string();
        if !is_about_credentials(error) {
            return Self::Unreachable { hosts, waited, cause };
        }
        let who =
            user.map_or_else(|| "anybody without a name".to_owned(), |user| format!("{user:?}"));
        let what = format!("let {who} in (check `scylla.username` and `scylla.password`)");
        Self::Refused { what, cause }
    }
}

fn is_about_credentials(error: &NewSessionError) -> bool {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(
        ConnectionPoolError::Broken {
            last_connection_error: ConnectionError::ConnectionSetupRequestError(request),
            ..
        },
    )) = error
    else {
        return false;
    };
    matches!(
        request.get_error(),
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)
            | ConnectionSetupRequestErrorKind::MissingAuthentication
    )
}

/// An answer of the port, made out of whatever went wrong, so that `?` sorts.
#[derive(Debug)]
pub(super) struct Failure(pub(super) StoreError);

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

impl From<CodecError> for Failure {
    fn from(error: CodecError) -> Self {
        let message = error.to_string();
        Self(match error {
            CodecError::Version(_) => StoreError::Fatal(message),
            CodecError::Length | CodecError::Checksum | CodecError::Value => {
                StoreError::Damaged(message)
            }
        })
    }
}

impl From<ExecutionError> for Failure {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::LastAttemptError(error) => error.into(),
            ExecutionError::PrepareError(error) => error.into(),
            ExecutionError::BadQuery(error) => error.into(),
            other => unavailable(&other),
        }
    }
}

impl From<PagerExecutionError> for Failure {
    fn from(error: PagerExecutionError) -> Self {
        match error {
            PagerExecutionError::NextPageError(error) => error.into(),
            PagerExecutionError::PrepareError(error) => error.into(),
            PagerExecutionError::SerializationError(error) => fatal(&error),
            other => unavailable(&other),
        }
    }
}

impl From<NextRowError> for Failure {
    fn from(error: NextRowError) -> Self {
        match error {
            NextRowError::NextPageError(error) => error.into(),
            other => damaged_answer(&other),
        }
    }
}

impl From<NextPageError> for Failure {
    fn from(error: NextPageError) -> Self {
        match error {
            NextPageError::RequestFailure(RequestError::LastAttemptError(error)) => error.into(),
            NextPageError::RequestFailure(error) => unavailable(&error),
            NextPageError::TypeCheckError(error) => error.into(),
            other => damaged_answer(&other),
        }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::AllAttemptsFailed { first_attempt } => first_attempt.into(),
            other => unavailable(&other),
        }
    }
}

impl From<BadQuery> for Failure {
    fn from(error: BadQuery) -> Self {
        fatal(&error)
    }
}

impl From<TypeCheckError> for Failure {
    fn from(error: TypeCheckError) -> Self {
        fatal(&error)
    }
}

impl From<DeserializationError> for Failure {
    fn from(error: DeserializationError) -> Self {
        damaged_answer(&error)
    }
}

impl From<IntoRowsResultError> for Failure {
    fn from(error: IntoRowsResultError) -> Self {
        fatal(&error)
    }
}

impl From<RowsError> for Failure {
    fn from(error: RowsError) -> Self {
        fatal(&error)
    }
}

impl From<RequestAttemptError> for Failure {
    /// Statements of this adapter are idempotent, so every outcome that is unknown is a passing
    /// one: the caller sends the same again.
    fn from(error: RequestAttemptError) -> Self {
        match &error {
            RequestAttemptError::DbError(
                DbError::SyntaxError
                | DbError::Invalid
                | DbError::Unauthorized
                | DbError::ConfigError
                | DbError::AlreadyExists { .. }
                | DbError::AuthenticationError
                | DbError::FunctionFailure { .. }
                | DbError::ProtocolError,
                _,
            )
            | RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_)
            | RequestAttemptError::RepreparedIdChanged { .. } => fatal(&error),
            _ => unavailable(&error),
        }
    }
}

fn unavailable(error: &impl ToString) -> Failure {
    Failure(StoreError::Unavailable(error.to_string()))
}

fn fatal(error: &impl ToString) -> Failure {
    Failure(StoreError::Fatal(error.to_string()))
}

fn damaged_answer(error: &impl ToString) -> Failure {
    Failure(StoreError::Damaged(error.to_string()))
}

/// A stored value that no version of this program writes.
pub(super) fn damaged(what: &str, value: impl std::fmt::Debug) -> Failure {
    Failure(StoreError::Damaged(format!("{what} {value:?}")))
}

/// A time as it was stored.
pub(super) fn time(micros: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_micros(micros).ok_or_else(|| damaged("time", micros))
}

/// An offset as CQL's signed integer.
pub(super) fn signed(offset: Offset) -> Result<i64, Failure> {
    // Writes carry times of up to twice the offset and one; ScyllaDB refuses times later than its
    // clock, in microseconds, by some days. This bound stays years before today.
    const MOST: u64 = 1 << 49;
    match i64::try_from(offset.0) {
        Ok(signed) if offset.0 <= MOST => Ok(signed),
        _ => Err(Failure(StoreError::Fatal(format!(
            "offset {offset} is beyond {MOST}, the store's greatest"
        )))),
    }
}

/// For bounds of searches: past the greatest there is nothing to find.
pub(super) fn signed_bound(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

/// An offset as it was stored.
pub(super) fn unsigned(stored: i64) -> Result<Offset, Failure> {
    u64::try_from(stored).map(Offset).map_err(|_| damaged("offset", stored))
}

/// A small number as it was stored.
pub(super) fn small(what: &str, stored: i32) -> Result<u16, Failure> {
    u16::try_from(stored).map_err(|_| damaged(what, stored))
}

#[cfg(test)]
mod tests {
    use scylla::{errors::WriteType, frame::types::Consistency};

    use super::*;

    fn sorted(error: DbError) -> StoreError {
        Failure::from(RequestAttemptError::DbError(error, "words".to_owned())).into()
    }

    #[test]
    fn what_passes_is_unavailable_and_what_stays_is_fatal() {
        let consistency = Consistency::LocalQuorum;
        let write_type = WriteType::Simple;
        for passing in [
            DbError::WriteTimeout { consistency, received: 1, required: 2, write_type },
            DbError::Unavailable { consistency, required: 2, alive: 1 },
            DbError::Overloaded,
            DbError::IsBootstrapping,
            DbError::ServerError,
            DbError::Other(0x1600),
        ] {
            assert!(matches!(sorted(passing), StoreError::Unavailable(_)));
        }
        for lasting in [DbError::SyntaxError, DbError::Invalid, DbError::Unauthorized] {
            assert!(matches!(sorted(lasting), StoreError::Fatal(_)));
        }
        let timeout = ExecutionError::RequestTimeout(Duration::from_secs(1));
        assert!(matches!(Failure::from(timeout).0, StoreError::Unavailable(_)));
    }

    #[test]
    fn a_request_without_an_answer_was_not_refused() {
        let of = |failure: StoreError| {
            let hosts = "db:9042".to_owned();
            SchemaError::of("do it".to_owned(), Failure(failure), hosts, Duration::ZERO)
        };
        let broken = of(StoreError::Unavailable("connection broken".to_owned()));
        assert!(matches!(broken, SchemaError::Unreachable { .. }), "{broken}");
        assert!(broken.to_string().contains("asked to do it: connection broken"), "{broken}");
        let refused = of(sorted(DbError::Unauthorized));
        assert!(matches!(refused, SchemaError::Refused { .. }), "{refused}");
    }

    #[test]
    fn offsets_beyond_the_times_of_writes_are_refused() {
        assert_eq!(signed(Offset((1 << 48) - 1)).unwrap(), (1 << 48) - 1);
        assert!(signed(Offset(u64::MAX)).is_err());
        assert!(signed(Offset((1 << 49) + 1)).is_err());
    }
}
