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

use super::{access, recorded::recorded};
use crate::{config::Config, exit::Failure};

/// Its name, which is that of its client.
pub(super) const NAME: &str = "dev";

/// What makes it, in its own entry and in the audit trail.
const COMMAND: &str = "pulso dev";

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
    let mut made = None;
    let recording = recorded(billing, COMMAND, async |change| {
        let (key, info) = keys.create(new, COMMAND).await.map_err(Failure::internal)?;
        change.about(&info.id);
        made = Some(FirstKey::Made(Box::new(key)));
        Ok(())
    });
    let recorded = recording.await;
    match (made, recorded) {
        // Its text is shown now or never, also where the trail does not say that it was made.
        (Some(made), Err(failure)) => {
            warn!(%failure, "the audit trail does not have how the first API key was made");
            Ok(made)
        }
        (Some(made), Ok(())) => Ok(made),
        (None, recorded) => recorded.map(|()| FirstKey::Unavailable),
    }
}
