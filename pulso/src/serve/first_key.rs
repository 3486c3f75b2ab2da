//! First key: `pulso dev` makes one on a deployment that never had any, so that a service can be given
//! what it will send once credentials are asked for.
//!
//! A deployment that has made a key, even one that was revoked since, gets none: nobody may find a
//! credential that they did not ask for.

use std::sync::Arc;

use domain::Name;
use edge::access::{Role, Roles, Tenants, api_key::ApiKey, keys::NewKey};
use storage::choice::Billing;
use tracing::warn;

use super::access;
use crate::{config::Config, exit::Failure};

/// Its name, which is that of its client.
pub(super) const NAME: &str = "dev";

/// Whether there is a key to show.
pub(super) enum FirstKey {
    /// It was made now. Its text is nowhere else.
    Made(Box<ApiKey>),
    /// There are keys already, whose texts nobody can show again.
    Known,
    /// The store did not say, and the log does why.
    Unavailable,
}

/// Makes the first key of a deployment, for an admin of all tenants.
pub(super) async fn first_key(config: &Config, billing: &Arc<Billing>) -> FirstKey {
    make(config, billing).await.unwrap_or_else(|failure| {
        // The server runs without it.
        warn!(%failure, "no first API key was made");
        FirstKey::Unavailable
    })
}

async fn make(config: &Config, billing: &Arc<Billing>) -> Result<FirstKey, Failure> {
    let keys = access::open_keys(config, Arc::clone(billing)).await?;
    if !keys.list().await.map_err(Failure::internal)?.is_empty() {
        return Ok(FirstKey::Known);
    }
    let new = NewKey {
        name: Name::new(NAME).expect("three letters are a name"),
        roles: Roles::of(&[Role::Admin]),
        tenants: Tenants::ALL,
        expires_at: None,
    };
    let (key, _) = keys.create(new, "pulso dev").await.map_err(Failure::internal)?;
    Ok(FirstKey::Made(Box::new(key)))
}
