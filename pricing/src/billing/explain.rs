//! Explain and verify: a document is derived again from the stored totals below its run's cut, under
//! the contracts and catalogues of then, and compared.
//!
//! Invariant I9: an invoice re-derives to the same bytes for ever. What it leaves out, because it is
//! as large as the usage (hours, and the stretches of the log behind them), comes back here.

use domain::{BillingStore, PulseLog, Tenant, UsageStore};
use serde_json::{Value, json};

use super::{
    Billing, BillingError, Refusal,
    evidence::{Evidence, FromLog, PulsesWanted},
    ledger::{Document, Kind, Ledger, State, number_text, parse_number},
};
use crate::{
    Amount,
    invoice::{self, Invoice, Subject, document},
    rate::Sources,
    render,
};

/// A document of the ledger with its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub tenant: Tenant,
    /// The document.
    pub document: Document,
}

/// A line that does not come out as it was invoiced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line's key.
    pub key: String,
    /// As it stands in the document.
    pub invoiced: Option<Value>,
    /// As it comes out now.
    pub computed: Option<Value>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Lines that were computed again.
    pub lines: usize,
    /// Those that differ, in the order of the document; then those that it does not have.
    pub differences: Vec<Difference>,
    /// How much of the log it was made from; `None` where it was made from the stored totals.
    pub from_log: Option<FromLog>,
}

/// A document that was derived again.
struct Derived {
    document: Value,
    /// What it is made of; `None` for those that are made of other documents.
    invoice: Option<Invoice>,
    from_log: Option<FromLog>,
}

