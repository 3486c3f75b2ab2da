//! Principal: who makes a request, and what the credential allows.
//!
//! A principal is what is left of a credential once it was checked: no secret is in it, so it may be
//! logged and written to the audit trail. Handlers read it from the request's extensions.

use std::{fmt, str::FromStr, sync::Arc};

use domain::Tenant;
use ring::digest::{Context, SHA256};

use crate::{Problem, problem::reasons};

/// Most tenants that one credential names. One that needs more is a credential for all.
pub const TENANTS_MAX: usize = 64;

/// What a principal may do; the rule table says which methods each role may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Manages credentials, catalogues and contracts, and does all that the others do.
    Admin,
    /// Runs the system: replays, dead letters, billing runs.
    Operator,
    /// Reads usage and prices, and simulates.
    Analyst,
    /// Reads.
    Viewer,
    /// Sends pulses, and nothing else.
    Writer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Admin, Self::Operator, Self::Analyst, Self::Viewer, Self::Writer];

    /// The stable word, in claims, commands, logs and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Analyst => "analyst",
            Self::Viewer => "viewer",
            Self::Writer => "writer",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; use admin, operator, analyst, viewer or writer")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == word);
        found.ok_or_else(|| UnknownRole(word.chars().take(32).collect()))
    }
}

/// A set of roles; may be empty.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Self = Self(0);
    /// Every role.
    pub const ALL: Self = Self::of(&Role::ALL);

    /// The set of these.
    #[must_use]
    pub const fn of(roles: &[Role]) -> Self {
        let (mut bits, mut next) = (0, 0);
        while next < roles.len() {
            bits |= roles[next].bit();
            next += 1;
        }
        Self(bits)
    }

    /// Tells whether the set has this role.
    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Tells whether the sets share a role.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Tells whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The roles, in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

impl fmt::Display for Roles {
    /// Prints `admin, writer`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for role in self.iter() {
            write!(f, "{separator}{role}")?;
            separator = ", ";
        }
        if self.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The tenants that a credential is for: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants(Option<Arc<[Tenant]>>);

/// Tenants that no credential can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantsError {
    /// None at all. It would have to mean "none" or "all", and the second fails open.
    #[error("no tenant is named; name 1 to {TENANTS_MAX} tenants, or all of them")]
    Empty,
    /// Too many.
    #[error("{0} tenants are named; name at most {TENANTS_MAX}, or all of them")]
    TooMany(usize),
}

impl Tenants {
    /// Every tenant, those to come as well.
    pub const ALL: Self = Self(None);

    /// One tenant.
    #[must_use]
    pub fn one(tenant: Tenant) -> Self {
        Self(Some(Arc::new([tenant])))
    }

    /// These tenants; repetitions count once.
    ///
    /// # Errors
    /// When there is none, or more than [`TENANTS_MAX`].
    pub fn these(tenants: impl IntoIterator<Item = Tenant>) -> Result<Self, TenantsError> {
        let mut tenants: Vec<_> = tenants.into_iter().collect();
        tenants.sort();
        tenants.dedup();
        match tenants.len() {
            0 => Err(TenantsError::Empty),
            1..=TENANTS_MAX => Ok(Self(Some(tenants.into()))),
            many => Err(TenantsError::TooMany(many)),
        }
    }

    /// Tells whether it is every tenant.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// The named tenants, sorted and each once; `None` for all.
    #[must_use]
    pub fn named(&self) -> Option<&[Tenant]> {
        self.0.as_deref()
    }

    /// The tenant of a credential that is for exactly one: it stands in where a request names none.
    #[must_use]
    pub fn only(&self) -> Option<&Tenant> {
        match self.0.as_deref() {
            Some([tenant]) => Some(tenant),
            _ => None,
        }
    }

    /// Tells whether a tenant is among them. Costs at most seven comparisons.
    #[must_use]
    pub fn allows(&self, tenant: &str) -> bool {
        self.0.as_deref().is_none_or(|named| {
            named.binary_search_by(|candidate| candidate.as_str().cmp(tenant)).is_ok()
        })
    }
}

