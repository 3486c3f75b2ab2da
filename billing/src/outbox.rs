//! Outbox: the messages of a queue go to the topic of its name, each once and in order.
//!
//! The topic says how far it has come ([`domain::outlet`]), so nothing is journalled here. Several
//! processes may forward; the one that appends goes on, and another takes the topic over only where it
//! stood still between two looks although messages wait.

use std::{sync::Arc, time::Duration};

use domain::{
    BillingStore, Outlet,
    outlet::{Message, OutletError, OutletWriter as _},
};
use metrics::counter;
use runtime::{Backoff, Shutdown, fault, health::Check};
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

pub use crate::books::queue::Queue;
use crate::{
    BillingError,
    books::{
        journal,
        message::Addressed,
        register::{Item, Register},
    },
};

/// Most messages of a batch.
const BATCH: usize = 100;
/// Time between two looks at a queue whose messages are all forwarded.
const INTERVAL: Duration = Duration::from_millis(500);

/// Why a look did not forward.
#[derive(Debug, Error)]
enum ForwardError {
    #[error(transparent)]
    Billing(#[from] BillingError),
    #[error(transparent)]
    Outlet(#[from] OutletError),
}

/// A message as a topic has it.
#[derive(Serialize)]
struct Forwarded {
    message: String,
    body: Box<RawValue>,
}

/// How far this process is with a topic.
#[derive(Debug)]
struct Forwarding<W> {
    /// What appends, while no other process has taken over.
    writer: Option<W>,
    /// The first message that may not be in the topic.
    next: u64,
    /// Whether the topic ended before that message at the last look too.
    stood: bool,
}

impl<W> Forwarding<W> {
    const fn new() -> Self {
        Self { writer: None, next: 1, stood: false }
    }
}

/// What forwards one queue.
pub struct Forwarder<B> {
    queue: Queue,
    register: Arc<Register<B>>,
    backoff: Backoff,
}

impl<B: BillingStore> Forwarder<B> {
    /// Takes the queue's register and how to wait between failures.
    pub(crate) const fn new(queue: Queue, register: Arc<Register<B>>, backoff: Backoff) -> Self {
        Self { queue, register, backoff }
    }

    /// Forwards until shutdown. The check reports what prevents that, for as long as it does.
    pub async fn run<O: Outlet>(mut self, outlet: &O, until: &Shutdown, check: &Check) {
        let mut state = Forwarding::new();
        check.ready();
        loop {
            let forwarded = tokio::select! {
                forwarded = self.step(outlet, &mut state) => forwarded,
                () = until.requested() => return,
            };
            let wait = match forwarded {
                Ok(true) => continue,
                Ok(false) => {
                    check.ready();
                    self.backoff.reset();
                    INTERVAL
                }
                Err(error) => {
                    state.writer = None;
                    if matches!(error, ForwardError::Outlet(OutletError::Unusable(_))) {
                        check.not_ready(error.to_string());
                    }
                    tracing::warn!(queue = self.queue.name(), %error, "messages wait to be forwarded");
                    INTERVAL + self.backoff.next_delay()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = until.requested() => return,
            }
        }
    }

    /// Takes one step, and tells whether the next may follow at once.
    async fn step<O: Outlet>(
        &self,
        outlet: &O,
        state: &mut Forwarding<O::Writer>,
    ) -> Result<bool, ForwardError> {
        let batch = self.waiting(state.next).await?;
        let Some(last) = batch.last().map(|message| message.number) else { return Ok(false) };
        if let Some(writer) = &mut state.writer {
            let count = batch.len() as u64;
            fault::point("billing.before_forward");
            writer.append(batch).await?;
            fault::point("billing.after_forward");
            state.next = last + 1;
            counter!("pulso_billing_messages_forwarded_total", "queue" => self.queue.name())
                .increment(count);
            return Ok(true);
        }
        let newest = self.newest_in(outlet).await?;
        if newest + 1 != state.next {
            *state = Forwarding { writer: None, next: newest + 1, stood: false };
        } else if state.stood {
            let writer = outlet.take_over().await?;
            let newest = self.newest_in(outlet).await?;
            *state = Forwarding { writer: Some(writer), next: newest + 1, stood: false };
            return Ok(true);
        } else {
            state.stood = true;
        }
        Ok(false)
    }

    /// The newest message in the topic, which is one of the queue.
    async fn newest_in(&self, outlet: &impl Outlet) -> Result<u64, ForwardError> {
        let newest = outlet.newest().await?;
        if newest > 0 && self.register.item(newest).await?.is_none() {
            return Err(OutletError::Unusable(format!(
                "topic {} holds message {newest}, which its queue in the billing store has not reached: it belongs to another store, or this one was set back",
                self.queue.name()
            ))
            .into());
        }
        Ok(newest)
    }

    /// Messages from a number on, as the topic has them.
    async fn waiting(&self, from: u64) -> Result<Vec<Message>, BillingError> {
        let items = self.register.items(from, BATCH).await?;
        let message = |(number, item): (u64, Item)| {
            let damaged = |error: serde_json::Error| BillingError::Unreadable {
                what: format!("message {number} of {}", self.queue.name()),
                message: error.to_string(),
            };
            let Addressed { tenant } = item.read().map_err(damaged)?;
            let body = journal::bytes(&Forwarded { message: number.to_string(), body: item.body });
            Ok(Message { number, key: tenant, body })
        };
        items.into_iter().map(message).collect()
    }
}

#[cfg(test)]
mod tests;
