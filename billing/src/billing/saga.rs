//! Saga: one tenant's period becomes one document, step by step, each journalled before the next:
//! rate, draft, finalise, publish.
//!
//! The loop looks at the ledger, does the one step that comes next, and looks again. It keeps nothing
//! of its own, so whoever comes, comes back, or comes at the same time goes on where the ledger is.

use std::sync::Arc;

use domain::{
    BillingStore, PulseLog, Quantity, RowKey, Tenant, UsageRow, UsageStore, Window,
    catalogue::Catalogue,
    contract::{CatalogueChoice, Contract, Credit},
    store::UsageFilter,
};
use edge::Compute;
use runtime::fault;
use serde_json::{Value, json};

use super::{
    cut::Below,
    periods::{self, Billable},
};
use crate::{
    BillingError, Refusal,
    billing::Billing,
    books::{
        document::{Document, Draft, Kind, Payment, State, number_text},
        documents::Found,
        ledger::{Entry, Ledger},
        register::Item,
        runs::{Outcome, Outcomes, Run},
    },
    error::compute,
};
use pricing::{
    Amount,
    invoice::{self, Invoice, credits, document},
    rate::Sources,
    timeline::Month,
};

/// What a tenant is billed under, read once for all of its periods.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) tenant: Tenant,
    /// In the order of application, behind the standard terms.
    pub(super) contracts: Arc<Vec<Contract>>,
    /// The catalogue of each contract.
    pub(super) catalogues: Arc<Vec<Arc<Catalogue>>>,
}

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// Bills every period of a tenant that is due, and gives what came of them.
    pub(super) async fn bill_tenant(
        &self,
        run: &Run,
        below: &Below,
        tenant: &Tenant,
    ) -> Result<Outcomes, BillingError> {
        let account = self.account(run, tenant).await?;
        let month = run.request.month;
        let uncovered = self.uncovered(below, &account, month).await?;
        let due = run.cut.as_ref().map_or(domain::Timestamp::MIN, |cut| cut.taken_at);
        let mut outcomes = Outcomes { uncovered, ..Outcomes::default() };
        let periods = periods::billable(&account.contracts, month)?;
        if run.request.deltas {
            // Nothing is given back while what takes its place cannot be billed.
            periods.iter().try_for_each(|period| self.check_hours(period.window))?;
            outcomes.deltas += self.reverse(run, &account).await?;
        }
        for period in periods {
            if period.window.end.plus(self.config.grace) > due {
                outcomes.count(Outcome::NotDue);
            } else {
                let (outcome, unpriced) = self.bill_period(run, below, &account, period).await?;
                outcomes.count(outcome);
                outcomes.unpriced += unpriced;
            }
        }
        Ok(outcomes)
    }

    /// What a tenant is billed under as of a run's cut.
    pub(super) async fn account(
        &self,
        run: &Run,
        tenant: &Tenant,
    ) -> Result<Account, BillingError> {
        let cut = run.cut.as_ref();
        let latest = match cut.and_then(|cut| cut.catalogue.as_deref()) {
            Some(version) => Some(self.books.catalogues.get(version).await?),
            None => None,
        };
        self.account_of(tenant, cut.map_or(0, |cut| cut.contracts), latest).await
    }

    /// What a tenant is billed under by the first `count` contracts that were applied, with this
    /// catalogue where they want the latest.
    pub(super) async fn account_of(
        &self,
        tenant: &Tenant,
        count: u64,
        latest: Option<Arc<Catalogue>>,
    ) -> Result<Account, BillingError> {
        let latest = || latest.clone().ok_or(BillingError::NoCatalogue);
        let mut contracts = vec![invoice::standard_contract(tenant, &*latest()?)];
        let applied = self.books.contracts.of_tenant(tenant, count).await?;
        contracts.extend(applied.iter().map(|applied| applied.contract.clone()));
        let mut catalogues = Vec::with_capacity(contracts.len());
        for contract in &contracts {
            catalogues.push(match &contract.catalogue {
                CatalogueChoice::Version(version) => {
                    self.books.catalogues.get(version.as_str()).await?
                }
                CatalogueChoice::Latest => latest()?,
            });
        }
        let (contracts, catalogues) = (Arc::new(contracts), Arc::new(catalogues));
        Ok(Account { tenant: tenant.clone(), contracts, catalogues })
    }

    /// One period, to its end.
    async fn bill_period(
        &self,
        run: &Run,
        below: &Below,
        account: &Account,
        period: Billable,
    ) -> Result<(Outcome, u64), BillingError> {
        // Rated once, however often the ledger is looked at.
        let mut rated: Option<Arc<Invoice>> = None;
        let mut made: Option<(Outcome, u64)> = None;
        loop {
            let mut ledger = self.books.documents.ledger(&account.tenant).await?;
            let start = period.window.start;
            let billing: Vec<Document> =
                ledger.billing(start, period.currency.code()).cloned().collect();
            if let Some(open) = billing.iter().find(|found| found.state != State::Published) {
                self.finish(run, &mut ledger, account, open).await?;
                if open.draft.run == run.number {
                    let unpriced = rated.as_ref().map_or(0, |rated| rated.unpriced.len() as u64);
                    made = Some((outcome_of(open), unpriced));
                }
                continue;
            }
            if let Some(made) = made {
                return Ok(made);
            }
            if let Some(ours) = billing.iter().find(|found| found.draft.run == run.number) {
                return Ok((outcome_of(ours), 0));
            }
            // What was given back in full is to be billed as if it never was.
            let invoiced = billing.last().filter(|newest| newest.draft.kind != Kind::Reversal);
            let only_longer = invoiced.filter(|_| !run.request.deltas);
            let is_all = only_longer.is_some_and(|newest| newest.draft.end >= period.window.end);
            if is_all || self.has_passed(run, &ledger, start).await? {
                return Ok((Outcome::Unchanged, 0));
            }
            let now = match &rated {
                Some(rated) => Arc::clone(rated),
                None => {
                    let (pool, sources) = (&self.background, Sources::LeftOut);
                    let made = self.rate_window(pool, below, account, period, sources).await?;
                    Arc::clone(rated.insert(Arc::new(made)))
                }
            };
            let unpriced = now.unpriced.len() as u64;
            let Some((kind, content)) = self.document(&now, &billing).await? else {
                let is_new = billing.is_empty();
                let outcome = if is_new { Outcome::Empty } else { Outcome::Unchanged };
                return Ok((outcome, unpriced));
            };
            let why = match only_longer {
                Some(newest) => Some(periods::longer(account, newest, period)),
                None => self.blocked((below, account), &ledger, period).await?,
            };
            if let Some(why) = why {
                self.progress.blocked(run.number, &account.tenant, why);
                return Ok((Outcome::Blocked, unpriced));
            }
            if self.books.runs.is_cancelled(run.number).await? {
                return Ok((Outcome::Unchanged, unpriced));
            }
            let window = period.window;
            self.draft(run, &mut ledger, (kind, &content), window, &billing).await?;
        }
    }

    /// The next step of a document that is not out yet, whichever run made it.
    pub(super) async fn finish(
        &self,
        run: &Run,
        ledger: &mut Ledger,
        account: &Account,
        open: &Document,
    ) -> Result<(), BillingError> {
        if open.draft.run != run.number && self.books.runs.is_cancelled(open.draft.run).await? {
            let cancelled = self.books.runs.get(open.draft.run).await?;
            return self.settle_drafts(&cancelled, &account.tenant).await;
        }
        self.advance(ledger, account, open).await
    }

    /// Reads a period's usage below the cut and bills it.
    pub(super) async fn rate_window(
        &self,
        pool: &Compute,
        below: &Below,
        account: &Account,
        period: Billable,
        sources: Sources,
    ) -> Result<Invoice, BillingError> {
        let usage = self.usage_below(below, &account.tenant, period.window).await?;
        let period = (period.month, period.window);
        self.rate_usage(pool, usage, account, period, sources).await
    }

    /// Bills a period by its usage.
    pub(super) async fn rate_usage(
        &self,
        pool: &Compute,
        usage: Vec<UsageRow>,
        account: &Account,
        (month, window): (Month, Window),
        sources: Sources,
    ) -> Result<Invoice, BillingError> {
        self.check_hours(window)?;
        let account = account.clone();
        let rating = move || {
            let periods = periods::of_month(&account.contracts, month)?;
            let period = periods.into_iter().find(|period| period.window == window);
            let period = period.expect("the same contracts and month give the same periods");
            let catalogue_of = |contract: &Contract| {
                let found =
                    account.contracts.iter().position(|other| std::ptr::eq(other, contract));
                &*account.catalogues[found.expect("stretches are of these contracts")]
            };
            let catalogues: Vec<&Catalogue> =
                period.parts.iter().map(|part| catalogue_of(part.contract)).collect();
            let tenant = &account.tenant;
            Ok(invoice::invoice(tenant, &period, &catalogues, &usage, sources)?)
        };
        compute(pool, rating).await?
    }

    /// A tenant's rows of a period, below the cut.
    pub(super) async fn usage_below(
        &self,
        below: &Below,
        tenant: &Tenant,
        window: Window,
    ) -> Result<Vec<UsageRow>, BillingError> {
        self.usage_at_most(usize::MAX, below, tenant, window).await
    }

    /// The same, refused where there are more rows than this.
    pub(super) async fn usage_at_most(
        &self,
        rows_max: usize,
        below: &Below,
        tenant: &Tenant,
        window: Window,
    ) -> Result<Vec<UsageRow>, BillingError> {
        let filter = UsageFilter {
            tenant: Some(tenant.clone()),
            product_sku: None,
            use_unity: None,
            from: window.start,
            to: window.end,
        };
        let page_rows = self.config.page_rows.max(1);
        let (mut rows, mut after): (Vec<UsageRow>, Option<RowKey>) = (Vec::new(), None);
        loop {
            let page = self.usage.usage(below.view(), &filter, after.as_ref(), page_rows).await?;
            let is_last = page.len() < page_rows;
            after = page.last().map(|row| row.key.clone());
            rows.extend(page.into_iter().filter(|row| below.holds(&row.key.segment)));
            if rows.len() > rows_max {
                let message = format!(
                    "a period has more than {rows_max} usage rows: too many for a preview; a billing \
                     run has no such bound"
                );
                return Err(BillingError::refused(Refusal::TooLarge, message));
            }
            if is_last {
                return Ok(rows);
            }
        }
    }

    /// The document that an invoice needs beside those that bill its period; `None` where it needs
    /// none.
    pub(super) async fn document(
        &self,
        now: &Invoice,
        billing: &[Document],
    ) -> Result<Option<(Kind, Value)>, BillingError> {
        if billing.is_empty() {
            let document = (!now.lines.is_empty()).then(|| document::invoice(now));
            return Ok(document.map(|document| (Kind::Invoice, document)));
        }
        let billed = self.books.documents.billed(billing).await?;
        Ok(document::delta(now, &billed).map(|document| (Kind::Delta, document)))
    }

    /// Makes a document of the run, which corrects these.
    pub(super) async fn draft(
        &self,
        run: &Run,
        ledger: &mut Ledger,
        (kind, document): (Kind, &Value),
        window: Window,
        corrects: &[Document],
    ) -> Result<(), BillingError> {
        let content = self.books.documents.put(document).await?;
        let total = document["total"].as_str().and_then(|total| total.parse().ok());
        let draft = Draft {
            run: run.number,
            kind,
            start: window.start,
            end: window.end,
            currency: document["currency"].as_str().unwrap_or_default().to_owned(),
            total: total.expect("a document prints its total as an amount"),
            content,
            corrects: corrects.iter().map(|before| before.place).collect(),
        };
        fault::point("billing.before_draft");
        self.books.documents.append(ledger, Entry::Drafted(draft)).await?;
        fault::point("billing.after_draft");
        Ok(())
    }

    /// The next step of a document that is not out yet.
    pub(super) async fn advance(
        &self,
        ledger: &mut Ledger,
        account: &Account,
        document: &Document,
    ) -> Result<(), BillingError> {
        if document.state == State::Draft {
            let entry = self.finalise(ledger, account, document).await?;
            fault::point("billing.before_finalise");
            self.books.documents.append(ledger, entry).await?;
            fault::point("billing.after_finalise");
        } else {
            let entry = self.publish(&account.tenant, document).await?;
            fault::point("billing.before_published");
            self.books.documents.append(ledger, entry).await?;
        }
        Ok(())
    }

    /// Draws the number and reckons what credits pay, as of this ledger.
    async fn finalise(
        &self,
        ledger: &Ledger,
        account: &Account,
        document: &Document,
    ) -> Result<Entry, BillingError> {
        fault::point("billing.before_number");
        let number = self.books.documents.draw_number(&account.tenant, document.place).await?;
        fault::point("billing.after_number");
        let payments = payments(ledger, account, document);
        Ok(Entry::Finalised {
            document: document.place,
            number,
            issued_at: self.clock.now(),
            payments,
        })
    }

    /// Puts the message into the outbox.
    pub(super) async fn publish(
        &self,
        tenant: &Tenant,
        document: &Document,
    ) -> Result<Entry, BillingError> {
        let content = self.books.documents.content(document).await?;
        let number = document.number.expect("a final document has a number");
        let item = Item {
            key: format!("final/{number}"),
            body: message("final", tenant, document, content),
        };
        fault::point("billing.before_outbox");
        let message = self.books.outbox.draw(item).await?;
        fault::point("billing.after_outbox");
        Ok(Entry::Published { document: document.place, message })
    }

    /// Puts the message that a document is void into the outbox, once.
    pub(super) async fn publish_void(&self, found: &Found) -> Result<(), BillingError> {
        let content = self.books.documents.content(&found.document).await?;
        let body = message("void", &found.tenant, &found.document, content);
        let item = Item { key: void_key(&found.document), body };
        self.books.outbox.draw(item).await.map(drop)
    }

    /// Tells whether that message is in the outbox.
    pub(super) async fn void_is_out(&self, found: &Found) -> Result<bool, BillingError> {
        let key = void_key(&found.document);
        Ok(self.books.outbox.find(&key).await?.is_some())
    }

    /// Discards the drafts of a cancelled run, but for those whose number was drawn: numbers have no
    /// gaps, so these become final.
    pub(super) async fn settle_drafts(
        &self,
        run: &Run,
        tenant: &Tenant,
    ) -> Result<(), BillingError> {
        loop {
            let mut ledger = self.books.documents.ledger(tenant).await?;
            let open = ledger.documents().iter().find(|found| {
                found.draft.run == run.number && matches!(found.state, State::Draft | State::Final)
            });
            let Some(open) = open.cloned() else { return Ok(()) };
            let has_number = open.state == State::Final
                || self.books.documents.has_number(tenant, open.place).await?;
            if has_number {
                let account = self.account(run, tenant).await?;
                self.advance(&mut ledger, &account, &open).await?;
            } else {
                self.books
                    .documents
                    .append(&mut ledger, Entry::Discarded { document: open.place })
                    .await?;
            }
        }
    }
}