impl fmt::Display for Tenants {
    /// Prints `all`, or the names with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(named) = self.named() else { return f.write_str("all") };
        let mut separator = "";
        for tenant in named {
            write!(f, "{separator}{tenant}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// What kind of credential a principal came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// None: access is off, and the process serves loopback only.
    Local,
    /// An API key.
    ApiKey,
    /// A JWT.
    Token,
    /// A client certificate.
    Certificate,
    /// The cookie of a person who logged in.
    Session,
}

impl CredentialKind {
    /// The stable word, in logs and in the audit trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::ApiKey => "api_key",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Session => "session",
        }
    }
}

/// Separates the identities of clients: producers and backfill names of two scopes never meet.
///
/// The scope follows the client, not the secret, so a retry with a renewed credential is still known
/// as a repetition: it is a digest of the name of an API key, of the issuer and subject of a token or
/// session, or of the client that a certificate names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdentityScope([u8; 16]);

impl IdentityScope {
    /// The scope of requests without a credential.
    pub const LOCAL: Self = Self([0; 16]);

    /// The scope of a client: the first 16 bytes of SHA-256 over the kind, the issuer and the name,
    /// each after its length.
    #[must_use]
    pub fn of(kind: CredentialKind, issuer: &str, name: &str) -> Self {
        let mut context = Context::new(&SHA256);
        for part in ["pulso identity scope 1", kind.as_str(), issuer, name] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let digest = context.finish();
        let (scope, _) = digest.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
        Self(*scope)
    }

    /// As the log and the fold compare it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for IdentityScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for IdentityScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who makes a request. Holds no secret; clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(Arc<Parts>);

/// What a [`Principal`] is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Identifies the credential: the key's id, the token's subject, the certificate's name.
    pub id: String,
    /// The client's name, for people: the key's name, the token's subject, the client of
    /// `access.certificates`.
    pub name: String,
    /// The kind of credential.
    pub kind: CredentialKind,
    /// What it may do; empty when the credential gives no role that Pulso knows.
    pub roles: Roles,
    /// For whom.
    pub tenants: Tenants,
    /// Where its identities belong.
    pub scope: IdentityScope,
}

impl Principal {
    /// Puts one together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The principal of every request while access is off: all roles, all tenants.
    #[must_use]
    pub fn local() -> Self {
        Self::new(Parts {
            id: "local".to_owned(),
            name: "local".to_owned(),
            kind: CredentialKind::Local,
            roles: Roles::ALL,
            tenants: Tenants::ALL,
            scope: IdentityScope::LOCAL,
        })
    }

    /// The principal that the gate has left among a request's extensions.
    ///
    /// # Errors
    /// INTERNAL where no gate was passed: a handler without one must not answer.
    pub fn of(extensions: &http::Extensions) -> Result<Self, Problem> {
        let message = "the request came without a principal; the server's doors are put up wrongly";
        extensions.get().cloned().ok_or_else(|| Problem::internal(message))
    }

    /// Gives the tenants that a request is answered for: the named one if it is allowed, or all of the
    /// credential where none is named.
    ///
    /// # Errors
    /// PERMISSION_DENIED, `TENANT_FORBIDDEN` for a tenant of others.
    pub fn narrow(&self, named: Option<Tenant>) -> Result<Tenants, Problem> {
        match named {
            None => Ok(self.tenants.clone()),
            Some(tenant) if self.tenants.allows(tenant.as_str()) => Ok(Tenants::one(tenant)),
            Some(tenant) => Err(self.tenant_forbidden(&tenant)),
        }
    }

    /// Gives the one tenant that a question is about: the named one if it is allowed, or that of the
    /// credential where none is named; `None` is all, for a credential for all.
    ///
    /// # Errors
    /// PERMISSION_DENIED, `TENANT_FORBIDDEN` for a tenant of others; INVALID_ARGUMENT, `TENANT_MISSING`
    /// when none is named and the credential is for several.
    pub fn one_or_all(&self, named: Option<Tenant>) -> Result<Option<Tenant>, Problem> {
        let tenants = self.narrow(named)?;
        if tenants.is_all() {
            return Ok(None);
        }
        let one = tenants.only().cloned().map(Some);
        one.ok_or_else(|| {
            let message = format!("name one of the tenants that the credential is for: {tenants}");
            Problem::invalid("tenant", reasons::TENANT_MISSING, message)
        })
    }

