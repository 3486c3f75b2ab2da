//! Access: who may call what, and for which tenants.
//!
//! In reading order: [`principal`] is who makes a request; [`rules`] is the one table from method to
//! roles and tenants, which denies what it does not name; [`refusal`] says why a credential does not
//! count; [`web`] asks an issuer over HTTP, [`jwt`] checks tokens by its keys, [`issuer`] finds its
//! addresses; [`api_key`] is the text and the hash of a key, and [`keys`] are those of the deployment, in journals of the billing store, as is the [`trail`] of who did what;
//! [`certificates`] are the clients that are known by theirs; [`session`] is the cookie of a person who
//! logged in, bound to the [`origin`] of its pages; [`shown`] is what a request shows of who makes it;
//! [`authenticator`] finds the principal of that; [`rate`] bounds how often anybody asks, and [`quota`]
//! what one client takes; [`change`] is what a handler says of its write, and `writes` records each;
//! [`browser`] is what pages of others may read, and [`pages`] what they may write; [`layer`] is the gate
//! that does all of it, for both doors.

pub mod principal;
pub mod rules;

pub mod refusal;

pub mod web;
pub mod jwt;
pub mod issuer;

pub mod api_key;
mod journal;
pub mod keys;
mod words;

pub mod certificates;

pub mod trail;
pub mod change;

pub(crate) mod seal;
pub(crate) mod cookie;
pub mod origin;
pub mod session;

pub mod shown;

mod cache;
pub mod authenticator;
pub mod rate;
pub mod quota;

mod writes;
mod watched;

pub mod browser;
pub mod pages;

pub mod layer;

#[cfg(test)]
pub(crate) mod samples;

pub use authenticator::Authenticator;
pub use change::Change;
pub use layer::{Access, AccessLayer};
pub use principal::{CredentialKind, IdentityScope, Principal, Role, Roles, Tenants};
pub use refusal::Refusal;
pub use rules::{Effect, Rule, Rules, TenantRule};
pub use words::TenantWordsError;
