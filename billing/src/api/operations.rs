//! What billing answers, whichever door it is asked at: gRPC in `billing.rs`, HTTP in
//! [`crate::http`].

use std::{collections::HashSet, sync::Arc};

use domain::{BillingStore, PulseLog, Tenant, UsageStore};
use edge::{Problem, problem::reasons};
use proto::v1;
use serde_json::Value;

use super::{BillingApi, messages, parse, problems};
use crate::{
    BillingError, answers,
    billing::{credit_notes::CreditRequest, explain::Origin},
    books::{
        contracts::Apply,
        runs::{Run, RunRequest},
    },
};
use pricing::{Amount, invoice::document::Credited, simulate, timeline::Month};

/// Items on a page, and most of them.
const PAGE_SIZE: (i32, i32) = (50, 1_000);
const REQUEST_ID_BYTES_MAX: usize = 128;
const CONSUMER_BYTES_MAX: usize = 128;
const REASON_BYTES_MAX: usize = 4_096;

pub(super) fn month(text: &str) -> Result<Month, Problem> {
    text.parse().map_err(|error| {
        let message = format!("{text:?} is {error}");
        Problem::invalid("period", reasons::PERIOD_INVALID, message)
    })
}

/// The first number of a page and how many it has.
fn page(size: i32, token: &str) -> Result<(u64, usize), Problem> {
    let size = match size {
        0 => PAGE_SIZE.0,
        size if (1..=PAGE_SIZE.1).contains(&size) => size,
        size => {
            let message = format!("{size} is not 1 to {}", PAGE_SIZE.1);
            return Err(Problem::invalid("page_size", reasons::PAGE_SIZE_INVALID, message));
        }
    };
    let from = match token {
        "" => 1,
        token => token.parse().map_err(|_| {
            let message = format!("{token:?} is not a token of this list");
            Problem::invalid("page_token", reasons::PAGE_TOKEN_INVALID, message)
        })?,
    };
    Ok((from, usize::try_from(size).expect("is above zero")))
}

/// A text that somebody gives for people to read.
fn said(field: &str, text: &str, bytes_max: usize) -> Result<(), Problem> {
    let message = match text.trim() {
        "" => "is empty: it is kept for whoever looks into it".to_owned(),
        _ if text.len() > bytes_max => format!("longer than {bytes_max} bytes"),
        _ => return Ok(()),
    };
    Err(Problem::invalid(field, reasons::PARAMETER_INVALID, message))
}

fn check_request_id(text: &str) -> Result<(), Problem> {
    if text.len() > REQUEST_ID_BYTES_MAX {
        let message = format!("longer than {REQUEST_ID_BYTES_MAX} bytes");
        return Err(Problem::invalid("request_id", reasons::ID_TOO_LONG, message));
    }
    Ok(())
}

