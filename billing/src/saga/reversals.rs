//! Reversals: all that documents bill for a period that no longer exists is given back. A contract about
//! the past ends a period where it begins it elsewhere, or bills it in another currency.

use domain::{BillingStore, BlockStore};
use pricing::{document::InvoiceDocument, invoice::document};

use super::{Saga, overlaps::period_of};
use crate::{
    BillingError,
    account::Account,
    books::{
        document::{Document, Draft, Kind},
        ledger::{Group, Ledger},
        runs::Run,
    },
};

impl<U: BlockStore, B: BillingStore> Saga<U, B> {
    /// Gives back what documents of the run's month bill for periods that no longer exist, and gives the
    /// run's reversals that are not void.
    pub(super) async fn reverse(
        &self,
        run: &Run,
        account: &Account,
    ) -> Result<Vec<Document>, BillingError> {
        'again: loop {
            let mut ledger = self.books.documents.ledger(&account.tenant).await?;
            for group in ledger.groups() {
                if period_of(account, &group)?.is_some() {
                    continue;
                }
                if let Some(open) = group.open() {
                    self.issuer.finish(run, &mut ledger, account, open).await?;
                    continue 'again;
                }
                if let Some(content) = self.reversal(run, &ledger, &group).await? {
                    let (what, window) = ((Kind::Reversal, &content), group.newest().window());
                    self.issuer.draft(run, &mut ledger, what, window, &group).await?;
                    continue 'again;
                }
            }
            let is_ours = |draft: &Draft| draft.run == run.number && draft.kind == Kind::Reversal;
            let stand = ledger.documents().iter().filter(|found| found.stands());
            return Ok(stand.filter(|found| is_ours(&found.draft)).cloned().collect());
        }
    }

    /// The reversal of documents, where something is left to give back and the run is to do it.
    async fn reversal(
        &self,
        run: &Run,
        ledger: &Ledger,
        group: &Group,
    ) -> Result<Option<InvoiceDocument>, BillingError> {
        let (documents, newest) = (group.documents(), group.newest());
        let first = self.books.runs.get(documents[0].draft.run).await?;
        if first.request.month != run.request.month
            || self.has_passed(run, ledger, newest.draft.start).await?
            || self.books.runs.has_ended(run.number).await?
        {
            return Ok(None);
        }
        let billed = self.books.documents.billed(&group.counted()).await?;
        Ok(document::reversal(&self.books.documents.content(newest).await?, &billed))
    }
}
