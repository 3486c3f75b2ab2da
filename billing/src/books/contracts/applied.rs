//! What was applied: contracts and amendments, and what they say together.

use std::sync::Arc;

use domain::{
    Name, Tenant, Timestamp,
    amendment::Amendment,
    contract::{Contract, Credit},
    suggest,
};
use pricing::{
    moment::Calendar,
    timeline::{self, Stretch},
};

use crate::{BillingError, Refusal};

/// Most amendments of one contract: each may begin one more value of all its terms.
pub(super) const AMENDMENTS_MAX: usize = 200;

/// Most bytes of a contract's file and its amendments', times the stretches of time in which these may
/// differ: each stretch is a copy of the contract.
const AMENDED_BYTES_MAX: usize = 64 << 20;

/// A contract or an amendment that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// What it says.
    pub(crate) agreed: Agreed,
    /// Whose it is.
    pub(crate) tenant: Tenant,
    /// Its text, as it was applied.
    pub(crate) text: String,
    /// When it was applied.
    pub(crate) applied_at: Timestamp,
}

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Agreed {
    Contract(Contract),
    Amendment(Amendment),
}

impl Applied {
    /// Its name, unique among contracts and amendments.
    #[must_use]
    pub(crate) const fn name(&self) -> &Name {
        match &self.agreed {
            Agreed::Contract(contract) => &contract.name,
            Agreed::Amendment(amendment) => &amendment.name,
        }
    }

    /// The contract, where it is one.
    #[must_use]
    pub(crate) const fn contract(&self) -> Option<&Contract> {
        match &self.agreed {
            Agreed::Contract(contract) => Some(contract),
            Agreed::Amendment(_) => None,
        }
    }

    /// The contract that it changes, where it is an amendment.
    #[must_use]
    pub(crate) const fn amends(&self) -> Option<&Name> {
        match &self.agreed {
            Agreed::Contract(_) => None,
            Agreed::Amendment(amendment) => Some(&amendment.contract),
        }
    }

    fn amendment_of(&self, contract: &Name) -> Option<&Amendment> {
        match &self.agreed {
            Agreed::Amendment(amendment) => Some(amendment).filter(|it| it.contract == *contract),
            Agreed::Contract(_) => None,
        }
    }

    /// What it says of credits that stay.
    fn credits(&self) -> Vec<&Credit> {
        match &self.agreed {
            Agreed::Contract(contract) => contract.credits.iter().collect(),
            Agreed::Amendment(amendment) => {
                let changes = amendment.changes.credits.iter();
                changes
                    .filter_map(|change| match change {
                        domain::amendment::Change::Stated(credit) => Some(credit),
                        domain::amendment::Change::Ended(_) => None,
                    })
                    .collect()
            }
        }
    }
}

/// The amendments of a contract, in the order in which they were applied.
pub(super) fn amendments_of<'a>(
    applied: &'a [Arc<Applied>],
    contract: &'a Name,
) -> impl Iterator<Item = &'a Amendment> {
    applied.iter().filter_map(|found| found.amendment_of(contract))
}

/// A tenant's contracts in the order in which they were applied, each as its amendments make it.
pub(crate) fn agreed(applied: &[Arc<Applied>]) -> Vec<Contract> {
    let contracts = applied.iter().filter_map(|found| found.contract());
    let amended = |contract: &Contract| contract.amended(amendments_of(applied, &contract.name));
    contracts.flat_map(amended).collect()
}

/// Checks a contract against what was applied for its tenant.
pub(super) fn check_contract(
    contract: &Contract,
    own: &[Arc<Applied>],
) -> Result<(), BillingError> {
    let names = || own.iter().filter_map(|found| found.contract()).map(|found| found.name.as_str());
    for name in &contract.supersedes {
        if !names().any(|known| known == name.as_str()) {
            let near = suggest::did_you_mean(name.as_str(), names());
            return Err(conflict(format!(
                "supersedes: tenant {} has no contract {:?}{near}: name those whose place this one takes, or remove the name",
                contract.tenant,
                name.as_str()
            )));
        }
    }
    let all = agreed(own);
    let holding = timeline::stretches(&all);
    let same_day = holding.iter().map(|stretch| stretch.contract).find(|other| {
        other.valid_from == contract.valid_from
            && other.name != contract.name
            && begins(other, own)
            && !contract.supersedes.contains(&other.name)
    });
    if let Some(other) = same_day {
        return Err(conflict(format!(
            "contract {:?} holds from the same day, {}: name it, as `supersedes: [{}]`, to take its place",
            other.name.as_str(),
            day(contract, contract.valid_from),
            other.name
        )));
    }
    check_currency(&contract.credits.iter().collect::<Vec<_>>(), contract, own)
}

