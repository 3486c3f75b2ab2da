//! What both ports share: a link to the cluster, its statements, and what this process remembers.

use scylla::client::session::Session;

use super::{
    error::Failure,
    known::{KnownGenerations, WrittenPlaces},
    session::{Link, Preparer},
    statements::Statements,
};

/// A keyspace in use.
pub(super) struct Client {
    pub(super) link: Link,
    pub(super) statements: Statements,
    pub(super) generations: KnownGenerations,
    pub(super) written: WrittenPlaces,
}

impl Client {
    pub(super) async fn new(
        session: Session,
        keyspace: &str,
        writes_in_flight: usize,
    ) -> Result<Self, Failure> {
        let statements = Statements::prepare(&Preparer { session: &session, keyspace }).await?;
        let link = Link::new(session, writes_in_flight);
        Ok(Self {
            link,
            statements,
            generations: KnownGenerations::default(),
            written: WrittenPlaces::default(),
        })
    }
}