fn void_key(document: &Document) -> String {
    format!("void/{}", document.number.unwrap_or_default())
}

const fn outcome_of(document: &Document) -> Outcome {
    match document.draft.kind {
        Kind::Invoice => Outcome::Invoice,
        Kind::Delta | Kind::CreditNote | Kind::Reversal => Outcome::Delta,
    }
}

/// What credits pay of a document, as of this ledger.
fn payments(ledger: &Ledger, account: &Account, document: &Document) -> Vec<Payment> {
    let Draft { currency, total, .. } = &document.draft;
    // Sums out of range are those of another program: then nothing is left.
    let used = |credit: &str| ledger.used(credit).unwrap_or_else(|| Amount::of(Quantity::MAX));
    let period = (currency.as_str(), document.window());
    let payments = credits::payments(account.contracts.iter(), period, *total, used).into_iter();
    let payment = |(credit, amount): (&Credit, Amount)| Payment {
        credit: credit.name.as_str().to_owned(),
        amount,
    };
    payments.map(payment).collect()
}

/// A message of the outbox: what happened to which document, and the document.
fn message(event: &str, tenant: &Tenant, document: &Document, content: Value) -> Value {
    json!({
        "event": event,
        "number": document.number.map(number_text),
        "tenant": tenant.as_str(),
        "issued_at": document.issued_at.map(|at| at.to_string()),
        "due": document.due().map(|due| document.draft.text(due)),
        "document": content,
    })
}
