//! `pulso dlq`: pulses that reached the log but no total.

use crate::client::Channel;
use clap::{Args, Subcommand};
use prost::Message;
use proto::v1::{
    DeadLetter, GetDeadLetterRequest, ListDeadLettersRequest, Pulse,
    operations_service_client::OperationsServiceClient,
};
use serde_json::{Value, json};

use super::wire;
use crate::{
    cli::Globals,
    client,
    exit::{Exit, Failure},
    output::{Answer, Printer, counted},
};

/// `pulso dlq`.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Dead letters in groups, by segment of the log, reason and tenant.
    List(ListArgs),
    /// One dead letter with its bytes, read from the log.
    Show(ShowArgs),
}

/// `pulso dlq list`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso dlq list
  pulso dlq list --reason too_late -o csv
  pulso dlq list --tenant acme
  pulso dlq list --generation 1 --reason after_seal")]
pub struct ListArgs {
    /// Generation of the log, from 1; the newest if left out.
    #[arg(long, value_name = "N")]
    pub generation: Option<u32>,
    /// Only this reason, such as too_late.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Take one page of this many entries (1 to 1000) instead of all.
    #[arg(long, value_name = "N")]
    pub page_size: Option<i32>,
    /// Take the page after the one that gave this token.
    #[arg(long, value_name = "TOKEN")]
    pub page_token: Option<String>,
}

/// `pulso dlq show`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso dlq show 2 1047 13 -o json")]
pub struct ShowArgs {
    /// Partition of the log.
    pub partition: u32,
    /// Offset of the record.
    pub offset: u64,
    /// Place of the pulse in the record.
    #[arg(default_value_t = 0)]
    pub index: u32,
    /// Generation of the log, from 1; the newest if left out.
    #[arg(long, value_name = "N")]
    pub generation: Option<u32>,
}

/// Columns of one dead letter.
const COLUMNS: [&str; 8] =
    ["partition", "offset", "index", "reason", "tenant", "product_sku", "time", "message"];

/// Further columns of a group.
const GROUP_COLUMNS: [&str; 5] =
    ["count", "offset_last", "time_first", "time_last", "segment_start"];

/// Entries in a page when all are fetched.
const PAGE_SIZE_MAX: i32 = 1_000;

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn run(globals: &Globals, command: DlqCommand) -> Result<Exit, Failure> {
    let channel = globals.connect().await?;
    let client =
        OperationsServiceClient::new(channel).max_decoding_message_size(client::ANSWER_BYTES_MAX);
    let answer = match command {
        DlqCommand::List(args) => list(client, args).await?,
        DlqCommand::Show(args) => show(client, args).await?,
    };
    Printer::new(globals.output).print(&answer)?;
    Ok(Exit::Success)
}

async fn list(client: OperationsServiceClient<Channel>, args: ListArgs) -> Result<Answer, Failure> {
    let one_page = args.page_size.is_some() || args.page_token.is_some();
    let request = ListDeadLettersRequest {
        page_size: args.page_size.unwrap_or(PAGE_SIZE_MAX),
        page_token: args.page_token.unwrap_or_default(),
        reason: args.reason.unwrap_or_default(),
        tenant: args.tenant.unwrap_or_default(),
        generation: args.generation.unwrap_or_default(),
    };
    let fetch = async |request: ListDeadLettersRequest| {
        let answered = client.clone().list_dead_letters(request).await;
        let page = answered.map_err(|status| Failure::status(&status))?.into_inner();
        Ok((page.entries, page.next_page_token))
    };
    let (entries, next_page_token) = if one_page {
        fetch(request).await?
    } else {
        let page = |page_token| fetch(ListDeadLettersRequest { page_token, ..request.clone() });
        (wire::all_pages(page).await?, String::new())
    };
    let document = json!({
        "entries": entries.iter().map(group).collect::<Vec<_>>(),
        "next_page_token": next_page_token,
    });
    let columns: Vec<&str> = COLUMNS.into_iter().chain(GROUP_COLUMNS).collect();
    let pulses: u64 = entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.count));
    let answer = Answer::list(document, "entries", &columns);
    let answer = answer.note(format!(
        "{} in {}",
        counted(pulses, "dead letter"),
        counted(entries.len(), "group")
    ));
    Ok(match next_page_token.as_str() {
        "" => answer,
        token => answer.note(format!("more entries: --page-token {token}")),
    })
}

fn entry(letter: &DeadLetter) -> Value {
    json!({
        "partition": letter.partition,
        "offset": wire::integer(letter.offset),
        "index": letter.index,
        "reason": letter.reason,
        "tenant": letter.tenant,
        "product_sku": letter.product_sku,
        "time": wire::moment(letter.time.as_ref()),
        "message": letter.message,
    })
}

/// A group, shown by the first of its dead letters.
fn group(group: &DeadLetter) -> Value {
    let mut document = entry(group);
    document["count"] = wire::integer(group.count);
    document["offset_last"] = wire::integer(group.offset_last);
    document["time_first"] = wire::moment(group.time_first.as_ref());
    document["time_last"] = wire::moment(group.time_last.as_ref());
    document["segment_start"] = group.segment_start.map_or(Value::Null, wire::integer);
    document
}

async fn show(
    mut client: OperationsServiceClient<Channel>,
    args: ShowArgs,
) -> Result<Answer, Failure> {
    let ShowArgs { partition, offset, index, generation } = args;
    let generation = generation.unwrap_or_default();
    let request = GetDeadLetterRequest { partition, offset, index, generation };
    let answered = client.get_dead_letter(request).await;
    let letter = answered.map_err(|status| Failure::status(&status))?.into_inner();
    let mut document = entry(&letter);
    document["payload_hex"] = wire::hexadecimal(&letter.payload).into();
    // A whole record that was refused is no pulse, and is shown by its bytes only.
    document["pulse"] = match Pulse::decode(letter.payload.as_slice()) {
        Ok(decoded) if letter.reason != "undecodable" => pulse(&decoded),
        _ => Value::Null,
    };
    let columns = COLUMNS.into_iter().chain(["pulse", "payload_hex"]).collect();
    Ok(Answer { columns, ..Answer::single(document, &[]) })
}

fn pulse(pulse: &Pulse) -> Value {
    let amount = pulse.used_amount.as_ref().and_then(|d| proto::convert::quantity(d).ok());
    let properties: std::collections::BTreeMap<_, _> = pulse.properties.iter().collect();
    json!({
        "tenant": pulse.tenant,
        "product_sku": pulse.product_sku,
        "use_unity": pulse.use_unity,
        "used_amount": amount.map(|amount| amount.to_string()),
        "time": wire::moment(pulse.time.as_ref()),
        "id": pulse.id,
        "source": pulse.source,
        "properties": properties,
    })
}
