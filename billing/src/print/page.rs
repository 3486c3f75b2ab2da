//! Page: an invoice in the words a customer reads, from which the HTML page and the PDF are drawn.

use serde::Serialize;
use serde_json::Value;

/// What stands on the page, in plain text and in the order of reading.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) title: String,
    /// Why it is void, if it is.
    pub(super) void: Option<String>,
    /// Which invoice a credit note gives back a part of, and why.
    pub(super) credits: Option<String>,
    /// Names and values.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) rows: Vec<Row>,
    /// Names and amounts with their currency; what is due comes last.
    pub(super) sums: Vec<(String, String)>,
    pub(super) waiting: Option<String>,
    pub(super) document: String,
}

/// A line of the invoice.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) item: String,
    /// The SKU where the item has a name of its own.
    pub(super) sku: String,
    pub(super) details: Vec<String>,
    pub(super) quantity: String,
    pub(super) amount: String,
}

/// What a value says.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Page {
    /// Of an invoice as `pulso invoice get -o json` prints it.
    pub(super) fn of(invoice: &Value) -> Self {
        let field = |key: &str| text(&invoice[key]);
        let kind = match invoice["document"].as_str() {
            Some("delta") => "Adjustment",
            Some("credit_note") => "Credit note",
            Some("reversal") => "Reversal",
            _ => "Invoice",
        };
        let period = |key: &str| text(&invoice["period"][key]);
        let (first, last, zone) = (period("first_day"), period("last_day"), period("time_zone"));
        let waiting = invoice["unpriced"].as_array().map_or(0, Vec::len);
        Self {
            title: format!("{kind} {}", field("number")),
            void: (invoice["state"] == "void").then(|| format!("Void: {}", field("void_reason"))),
            credits: invoice["reason"]
                .as_str()
                .map(|reason| format!("Of {}: {reason}", field("corrects"))),
            facts: vec![
                ("Customer", field("tenant")),
                ("Issued", field("issued_at")),
                ("Service period", format!("{first} to {last} ({zone})")),
                ("Payment", format!("within {} days", field("payment_term_days"))),
            ],
            rows: invoice["lines"].as_array().into_iter().flatten().map(Row::of).collect(),
            sums: sums(invoice),
            waiting: match waiting {
                0 => None,
                1 => Some("One resource has no price yet; it follows in an adjustment.".to_owned()),
                more => Some(format!(
                    "{more} resources have no price yet; they follow in an adjustment."
                )),
            },
            document: format!("Document {}", field("digest")),
        }
    }
}

/// The total, what prepaid credits pay of it, and what is due.
fn sums(invoice: &Value) -> Vec<(String, String)> {
    let currency = text(&invoice["currency"]);
    let money = |amount: &Value, sign| format!("{sign}{} {currency}", text(amount));
    let payments = invoice["payments"].as_array().into_iter().flatten();
    let paid = payments.map(|payment| {
        (format!("Prepaid credit {}", text(&payment["credit"])), money(&payment["amount"], "-"))
    });
    std::iter::once(("Total".to_owned(), money(&invoice["total"], "")))
        .chain(paid)
        .chain([("Due".to_owned(), money(&invoice["due"], ""))])
        .collect()
}

impl Row {
    fn of(line: &Value) -> Self {
        let (sku, name) = (text(&line["product_sku"]), text(&line["name"]));
        let (item, sku) = if name.is_empty() { (sku, name) } else { (name, sku) };
        let dimensions = line["dimensions"].as_object().into_iter().flatten();
        let dimensions = dimensions.map(|(name, value)| format!("{name}: {}", text(value)));
        let steps = line["detail"].as_array().into_iter().flatten();
        let quantity = match line["quantity"].as_str() {
            Some("0") | None => String::new(),
            Some(quantity) => format!("{quantity} {}", text(&line["use_unity"])),
        };
        Self {
            item,
            sku,
            details: dimensions.chain(steps.filter_map(words)).collect(),
            quantity,
            amount: text(&line["amount"]),
        }
    }
}

/// A step in words, for those that a customer asks about.
fn words(step: &Value) -> Option<String> {
    let of = |key: &str| text(&step[key]);
    Some(match step["step"].as_str()? {
        "units" => format!("{} × {}", of("quantity"), of("unit_price")),
        "tier" => format!("tier {}: {} × {}", of("tier"), of("quantity"), of("unit_price")),
        "tier_fee" => format!("fee of tier {}: {}", of("tier"), of("amount")),
        "packages" => format!("{} packages × {}", of("packages"), of("package_price")),
        "rate" | "rate_tier" => format!("{} × {}", of("quantity"), of("rate")),
        "free_units" => format!("{} free", of("used")),
        "proration" => format!("{} of {} days", of("days"), of("of")),
        "discount" => format!("discount {}: {}", of("name"), of("amount")),
        "exchange" => format!("from {} at {}", of("from"), of("rate")),
        "minimum" => format!("to the minimum of {}", of("bound")),
        "maximum" => format!("to the maximum of {}", of("bound")),
        "shortfall" => format!("committed {}, used {}", of("committed"), of("spent")),
        "overage" => format!("{} beyond {}, × {}", of("beyond"), of("committed"), of("factor")),
        "tax" => format!("{} of {}", of("rate"), of("base")),
        "invoiced_before" => format!("invoiced before: {}", of("amount")),
        _ => return None,
    })
}
