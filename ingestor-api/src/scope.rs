//! Scope: which tenants a credential may send for.

use domain::Tenant;

/// What a request's credential covers. The access layer puts it into the request's extensions; a
/// request without one covers all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Option<Tenant>);

impl Scope {
    /// Every tenant: each pulse has to name its own.
    pub const ALL: Self = Self(None);

    /// One tenant, which stands in where a pulse names none.
    #[must_use]
    pub const fn of(tenant: Tenant) -> Self {
        Self(Some(tenant))
    }

    /// The tenant's name, or empty text for all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", Tenant::as_str)
    }
}
