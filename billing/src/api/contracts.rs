//! Contracts: applied once and for ever, listed, shown.

use std::sync::Arc;

use domain::{BillingStore, PulseLog, UsageStore};
use edge::{Problem, access::Change, problem::reasons};
use proto::v1;

use super::{BillingApi, messages, problems};
use crate::books::contracts::{AppliedContract, Apply};

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Checks a contract and applies it, or only checks.
    pub(crate) async fn apply(
        &self,
        request: v1::ApplyContractRequest,
        change: &Change,
    ) -> Result<v1::ApplyContractResponse, Problem> {
        let _call = self.compute.admit()?;
        let mode = if request.validate_only { Apply::CheckOnly } else { Apply::Now };
        let applied = self.parts.books.contracts.apply(&request.text, mode).await;
        let (contract, already_applied) = applied.map_err(problems::of_billing)?;
        change.about(contract.contract.name.as_str());
        if request.validate_only {
            change.only_checked();
        } else if already_applied {
            change.before(&contract.text);
            change.after(&contract.text);
        } else {
            change.after(&contract.text);
            if let Some(before) = self.applied_before(&contract).await? {
                change.before(&before.text);
            }
        }
        let contract = Some(messages::contract(&contract));
        Ok(v1::ApplyContractResponse { contract, already_applied })
    }

    /// The contract of a tenant that was applied last before another one of it.
    async fn applied_before(
        &self,
        contract: &AppliedContract,
    ) -> Result<Option<Arc<AppliedContract>>, Problem> {
        let mut all = self.parts.books.contracts.all().await.map_err(problems::of_billing)?;
        all.retain(|known| {
            known.contract.tenant == contract.contract.tenant && known.place < contract.place
        });
        Ok(all.pop())
    }

    /// The contracts of a tenant, or of all for an empty name.
    pub(crate) async fn contracts(
        &self,
        tenant: &str,
    ) -> Result<v1::ListContractsResponse, Problem> {
        let contracts = self.parts.books.contracts.all().await.map_err(problems::of_billing)?;
        let wanted = contracts
            .iter()
            .filter(|contract| tenant.is_empty() || contract.contract.tenant.as_str() == tenant);
        Ok(v1::ListContractsResponse { contracts: wanted.map(messages::contract).collect() })
    }

    /// The contract with a name, with its text.
    pub(crate) async fn contract(&self, name: &str) -> Result<v1::Contract, Problem> {
        let contracts = self.parts.books.contracts.all().await.map_err(problems::of_billing)?;
        let found = contracts.iter().find(|found| found.contract.name.as_str() == name);
        let found = found.ok_or_else(|| {
            let message = format!("no contract was applied as {name:?}");
            Problem::not_found(reasons::CONTRACT_NOT_FOUND, message)
        })?;
        Ok(v1::Contract { text: found.text.clone(), ..messages::contract(found) })
    }
}
