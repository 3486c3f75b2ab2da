//! `pulso bill preview`: what a tenant's usage of a month costs, with the reason for every number.

use clap::{Args, Subcommand};
use proto::v1::{PreviewBillRequest, billing_service_client::BillingServiceClient};
use serde_json::Value;

use crate::{
    cli::Globals,
    client,
    exit::{Exit, Failure},
    output::{Answer, Printer},
};

/// `pulso bill`.
#[derive(Debug, Subcommand)]
pub enum BillCommand {
    /// Rate a tenant's usage of a month as it stands now. Writes nothing.
    Preview(PreviewArgs),
}

/// `pulso bill preview`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso bill preview --tenant acme --period 2024-09
  pulso bill preview --tenant acme --period 2024-09 --catalogue 2026-11 -o json")]
pub struct PreviewArgs {
    /// Whose bill.
    #[arg(long)]
    pub tenant: String,
    /// A month in UTC, such as 2024-09.
    #[arg(long, value_name = "YYYY-MM")]
    pub period: String,
    /// Rate by this version of the catalogue instead of the latest.
    #[arg(long, value_name = "VERSION")]
    pub catalogue: Option<String>,
}

const COLUMNS: [&str; 6] =
    ["product_sku", "use_unity", "dimensions", "model", "quantity", "amount"];

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn run(globals: &Globals, command: BillCommand) -> Result<Exit, Failure> {
    let BillCommand::Preview(args) = command;
    let channel = client::connect(&globals.server).await?;
    let mut client =
        BillingServiceClient::new(channel).max_decoding_message_size(client::ANSWER_BYTES_MAX);
    let request = PreviewBillRequest {
        tenant: args.tenant,
        period: args.period,
        catalogue_version: args.catalogue.unwrap_or_default(),
    };
    let answered = client.preview_bill(request).await;
    let text = answered.map_err(|status| Failure::status(&status))?.into_inner().bill_json;
    let bill = serde_json::from_str(&text).map_err(|error| {
        Failure::internal(format_args!("the server's bill is not JSON: {error}"))
    })?;
    Printer::new(globals.output).print(&answer(bill))?;
    Ok(Exit::Success)
}

fn answer(bill: Value) -> Answer {
    let text = |key: &str| bill.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let total = format!("total for {}: {} {}", text("tenant"), text("total"), text("currency"));
    let unpriced = bill.get("unpriced").and_then(Value::as_array).map_or(0, Vec::len);
    let answer = Answer::list(bill, "lines", &COLUMNS).note(total);
    match unpriced {
        0 => answer,
        more => {
            answer.note(format!("{more} resources have no price yet: see `unpriced` in -o json"))
        }
    }
}
