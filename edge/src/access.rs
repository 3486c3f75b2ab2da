//! Access: who may call what, and for which tenants.
//!
//! In reading order: [`principal`] is who makes a request; [`rules`] is the one table from method to
//! roles and tenants, which denies what it does not name; [`refusal`] says why a credential does not
//! count; [`jwt`] checks tokens.

pub mod principal;
pub mod rules;

pub mod refusal;

pub mod jwt;

#[cfg(test)]
mod samples;

pub use principal::{CredentialKind, IdentityScope, Principal, Role, Roles, Tenants};
pub use refusal::Refusal;
pub use rules::{Rule, Rules, TenantRule};
