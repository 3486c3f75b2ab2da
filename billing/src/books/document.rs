//! Document: an invoice, a delta, a credit note or a reversal, as the books know it.

use domain::{Timestamp, Window, catalogue::Currency};
use pricing::{Amount, moment::Calendar};
use serde::{Deserialize, Serialize};

use super::journal;

/// A document as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Draft {
    /// The run that made it.
    pub(crate) run: u64,
    /// What it is.
    pub(crate) kind: Kind,
    /// First moment of what is billed.
    #[serde(with = "journal::text")]
    pub(crate) start: Timestamp,
    /// First moment after it.
    #[serde(with = "journal::text")]
    pub(crate) end: Timestamp,
    /// The zone in whose midnights it begins and ends.
    #[serde(default = "utc")]
    pub(crate) time_zone: String,
    /// Currency of the amounts.
    pub(crate) currency: String,
    /// What it comes to.
    #[serde(with = "journal::text")]
    pub(crate) total: Amount,
    /// Digest that its content stands under.
    pub(crate) content: String,
    /// The documents that it corrects, by place, oldest first; empty for invoices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) corrects: Vec<u64>,
    /// The credit notes that a delta or reversal counts, by place, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) counts: Vec<u64>,
    /// What a credit note was asked for with, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

impl Draft {
    /// First and last day of what is billed, in its zone.
    #[must_use]
    pub(crate) fn days(&self) -> (String, String) {
        let calendar = Calendar::named(&self.time_zone).unwrap_or(Calendar::UTC);
        calendar.dates_of(Window { start: self.start, end: self.end })
    }

    /// An amount of the document, with the digits of its currency.
    #[must_use]
    pub(crate) fn text(&self, amount: Amount) -> String {
        amount.text(Currency::from_code(&self.currency).map_or(0, Currency::minor_digits))
    }
}

/// The zone of documents that were made before they kept it.
fn utc() -> String {
    Calendar::UTC.zone().to_owned()
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The bill of a period.
    Invoice,
    /// What changed about a period since.
    Delta,
    /// An amount that is given back, for a reason that is not in the usage.
    CreditNote,
    /// All that was billed for a period is given back, because there is no such period any more.
    Reversal,
}

impl Kind {
    /// The stable word.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::Delta => "delta",
            Self::CreditNote => "credit_note",
            Self::Reversal => "reversal",
        }
    }
}

/// What a prepaid credit pays of a document, or with an amount below zero gets back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    /// Name of the contract's credit.
    pub(crate) credit: String,
    /// How much.
    #[serde(with = "journal::text")]
    pub(crate) amount: Amount,
}

/// How far a document has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    /// It is made, and not owed yet.
    Draft,
    /// It has its number.
    Final,
    /// And its message is out.
    Published,
    /// It will never be final.
    Discarded,
    /// It is not owed after all.
    Void,
}

impl State {
    /// The stable word. A document that is final and one whose message is out are both `final`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Final | Self::Published => "final",
            Self::Discarded => "discarded",
            Self::Void => "void",
        }
    }
}

/// A document, as the entries say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// Its identity in the ledger.
    pub(crate) place: u64,
    /// As it was made.
    pub(crate) draft: Draft,
    /// How far it is.
    pub(crate) state: State,
    /// Its number, once it has one.
    pub(crate) number: Option<u64>,
    /// When it became final.
    pub(crate) issued_at: Option<Timestamp>,
    /// What credits pay of it, or get back; of a void document, what they did until then.
    pub(crate) payments: Vec<Payment>,
    /// Why it is void.
    pub(crate) void_reason: Option<String>,
    /// When that was said.
    pub(crate) voided_at: Option<Timestamp>,
}

impl Document {
    /// As it is once it is made.
    #[must_use]
    pub(crate) const fn drafted(place: u64, draft: Draft) -> Self {
        Self {
            place,
            draft,
            state: State::Draft,
            number: None,
            issued_at: None,
            payments: Vec::new(),
            void_reason: None,
            voided_at: None,
        }
    }

    /// What is billed.
    #[must_use]
    pub(crate) const fn window(&self) -> Window {
        Window { start: self.draft.start, end: self.draft.end }
    }

    /// Tells whether it bills a part of a window.
    #[must_use]
    pub(crate) fn overlaps(&self, window: Window) -> bool {
        self.draft.start < window.end && window.start < self.draft.end
    }

    /// Tells whether it counts: a draft, or one that is owed.
    #[must_use]
    pub(crate) const fn stands(&self) -> bool {
        !matches!(self.state, State::Discarded | State::Void)
    }

    /// Tells whether it is owed.
    #[must_use]
    pub(crate) const fn is_owed(&self) -> bool {
        matches!(self.state, State::Final | State::Published)
    }

    /// Its number as it is printed, or that it is a draft.
    #[must_use]
    pub(crate) fn named(&self) -> String {
        self.number.map_or_else(|| "a draft".to_owned(), number_text)
    }

    /// What credits pay of it, below zero what goes back to them.
    #[must_use]
    pub(crate) fn paid(&self) -> Option<Amount> {
        let paid = self.payments.iter().map(|payment| payment.amount);
        paid.into_iter().try_fold(Amount::ZERO, Amount::checked_add)
    }

    /// What the credits leave of it, whether it is owed or not: to pay, or below zero to be paid back in
    /// cash.
    #[must_use]
    pub(crate) fn left(&self) -> Option<Amount> {
        self.draft.total.checked_sub(self.paid()?)
    }

    /// What is owed: what the credits leave of it, and nothing of a document that is not owed.
    #[must_use]
    pub(crate) fn due(&self) -> Option<Amount> {
        if self.is_owed() { self.left() } else { Some(Amount::ZERO) }
    }

    /// What was owed of a document until it was void.
    #[must_use]
    pub(crate) fn due_before_void(&self) -> Option<Amount> {
        (self.state == State::Void).then(|| self.left()).flatten()
    }
}

/// An invoice number as it is printed: `INV-000042`.
#[must_use]
pub(crate) fn number_text(number: u64) -> String {
    format!("{NUMBER_PREFIX}{number:06}")
}

/// Reads an invoice number, with its prefix or without.
#[must_use]
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix(NUMBER_PREFIX).unwrap_or(text);
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_plain && *number > 0)
}

const NUMBER_PREFIX: &str = "INV-";
