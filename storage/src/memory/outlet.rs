//! The outlet in memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use domain::outlet::{Message, Outlet, OutletError, OutletWriter};

use super::lock;

/// A topic that lives as long as its handles.
#[derive(Clone, Debug, Default)]
pub struct MemoryOutlet {
    topic: Arc<Mutex<Topic>>,
}

#[derive(Debug, Default)]
struct Topic {
    messages: Vec<Message>,
    /// How often it was taken over.
    taken: u64,
    faults: VecDeque<OutletFault>,
}

/// What becomes of a batch whose append is told to answer `Unavailable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutletFault {
    /// It is not in the topic.
    Lost,
    /// It is.
    Added,
}

impl MemoryOutlet {
    /// An empty topic.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All messages in the order in which they were appended.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.topic).messages.clone()
    }

    /// Makes the next append fail that no earlier call of this was for.
    pub fn fail_next_append(&self, fault: OutletFault) {
        lock(&self.topic).faults.push_back(fault);
    }
}

impl Outlet for MemoryOutlet {
    type Writer = MemoryOutletWriter;

    async fn newest(&self) -> Result<u64, OutletError> {
        Ok(lock(&self.topic).messages.last().map_or(0, |message| message.number))
    }

    async fn take_over(&self) -> Result<MemoryOutletWriter, OutletError> {
        let mut topic = lock(&self.topic);
        topic.taken += 1;
        Ok(MemoryOutletWriter { outlet: self.clone(), taken: topic.taken })
    }
}

/// Appends until another takes over.
#[derive(Debug)]
pub struct MemoryOutletWriter {
    outlet: MemoryOutlet,
    taken: u64,
}

impl OutletWriter for MemoryOutletWriter {
    async fn append(&mut self, messages: Vec<Message>) -> Result<(), OutletError> {
        let mut topic = lock(&self.outlet.topic);
        if topic.taken != self.taken {
            return Err(OutletError::TakenOver);
        }
        let fault = topic.faults.pop_front();
        if fault != Some(OutletFault::Lost) {
            topic.messages.extend(messages);
        }
        match fault {
            None => Ok(()),
            Some(fault) => Err(OutletError::Unavailable(format!("told to fail: {fault:?}"))),
        }
    }
}
