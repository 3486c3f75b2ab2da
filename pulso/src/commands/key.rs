//! `pulso key`: the API keys of a deployment, through a server or, for the first one, in the store
//! itself.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use domain::{Clock as _, Timestamp};
use edge::{Problem, access::api_key::PREFIX};
use proto::{
    convert::wire_time,
    v1::{
        CreateKeyRequest, CreateKeyResponse, Key, ListKeysRequest, RevokeKeyRequest,
        access_service_client::AccessServiceClient,
    },
};
use runtime::clock;
use serde_json::{Value, json};

use super::wire;
use crate::{
    cli::Globals,
    client,
    config::{
        urls::{Place, StoreUrl},
        value::{Setting, Span},
    },
    exit::{Exit, Failure},
    output::{Answer, Printer, counted},
    serve::{access, backends::OpenStores, recorded::recorded},
};

/// Longest time that a key may be given: ten years.
const EXPIRES_MAX_MS: u64 = 10 * 366 * 24 * 3_600 * 1_000;

/// Keys of one page: the server looks for the last use of each.
const PAGE_SIZE: i32 = 200;

/// `pulso key`.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "Examples:
  pulso key create ops --role admin --tenant '*' --local
  pulso key create meter --role writer --tenant acme --expires-in 2160h
  pulso key list
  pulso key revoke 0123456789abcdef

With --local the first key is made in the configured store, while no server holds it or beside servers
on ScyllaDB. All else asks the server, with a key of the role admin for all tenants.")]
pub enum KeyCommand {
    /// Make a key and print it, once.
    Create(CreateArgs),
    /// Show every key without its secret.
    List,
    /// Take a key back.
    Revoke {
        /// Its id, 16 hexadecimal digits; or the whole key, of which only the id is sent.
        id: String,
    },
}

/// `pulso key create`.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// Name of the client that is to have it.
    name: String,
    /// What it may do: admin, operator, analyst, viewer or writer. May be repeated.
    #[arg(long = "role", required = true, value_name = "ROLE")]
    roles: Vec<String>,
    /// For whom: a tenant, may be repeated; or `*` for all.
    #[arg(long = "tenant", required = true, value_name = "TENANT", value_parser = one_tenant)]
    tenants: Vec<String>,
    /// How long it counts, such as 2160h. Without it, until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    expires_in: Option<Duration>,
    /// Make it in the configured store and not through a server.
    #[arg(long)]
    local: bool,
}

/// The id in a key, or the text as it is.
fn id_of(text: &str) -> &str {
    let of_key = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
    of_key.map_or(text, |(id, _)| id)
}

