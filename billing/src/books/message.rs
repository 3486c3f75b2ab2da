//! Message: what happened to which document, and the document, as the outbox keeps it and the topic has
//! it.

use domain::{Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    document::{Document, Payment, number_text},
    register::Item,
};

/// What happened to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// It became final.
    Final,
    /// It was taken back.
    Void,
}

/// A message of the outbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DocumentMessage {
    pub(crate) event: Event,
    /// The document's number.
    pub(crate) number: Option<String>,
    /// Tenant of the document.
    pub(crate) tenant: String,
    #[serde(with = "issued")]
    issued_at: Option<Timestamp>,
    /// What is owed after the credits; below zero what is owed to the customer; nothing of a document
    /// that is void.
    due: Option<String>,
    /// What was owed until it was void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_before_void: Option<String>,
    /// What prepaid credits pay of it, below zero what they get back; of a void document, what they did
    /// until then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    payments: Vec<PaymentText>,
    /// As it is stored, whatever of it this program knows: the digest is that of the whole.
    document: Box<RawValue>,
    /// The message that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay_of: Option<String>,
}

/// A payment with the digits of its currency.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PaymentText {
    credit: String,
    amount: String,
}

impl PaymentText {
    fn of(of: &Document, Payment { credit, amount }: &Payment) -> Self {
        Self { credit: credit.clone(), amount: of.draft.text(*amount) }
    }
}

/// What a topic needs to know of a message of any queue.
#[derive(Debug, Deserialize)]
pub(crate) struct Addressed {
    /// Whose document it is about.
    pub(crate) tenant: String,
}

impl DocumentMessage {
    /// The message about a document that is final.
    pub(crate) fn new(event: Event, tenant: &Tenant, of: &Document, stored: Box<RawValue>) -> Self {
        Self {
            event,
            number: of.number.map(number_text),
            tenant: tenant.as_str().to_owned(),
            issued_at: of.issued_at,
            due: of.due().map(|due| of.draft.text(due)),
            due_before_void: of.due_before_void().map(|due| of.draft.text(due)),
            payments: of.payments.iter().map(|payment| PaymentText::of(of, payment)).collect(),
            document: stored,
            replay_of: None,
        }
    }

    /// As an item of the outbox, once for each key.
    pub(crate) fn item(&self, key: String) -> Item {
        Item::new(key, self)
    }
}

mod issued {
    use domain::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::books::journal;

    #[derive(Serialize, Deserialize)]
    struct Moment(#[serde(with = "journal::text")] Timestamp);

    pub(super) fn serialize<S: Serializer>(
        moment: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        moment.map(Moment).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<Moment>::deserialize(from)?.map(|Moment(moment)| moment))
    }
}
