//! Scope: which tenants a request may send for, and whose its identities are.

use domain::Tenant;
use edge::access::{IdentityScope, Principal, Tenants};

/// What a request's credential covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    tenants: Tenants,
    client: IdentityScope,
}

impl Scope {
    /// Every tenant, without a credential: each pulse has to name its own.
    pub const ALL: Self = Self { tenants: Tenants::ALL, client: IdentityScope::LOCAL };

    /// One tenant, which stands in where a pulse names none, without a client of its own.
    #[must_use]
    pub fn of(tenant: Tenant) -> Self {
        Self { tenants: Tenants::one(tenant), ..Self::ALL }
    }

    /// What a principal's credential covers.
    #[must_use]
    pub fn of_principal(principal: &Principal) -> Self {
        Self { tenants: principal.tenants.clone(), client: principal.scope }
    }

    /// The name of the only tenant, or empty text for several.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.tenants.only().map_or("", Tenant::as_str)
    }

    /// Tells whether pulses of this tenant may be sent.
    #[inline]
    #[must_use]
    pub fn allows(&self, tenant: &str) -> bool {
        self.tenants.allows(tenant)
    }

    /// The client as the log names it: 32 hexadecimal digits, or empty text without a credential.
    #[must_use]
    pub fn client(&self) -> String {
        if self.client == IdentityScope::LOCAL { String::new() } else { self.client.to_string() }
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::ALL
    }
}
