//! Contracts: applied once and for ever, listed, shown.

use std::sync::Arc;

use domain::{BillingStore, PulseLog, UsageStore};
use edge::{Problem, access::Change, problem::reasons};
use proto::v1;

use super::{BillingApi, messages, problems};
use crate::books::contracts::{Apply, Offered};

impl<U: UsageStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// Checks a contract and applies it, or only checks.
    pub(crate) async fn apply(
        &self,
        request: v1::ApplyContractRequest,
        change: &Change,
    ) -> Result<v1::ApplyContractResponse, Problem> {
        let _call = self.compute.admit()?;
        self.check_windows(&request.text).await?;
        let mode = if request.validate_only { Apply::CheckOnly } else { Apply::Now };
        let applied = self.parts.books.contracts.apply(&request.text, mode).await;
        // From here on nothing fails: the contract is applied, and the audit trail says so.
        let (contract, before, already_applied) = match applied.map_err(problems::of_billing)? {
            Offered::Known(contract) => (Arc::clone(&contract), Some(contract), true),
            Offered::New { contract, before } => (contract, before, false),
        };
        change.about(contract.contract.name.as_str());
        if request.validate_only {
            change.only_checked();
        } else {
            change.after(&contract.text);
            if let Some(before) = before {
                change.before(&before.text);
            }
        }
        let contract = Some(messages::contract(&contract));
        Ok(v1::ApplyContractResponse { contract, already_applied })
    }

    /// Refuses a new contract that the log's windows do not fit, before anything is applied.
    async fn check_windows(&self, text: &str) -> Result<(), Problem> {
        let offered = self.parts.books.contracts.apply(text, Apply::CheckOnly).await;
        let checked = match offered.map_err(problems::of_billing)? {
            Offered::Known(_) => Ok(()),
            Offered::New { contract, .. } => {
                self.parts.windows.check_contract(&contract.contract).await
            }
        };
        checked.map_err(problems::of_billing)
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
