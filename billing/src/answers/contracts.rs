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
    /// First moment at which it holds no more; null while it holds until the next one begins.
    #[schema(format = DateTime, required)]
    valid_to: Option<String>,
    /// The contract that it changes; null for a contract.
    #[schema(required)]
    amends: Option<String>,
    /// Contracts that do not begin, because this one takes their place.
    supersedes: Vec<String>,
    /// From when it holds, the tenant's other contracts considered; null where it never does, and for
    /// one that was only sent.
    #[schema(format = DateTime, required)]
    holds_from: Option<String>,
    /// Until when it holds; null without an end.
    #[schema(format = DateTime, required)]
    holds_to: Option<String>,
    /// Null for one that was only checked.
    #[schema(format = DateTime, required)]
    applied_at: Option<String>,
    /// The YAML; only when one contract is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
    /// What a contract says, as its amendments make it, in order of time; only when one contract is
    /// asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    agreed: Vec<AgreedTerms>,
    /// Why this program cannot read it; only where it cannot. Then its tenant is not billed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    unreadable: Option<String>,
}

/// What a contract says for a stretch of time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AgreedTerms {
    /// First moment.
    #[schema(format = DateTime, required)]
    from: Option<String>,
    /// First moment behind it; null where there is no end.
    #[schema(format = DateTime, required)]
    to: Option<String>,
    /// All things, in the order of the file.
    things: Vec<AgreedThing>,
}

/// A thing of a contract in words.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AgreedThing {
    /// Which one.
    #[schema(example = "discount partner")]
    what: String,
    #[schema(example = "10 % of each line")]
    words: String,
}

/// What became of an amendment that was sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AmendedContract {
    amendment: Contract,
    /// The same text was applied before, under this name.
    already_applied: bool,
    /// Nothing was written.
    validate_only: bool,
    /// What differs, in order of time; nothing for one that was applied before.
    changes: Vec<AgreementChange>,
    /// Of one that was only checked: the billing periods that begin before now and come to another
    /// amount on the totals as they stand, in order of time.
    periods: Vec<PeriodChange>,
    /// Months that were not looked at, because they are older than the 60 newest.
    months_left_out: u32,
}

/// A thing of a contract that differs for a stretch of time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AgreementChange {
    /// First moment.
    #[schema(format = DateTime, required)]
    from: Option<String>,
    /// First moment behind it; null where there is no end.
    #[schema(format = DateTime, required)]
    to: Option<String>,
    /// Which thing.
    #[schema(example = "discount partner")]
    what: String,
    /// What is said of it before; null where there is no such thing.
    #[schema(required, example = "10 % of each line")]
    before: Option<String>,
    /// What is said of it after; null where there is no such thing.
    #[schema(required, example = "15 % of each line")]
    after: Option<String>,
}

/// A billing period that would come to another amount.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PeriodChange {
    /// The month in which it begins.
    #[schema(example = "2024-09")]
    period: String,
    #[schema(format = DateTime, required)]
    period_start: Option<String>,
    #[schema(format = DateTime, required)]
    period_end: Option<String>,
    /// The currency of the amounts.
    currency: String,
    /// What it comes to before.
    old: String,
    /// What it comes to after.
    new: String,
    /// New minus old.
    difference: String,
    /// Numbers of the documents that bill it, which a run for deltas corrects; none for an open period.
    documents: Vec<String>,
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
        amends: given(&contract.amends),
        supersedes: contract.supersedes.clone(),
        holds_from: moment(contract.holds_from.as_ref()),
        holds_to: moment(contract.holds_to.as_ref()),
        text: given(&contract.text),
        agreed: contract.agreed.iter().map(agreed).collect(),
        unreadable: given(&contract.unreadable),
    }
}

/// A text that may be absent.
fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn agreed(terms: &v1::AgreedTerms) -> AgreedTerms {
    let thing = |thing: &v1::AgreedThing| AgreedThing {
        what: thing.what.clone(),
        words: thing.words.clone(),
    };
    AgreedTerms {
        from: moment(terms.from.as_ref()),
        to: moment(terms.to.as_ref()),
        things: terms.things.iter().map(thing).collect(),
    }
}

/// The answer to an amendment that was sent, to be checked only if so.
#[must_use]
pub fn amended(answer: &v1::AmendContractResponse, validate_only: bool) -> AmendedContract {
    let change = |change: &v1::AgreementChange| AgreementChange {
        from: moment(change.from.as_ref()),
        to: moment(change.to.as_ref()),
        what: change.what.clone(),
        before: given(&change.before),
        after: given(&change.after),
    };
    let period = |period: &v1::PeriodChange| PeriodChange {
        period: period.period.clone(),
        period_start: moment(period.period_start.as_ref()),
        period_end: moment(period.period_end.as_ref()),
        currency: period.currency.clone(),
        old: period.old.clone(),
        new: period.new.clone(),
        difference: period.difference.clone(),
        documents: period.documents.clone(),
    };
    AmendedContract {
        amendment: contract(answer.amendment.as_ref().unwrap_or(&v1::Contract::default())),
        already_applied: answer.already_applied,
        validate_only,
        changes: answer.changes.iter().map(change).collect(),
        periods: answer.periods.iter().map(period).collect(),
        months_left_out: answer.months_left_out,
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
