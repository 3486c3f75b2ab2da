//! Explain and verify: a document is derived again from the stored totals below its run's cut, under
//! the contracts and catalogues of then, and compared.
//!
//! Invariant I9: an invoice re-derives to the same bytes for ever. What it leaves out, because it is
//! as large as the usage (hours, and the stretches of the log behind them), comes back here and is
//! given part by part (`explanation.rs`).

use std::collections::{HashMap, VecDeque};

use domain::{BillingStore, PulseLog, UsageStore};
use serde_json::Value;

use super::{
    evidence::{FromLog, PulsesWanted},
    explanation::Explanation,
};
use crate::{
    BillingError, Refusal,
    billing::Billing,
    books::{
        document::{Document, Kind, State, number_text},
        documents::Found,
        ledger::Entry,
    },
    error::compute,
};
use pricing::{
    invoice::{Invoice, document},
    rate::Sources,
};

/// A line that does not come out as it was invoiced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The line's key.
    pub(crate) key: String,
    /// As it stands in the document.
    pub(crate) invoiced: Option<Value>,
    /// As it comes out now.
    pub(crate) computed: Option<Value>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verification {
    /// Lines that were computed again.
    pub(crate) lines: usize,
    /// Those that differ, in the order of the document; then those that it does not have.
    pub(crate) differences: Vec<Difference>,
    /// How much of the log it was made from; `None` where it was made from the stored totals.
    pub(crate) from_log: Option<FromLog>,
}

/// A document that was derived again.
struct Derived {
    lines: Vec<Value>,
    /// What it is made of; `None` for those that are made of other documents.
    invoice: Option<Invoice>,
    from_log: Option<FromLog>,
}

impl Derived {
    /// What is made of other documents.
    fn of(document: Option<Value>) -> Self {
        let lines = document.map_or_else(Vec::new, taken_lines);
        Self { lines, invoice: None, from_log: None }
    }
}

/// Where a verification takes the usage from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The stored totals.
    Store,
    /// The log, folded again.
    Log,
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// A document as it comes out now: of other documents, or of the usage below the cut of the run that
    /// made it.
    async fn derive(
        &self,
        found: &Found,
        origin: Origin,
        sources: Sources,
    ) -> Result<Derived, BillingError> {
        let ledger = self.books.documents.ledger(&found.tenant).await?;
        let corrects = found.document.draft.corrects.iter().map(|place| {
            let named = ledger.document(*place).cloned();
            named.ok_or_else(|| unreadable(found, "names no document"))
        });
        let corrects = corrects.collect::<Result<Vec<Document>, BillingError>>()?;
        let newest = || corrects.last().ok_or_else(|| unreadable(found, "corrects nothing"));
        match found.document.draft.kind {
            Kind::CreditNote => {
                let of = Found { tenant: found.tenant.clone(), document: newest()?.clone() };
                let note = self
                    .derive_note(&of, &self.books.documents.content(&found.document).await?)
                    .await?;
                Ok(Derived::of(Some(note)))
            }
            Kind::Reversal => {
                let billed = self.books.documents.billed(&corrects).await?;
                Ok(Derived::of(document::reversal(
                    &self.books.documents.content(newest()?).await?,
                    &billed,
                )))
            }
            Kind::Invoice | Kind::Delta => {
                let (invoice, from_log) = self.rate_again(found, origin, sources).await?;
                let is_first = corrects.is_empty();
                let billed = self.books.documents.billed(&corrects).await?;
                let deriving = move || {
                    let document = if is_first {
                        Some(document::invoice(&invoice))
                    } else {
                        document::delta(&invoice, &billed)
                    };
                    Derived { invoice: Some(invoice), from_log, ..Derived::of(document) }
                };
                compute(&self.compute, deriving).await
            }
        }
    }

    /// The lines of a document as it was issued.
    async fn lines_of(&self, found: &Found) -> Result<Vec<Value>, BillingError> {
        let bytes = self.books.documents.bytes(&found.document).await?;
        let parsed = compute(&self.compute, move || serde_json::from_slice(&bytes)).await?;
        parsed.map(taken_lines).map_err(|error| unreadable(found, &error.to_string()))
    }

    /// The invoice of a document's period as it comes out of the usage below the cut of the run that
    /// made the document.
    async fn rate_again(
        &self,
        found: &Found,
        origin: Origin,
        sources: Sources,
    ) -> Result<(Invoice, Option<FromLog>), BillingError> {
        let Found { tenant, document } = found;
        let run = self.books.runs.get(document.draft.run).await?;
        let cut = run.cut.as_ref().ok_or_else(|| BillingError::Journal {
            journal: format!("run/{}", run.number),
            place: 0,
            message: "has documents and no cut".to_owned(),
        })?;
        let below = self.below(cut).await?;
        let (account, window) = (self.account(&run, tenant).await?, document.window());
        let (usage, from_log) = match origin {
            Origin::Store => (self.usage_below(&below, tenant, window).await?, None),
            Origin::Log => {
                let (usage, from_log) = self.usage_of_log(&below, tenant, window).await?;
                (usage, Some(from_log))
            }
        };
        let period = (run.request.month, window);
        let invoice = self.rate_usage(&self.compute, usage, &account, period, sources).await?;
        Ok((invoice, from_log))
    }

    /// Computes a document again and compares every line.
    ///
    /// # Errors
    /// When there is no such invoice, or the store fails. Differences are no error.
    pub(crate) async fn verify(
        &self,
        number: &str,
        origin: Origin,
    ) -> Result<Verification, BillingError> {
        let found = self.books.documents.find(number).await?;
        let invoiced = self.lines_of(&found).await?;
        let derived = self.derive(&found, origin, Sources::LeftOut).await?;
        let Derived { lines, from_log, .. } = derived;
        let compared = compute(&self.compute, move || compare(&invoiced, lines)).await?;
        Ok(Verification { from_log, ..compared })
    }

    /// Says why a document's lines come to what they do. `line` is a place from 1, or 0 for all;
    /// `pulses` goes on to the pulses behind the hours. Costs a look at each line and each hour, and
    /// all of it is checked before the first part is given.
    ///
    /// # Errors
    /// When there is no such invoice, line or hour; when a line does not come out as it was invoiced,
    /// or its hours do not add up to it, or the pulses in the log to them.
    pub(crate) async fn explain(
        &self,
        number: &str,
        line: usize,
        pulses: Option<PulsesWanted>,
    ) -> Result<Explanation, BillingError> {
        let found = self.books.documents.find(number).await?;
        let invoiced = self.lines_of(&found).await?;
        if line > invoiced.len() {
            let message = format!("invoice {number} has {} lines", invoiced.len());
            return Err(BillingError::refused(Refusal::InvoiceNotFound, message));
        }
        let Derived { lines, invoice, .. } =
            self.derive(&found, Origin::Store, Sources::Listed).await?;
        let verifying = move || {
            let differences = compare(&invoiced, lines).differences;
            let first = differences.into_iter().next().map(|difference| difference.key);
            (first, Explanation::new(found, invoice, invoiced, line))
        };
        let (differs, mut explanation) = compute(&self.compute, verifying).await?;
        if let Some(key) = differs {
            let message = format!(
                "line {key:?} no longer comes out as it was invoiced: `pulso bill verify {number}` shows how"
            );
            return Err(unreadable(&explanation.found, &message));
        }
        if let Some(wanted) = pulses {
            let asking = move || (explanation.question(wanted), explanation);
            let (question, explained) = compute(&self.compute, asking).await?;
            explanation = explained;
            explanation.evidence = Some(self.evidence(question?, wanted).await?);
        }
        let checking = move || explanation.check().map(|()| explanation);
        compute(&self.compute, checking).await?
    }

    /// Takes a final document back. Doing it again changes nothing.
    ///
    /// # Errors
    /// When there is none, when another document that stands corrects it, or bills days that it gave
    /// back; when the store fails.
    pub(crate) async fn void(&self, number: &str, reason: &str) -> Result<Found, BillingError> {
        loop {
            let found = self.books.documents.find(number).await?;
            let (tenant, place) = (&found.tenant, found.document.place);
            let mut ledger = self.books.documents.ledger(tenant).await?;
            if found.document.state == State::Void && self.void_is_out(&found).await? {
                return Ok(found);
            }
            let corrected = ledger
                .documents()
                .iter()
                .find(|other| other.stands() && other.draft.corrects.contains(&place));
            if let Some(other) = corrected {
                let by = named(other);
                let message = format!("invoice {number} is corrected by {by}: void that first");
                return Err(BillingError::refused(Refusal::InvoiceState, message));
            }
            if let Some(other) = ledger.standing_on(place)
                && gives_back(&self.books.documents.content(&found.document).await?)
            {
                let by = named(&other);
                let message = format!("{by} bills days that {number} gave back: void that first");
                return Err(BillingError::refused(Refusal::InvoiceState, message));
            }
            if found.document.state != State::Void {
                let (reason, at) = (reason.to_owned(), self.clock.now());
                let entry = Entry::Voided { document: place, reason, at };
                self.books.documents.append(&mut ledger, entry).await?;
                continue;
            }
            self.publish_void(&found).await?;
        }
    }
}

