//! Files: every contract and amendment that was applied, and what it says, where this program can read it.
//!
//! One that it cannot read (a later version may have applied it, or its catalogue is gone) fails what needs
//! it: the bills of its tenant, and nobody else's.

use std::{collections::HashMap, sync::Arc};

use domain::{Name, Tenant, Timestamp, contract::Contract};

use super::applied::Applied;
use crate::BillingError;

/// A file that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filed {
    /// One that can be read.
    Read(Arc<Applied>),
    /// One that cannot.
    Unread(Arc<Unread>),
}

/// What is known of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) name: Name,
    pub(crate) tenant: Tenant,
    /// The contract that it changes, where it is an amendment.
    pub(crate) amends: Option<String>,
    pub(crate) text: String,
    pub(crate) applied_at: Timestamp,
    /// Why it cannot be read.
    pub(crate) message: String,
}

impl Filed {
    /// What it says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn applied(&self) -> Result<&Arc<Applied>, BillingError> {
        match self {
            Self::Read(applied) => Ok(applied),
            Self::Unread(unread) => Err(BillingError::Unreadable {
                what: match unread.amends {
                    Some(_) => format!("amendment {:?}", unread.name.as_str()),
                    None => format!("contract {:?}", unread.name.as_str()),
                },
                message: unread.message.clone(),
            }),
        }
    }

    /// Its name, unique among contracts and amendments.
    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Read(applied) => applied.name(),
            Self::Unread(unread) => &unread.name,
        }
    }

    /// Whose it is.
    pub(crate) fn tenant(&self) -> &Tenant {
        match self {
            Self::Read(applied) => &applied.tenant,
            Self::Unread(unread) => &unread.tenant,
        }
    }

    /// Its text, as it was applied.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Read(applied) => &applied.text,
            Self::Unread(unread) => &unread.text,
        }
    }
}

/// Every file that was applied, in its order. A copy costs as much as all names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppliedFiles {
    all: Vec<Filed>,
    /// Places in `all`, ascending.
    by_tenant: HashMap<Tenant, Vec<usize>>,
}

impl AppliedFiles {
    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Filed> {
        self.all.iter()
    }

    /// Adds the next one.
    pub(crate) fn push(&mut self, filed: Filed) {
        self.by_tenant.entry(filed.tenant().clone()).or_default().push(self.all.len());
        self.all.push(filed);
    }

    /// The one with a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Filed> {
        self.all.iter().find(|filed| filed.name().as_str() == name)
    }

    /// The contracts that can be read.
    pub(super) fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.all.iter().filter_map(|filed| filed.applied().ok()?.contract())
    }

    /// What is a tenant's.
    ///
    /// # Errors
    /// When any of it cannot be read.
    pub(crate) fn of(&self, tenant: &Tenant) -> Result<Vec<Arc<Applied>>, BillingError> {
        self.of_first(self.all.len(), tenant)
    }

    /// What of a tenant's can be read, for lists.
    pub(crate) fn readable(&self, tenant: &Tenant) -> Vec<Arc<Applied>> {
        let places = self.by_tenant.get(tenant).into_iter().flatten();
        places.filter_map(|place| self.all[*place].applied().ok().cloned()).collect()
    }

    /// What of the first files is a tenant's.
    ///
    /// # Errors
    /// When any of it cannot be read.
    pub(crate) fn of_first(
        &self,
        count: usize,
        tenant: &Tenant,
    ) -> Result<Vec<Arc<Applied>>, BillingError> {
        let places = self.by_tenant.get(tenant).into_iter().flatten();
        let places = places.take_while(|place| **place < count);
        places.map(|place| self.all[*place].applied().cloned()).collect()
    }

    /// Tells whether a tenant has any behind the first ones.
    pub(crate) fn has_behind(&self, count: u64, tenant: &Tenant) -> bool {
        let newest = self.by_tenant.get(tenant).and_then(|places| places.last());
        newest.is_some_and(|place| *place as u64 >= count)
    }

    /// All tenants that have any.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.by_tenant.keys()
    }

    /// Tells whether a tenant has any.
    pub(crate) fn has_any(&self, tenant: &Tenant) -> bool {
        self.by_tenant.contains_key(tenant)
    }
}
