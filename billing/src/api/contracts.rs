//! Contracts and their amendments: applied once and for ever, listed, shown.

use std::{collections::HashMap, sync::Arc};

use domain::{BillingStore, BlockStore, PulseLog, Tenant, Timestamp, contract::Contract};
use edge::{Problem, access::Change, problem::reasons};
use pricing::{
    agreement,
    timeline::{self, Stretch},
};
use proto::v1;

use super::{BillingApi, messages, problems};
use crate::{
    account::Account,
    books::contracts::{self, Agreed, Applied, Apply, Filed, Kind, Offered},
    effects::{Comparison, Effects},
};

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Checks a contract and applies it, or only checks.
    pub(crate) async fn apply(
        &self,
        request: v1::ApplyContractRequest,
        change: &Change,
    ) -> Result<v1::ApplyContractResponse, Problem> {
        let _call = self.compute.admit()?;
        let mode = mode(request.validate_only);
        let offered = self.take(Kind::Contract, &request.text, mode, change).await?;
        let contract = Some(messages::contract(&offered.applied));
        Ok(v1::ApplyContractResponse { contract, already_applied: offered.is_known })
    }

    /// Checks an amendment and applies it, or only checks, and says what differs.
    pub(crate) async fn amend(
        &self,
        request: v1::AmendContractRequest,
        change: &Change,
    ) -> Result<v1::AmendContractResponse, Problem> {
        let mode = mode(request.validate_only);
        // Periods are rated twice for a check, and for nothing else.
        let _call = match mode {
            Apply::CheckOnly => self.compute.admit_period().await?,
            Apply::Now => self.compute.admit()?,
        };
        let offered = self.take(Kind::Amendment, &request.text, mode, change).await?;
        let mut answer = v1::AmendContractResponse {
            amendment: Some(messages::contract(&offered.applied)),
            already_applied: offered.is_known,
            ..v1::AmendContractResponse::default()
        };
        if offered.is_known {
            return Ok(answer);
        }
        let (before, after) = sides(&offered);
        if mode == Apply::CheckOnly {
            let effects = self.foreseen(&offered, (&before, &after)).await?;
            answer.months_left_out = u32::try_from(effects.months_left_out).unwrap_or(u32::MAX);
            answer.periods = effects.periods.into_iter().map(messages::effect).collect();
        }
        let comparing = move || {
            let found =
                agreement::differences(&timeline::stretches(&before), &timeline::stretches(&after));
            found.into_iter().map(messages::difference).collect()
        };
        let compared = self.compute.run(comparing).await;
        answer.changes = match mode {
            Apply::CheckOnly => compared?,
            // It is applied: an answer that cannot be computed says less, and does not fail.
            Apply::Now => compared.unwrap_or_default(),
        };
        Ok(answer)
    }

    /// Applies a file, or only checks it, and tells the audit trail.
    async fn take(
        &self,
        kind: Kind,
        text: &str,
        mode: Apply,
        change: &Change,
    ) -> Result<Offered, Problem> {
        if kind == Kind::Contract {
            self.check_windows(text).await?;
        }
        let offered = self.parts.books.contracts.apply(kind, text, mode).await;
        let offered = offered.map_err(problems::of_billing)?;
        // From here on nothing fails: it is applied, and the audit trail says so.
        change.about(offered.applied.name().as_str());
        if mode == Apply::CheckOnly {
            change.only_checked();
            return Ok(offered);
        }
        change.after(&offered.applied.text);
        let before = match offered.is_known {
            true => Some(&offered.applied),
            false => offered.before.last(),
        };
        if let Some(before) = before {
            change.before(&before.text);
        }
        Ok(offered)
    }

    /// Refuses a new contract that the log's windows do not fit, before anything is applied. An amendment
    /// does not change the zone.
    async fn check_windows(&self, text: &str) -> Result<(), Problem> {
        let contracts = &self.parts.books.contracts;
        let offered = contracts.apply(Kind::Contract, text, Apply::CheckOnly).await;
        let offered = offered.map_err(problems::of_billing)?;
        let checked = match offered.applied.contract().filter(|_| !offered.is_known) {
            Some(contract) => self.parts.windows.check_contract(contract).await,
            None => Ok(()),
        };
        checked.map_err(problems::of_billing)
    }

    /// What an offered file would change about the periods that begin before now.
    async fn foreseen(
        &self,
        offered: &Offered,
        (before, after): (&[Contract], &[Contract]),
    ) -> Result<Effects, Problem> {
        let (books, tenant) = (&self.parts.books, &offered.applied.tenant);
        let under = async |agreed: &[Contract]| {
            let editions = books.catalogues.current().await?;
            Account::under(books, tenant, agreed.to_vec(), editions).await
        };
        let effects = async {
            let (before, after) = (under(before).await?, under(after).await?);
            let comparison = Comparison {
                books,
                rater: self.parts.previews.rater(),
                compute: &self.compute,
                before: &before,
                after: &after,
            };
            comparison.effects(begins(&offered.applied), self.clock.now()).await
        };
        effects.await.map_err(problems::of_billing)
    }

    /// The contracts and amendments of a tenant, or of all for an empty name.
    pub(crate) async fn contracts(
        &self,
        tenant: &str,
    ) -> Result<v1::ListContractsResponse, Problem> {
        let files = self.parts.books.contracts.all().await.map_err(problems::of_billing)?;
        let tenant = tenant.to_owned();
        let describing = move || {
            let mut agreed: HashMap<&Tenant, Vec<Contract>> = HashMap::new();
            let wanted = |filed: &&Filed| tenant.is_empty() || filed.tenant().as_str() == tenant;
            for filed in files.iter().filter(wanted) {
                let own = || contracts::agreed(&files.readable(filed.tenant()));
                agreed.entry(filed.tenant()).or_insert_with(own);
            }
            let stretches: HashMap<&Tenant, Vec<Stretch<'_>>> =
                agreed.iter().map(|(tenant, own)| (*tenant, timeline::stretches(own))).collect();
            let describe = |filed: &Filed| messages::filed(filed, &stretches[filed.tenant()]);
            v1::ListContractsResponse {
                contracts: files.iter().filter(wanted).map(describe).collect(),
            }
        };
        self.compute.run(describing).await
    }

    /// The contract or the amendment with a name, with its text; a contract with what it says, as its
    /// amendments make it.
    pub(crate) async fn contract(&self, name: &str) -> Result<v1::Contract, Problem> {
        let files = self.parts.books.contracts.all().await.map_err(problems::of_billing)?;
        let found = files.named(name).cloned().ok_or_else(|| {
            let message = format!("no contract was applied as {name:?}");
            Problem::not_found(reasons::CONTRACT_NOT_FOUND, message)
        })?;
        let describing = move || {
            let agreed = contracts::agreed(&files.readable(found.tenant()));
            let message = messages::filed(&found, &timeline::stretches(&agreed));
            let contract = found.applied().ok().and_then(|applied| applied.contract());
            let values =
                agreed.iter().filter(|value| contract.is_some_and(|it| it.name == value.name));
            v1::Contract {
                text: found.text().to_owned(),
                agreed: values.map(messages::agreed).collect(),
                ..message
            }
        };
        self.compute.run(describing).await
    }
}

const fn mode(validate_only: bool) -> Apply {
    if validate_only { Apply::CheckOnly } else { Apply::Now }
}

/// A tenant's contracts before and after what is offered.
fn sides(offered: &Offered) -> (Vec<Contract>, Vec<Contract>) {
    let mut after = offered.before.clone();
    after.push(Arc::clone(&offered.applied));
    (contracts::agreed(&offered.before), contracts::agreed(&after))
}

/// When something that was applied begins.
fn begins(applied: &Applied) -> Timestamp {
    match &applied.agreed {
        Agreed::Contract(contract) => contract.valid_from,
        Agreed::Amendment(amendment) => amendment.from,
    }
}