fn gives_back(document: &Value) -> bool {
    let lines = document["lines"].as_array().into_iter().flatten();
    lines.filter_map(|line| line["amount"].as_str()).any(|amount| amount.starts_with('-'))
}

pub(super) fn unreadable(found: &Found, message: &str) -> BillingError {
    let what = format!("invoice {}", named(&found.document));
    BillingError::Unreadable { what, message: message.to_owned() }
}

fn named(document: &Document) -> String {
    document.number.map_or_else(|| "a draft".to_owned(), number_text)
}

fn taken_lines(mut document: Value) -> Vec<Value> {
    match document["lines"].take() {
        Value::Array(lines) => lines,
        _ => Vec::new(),
    }
}

/// What identifies a line of a document.
pub(super) fn key_of(line: &Value) -> &str {
    #[cfg(test)]
    crate::testing::count_a_key();
    line["key"].as_str().unwrap_or_default()
}

/// Looks at each line once, whatever the order of either side.
pub(super) fn compare(invoiced: &[Value], computed: Vec<Value>) -> Verification {
    let count = computed.len();
    let mut places: HashMap<String, VecDeque<usize>> = HashMap::new();
    for (place, line) in computed.iter().enumerate() {
        places.entry(key_of(line).to_owned()).or_default().push_back(place);
    }
    let mut computed: Vec<Option<Value>> = computed.into_iter().map(Some).collect();
    let mut differences = Vec::new();
    for line in invoiced {
        let key = key_of(line);
        let place = places.get_mut(key).and_then(VecDeque::pop_front);
        let other = place.and_then(|place| computed[place].take());
        if other.as_ref() != Some(line) {
            let (key, invoiced) = (key.to_owned(), Some(line.clone()));
            differences.push(Difference { key, invoiced, computed: other });
        }
    }
    differences.extend(computed.into_iter().flatten().map(|line| Difference {
        key: key_of(&line).to_owned(),
        invoiced: None,
        computed: Some(line),
    }));
    Verification { lines: count, differences, from_log: None }
}