/// Where a verification takes the usage from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The stored totals.
    Store,
    /// The log, folded again.
    Log,
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// The document with an invoice number (`INV-000042`, or the digits).
    ///
    /// # Errors
    /// When there is none; when the store fails.
    pub async fn find_invoice(&self, number: &str) -> Result<Found, BillingError> {
        let missing = || {
            let message = format!("there is no invoice {number:?}");
            BillingError::refused(Refusal::InvoiceNotFound, message)
        };
        let parsed = parse_number(number).ok_or_else(missing)?;
        let item = self.shared.numbers.item(&*self.billing, parsed).await?.ok_or_else(missing)?;
        self.found(&item.body, parsed).await?.ok_or_else(missing)
    }

    /// The document that a number was drawn for. `None` while it is not final.
    async fn found(&self, item: &Value, number: u64) -> Result<Option<Found>, BillingError> {
        let tenant = item["tenant"].as_str().and_then(|tenant| Tenant::new(tenant).ok());
        let (Some(tenant), Some(place)) = (tenant, item["place"].as_u64()) else {
            return Err(BillingError::Journal {
                journal: super::NUMBERS.to_owned(),
                place: number,
                message: "names no document".to_owned(),
            });
        };
        let ledger = Ledger::read(&*self.billing, &tenant).await?;
        let document = ledger.document(place).filter(|found| found.number.is_some()).cloned();
        Ok(document.map(|document| Found { tenant, document }))
    }

    /// Final documents in the order of their numbers, from a number on, at most `limit` numbers.
    /// Gives the number to go on with, where there may be more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn invoices(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<Found>, Option<u64>), BillingError> {
        let items = self.shared.numbers.items(&*self.billing, from.max(1), limit).await?;
        let next = items.last().map(|(number, _)| number + 1).filter(|_| items.len() == limit);
        let mut invoices = Vec::with_capacity(items.len());
        for (number, item) in items {
            invoices.extend(self.found(&item.body, number).await?);
        }
        Ok((invoices, next))
    }

    /// All documents of a tenant, drafts too, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn documents_of(&self, tenant: &Tenant) -> Result<Vec<Found>, BillingError> {
        let ledger = Ledger::read(&*self.billing, tenant).await?;
        let found =
            |document: &Document| Found { tenant: tenant.clone(), document: document.clone() };
        Ok(ledger.documents().iter().map(found).collect())
    }

    /// A document as it comes out now: of other documents, or of the usage below the cut of the run that
    /// made it.
    async fn derive(
        &self,
        found: &Found,
        origin: Origin,
        sources: Sources,
    ) -> Result<Derived, BillingError> {
        let ledger = Ledger::read(&*self.billing, &found.tenant).await?;
        let corrects = found.document.draft.corrects.iter().map(|place| {
            let named = ledger.document(*place).cloned();
            named.ok_or_else(|| unreadable(found, "names no document"))
        });
        let corrects = corrects.collect::<Result<Vec<Document>, BillingError>>()?;
        let newest = || corrects.last().ok_or_else(|| unreadable(found, "corrects nothing"));
        let none = json!({"lines": []});
        match found.document.draft.kind {
            Kind::CreditNote => {
                let of = Found { tenant: found.tenant.clone(), document: newest()?.clone() };
                let note = self.derive_note(&of, &self.content(&found.document).await?).await?;
                Ok(Derived { document: note, invoice: None, from_log: None })
            }
            Kind::Reversal => {
                let billed = self.billed(&corrects).await?;
                let document = document::reversal(&self.content(newest()?).await?, &billed);
                Ok(Derived { document: document.unwrap_or(none), invoice: None, from_log: None })
            }
            Kind::Invoice | Kind::Delta => {
                let (invoice, from_log) = self.rate_again(found, origin, sources).await?;
                let document = if corrects.is_empty() {
                    document::invoice(&invoice)
                } else {
                    document::delta(&invoice, &self.billed(&corrects).await?).unwrap_or(none)
                };
                Ok(Derived { document, invoice: Some(invoice), from_log })
            }
        }
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
        let run = self.run(document.draft.run).await?;
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
        Ok((self.rate_usage(usage, &account, period, sources).await?, from_log))
    }

    /// Computes a document again and compares every line.
    ///
    /// # Errors
    /// When there is no such invoice, or the store fails. Differences are no error.
    pub async fn verify(&self, number: &str, origin: Origin) -> Result<Verification, BillingError> {
        let found = self.find_invoice(number).await?;
        let invoiced = self.content(&found.document).await?;
        let derived = self.derive(&found, origin, Sources::LeftOut).await?;
        let from_log = derived.from_log;
        Ok(Verification { from_log, ..compare(&invoiced, &derived.document) })
    }

    /// Says why a document's lines come to what they do. `line` is a place from 1, or 0 for all;
    /// `pulses` goes on to the pulses behind the hours.
    ///
    /// # Errors
    /// When there is no such invoice, line or hour; when a line does not come out as it was invoiced,
    /// or its hours do not add up to it, or the pulses in the log to them.
    pub async fn explain(
        &self,
        number: &str,
        line: usize,
        pulses: Option<PulsesWanted>,
    ) -> Result<Value, BillingError> {
        let found = self.find_invoice(number).await?;
        let content = self.content(&found.document).await?;
        let lines = content["lines"].as_array().cloned().unwrap_or_default();
        if line > lines.len() {
            let message = format!("invoice {number} has {} lines", lines.len());
            return Err(BillingError::refused(Refusal::InvoiceNotFound, message));
        }
        let Derived { document, invoice, .. } =
            self.derive(&found, Origin::Store, Sources::Listed).await?;
        let verified = compare(&content, &document);
        if let Some(difference) = verified.differences.first() {
            return Err(unreadable(
                &found,
                &format!(
                    "line {:?} no longer comes out as it was invoiced: `pulso bill verify {number}` shows how",
                    difference.key
                ),
            ));
        }
        let chosen = lines.iter().enumerate().filter(|(place, _)| line == 0 || place + 1 == line);
        let chosen: Vec<(usize, &Value)> = chosen.map(|(place, line)| (place + 1, line)).collect();
        let evidence = match pulses {
            Some(wanted) => {
                Some(self.evidence_of(&found, invoice.as_ref(), &chosen, wanted).await?)
            }
            None => None,
        };
        let mut explained = Vec::new();
        for (place, value) in chosen {
            let of = (&found, invoice.as_ref());
            explained.push(explain_line(of, (place, value), evidence.as_ref())?);
        }
        Ok(json!({
            "number": number_text(found.document.number.unwrap_or_default()),
            "tenant": found.tenant.as_str(),
            "currency": found.document.draft.currency,
            "run": found.document.draft.run,
            "lines": explained,
        }))
    }

    async fn evidence_of(
        &self,
        found: &Found,
        invoice: Option<&Invoice>,
        chosen: &[(usize, &Value)],
        wanted: PulsesWanted,
    ) -> Result<Evidence, BillingError> {
        let lines = chosen.iter().filter_map(|(_, line)| own_line(invoice?, line));
        let usage: Vec<&invoice::Usage> = lines.filter_map(usage_of).collect();
        let mut hours = usage.iter().flat_map(|usage| &usage.hours);
        if let Some(hour) = wanted.hour
            && !hours.any(|found| found.window_start == hour)
        {
            let number = found.document.number.map_or_else(String::new, number_text);
            let message = format!("no usage of the hour {hour} is in these lines of {number}");
            return Err(BillingError::refused(Refusal::InvoiceNotFound, message));
        }
        self.evidence(&found.tenant, found.document.window(), &usage, wanted).await
    }

    /// Takes a final document back. Doing it again changes nothing.
    ///
    /// # Errors
    /// When there is none, when another document that stands corrects it, or bills days that it gave
    /// back; when the store fails.
    pub async fn void(&self, number: &str, reason: &str) -> Result<Found, BillingError> {
        loop {
            let found = self.find_invoice(number).await?;
            let (tenant, place) = (&found.tenant, found.document.place);
            let mut ledger = Ledger::read(&*self.billing, tenant).await?;
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
                && gives_back(&self.content(&found.document).await?)
            {
                let by = named(&other);
                let message = format!("{by} bills days that {number} gave back: void that first");
                return Err(BillingError::refused(Refusal::InvoiceState, message));
            }
            if found.document.state != State::Void {
                let (reason, at) = (reason.to_owned(), self.now());
                let entry = super::ledger::Entry::Voided { document: place, reason, at };
                ledger.append(&*self.billing, entry).await?;
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

fn unreadable(found: &Found, message: &str) -> BillingError {
    let what = format!("invoice {}", named(&found.document));
    BillingError::Unreadable { what, message: message.to_owned() }
}

fn named(document: &Document) -> String {
    document.number.map_or_else(|| "a draft".to_owned(), number_text)
}

fn compare(invoiced: &Value, computed: &Value) -> Verification {
    let lines = |document: &Value| document["lines"].as_array().cloned().unwrap_or_default();
    let (invoiced, mut computed) = (lines(invoiced), lines(computed));
    let count = computed.len();
    let mut differences = Vec::new();
    for line in invoiced {
        let place = computed.iter().position(|other| other["key"] == line["key"]);
        let other = place.map(|place| computed.remove(place));
        if other.as_ref() != Some(&line) {
            let key = line["key"].as_str().unwrap_or_default().to_owned();
            differences.push(Difference { key, invoiced: Some(line), computed: other });
        }
    }
    differences.extend(computed.into_iter().map(|line| Difference {
        key: line["key"].as_str().unwrap_or_default().to_owned(),
        invoiced: None,
        computed: Some(line),
    }));
    Verification { lines: count, differences, from_log: None }
}

/// A line with the hours behind it. Their sum is what the meter counted, by assertion.
fn explain_line(
    (found, invoice): (&Found, Option<&Invoice>),
    (place, line): (usize, &Value),
    evidence: Option<&Evidence>,
) -> Result<Value, BillingError> {
    let mut value = line.clone();
    value["line"] = place.into();
    let own = invoice.and_then(|invoice| Some((invoice, own_line(invoice, line)?)));
    let Some((invoice, own)) = own else { return Ok(value) };
    let digits = invoice.terms.rounding.digits();
    let billed =
        render::steps_total(line).ok_or_else(|| unreadable(found, "a step without an amount"))?;
    if line["amount"] != billed.text(digits).as_str() {
        return Err(unreadable(found, &format!("the steps of line {place} do not add up to it")));
    }
    if let Some(usage) = usage_of(own) {
        let mut hours = Vec::with_capacity(usage.hours.len());
        for hour in &usage.hours {
            let mut rendered = render::hour(hour);
            if let Some(evidence) = evidence {
                let added = evidence.add_to(&found.tenant, usage, hour, &mut rendered);
                added.map_err(|message| {
                    let at = hour.window_start;
                    unreadable(found, &format!("line {place}, hour {at}: {message}"))
                })?;
            }
            hours.push(rendered);
        }
        let added = usage.hours.iter().map(|hour| hour.sum);
        let added = added.into_iter().try_fold(Amount::ZERO, Amount::checked_add);
        let metered_sum = usage_sum(own);
        if metered_sum.is_some() && metered_sum != added {
            return Err(unreadable(
                found,
                &format!("the hours of line {place} do not add up to it"),
            ));
        }
        value["hours"] = hours.into();
    }
    Ok(value)
}

/// The line of the invoice behind a line of the document.
fn own_line<'i>(invoice: &'i Invoice, line: &Value) -> Option<&'i invoice::Line> {
    invoice.lines.iter().find(|own| line["key"] == own.key().as_str())
}

fn usage_of(line: &invoice::Line) -> Option<&invoice::Usage> {
    match &line.subject {
        Subject::Usage(usage) => Some(usage),
        _ => None,
    }
}

/// What the hours of a line add up to, where its meter is a sum.
fn usage_sum(line: &invoice::Line) -> Option<Amount> {
    line.steps.iter().find_map(|step| match step {
        crate::rate::Step::Metered { meter: domain::catalogue::Meter::Sum, quantity } => {
            Some(Amount::of(*quantity))
        }
        _ => None,
    })
}