/// A list would be one tenant of that name.
fn one_tenant(text: &str) -> Result<String, String> {
    match text.contains(',') {
        true => Err("give --tenant once for each tenant".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn expiry(text: &str) -> Result<Duration, String> {
    Span::<1_000, EXPIRES_MAX_MS>::parse(text).map(Span::duration)
}

/// Runs the command.
///
/// # Errors
/// When the server or the store cannot be reached, or refuses.
pub async fn run(globals: &Globals, command: KeyCommand) -> Result<Exit, Failure> {
    let printer = Printer::new(globals.output);
    match command {
        KeyCommand::Create(args) => {
            let created = create(globals, args).await?;
            let key = created.key.unwrap_or_default();
            let mut document = shown(&key);
            document["text"] = created.text.into();
            let note = "this is the only time that the key is shown: keep it as a secret";
            let columns = ["id", "name", "roles", "tenants", "expires_at", "text"];
            printer.print(&Answer::single(document, &columns).note(note.to_owned()))?;
        }
        KeyCommand::List => {
            let client = AccessServiceClient::new(globals.connect().await?)
                .max_decoding_message_size(client::ANSWER_BYTES_MAX);
            let keys = wire::all_pages(|page_token| {
                let mut client = client.clone();
                async move {
                    let request = ListKeysRequest { page_size: PAGE_SIZE, page_token };
                    let listed = client.list_keys(request).await;
                    let page = listed.map_err(|status| Failure::status(&status))?.into_inner();
                    Ok((page.keys, page.next_page_token))
                }
            })
            .await?;
            let document = json!({ "keys": keys.iter().map(shown).collect::<Vec<_>>() });
            let columns = [
                "id",
                "name",
                "roles",
                "tenants",
                "created_at",
                "expires_at",
                "revoked_at",
                "last_used_at",
            ];
            let answer = Answer::list(document, "keys", &columns);
            printer.print(&answer.note(counted(keys.len(), "key")))?;
        }
        KeyCommand::Revoke { id } => {
            let mut client = AccessServiceClient::new(globals.connect().await?);
            let id = id_of(&id).to_owned();
            let answered = client.revoke_key(RevokeKeyRequest { id }).await;
            let key = answered.map_err(|status| Failure::status(&status))?.into_inner();
            let columns = ["id", "name", "revoked_at", "revoked_by"];
            printer.print(&Answer::single(shown(&key), &columns))?;
        }
    }
    Ok(Exit::Success)
}

async fn create(globals: &Globals, args: CreateArgs) -> Result<CreateKeyResponse, Failure> {
    let CreateArgs { name, roles, tenants, expires_in, local } = args;
    let expires_at = expires_in.map(|wait| wire_time(clock::system().now().plus(wait)));
    let request = CreateKeyRequest { name, roles, tenants, expires_at };
    if local {
        return create_in_store(globals, &request).await;
    }
    let mut client = AccessServiceClient::new(globals.connect().await?);
    let answered = client.create_key(request).await;
    answered.map(tonic::Response::into_inner).map_err(|status| Failure::status(&status))
}

async fn create_in_store(
    globals: &Globals,
    request: &CreateKeyRequest,
) -> Result<CreateKeyResponse, Failure> {
    const COMMAND: &str = "pulso key create --local";
    let refused = |problem: Problem| Failure::status(&problem.into());
    let new = access::new_key(request).map_err(refused)?;
    let loaded = globals.serving.load()?;
    if loaded.config.store.url == StoreUrl::Embedded(Place::Memory) {
        let message = "store.url = `memory:`: a key would be gone with this command";
        return Err(Failure::new(Exit::Config, message));
    }
    let stores = OpenStores::open(&loaded).await?;
    let created = recorded(&stores.billing, COMMAND, async |change| {
        let keys = access::open_keys(&loaded.config, Arc::clone(&stores.billing)).await?;
        let created = keys.create(new, COMMAND).await;
        let created = created.map_err(|error| refused(access::problem_of(error)))?;
        change.about(&created.1.id);
        Ok(created)
    });
    let created = created.await;
    stores.close().await;
    let (key, info) = created?;
    Ok(CreateKeyResponse { key: Some(access::key_document(info, None)), text: key.reveal() })
}

fn shown(key: &Key) -> Value {
    let time = |time: &Option<prost_types::Timestamp>| {
        let time = time.as_ref().and_then(proto::convert::timestamp);
        time.map(|time: Timestamp| time.to_string())
    };
    json!({
        "id": key.id,
        "name": key.name,
        "roles": key.roles,
        "tenants": key.tenants,
        "created_at": time(&key.created_at),
        "created_by": key.created_by,
        "expires_at": time(&key.expires_at),
        "revoked_at": time(&key.revoked_at),
        "revoked_by": key.revoked_by,
        "last_used_at": time(&key.last_used_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_a_whole_key_is_sent() {
        let key = format!("pulso_0123456789abcdef_{}", "5".repeat(72));
        for text in [&*key, "0123456789abcdef"] {
            assert_eq!(id_of(text), "0123456789abcdef");
        }
        assert_eq!(id_of("pulso_"), "pulso_");
    }

    #[test]
    fn a_list_of_tenants_is_no_tenant() {
        assert_eq!(one_tenant("acme"), Ok("acme".to_owned()));
        assert!(one_tenant("acme,beta").unwrap_err().contains("once for each"));
    }
}
