//! Queues: the registers whose messages go to topics, by name.

/// A register that a topic follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Messages about documents.
    Outbox,
    /// Messages that a consumer rejected, with its reason.
    Rejections,
}

impl Queue {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Outbox, Self::Rejections];

    /// Its name, which is the topic's too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outbox => "monthly-consumption",
            Self::Rejections => "monthly-consumption-dlq",
        }
    }
}
