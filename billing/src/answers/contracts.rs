//! Contracts as JSON.

use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::moment;

/// What a tenant has agreed to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Contract {
    /// Unique for ever.
    name: String,
    tenant: String,
    /// First moment at which it holds.
    #[schema(format = DateTime, required)]
    valid_from: Option<String>,
    /// First moment at which it holds no more; null while it holds until another takes its place.
    #[schema(format = DateTime, required)]
    valid_to: Option<String>,
    /// Null for one that was only checked.
    #[schema(format = DateTime, required)]
    applied_at: Option<String>,
    /// The YAML; only when one contract is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
}

/// Contracts without their texts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Contracts {
    /// In the order in which they were applied.
    contracts: Vec<Contract>,
}

/// What became of a contract that was sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AppliedContract {
    #[serde(flatten)]
    contract: Contract,
    /// The same text was applied before, under this name.
    already_applied: bool,
    /// Nothing was written.
    validate_only: bool,
}

/// A contract; its text where it was asked for.
#[must_use]
pub fn contract(contract: &v1::Contract) -> Contract {
    Contract {
        name: contract.name.clone(),
        tenant: contract.tenant.clone(),
        valid_from: moment(contract.valid_from.as_ref()),
        valid_to: moment(contract.valid_to.as_ref()),
        applied_at: moment(contract.applied_at.as_ref()),
        text: Some(contract.text.clone()).filter(|text| !text.is_empty()),
    }
}

/// A list of contracts.
#[must_use]
pub fn contracts(listed: &[v1::Contract]) -> Contracts {
    Contracts { contracts: listed.iter().map(contract).collect() }
}

/// The answer to a contract that was sent, to be checked only if so.
#[must_use]
pub fn applied(answer: &v1::ApplyContractResponse, validate_only: bool) -> AppliedContract {
    AppliedContract {
        contract: contract(answer.contract.as_ref().unwrap_or(&v1::Contract::default())),
        already_applied: answer.already_applied,
        validate_only,
    }
}
