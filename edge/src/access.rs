//! Access: who may call what, and for which tenants.
//!
//! In reading order: [`principal`] is who makes a request; [`rules`] is the one table from method to
//! roles and tenants, which denies what it does not name; [`refusal`] says why a credential does not
//! count; [`web`] asks an issuer over HTTP, [`jwt`] checks tokens by its keys, and [`issuer`] finds its
//! addresses; [`api_key`] is the text and the hash of a key, and [`keys`] are those of the deployment,
//! in journals of the billing store; [`certificates`] are the clients that certificates name; [`trail`]
//! records who did what, and [`change`] is what a handler says of its write; [`origin`] names the pages
//! of a deployment, and [`session`] is the cookie of a person who logged in, bound to that origin;
//! [`shown`] is what a request shows of its client, and [`authenticator`] finds the principal of that;
//! [`rate`] bounds the requests of each client and address, and [`quota`] the streams and bytes of one
//! client; `writes` records each write, and `watched` ends a stream when its credential ends;
//! [`browser`] is what pages of other origins may read, and [`pages`] what they may write; [`layer`] is
//! the gate for both doors.

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