/// Tells whether a value is a contract's first.
fn begins(value: &Contract, own: &[Arc<Applied>]) -> bool {
    let contract = own.iter().filter_map(|found| found.contract());
    contract.into_iter().any(|it| it.name == value.name && it.valid_from == value.valid_from)
}

/// Checks an amendment of a contract against what was applied for its tenant.
pub(super) fn check_amendment(
    amendment: &Applied,
    of: &Contract,
    own: &[Arc<Applied>],
) -> Result<(), BillingError> {
    let Agreed::Amendment(changes) = &amendment.agreed else { return Ok(()) };
    let all = agreed(own);
    check_holds(of, changes.from, &timeline::stretches(&all))?;
    if amendments_of(own, &of.name).count() >= AMENDMENTS_MAX {
        return Err(conflict(format!(
            "contract {:?} has {AMENDMENTS_MAX} amendments, which is the most: apply a contract from {} on",
            of.name.as_str(),
            day(of, changes.from)
        )));
    }
    let ours =
        |found: &&Arc<Applied>| *found.name() == of.name || found.amendment_of(&of.name).is_some();
    let before: Vec<usize> = own.iter().filter(ours).map(|found| found.text.len()).collect();
    let bytes = before.iter().sum::<usize>() + amendment.text.len();
    // Each begins a stretch of time, and its end may begin another.
    if bytes.saturating_mul(1 + 2 * before.len()) > AMENDED_BYTES_MAX {
        return Err(conflict(format!(
            "contract {:?} and its amendments have {bytes} bytes of text, which is too much for one more amendment: apply a contract from {} on",
            of.name.as_str(),
            day(of, changes.from)
        )));
    }
    let behind = own.iter().skip_while(|found| found.name() != &of.name).skip(1);
    for later in behind.filter_map(|found| found.contract()) {
        let credits = changes.changes.credits.iter().map(domain::amendment::Change::key);
        let mut restated = credits.filter(|key| later.credits.iter().any(|it| it.name == *key));
        if let Some(credit) = restated.next() {
            return Err(conflict(format!(
                "contract {:?}, which was applied later, says what credit {:?} is: amend that one",
                later.name.as_str(),
                credit.as_str()
            )));
        }
    }
    check_currency(&amendment.credits(), of, own)
}

fn check_holds(
    of: &Contract,
    from: Timestamp,
    stretches: &[Stretch<'_>],
) -> Result<(), BillingError> {
    let inside = |stretch: &&Stretch<'_>| stretch.window.start <= from && from < stretch.window.end;
    let holding = stretches.iter().find(inside).map(|stretch| &stretch.contract.name);
    if holding == Some(&of.name) {
        return Ok(());
    }
    let other = match holding {
        Some(other) => format!("{:?} does", other.as_str()),
        None => "none does".to_owned(),
    };
    Err(conflict(format!(
        "contract {:?} does not hold on {}, {other}: amend the one that holds, or give another day",
        of.name.as_str(),
        day(of, from)
    )))
}

/// A credit is known by its name, and what was used of it is in the currency that it was paid in.
fn check_currency(
    credits: &[&Credit],
    contract: &Contract,
    own: &[Arc<Applied>],
) -> Result<(), BillingError> {
    let currency_of = |found: &Applied| match &found.agreed {
        Agreed::Contract(contract) => Some(contract.terms.currency),
        Agreed::Amendment(amendment) => {
            let mut contracts = own.iter().filter_map(|other| other.contract());
            contracts.find(|it| it.name == amendment.contract).map(|it| it.terms.currency)
        }
    };
    for before in own {
        let known = before.credits();
        let again = known.iter().find(|known| credits.iter().any(|it| it.name == known.name));
        if let Some(credit) = again
            && currency_of(before) != Some(contract.terms.currency)
        {
            return Err(conflict(format!(
                "credit {:?} is in {:?} of the same tenant in another currency: give this one a name of its own",
                credit.name.as_str(),
                before.name().as_str()
            )));
        }
    }
    Ok(())
}

fn day(contract: &Contract, moment: Timestamp) -> String {
    let calendar = Calendar::named(contract.terms.time_zone.as_str()).unwrap_or(Calendar::UTC);
    calendar.date_of(moment)
}

fn conflict(message: String) -> BillingError {
    BillingError::refused(Refusal::ContractConflicts, message)
}
