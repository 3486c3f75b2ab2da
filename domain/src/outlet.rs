//! Port: an outlet, the topic of a broker that follows a queue of numbered messages.
//!
//! The queue stands in the billing store and is the truth; the outlet repeats it for whoever reads the
//! broker. It has no memory of its own: how far it has come is the number of the newest message in
//! the topic. So a process that forwards takes the topic over, which ends what every other one has
//! under way, looks at the newest message, and goes on behind it. Batches are appended whole or not
//! at all, in the order of the numbers; so each message is there once, whoever was killed when.

use std::future::Future;

use thiserror::Error;

/// A topic that messages are forwarded to.
pub trait Outlet: Send + Sync + 'static {
    /// What appends to it.
    type Writer: OutletWriter;

    /// Number of the newest message in the topic, 0 for none. Others may be writing.
    ///
    /// # Errors
    /// See [`OutletError`].
    fn newest(&self) -> impl Future<Output = Result<u64, OutletError>> + Send;

    /// Takes the topic over: what other writers have under way is in it or never will be, and none of
    /// them can append any more.
    ///
    /// # Errors
    /// See [`OutletError`].
    fn take_over(&self) -> impl Future<Output = Result<Self::Writer, OutletError>> + Send;
}

/// Appends to a topic that was taken over.
pub trait OutletWriter: Send + 'static {
    /// Appends messages, at least one, whose numbers follow the newest in the topic, ascending. All
    /// messages of a key keep their order for a reader. Durable on return.
    ///
    /// # Errors
    /// See [`OutletError`]. All or none are in the topic then, and this writer is spent.
    fn append(
        &mut self,
        messages: Vec<Message>,
    ) -> impl Future<Output = Result<(), OutletError>> + Send;
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number in the queue, from 1.
    pub number: u64,
    /// What it is about: the tenant.
    pub key: String,
    /// What it says, in JSON.
    pub body: Vec<u8>,
}

/// Why a topic was not read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OutletError {
    /// Passing; take it over again.
    #[error("the topic cannot be used now: {0}")]
    Unavailable(String),
    /// Another process has taken the topic over.
    #[error("another process has taken the topic over")]
    TakenOver,
    /// It will not get better until somebody does something.
    #[error("{0}")]
    Unusable(String),
}
