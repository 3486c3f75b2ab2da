//! Print: an invoice in the words a customer reads, from which the HTML page and the PDF are drawn.

mod markup;
#[cfg(feature = "pdf")]
mod pdf;
pub mod picture;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value;

use self::markup::{escaped, push};

/// Why there is no PDF.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// The program was built without it.
    #[error(
        "this program was built without PDF: build it with `--features billing/pdf`, or print the HTML page from a browser"
    )]
    NotBuilt,
    /// The typesetter refused.
    #[error("the invoice cannot be typeset: {0}; its HTML page can be printed")]
    Typesetting(String),
}

/// Draws an invoice, as `pulso invoice get -o json` prints it, as a PDF.
///
/// # Errors
/// When this program was built without it; when the invoice was not issued, or holds a character that
/// the fonts do not have.
pub fn pdf(invoice: &Value) -> Result<Vec<u8>, PdfError> {
    #[cfg(feature = "pdf")]
    return pdf::pdf(invoice);
    #[cfg(not(feature = "pdf"))]
    {
        let _ = invoice;
        Err(PdfError::NotBuilt)
    }
}

/// What stands on the page, in plain text and in the order of reading.
#[derive(Debug, Serialize)]
struct Page {
    title: String,
    /// Why it is void, if it is.
    void: Option<String>,
    /// Which invoice a credit note gives back a part of, and why.
    credits: Option<String>,
    /// Names and values.
    facts: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    /// Names and amounts with their currency; what is due comes last.
    sums: Vec<(String, String)>,
    waiting: Option<String>,
    document: String,
}

/// A line of the invoice.
#[derive(Debug, Serialize)]
struct Row {
    item: String,
    /// The SKU where the item has a name of its own.
    sku: String,
    details: Vec<String>,
    quantity: String,
    amount: String,
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
    fn of(invoice: &Value) -> Self {
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

/// Draws an invoice, as `pulso invoice get -o json` prints it, as one HTML page that stands by
/// itself, for a browser and for printing. Every text is escaped.
#[must_use]
pub fn html(invoice: &Value) -> String {
    let page = Page::of(invoice);
    let title = escaped(&page.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{title}</h1>"
    );
    let mut put = |part: std::fmt::Arguments<'_>| push(&mut html, part);
    if let Some(void) = &page.void {
        put(format_args!("<p class=\"void\">{}</p>", escaped(void)));
    }
    if let Some(credits) = &page.credits {
        put(format_args!("<p>{}</p>", escaped(credits)));
    }
    put(format_args!("</header>\n<dl>\n"));
    for (name, value) in &page.facts {
        put(format_args!("<dt>{name}</dt><dd>{}</dd>\n", escaped(value)));
    }
    put(format_args!(
        "</dl>\n<table>\n<thead><tr><th>Item</th><th>Details</th><th class=\"n\">Quantity</th>\
         <th class=\"n\">Amount</th></tr></thead>\n<tbody>\n"
    ));
    for row in &page.rows {
        put(format_args!("{}", row.html()));
    }
    put(format_args!("</tbody>\n<tfoot>\n"));
    for (name, amount) in &page.sums {
        let (name, amount) = (escaped(name), escaped(amount));
        put(format_args!("<tr><th colspan=\"3\">{name}</th><td class=\"n\">{amount}</td></tr>\n"));
    }
    put(format_args!("</tfoot>\n</table>\n"));
    if let Some(waiting) = &page.waiting {
        put(format_args!("<p>{}</p>\n", escaped(waiting)));
    }
    put(format_args!("<footer>{}</footer>\n</body>\n</html>\n", escaped(&page.document)));
    html
}

impl Row {
    fn html(&self) -> String {
        let sku = match self.sku.is_empty() {
            true => String::new(),
            false => format!("<br><small>{}</small>", escaped(&self.sku)),
        };
        let details: Vec<String> = self.details.iter().map(|detail| escaped(detail)).collect();
        format!(
            "<tr><td>{}{sku}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            escaped(&self.item),
            details.join("<br>"),
            escaped(&self.quantity),
            escaped(&self.amount)
        )
    }
}

const STYLE: &str = "
body{font:14px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 1rem}
dl{display:grid;grid-template-columns:10rem 1fr;gap:.25rem 1rem;margin:0 0 1.5rem}
dt{color:#666}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.4rem .5rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}
td small{color:#666}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tfoot th{text-align:right}tfoot tr:last-child>*{font-weight:700;border-bottom:2px solid #1a1a1a}
.void{color:#a00;font-weight:700}
footer{margin-top:2rem;color:#666;font-size:.8rem;overflow-wrap:anywhere}
thead{display:table-header-group}tr{break-inside:avoid}
@media print{body{margin:0;max-width:none}@page{margin:18mm}}
";
