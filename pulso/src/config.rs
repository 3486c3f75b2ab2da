//! Configuration: defaults < file < `PULSO_*` environment < flags, refused early and all at once.
//!
//! [`keys`] is the table of settings, [`value`], [`list`], [`urls`], [`assignment`] and [`log_window`]
//! the types they have, [`load`] reads the sources, [`mod@write`] gives a commented file of defaults. Every mistake is
//! collected before anything starts, and each names its key, its value, where it was set, and what to
//! do.

mod origin;
pub mod value;
pub mod list;
pub mod urls;
pub mod assignment;
pub mod client_auth;
pub mod access_mode;
pub mod log_window;
pub mod deltas;
pub mod keys;
pub mod error;
mod loaded;
mod edge;
pub(crate) mod tls;
pub mod load;
pub mod write;

pub use error::{ConfigError, ConfigErrors, LISTED_MAX};
pub use keys::{Config, KEYS, Key};
pub use load::Sources;
pub use loaded::Loaded;
pub use origin::Origin;

#[cfg(test)]
mod tests;
