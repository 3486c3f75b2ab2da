//! The keyspace's tables: made and changed by numbered migrations, checked at every open.
//!
//! A migration is a file of statements that may be run again. What was applied stands in the
//! keyspace with the checksum of its text, so that a program and a keyspace that do not belong
//! together are found before anything is read or written. Two that apply at once take turns by a
//! lock that ends by itself when its owner does; every statement waits until all nodes agree.

mod versions;
mod cluster;
mod lock;

use scylla::client::session::Session;
use tracing::info;

pub use self::versions::VERSION;
use self::{
    cluster::Cluster,
    lock::Lock,
    versions::{MIGRATIONS, Standing, judge},
};
use super::{error::SchemaError, options::ScyllaOptions, session::connect};

/// What was found or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaReport {
    /// The keyspace that was looked at.
    pub keyspace: String,
    /// Its schema version now.
    pub version: u32,
    /// Names of the migrations that this call applied, in order.
    pub applied: Vec<String>,
    /// What is not as the settings ask and was left as it is, in sentences for an operator.
    pub notes: Vec<String>,
}

/// Makes the keyspace and its tables where they are missing. Where they are there it changes
/// nothing. Safe to run from several places at once.
///
/// # Errors
/// See [`SchemaError`]; `Older` where the tables are there and must be migrated, which is not done
/// by the way.
pub async fn apply(options: &ScyllaOptions) -> Result<SchemaReport, SchemaError> {
    let session = connect(options).await?;
    let cluster = Cluster { session: &session, options };
    match standing(&cluster).await? {
        Standing::Current => return report(&cluster, Vec::new()).await,
        Standing::Older(found) => return Err(older(options, found)),
        Standing::Missing => {}
    }
    cluster.create_keyspace().await?;
    cluster.create_bookkeeping().await?;
    let mut lock = Lock::take(&cluster).await?;
    let applied = match standing(&cluster).await? {
        Standing::Missing => run(&cluster, &mut lock, 0).await,
        Standing::Current => Ok(Vec::new()), // Somebody else was faster.
        Standing::Older(found) => Err(older(options, found)),
    };
    lock.release().await?;
    report(&cluster, applied?).await
}

/// Brings tables of an earlier version to this program's. Safe to run from several places at once;
/// processes of the earlier version must have ended.
///
/// # Errors
/// See [`SchemaError`]; `Missing` where there is nothing to migrate.
pub async fn migrate(options: &ScyllaOptions) -> Result<SchemaReport, SchemaError> {
    let session = connect(options).await?;
    let cluster = Cluster { session: &session, options };
    match standing(&cluster).await? {
        Standing::Current => return report(&cluster, Vec::new()).await,
        Standing::Missing => return Err(missing(options)),
        Standing::Older(_) => {}
    }
    let mut lock = Lock::take(&cluster).await?;
    let applied = match standing(&cluster).await? {
        Standing::Older(found) => run(&cluster, &mut lock, found).await,
        Standing::Current => Ok(Vec::new()), // Somebody else was faster.
        Standing::Missing => Err(missing(options)),
    };
    lock.release().await?;
    report(&cluster, applied?).await
}

/// Checks that the tables are exactly this program's. Changes nothing.
///
/// # Errors
/// See [`SchemaError`].
pub async fn check(options: &ScyllaOptions) -> Result<SchemaReport, SchemaError> {
    let session = connect(options).await?;
    check_with(&session, options).await
}

/// As [`check`], over a session that is there.
pub(super) async fn check_with(
    session: &Session,
    options: &ScyllaOptions,
) -> Result<SchemaReport, SchemaError> {
    let cluster = Cluster { session, options };
    match standing(&cluster).await? {
        Standing::Current => report(&cluster, Vec::new()).await,
        Standing::Older(found) => Err(older(options, found)),
        Standing::Missing => Err(missing(options)),
    }
}

/// The first version whose totals this program reads: manifests and dead letters before it had another
/// form. Tables without totals are migrated from any version.
const READ_FROM: u32 = 5;

async fn standing(cluster: &Cluster<'_>) -> Result<Standing, SchemaError> {
    let keyspace = &cluster.options.keyspace;
    match judge(keyspace, &cluster.applied().await?)? {
        Standing::Older(found) if found < READ_FROM && cluster.has_a_log().await? => {
            Err(SchemaError::Unreadable { keyspace: keyspace.clone(), found, wanted: VERSION })
        }
        standing => Ok(standing),
    }
}

/// Runs what is missing above a version.
async fn run(
    cluster: &Cluster<'_>,
    lock: &mut Lock<'_>,
    above: u32,
) -> Result<Vec<String>, SchemaError> {
    let mut applied = Vec::new();
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > above) {
        for statement in migration.statements() {
            lock.renew().await?;
            cluster.change(&statement).await?;
        }
        cluster.note_applied(migration).await?;
        let keyspace = &cluster.options.keyspace;
        info!(keyspace, migration = migration.name, "schema migrated");
        applied.push(migration.name.to_owned());
    }
    Ok(applied)
}

async fn report(cluster: &Cluster<'_>, applied: Vec<String>) -> Result<SchemaReport, SchemaError> {
    let keyspace = cluster.options.keyspace.clone();
    Ok(SchemaReport { keyspace, version: VERSION, applied, notes: cluster.notes().await? })
}

fn missing(options: &ScyllaOptions) -> SchemaError {
    SchemaError::Missing { keyspace: options.keyspace.clone() }
}

fn older(options: &ScyllaOptions, found: u32) -> SchemaError {
    SchemaError::Older { keyspace: options.keyspace.clone(), found, wanted: VERSION }
}
