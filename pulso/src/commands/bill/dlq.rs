//! `pulso bill dlq`: messages about invoices that a consumer could not take.

use crate::client::Channel;
use billing::answers;
use clap::{Args, Subcommand};
use proto::v1::{
    ListRejectionsRequest, RejectMessageRequest, Rejection, ReplayRejectionRequest,
    billing_service_client::BillingServiceClient,
};
use serde_json::json;

use super::connect;
use crate::{
    cli::Globals,
    commands::wire,
    exit::{Exit, Failure},
    output::{Answer, Printer},
};

/// `pulso bill dlq`.
#[derive(Clone, Debug, Subcommand)]
pub enum DlqCommand {
    /// List rejections with their reasons, and the messages that repeated them.
    List,
    /// Say that a consumer cannot take a message; once for each consumer.
    Reject(RejectArgs),
    /// Put messages into the outbox again, under new numbers, once for each rejection.
    Replay(ReplayArgs),
}

/// `pulso bill dlq reject`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso bill dlq reject 17 --consumer ledger --reason 'no account for tenant acme'")]
pub struct RejectArgs {
    /// The message's number, as `pulso invoice watch` prints it.
    pub message: u64,
    /// Who cannot take it.
    #[arg(long)]
    pub consumer: String,
    /// The cause, kept beside the message for people.
    #[arg(long)]
    pub reason: String,
}

/// `pulso bill dlq replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// Numbers of rejections.
    #[arg(required_unless_present = "all", value_name = "NUMBER")]
    pub rejections: Vec<u64>,
    /// All that were not repeated yet.
    #[arg(long, conflicts_with = "rejections")]
    pub all: bool,
}

const COLUMNS: [&str; 8] =
    ["number", "message", "tenant", "invoice", "consumer", "reason", "rejected_at", "replayed_as"];

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(super) async fn run(globals: &Globals, command: DlqCommand) -> Result<Exit, Failure> {
    let client = connect(globals).await?;
    let rejections = match command {
        DlqCommand::List => list(&client).await?,
        DlqCommand::Reject(args) => vec![reject(client, args).await?],
        DlqCommand::Replay(args) => replay(client, args).await?,
    };
    let waiting = rejections.iter().filter(|rejection| rejection.replayed_as == 0).count();
    let listed: Vec<_> = rejections.iter().map(answers::rejection).collect();
    let answer = Answer::list(json!({ "rejections": listed }), "rejections", &COLUMNS);
    let answer = answer.note(format!("{} rejections, {waiting} not replayed", rejections.len()));
    Printer::new(globals.output).print(&answer)?;
    Ok(Exit::Success)
}

async fn list(client: &BillingServiceClient<Channel>) -> Result<Vec<Rejection>, Failure> {
    wire::all_pages(|page_token| {
        let request = ListRejectionsRequest { page_size: 1_000, page_token };
        let mut client = client.clone();
        async move {
            let listed = client.list_rejections(request).await;
            let page = listed.map_err(|status| Failure::status(&status))?.into_inner();
            Ok((page.rejections, page.next_page_token))
        }
    })
    .await
}

async fn reject(
    mut client: BillingServiceClient<Channel>,
    args: RejectArgs,
) -> Result<Rejection, Failure> {
    let RejectArgs { message, consumer, reason } = args;
    let rejected = client.reject_message(RejectMessageRequest { message, consumer, reason }).await;
    rejected.map(tonic::Response::into_inner).map_err(|status| Failure::status(&status))
}

async fn replay(
    mut client: BillingServiceClient<Channel>,
    args: ReplayArgs,
) -> Result<Vec<Rejection>, Failure> {
    let numbers = match args.all {
        false => args.rejections,
        true => {
            let all = list(&client).await?.into_iter();
            all.filter(|found| found.replayed_as == 0).map(|found| found.number).collect()
        }
    };
    let mut replayed = Vec::with_capacity(numbers.len());
    for number in numbers {
        let answered = client.replay_rejection(ReplayRejectionRequest { number }).await;
        replayed.push(answered.map_err(|status| Failure::status(&status))?.into_inner());
    }
    Ok(replayed)
}
