//! Reversals: what documents bill for periods that there are no more is given back, all of it. A period
//! ends to be one where a contract about the past begins it elsewhere, or bills it in another currency.

use domain::{BillingStore, PulseLog, UsageStore};
use service::fault;

use super::{
    Billing, BillingError, journal,
    ledger::{Draft, Entry, Group, Kind, Ledger, State},
    run::Run,
    saga::Account,
};
use crate::invoice::document;

impl<U: UsageStore, B: BillingStore, L: PulseLog> Billing<U, B, L> {
    /// Gives back what documents of the run's month bill for periods that there are no more, and says
    /// how many reversals the run has made.
    pub(super) async fn reverse(&self, run: &Run, account: &Account) -> Result<u64, BillingError> {
        'again: loop {
            let mut ledger = Ledger::read(&*self.billing, &account.tenant).await?;
            for group in ledger.groups() {
                if Self::period_of(account, &group)?.is_some() {
                    continue;
                }
                if let Some(open) = group.0.iter().find(|found| found.state != State::Published) {
                    self.finish(run, &mut ledger, account, open).await?;
                    continue 'again;
                }
                if group.is_given_back() {
                    continue;
                }
                if let Some(draft) = self.reversal(run, &group).await? {
                    fault::point("billing.before_draft");
                    ledger.append(&*self.billing, Entry::Drafted(draft)).await?;
                    fault::point("billing.after_draft");
                    continue 'again;
                }
            }
            let is_ours = |draft: &Draft| draft.run == run.number && draft.kind == Kind::Reversal;
            let ours = ledger.documents().iter().filter(|found| is_ours(&found.draft));
            return Ok(ours.count() as u64);
        }
    }

    /// The reversal of documents, where something is left to give back and the run is to do it.
    async fn reversal(&self, run: &Run, group: &Group) -> Result<Option<Draft>, BillingError> {
        let first = self.run(group.0[0].draft.run).await?;
        if first.request.month != run.request.month
            || self.is_behind(run, &group.0).await?
            || self.is_cancelled(run.number).await?
        {
            return Ok(None);
        }
        let newest = group.newest();
        let billed = self.billed(&group.0).await?;
        let Some(content) = document::reversal(&self.content(newest).await?, &billed) else {
            return Ok(None);
        };
        let total = content["total"].as_str().and_then(|total| total.parse().ok());
        Ok(Some(Draft {
            run: run.number,
            kind: Kind::Reversal,
            total: total.expect("a document prints its total as an amount"),
            content: journal::put_content(&*self.billing, content.to_string().as_bytes()).await?,
            corrects: group.0.iter().map(|before| before.place).collect(),
            ..newest.draft.clone()
        }))
    }
}