/// What is to be given back: amounts above zero, of each line once.
fn credited(lines: &[v1::CreditLine]) -> Result<Vec<Credited>, Problem> {
    let wrong = |field: String, message: &str| {
        Problem::invalid(&field, reasons::PARAMETER_INVALID, message.to_owned())
    };
    if lines.is_empty() {
        return Err(wrong("lines".to_owned(), "is empty: say how much is given back"));
    }
    let mut credited: Vec<Credited> = Vec::with_capacity(lines.len());
    let mut places = HashSet::new();
    for (index, line) in lines.iter().enumerate() {
        let field = format!("lines[{index}]");
        let place = usize::try_from(line.line).unwrap_or(usize::MAX).checked_sub(1);
        if !places.insert(place) {
            return Err(wrong(format!("{field}.line"), "stands twice"));
        }
        let amount = line.amount.parse::<Amount>().ok().filter(|amount| *amount > Amount::ZERO);
        let amount =
            amount.ok_or_else(|| wrong(format!("{field}.amount"), "is no amount above zero"))?;
        credited.push((place, amount));
    }
    Ok(credited)
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Checks a contract and applies it, or only checks.
    pub(crate) async fn apply(
        &self,
        request: v1::ApplyContractRequest,
    ) -> Result<v1::ApplyContractResponse, Problem> {
        let _call = self.inner.compute.admit()?;
        let mode = if request.validate_only { Apply::CheckOnly } else { Apply::Now };
        let applied = self.inner.books.contracts.apply(&request.text, mode).await;
        let (contract, already_applied) = applied.map_err(problems::of_billing)?;
        let contract = Some(messages::contract(&contract));
        Ok(v1::ApplyContractResponse { contract, already_applied })
    }

    /// The contracts of a tenant, or of all for an empty name.
    pub(crate) async fn contracts(
        &self,
        tenant: &str,
    ) -> Result<v1::ListContractsResponse, Problem> {
        let contracts = self.inner.books.contracts.all().await.map_err(problems::of_billing)?;
        let wanted = contracts
            .iter()
            .filter(|contract| tenant.is_empty() || contract.contract.tenant.as_str() == tenant);
        Ok(v1::ListContractsResponse { contracts: wanted.map(messages::contract).collect() })
    }

    pub(crate) async fn runs(&self) -> Result<v1::ListRunsResponse, Problem> {
        let books = &self.inner.books;
        let runs = books.runs.all().await.map_err(problems::of_billing)?;
        let runs =
            runs.iter().map(|run| messages::run(run, self.inner.billing.progress(run.number)));
        Ok(v1::ListRunsResponse { runs: runs.collect() })
    }

    pub(crate) async fn resume(&self, number: u64) -> Result<v1::Run, Problem> {
        let run = self.inner.books.runs.get(number).await.map_err(problems::of_billing)?;
        Ok(self.taken_up(&run))
    }

    pub(crate) async fn cancel(&self, number: u64) -> Result<v1::Run, Problem> {
        let run = self.inner.billing.cancel(number).await.map_err(problems::of_billing)?;
        Ok(messages::run(&run, self.inner.billing.progress(number)))
    }

    pub(crate) async fn verify(
        &self,
        request: &v1::VerifyInvoiceRequest,
    ) -> Result<v1::VerifyInvoiceResponse, Problem> {
        let _call = self.inner.compute.admit_period().await?;
        let origin = if request.from_log { Origin::Log } else { Origin::Store };
        let verified = self.inner.billing.verify(&request.number, origin).await;
        let verified = verified.map_err(problems::of_billing)?;
        let (segments_folded, segments_missing) =
            verified.from_log.map_or((0, 0), |log| (log.segments, log.missing));
        Ok(v1::VerifyInvoiceResponse {
            matches: verified.differences.is_empty(),
            lines: u32::try_from(verified.lines).unwrap_or(u32::MAX),
            differences: verified.differences.into_iter().map(messages::difference).collect(),
            segments_folded,
            segments_missing,
        })
    }

    pub(crate) async fn contract(&self, name: &str) -> Result<v1::Contract, Problem> {
        let contracts = self.inner.books.contracts.all().await.map_err(problems::of_billing)?;
        let found = contracts.iter().find(|found| found.contract.name.as_str() == name);
        let found = found.ok_or_else(|| {
            let message = format!("no contract was applied as {name:?}");
            Problem::not_found(reasons::CONTRACT_NOT_FOUND, message)
        })?;
        Ok(v1::Contract { text: found.text.clone(), ..messages::contract(found) })
    }

    pub(crate) async fn start(&self, request: v1::StartRunRequest) -> Result<v1::Run, Problem> {
        let month = month(&request.period)?;
        check_request_id(&request.request_id)?;
        let mut tenants = request.tenants;
        for (index, tenant) in tenants.iter().enumerate() {
            let field = format!("tenants[{index}]");
            Tenant::new(tenant).map_err(|error| problems::of_name(&field, error))?;
        }
        tenants.sort();
        tenants.dedup();
        let (deltas, request_id) = (request.deltas, request.request_id);
        let request = RunRequest { month, tenants, deltas, request_id };
        let run = self.inner.billing.open_run(request).await.map_err(problems::of_billing)?;
        Ok(self.taken_up(&run))
    }

    /// Goes on with a run, where it is open, and describes it.
    fn taken_up(&self, run: &Run) -> v1::Run {
        if run.ended.is_none() {
            self.work_on(run.number);
        }
        messages::run(run, self.inner.billing.progress(run.number))
    }

    pub(crate) async fn run(&self, number: u64) -> Result<v1::Run, Problem> {
        let run = self.inner.books.runs.get(number).await.map_err(problems::of_billing)?;
        Ok(messages::run(&run, self.inner.billing.progress(number)))
    }

    pub(crate) async fn invoices(
        &self,
        request: &v1::ListInvoicesRequest,
    ) -> Result<v1::ListInvoicesResponse, Problem> {
        let books = &self.inner.books;
        if !request.tenant.is_empty() {
            let tenant =
                Tenant::new(&request.tenant).map_err(|error| problems::of_name("tenant", error))?;
            let found = books.documents.of_tenant(&tenant).await.map_err(problems::of_billing)?;
            let invoices = found.iter().map(messages::invoice).collect();
            return Ok(v1::ListInvoicesResponse { invoices, next_page_token: String::new() });
        }
        let (from, size) = page(request.page_size, &request.page_token)?;
        let (found, next) = books.documents.page(from, size).await.map_err(problems::of_billing)?;
        Ok(v1::ListInvoicesResponse {
            invoices: found.iter().map(messages::invoice).collect(),
            next_page_token: next.map_or_else(String::new, |next| next.to_string()),
        })
    }

    pub(crate) async fn invoice(&self, number: &str) -> Result<v1::Invoice, Problem> {
        let books = &self.inner.books;
        let found = books.documents.find(number).await.map_err(problems::of_billing)?;
        let text = books.documents.text(&found.document).await.map_err(problems::of_billing)?;
        Ok(v1::Invoice { document_json: text, ..messages::invoice(&found) })
    }

    /// An invoice in a form that takes arithmetic to make, such as a page.
    pub(crate) async fn invoice_as<T: Send + 'static>(
        &self,
        number: &str,
        made: impl FnOnce(Value) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let _call = self.inner.compute.admit_period().await?;
        let invoice = self.invoice(number).await?;
        self.inner.compute.run(move || made(answers::invoice(&invoice))).await
    }

    pub(crate) async fn simulated(&self, request: v1::SimulateRequest) -> Result<String, Problem> {
        let month = month(&request.period)?;
        let (books, compute) = (&self.inner.books, &self.inner.compute);
        let _call = compute.admit_period().await?;
        let old = match request.old_version.as_str() {
            "" => {
                let latest = books.catalogues.latest().await.map_err(problems::of_billing)?;
                latest.ok_or(BillingError::NoCatalogue).map_err(problems::of_billing)?
            }
            version => version.to_owned(),
        };
        let old = books.catalogues.get(&old).await.map_err(problems::of_billing)?;
        let new = match (request.new_version.as_str(), request.new_text) {
            ("", text) => Arc::new(parse(compute, "catalogue", text).await?.catalogue),
            (version, _) => books.catalogues.get(version).await.map_err(problems::of_billing)?,
        };
        let changes =
            self.inner.billing.simulate(month, &old, &new).await.map_err(problems::of_billing)?;
        let period = request.period;
        let writing = move || {
            let catalogues = (old.version.as_str(), new.version.as_str());
            simulate::document(&period, catalogues, &changes).to_string()
        };
        compute.run(writing).await
    }

    pub(crate) async fn void(&self, number: &str, reason: &str) -> Result<v1::Invoice, Problem> {
        said("reason", reason, REASON_BYTES_MAX)?;
        let found = self.inner.billing.void(number, reason).await.map_err(problems::of_billing)?;
        Ok(messages::invoice(&found))
    }

    pub(crate) async fn credit(
        &self,
        request: v1::CreditInvoiceRequest,
    ) -> Result<v1::Invoice, Problem> {
        let v1::CreditInvoiceRequest { number, lines, reason, request_id, validate_only } = request;
        said("reason", &reason, REASON_BYTES_MAX)?;
        check_request_id(&request_id)?;
        let request = CreditRequest { credited: credited(&lines)?, reason, request_id };
        let books = &self.inner.books;
        if validate_only {
            let checked = self.inner.billing.check_credit_only(&number, &request).await;
            let (found, content) = checked.map_err(problems::of_billing)?;
            let document_json = content.to_string();
            return Ok(v1::Invoice { document_json, ..messages::invoice(&found) });
        }
        let found =
            self.inner.billing.credit(&number, &request).await.map_err(problems::of_billing)?;
        let content =
            books.documents.content(&found.document).await.map_err(problems::of_billing)?;
        Ok(v1::Invoice { document_json: content.to_string(), ..messages::invoice(&found) })
    }

    pub(crate) async fn reject(
        &self,
        request: v1::RejectMessageRequest,
    ) -> Result<v1::Rejection, Problem> {
        let v1::RejectMessageRequest { message, consumer, reason } = request;
        said("consumer", &consumer, CONSUMER_BYTES_MAX)?;
        said("reason", &reason, REASON_BYTES_MAX)?;
        let rejected = self.inner.books.rejections.reject(message, &consumer, &reason).await;
        rejected.map(messages::rejection).map_err(problems::of_billing)
    }

    pub(crate) async fn rejections(
        &self,
        request: &v1::ListRejectionsRequest,
    ) -> Result<v1::ListRejectionsResponse, Problem> {
        let (from, size) = page(request.page_size, &request.page_token)?;
        let found =
            self.inner.books.rejections.page(from, size).await.map_err(problems::of_billing)?;
        // A page that is not empty may be followed by another.
        let next = found.last().map_or_else(String::new, |last| (last.number + 1).to_string());
        let rejections = found.into_iter().map(messages::rejection).collect();
        Ok(v1::ListRejectionsResponse { rejections, next_page_token: next })
    }

    pub(crate) async fn replay(&self, number: u64) -> Result<v1::Rejection, Problem> {
        let replayed = self.inner.books.rejections.replay(number).await;
        replayed.map(messages::rejection).map_err(problems::of_billing)
    }
}
