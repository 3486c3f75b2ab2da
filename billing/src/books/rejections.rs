//! Rejections: messages of the outbox that a consumer could not take, with its reason, and their
//! replay.
//!
//! A register of its own, so that a consumer may reject a message as often as it likes and it stands
//! there once. A replay puts the message into the outbox again, once for each rejection, and says
//! which one it repeats.

use std::sync::Arc;

use domain::{BillingStore, Clock, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    journal,
    message::DocumentMessage,
    queue::Queue,
    register::{Item, Register},
};
use crate::{BillingError, Refusal};

/// A message that a consumer rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// From 1.
    pub(crate) number: u64,
    /// What was said.
    pub(crate) body: RejectionBody,
    /// The message that repeated it, if one did.
    pub(crate) replayed_as: Option<u64>,
}

/// What is kept of a rejection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RejectionBody {
    /// Number of the message in its queue.
    pub(crate) message: u64,
    /// Whose document it is about.
    pub(crate) tenant: String,
    /// The document's invoice number.
    pub(crate) invoice: String,
    /// Who rejected it, in its own words.
    pub(crate) consumer: String,
    /// Why, in its words.
    pub(crate) reason: String,
    /// When the consumer rejected it.
    #[serde(with = "journal::text")]
    pub(crate) rejected_at: Timestamp,
}

/// The rejections, and the outbox that their messages are in.
pub(crate) struct Rejections<B> {
    pub(crate) register: Arc<Register<B>>,
    outbox: Arc<Register<B>>,
    clock: Arc<dyn Clock>,
}

impl<B: BillingStore> Rejections<B> {
    pub(super) fn new(store: Arc<B>, outbox: Arc<Register<B>>, clock: Arc<dyn Clock>) -> Self {
        let register = Arc::new(Register::new(store, Queue::Rejections.name()));
        Self { register, outbox, clock }
    }

    /// Notes that a consumer rejects a message. What it said first stands.
    ///
    /// # Errors
    /// When there is no such message, or the store fails.
    pub(crate) async fn reject(
        &self,
        message: u64,
        consumer: &str,
        reason: &str,
    ) -> Result<Rejection, BillingError> {
        let rejected = self.message(message).await?;
        let body = RejectionBody {
            message,
            tenant: rejected.tenant,
            invoice: rejected.number.unwrap_or_default(),
            consumer: consumer.to_owned(),
            reason: reason.to_owned(),
            rejected_at: self.clock.now(),
        };
        let number = self.register.draw(Item::new(format!("{message}/{consumer}"), &body)).await?;
        self.rejection(number).await
    }

    /// Rejections from a number on (from 1), in order, at most `limit`; empty only behind the last.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn page(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Rejection>, BillingError> {
        let items = self.register.items(from.max(1), limit).await?;
        let mut rejections = Vec::with_capacity(items.len());
        for (number, item) in items {
            rejections.push(self.read_rejection(number, item).await?);
        }
        Ok(rejections)
    }

    /// Puts the message of a rejection into the outbox again, once.
    ///
    /// # Errors
    /// When there is no such rejection, or the store fails.
    pub(crate) async fn replay(&self, number: u64) -> Result<Rejection, BillingError> {
        let rejection = self.rejection(number).await?;
        let mut message = self.message(rejection.body.message).await?;
        message.replay_of = Some(rejection.body.message.to_string());
        self.outbox.draw(message.item(replay_key(number))).await?;
        self.rejection(number).await
    }

    async fn message(&self, number: u64) -> Result<DocumentMessage, BillingError> {
        let found = self.outbox.item(number).await?;
        let item = found.ok_or_else(|| {
            let message = format!("the outbox has no message {number}");
            BillingError::refused(Refusal::MessageNotFound, message)
        })?;
        item.read().map_err(|error| BillingError::Unreadable {
            what: format!("message {number} of the outbox"),
            message: error.to_string(),
        })
    }

    async fn rejection(&self, number: u64) -> Result<Rejection, BillingError> {
        let found = self.register.item(number).await?;
        let item = found.ok_or_else(|| {
            let message = format!("no message was rejected under number {number}");
            BillingError::refused(Refusal::RejectionNotFound, message)
        })?;
        self.read_rejection(number, item).await
    }

    async fn read_rejection(&self, number: u64, item: Item) -> Result<Rejection, BillingError> {
        let body = item.read().map_err(|error| BillingError::Unreadable {
            what: format!("rejection {number}"),
            message: error.to_string(),
        })?;
        let replayed_as = self.outbox.find(&replay_key(number)).await?;
        Ok(Rejection { number, body, replayed_as })
    }
}

fn replay_key(rejection: u64) -> String {
    format!("replay/{rejection}")
}
