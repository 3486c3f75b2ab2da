//! `pulso audit`: the log folded again and compared with the store.

use clap::Args;
use proto::v1::{AuditMismatch, AuditRequest, audit_service_client::AuditServiceClient};
use serde_json::{Value, json};

use super::wire;
use crate::{
    cli::Globals,
    client,
    exit::{Exit, Failure},
    output::{Answer, Printer, counted},
};

/// `pulso audit`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso audit
  pulso audit -o json

Exits with 0 only when everything agrees, with 1 when something does not. Who changed what is in
`pulso audit-log`.")]
pub struct AuditArgs {}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or cannot audit.
pub async fn run(globals: &Globals, AuditArgs {}: AuditArgs) -> Result<Exit, Failure> {
    let channel = globals.connect().await?;
    let mut client =
        AuditServiceClient::new(channel).max_decoding_message_size(client::ANSWER_BYTES_MAX);
    let answered = client.audit(AuditRequest {}).await;
    let audit = answered.map_err(|status| Failure::status(&status))?.into_inner();
    let document = json!({
        "segments": wire::integer(audit.segments),
        "refolded": wire::integer(audit.refolded),
        "blocks": wire::integer(audit.blocks),
        "blocks_remade": wire::integer(audit.blocks_remade),
        "mismatches": audit.mismatches.iter().map(mismatch).collect::<Vec<_>>(),
    });
    let columns = ["generation", "partition", "segment_start", "invariant", "message"];
    let answer = Answer::list(document, "mismatches", &columns).note(format!(
        "{} of {} folded again, {} of {} made again: {}",
        audit.refolded,
        counted(audit.segments, "segment"),
        audit.blocks_remade,
        counted(audit.blocks, "block"),
        counted(audit.mismatches.len(), "mismatch")
    ));
    Printer::new(globals.output).print(&answer)?;
    Ok(if audit.mismatches.is_empty() { Exit::Success } else { Exit::CheckFailed })
}

fn mismatch(mismatch: &AuditMismatch) -> Value {
    json!({
        "generation": mismatch.generation,
        "partition": mismatch.partition,
        "segment_start": wire::integer(mismatch.segment_start),
        "invariant": mismatch.invariant,
        "message": mismatch.message,
    })
}
