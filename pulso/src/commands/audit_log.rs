//! `pulso audit-log`: who changed what, and when.
//!
//! As lines or CSV it prints page after page, so an export of years takes the memory of one page.

use std::ops::ControlFlow;

use clap::Args;
use domain::Timestamp;
use proto::{
    convert::wire_time,
    v1::{AuditEntry, ListAuditLogRequest, access_service_client::AccessServiceClient},
};
use serde_json::json;

use super::wire;
use crate::{
    cli::Globals,
    client::{self, Channel},
    exit::{Exit, Failure},
    output::{Answer, Format, Printer, counted},
    serve::access::audit_log::Entry,
};

/// `pulso audit-log`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso audit-log --from 2026-01
  pulso audit-log --who ada --method '/pulso.v1.CatalogService/PublishCatalogue'
  pulso audit-log --from 2026-01 --to 2026-02 -o jsonl > january.jsonl

Each line is a call that changed something or tried to, over gRPC or HTTP, or a command on the store
itself. `unknown` is a call that is under way, or whose process died before its end was written. For a
check of totals against the log there is `pulso audit`.")]
pub struct AuditLogArgs {
    /// Only calls that have begun at or after this moment. RFC 3339, a day or a month. 400 days before
    /// --to when left out.
    #[arg(long, value_name = "TIME", value_parser = wire::parse_moment)]
    pub from: Option<Timestamp>,
    /// Only calls that have begun before this moment.
    #[arg(long, value_name = "TIME", value_parser = wire::parse_moment)]
    pub to: Option<Timestamp>,
    /// Only calls of the client with this id or name.
    #[arg(long, value_name = "CLIENT")]
    pub who: Option<String>,
    /// Only calls of this method, as docs/access.md names it.
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
}

/// Columns for a person.
const COLUMNS: [&str; 6] = ["at", "who.name", "method", "target", "outcome", "reason"];

/// Columns for a program: everything.
const ALL_COLUMNS: [&str; 14] = [
    "at",
    "ended_at",
    "id",
    "who.id",
    "who.name",
    "who.kind",
    "who.roles",
    "method",
    "request_id",
    "target",
    "before",
    "after",
    "outcome",
    "reason",
];

/// Entries of a page.
const PAGE_SIZE: i32 = 1_000;

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn run(globals: &Globals, args: AuditLogArgs) -> Result<Exit, Failure> {
    let AuditLogArgs { from, to, who, method } = args;
    let request = ListAuditLogRequest {
        page_size: PAGE_SIZE,
        page_token: String::new(),
        from: from.map(wire_time),
        to: to.map(wire_time),
        who: who.unwrap_or_default(),
        method: method.unwrap_or_default(),
    };
    let client = AccessServiceClient::new(globals.connect().await?)
        .max_decoding_message_size(client::ANSWER_BYTES_MAX);
    let printer = Printer::new(globals.output);
    match globals.output {
        Format::Jsonl | Format::Csv => stream(client, request, printer).await?,
        Format::Table | Format::Json => {
            let page = |page_token| {
                let request = ListAuditLogRequest { page_token, ..request.clone() };
                fetch(client.clone(), request)
            };
            let entries = wire::all_pages(page).await?;
            let answer = answer(&entries, &COLUMNS);
            printer.print(&answer.note(counted(entries.len(), "call")))?;
        }
    }
    Ok(Exit::Success)
}

/// Prints each page before it asks for the next one.
async fn stream(
    client: AccessServiceClient<Channel>,
    mut request: ListAuditLogRequest,
    printer: Printer,
) -> Result<(), Failure> {
    let mut pages = printer.pages();
    loop {
        let (entries, next) = fetch(client.clone(), request.clone()).await?;
        let reader = pages.print(&answer(&entries, &ALL_COLUMNS))?;
        if next.is_empty() || reader == ControlFlow::Break(()) {
            return Ok(());
        }
        request.page_token = next;
    }
}

async fn fetch(
    mut client: AccessServiceClient<Channel>,
    request: ListAuditLogRequest,
) -> Result<(Vec<AuditEntry>, String), Failure> {
    let answered = client.list_audit_log(request).await;
    let page = answered.map_err(|status| Failure::status(&status))?.into_inner();
    Ok((page.entries, page.next_page_token))
}

fn answer(entries: &[AuditEntry], columns: &[&'static str]) -> Answer {
    let entries: Vec<Entry> = entries.iter().cloned().map(Entry::of).collect();
    Answer::list(json!({ "entries": entries }), "entries", columns)
}
