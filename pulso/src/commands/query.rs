//! `pulso query usage`: totals per resource and window.

use crate::client::Channel;
use clap::{Args, Subcommand, ValueEnum};
use pricing::moment::Calendar;
use proto::v1::{Freshness, QueryUsageRequest, UsageRow, query_service_client::QueryServiceClient};
use serde_json::{Map, Value, json};

use super::wire;
use crate::{
    cli::Globals,
    client,
    exit::{Exit, Failure},
    output::{Answer, Printer, counted},
};

/// `pulso query`.
#[derive(Debug, Subcommand)]
pub enum QueryCommand {
    /// Totals per resource and window.
    Usage(UsageArgs),
}

/// `pulso query usage`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  pulso query usage --from 2024-09 --to 2024-10 --window total
  pulso query usage --tenant acme --from 2024-09-01 --to 2024-09-02 --window PT1H -o csv
  pulso query usage --from 2024-09 --to 2024-10 --window P1D --time-zone America/Sao_Paulo \\
      --group-by tenant,region")]
pub struct UsageArgs {
    /// Only this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this SKU.
    #[arg(long)]
    pub sku: Option<String>,
    /// Only this unit.
    #[arg(long)]
    pub unit: Option<String>,
    /// First moment, inclusive: RFC 3339, or a day or a month of --time-zone.
    #[arg(long, value_name = "TIME", value_parser = wire::parse_asked)]
    from: wire::Asked,
    /// Last moment, exclusive.
    #[arg(long, value_name = "TIME", value_parser = wire::parse_asked)]
    to: wire::Asked,
    /// Length of the windows.
    #[arg(long, value_enum)]
    pub window: WindowName,
    /// Keep apart by these: tenant, product_sku, use_unity or dimensions. Default: by all.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub group_by: Vec<String>,
    /// IANA zone whose days and months are meant.
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub time_zone: String,
    /// Take one page of this many rows (1 to 1000) instead of all.
    #[arg(long, value_name = "N")]
    pub page_size: Option<i32>,
    /// Take the page after the one that gave this token.
    #[arg(long, value_name = "TOKEN")]
    pub page_token: Option<String>,
}

/// Lengths of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WindowName {
    /// Hours.
    #[value(name = "PT1H")]
    Hour,
    /// Days.
    #[value(name = "P1D")]
    Day,
    /// Months.
    #[value(name = "P1M")]
    Month,
    /// The whole range as one window.
    #[value(name = "total")]
    Total,
}

impl WindowName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "PT1H",
            Self::Day => "P1D",
            Self::Month => "P1M",
            Self::Total => "total",
        }
    }
}

const COLUMNS: [&str; 11] = [
    "tenant",
    "product_sku",
    "use_unity",
    "dimensions",
    "window_start",
    "window_end",
    "count",
    "sum",
    "min",
    "max",
    "last",
];

/// Rows in a page when all are fetched.
const PAGE_SIZE_MAX: i32 = 1_000;

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn run(globals: &Globals, command: QueryCommand) -> Result<Exit, Failure> {
    let QueryCommand::Usage(args) = command;
    let channel = globals.connect().await?;
    let answer = usage(channel, args).await?;
    Printer::new(globals.output).print(&answer)?;
    Ok(Exit::Success)
}

async fn usage(channel: Channel, args: UsageArgs) -> Result<Answer, Failure> {
    let client =
        QueryServiceClient::new(channel).max_decoding_message_size(client::ANSWER_BYTES_MAX);
    let one_page = args.page_size.is_some() || args.page_token.is_some();
    let request = request(args);
    let freshness = std::cell::Cell::new(None);
    let fetch = async |request: QueryUsageRequest| {
        let answered = client.clone().query_usage(request).await;
        let page = answered.map_err(|status| Failure::status(&status))?.into_inner();
        // Pages are read one after the other; the first says how fresh all of them are at least.
        freshness.set(freshness.take().or(page.freshness));
        Ok((page.rows, page.next_page_token))
    };
    let (rows, next_page_token) = if one_page {
        fetch(request).await?
    } else {
        let page = |page_token| fetch(QueryUsageRequest { page_token, ..request.clone() });
        (wire::all_pages(page).await?, String::new())
    };
    Ok(answer(&rows, freshness.take(), &next_page_token))
}

fn request(args: UsageArgs) -> QueryUsageRequest {
    // A zone that is unknown here is the server's to refuse.
    let calendar = Calendar::named(&args.time_zone).unwrap_or(Calendar::UTC);
    let moment = |asked: &wire::Asked| asked.in_zone(&calendar).map(proto::convert::wire_time);
    QueryUsageRequest {
        tenant: args.tenant.unwrap_or_default(),
        product_sku: args.sku.unwrap_or_default(),
        use_unity: args.unit.unwrap_or_default(),
        from: moment(&args.from),
        to: moment(&args.to),
        window: args.window.as_str().to_owned(),
        group_by: args.group_by,
        time_zone: args.time_zone,
        page_size: args.page_size.unwrap_or(PAGE_SIZE_MAX),
        page_token: args.page_token.unwrap_or_default(),
    }
}

fn answer(rows: &[UsageRow], freshness: Option<Freshness>, next_page_token: &str) -> Answer {
    let freshness = freshness.unwrap_or_default();
    let as_of = wire::moment(freshness.as_of.as_ref());
    let complete_until = wire::moment(freshness.complete_until.as_ref());
    let notes = notes(rows.len(), &as_of, &complete_until, next_page_token);
    let document = json!({
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "freshness": {"as_of": as_of, "complete_until": complete_until},
        "next_page_token": next_page_token,
    });
    Answer { notes, ..Answer::list(document, "rows", &COLUMNS) }
}

fn row(row: &UsageRow) -> Value {
    let sorted: std::collections::BTreeMap<_, _> = row.dimensions.iter().collect();
    let dimensions: Map<String, Value> =
        sorted.into_iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    json!({
        "tenant": row.tenant,
        "product_sku": row.product_sku,
        "use_unity": row.use_unity,
        "dimensions": dimensions,
        "window_start": wire::moment(row.window_start.as_ref()),
        "window_end": wire::moment(row.window_end.as_ref()),
        "count": wire::integer(row.count),
        "sum": row.sum,
        "min": row.min,
        "max": row.max,
        "last": row.last,
    })
}

fn notes(rows: usize, as_of: &Value, complete_until: &Value, next: &str) -> Vec<String> {
    let or_never = |moment: &Value| moment.as_str().unwrap_or("nothing yet").to_owned();
    let mut notes = vec![format!(
        "{}; as of {}, final until {}",
        counted(rows, "row"),
        or_never(as_of),
        or_never(complete_until)
    )];
    if !next.is_empty() {
        notes.push(format!("more rows: --page-token {next}"));
    }
    notes
}