    /// The refusal of a tenant that the credential is not for.
    #[must_use]
    pub fn tenant_forbidden(&self, tenant: &Tenant) -> Problem {
        let message = format!(
            "{} is not for the tenant {tenant}; use a credential that names it, or ask for {}",
            self.name, self.tenants
        );
        Problem::new(tonic::Code::PermissionDenied, reasons::TENANT_FORBIDDEN, message)
    }
}

impl std::ops::Deref for Principal {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    fn for_tenants(tenants: Tenants) -> Principal {
        let parts = Parts::clone(&Principal::local());
        Principal::new(Parts { name: "meter".to_owned(), tenants, ..parts })
    }

    #[test]
    fn words_of_roles_are_read_as_they_are_printed_and_no_others() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert!(Roles::ALL.contains(role));
            assert!(!Roles::NONE.contains(role));
        }
        for word in ["", "Admin", "admin ", "root", "adminadmin"] {
            assert!(word.parse::<Role>().is_err(), "{word:?}");
        }
        assert_eq!(Roles::of(&[Role::Writer, Role::Admin]).to_string(), "admin, writer");
        assert_eq!(Roles::NONE.to_string(), "none");
    }

    #[test]
    fn a_credential_names_1_to_64_tenants_or_all() {
        let numbered = |count: usize| (0..count).map(|i| tenant(&format!("t{i}")));
        assert_eq!(Tenants::these(numbered(0)), Err(TenantsError::Empty));
        assert_eq!(Tenants::these(numbered(65)), Err(TenantsError::TooMany(65)));
        let most = Tenants::these(numbered(64)).unwrap();
        assert!(numbered(64).all(|tenant| most.allows(tenant.as_str())));
        assert!(!most.allows("t64") && !most.allows("") && !most.allows("t"));
        let repeated = Tenants::these([tenant("a"), tenant("a")]).unwrap();
        assert_eq!(repeated, Tenants::one(tenant("a")));
        assert!(Tenants::ALL.allows("anyone") && Tenants::ALL.is_all());
    }

    #[test]
    fn the_tenant_of_a_request_comes_from_the_credential() {
        let (a, b) = (tenant("a"), tenant("b"));
        let one = for_tenants(Tenants::one(a.clone()));
        assert_eq!(one.narrow(None), Ok(Tenants::one(a.clone())));
        assert_eq!(one.narrow(Some(a.clone())), Ok(Tenants::one(a.clone())));
        let problem = one.narrow(Some(b.clone())).unwrap_err();
        assert_eq!(problem.reason, reasons::TENANT_FORBIDDEN);
        assert_eq!(
            problem.message,
            "meter is not for the tenant b; use a credential that names it, or ask for a"
        );
        let two = for_tenants(Tenants::these([a.clone(), b.clone()]).unwrap());
        assert_eq!(two.narrow(None), Ok(two.tenants.clone()), "and not those of others");
        assert_eq!(two.narrow(Some(b.clone())), Ok(Tenants::one(b.clone())));
        assert_eq!(Principal::local().narrow(Some(b.clone())), Ok(Tenants::one(b)));
        assert_eq!(Principal::local().narrow(None), Ok(Tenants::ALL));
        assert_eq!(one.one_or_all(None), Ok(Some(a.clone())));
        assert_eq!(two.one_or_all(Some(a.clone())), Ok(Some(a)));
        assert_eq!(two.one_or_all(None).unwrap_err().reason, reasons::TENANT_MISSING);
        assert_eq!(Principal::local().one_or_all(None), Ok(None));
    }

    #[test]
    fn scopes_tell_kinds_issuers_and_names_apart_and_never_change() {
        let scopes = [
            IdentityScope::LOCAL,
            IdentityScope::of(CredentialKind::ApiKey, "", "meter"),
            IdentityScope::of(CredentialKind::Token, "", "meter"),
            IdentityScope::of(CredentialKind::Certificate, "", "meter"),
            IdentityScope::of(CredentialKind::Token, "m", "eter"),
            IdentityScope::of(CredentialKind::Token, "https://issuer", "meter"),
        ];
        for (place, scope) in scopes.iter().enumerate() {
            assert!(scopes[..place].iter().all(|other| other != scope), "{scope}");
        }
        // Logs hold it: another value would count a retry after an update twice.
        assert_eq!(scopes[1].to_string(), "98f321fa42cc96d2af27ef25762699d4");
    }
}
